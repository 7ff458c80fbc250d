"""Every command that loads a model takes --no-pass NAME; each pass did something, and nothing to the outputs."""
import json
import unittest

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import support

PASSES = ["fold-batch-norm", "fold-constants", "fuse-activations", "merge-bias", "pack-signs", "remove-dead-nodes", "remove-identity"]


def model_for_every_pass(path):
    """Identity -> Conv with computed weights -> BatchNormalization -> Relu -> Gemm + Add, and a node nobody needs."""
    random = np.random.default_rng(3)

    def constant(name, shape):
        return numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name)

    constants = [constant("w", (4, 2, 3, 3)), constant("gamma", (4,)), constant("beta", (4,)), constant("mean", (4,)),
                 numpy_helper.from_array(np.full(4, 0.5, np.float32), "variance"), constant("fc.w", (5, 64)),
                 constant("bias", (5,))]
    nodes = [
        helper.make_node("Identity", ["x"], ["same"], "identity"),
        helper.make_node("Neg", ["w"], ["negative"], "negate"),
        helper.make_node("Conv", ["same", "negative"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "variance"], ["n"], "norm"),
        helper.make_node("Relu", ["n"], ["r"], "relu"),
        helper.make_node("Abs", ["r"], ["unread"], "dead"),
        helper.make_node("Flatten", ["r"], ["rows"], "flatten"),
        helper.make_node("Gemm", ["rows", "fc.w"], ["g"], "fc", transB=1),
        helper.make_node("Add", ["g", "bias"], ["y"], "add"),
    ]
    graph = helper.make_graph(nodes, "all passes", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 4, 4])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


class NoPass(unittest.TestCase):
    def setUp(self):
        scratch = support.scratch()
        self.folder = scratch.__enter__()
        self.addCleanup(scratch.__exit__, None, None, None)
        self.model = self.folder / "model.onnx"
        model_for_every_pass(self.model)
        np.savez(self.folder / "x.npz", x=np.random.default_rng(5).normal(size=(20, 2, 4, 4)).astype(np.float32))

    def outputs(self, *arguments):
        support.kerf("infer", self.model, "--input", self.folder / "x.npz", "--output", self.folder / "y.npz", *arguments)
        with np.load(self.folder / "y.npz") as arrays:
            return arrays["y"]

    def ops(self, *arguments):
        support.kerf("export", self.model, "-o", self.folder / "out.onnx", *arguments)
        return [node.op_type for node in onnx.load(self.folder / "out.onnx").graph.node]

    def test_outputs_stay_whatever_is_off(self):
        wanted = support.onnxruntime_outputs(self.model, np.load(self.folder / "x.npz")["x"])
        for off in [[]] + [[name] for name in PASSES] + [PASSES]:
            got = self.outputs(*(part for name in off for part in ("--no-pass", name)))
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4, err_msg=f"without {off}")

    def test_each_pass_did_what_its_name_says(self):
        self.assertEqual(self.ops(), ["Conv", "Relu", "Flatten", "Gemm"])
        for name, op in (("fold-batch-norm", "BatchNormalization"), ("fold-constants", "Neg"), ("merge-bias", "Add"),
                         ("remove-dead-nodes", "Abs"), ("remove-identity", "Identity")):
            self.assertIn(op, self.ops("--no-pass", name), name)

    def test_fusion_is_seen_in_what_runs(self):
        def steps(*arguments):
            return {layer["name"] for layer in support.kerf_json("bench", self.model, "--seconds", "0.02", *arguments)["layers"]}
        self.assertNotIn("relu", steps())
        self.assertIn("relu", steps("--no-pass", "fuse-activations"))

    def test_every_command_takes_them_and_refuses_what_is_none(self):
        np.savez(self.folder / "d.npz", x=np.zeros((4, 2, 4, 4), np.float32), y=np.zeros(4, np.int64))
        (self.folder / "plan.json").write_text(json.dumps({"layers": {"*": {"weight_bits": 8}}}))
        commands = {
            "infer": ["--input", self.folder / "x.npz", "--output", self.folder / "y.npz"],
            "bench": ["--seconds", "0.02", "--json"],
            "eval": ["--data", self.folder / "d.npz", "--plan", self.folder / "plan.json", "--seconds", "0.02", "--json"],
            "export": ["-o", self.folder / "out.onnx"],
            "inspect": ["--json"],
        }
        for command, arguments in commands.items():
            for name in PASSES:
                support.kerf(command, self.model, *arguments, "--no-pass", name)
            done = support.kerf(command, self.model, *arguments, "--no-pass", "fuse-activation", check=False)
            self.assertEqual(done.returncode, 2, command)
            self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
            self.assertIn('nearest: "fuse-activations"', done.stderr, command)

    def test_inspect_sees_layers_as_they_then_are(self):
        def names(*arguments):
            return [layer["name"] for layer in support.kerf_json("inspect", self.model, *arguments)["layers"]]
        self.assertEqual(names(), ["conv", "fc"])
        # A convolution whose weights are computed isn't a layer.
        self.assertEqual(names("--no-pass", "fold-constants"), ["fc"])


if __name__ == "__main__":
    unittest.main()
