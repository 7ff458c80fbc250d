"""Bad input is one line that says what and where, exit code 2, in under a second or so."""
import json
import unittest

import numpy as np
import onnx
from onnx import TensorProto, helper

import support


class BadInput(unittest.TestCase):
    def setUp(self):
        context = support.scratch()
        self.folder = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        self.case = support.example_cases()[0]

    def refuse(self, *arguments, says=()):
        done = support.kerf(*arguments, check=False, timeout=60)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(done.stdout, "")
        lines = done.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        for word in says:
            self.assertIn(word, lines[0])

    def write(self, name, document):
        path = self.folder / name
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    def test_packed_files_that_are_none_or_damaged(self):
        packed, out = self.folder / "m.kerf", self.folder / "m.onnx"
        support.kerf("export", self.case.model, "--packed", packed)
        whole = packed.read_bytes()
        for content, says in ((b"", ["m.kerf"]), (b"PK\x03\x04", ["not a packed model"]), (whole[:100], ["m.kerf", "ends within"]),
                              (whole[:-9] + b"\x00" + whole[-8:], ["is damaged"]), (whole + b"x", ["goes on"]),
                              (whole[:30] + b"\x01" + whole[31:], ["header"])):
            packed.write_bytes(content)
            self.refuse("unpack", packed, "-o", out, says=says)
            self.assertFalse(out.exists())
        packed.write_bytes(whole)
        for command in (["inspect", packed], ["infer", packed, "--input", self.case.file("test"), "--output", self.folder / "y.npz"]):
            self.refuse(*command, says=["m.kerf", "a packed model; expected ONNX, which kerf unpack makes of it"])
        self.refuse("unpack", self.folder / "nothing.kerf", "-o", out, says=["nothing.kerf"])
        self.refuse("export", self.case.model, says=["--packed"])

    def run_study(self, says, **changes):
        study = self.write("study.json", self.case.study(**changes))
        self.refuse("run", study, "--data-dir", self.folder / "data", "--json", "--quiet", says=says)

    def eval_plan(self, plan, says):
        self.refuse("eval", self.case.model, "--plan", self.write("plan.json", plan), "--data",
                    self.case.file("evaluation"), "--calibration", self.case.file("calibration"), says=says)

    def test_missing_files(self):
        self.refuse("inspect", self.folder / "none.onnx", says=["none.onnx"])
        self.refuse("run", self.folder / "none.json", says=["none.json"])
        self.run_study(["study.model", "none.onnx"], model=str(self.folder / "none.onnx"))
        self.run_study(["study.data", "none.npz"], data=str(self.folder / "none.npz"))

    def test_truncated_model(self):
        whole = self.case.model.read_bytes()
        path = self.folder / "cut.onnx"
        path.write_bytes(whole[:len(whole) // 2])
        self.refuse("inspect", path, says=["cut.onnx"])
        self.run_study(["model"], model=str(path))

    def test_unsupported_operator_is_named_with_its_node(self):
        node = helper.make_node("Det", ["x"], ["y"], name="odd one")
        graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 2])],
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])])
        path = self.folder / "odd.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
        self.refuse("inspect", path, says=["Det", "odd one"])
        self.run_study(["Det", "odd one"], model=str(path))

    def test_labels_out_of_range(self):
        with np.load(self.case.file("evaluation")) as data:
            y = data["y"].copy()
            y[17] = 99
            np.savez(self.folder / "labels.npz", x=data["x"], y=y)
        self.refuse("eval", self.case.model, "--data", self.folder / "labels.npz", says=["labels.npz", "99"])
        files = {"calibration": str(self.case.file("calibration")), "evaluation": str(self.folder / "labels.npz")}
        self.run_study(["99"], data=files)

    def test_nan_in_data(self):
        with np.load(self.case.file("evaluation")) as data:
            x = data["x"].astype(np.float32)
            x[3, 0] = np.nan
            np.savez(self.folder / "nan.npz", x=x, y=data["y"])
        self.refuse("eval", self.case.model, "--data", self.folder / "nan.npz", says=["nan.npz", "NaN"])
        files = {"calibration": str(self.case.file("calibration")), "evaluation": str(self.folder / "nan.npz")}
        self.run_study(["NaN"], data=files)

    def test_unknown_key_in_the_study(self):
        self.run_study(["objectves", "objectives"], objectves=[])

    def test_plan_for_a_layer_that_is_not_there(self):
        self.eval_plan({"layers": {"conv99": {"weight_bits": 8}}}, ["conv99"])

    def test_ratio_of_one(self):
        self.eval_plan({"layers": {"*": {"prune": {"structure": "channel", "ratio": 1.0}}}}, ["ratio", "1.0"])
        self.run_study(["ratio", "1.0"],
                       space={"default": {"prune": {"structure": "channel", "ratios": [0, 1.0]}}})

    def test_calibration_that_a_plan_needs(self):
        plan = self.write("plan.json", {"layers": {"*": {"weight_bits": 8, "activation_bits": 8}}})
        self.refuse("bench", self.case.model, "--plan", plan, says=["calibration"])

    def test_data_that_does_not_fit_the_model(self):
        np.savez(self.folder / "odd.npz", x=np.zeros((4, 7, 5), np.float32))
        self.refuse("infer", self.case.model, "--input", self.folder / "odd.npz", "--output",
                    self.folder / "y.npz", says=["odd.npz"])
        (self.folder / "text.npz").write_text("this is no archive")
        self.refuse("infer", self.case.model, "--input", self.folder / "text.npz", "--output",
                    self.folder / "y.npz", says=["text.npz"])

    def test_wrong_use(self):
        for arguments in (["no-such-command"], ["inspect"], ["run", "a", "b", "c"], ["bench", "m.onnx", "--batch", "0"]):
            self.refuse(*arguments)


if __name__ == "__main__":
    unittest.main()
