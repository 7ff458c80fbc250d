"""kerf export writes standard ONNX that keeps in ONNX Runtime the accuracy that kerf measured."""
import json
import unittest

import numpy as np
import onnx

import support

PLANS = {
    "8-bit": {"global": {"range": "mse"}, "layers": {"*": {"weight_bits": 8, "activation_bits": 8}}},
    "6-bit weights": {"layers": {"*": {"weight_bits": 6, "activation_bits": 32}}},
    "bf16": {"layers": {"*": {"weight_bits": 16}}},
    "8-bit, a quarter of the channels gone": {
        "layers": {"*": {"weight_bits": 8, "activation_bits": 8, "prune": {"structure": "channel", "ratio": 0.25}}}},
    "half of the weights zero": {"layers": {"*": {"prune": {"structure": "unstructured", "ratio": 0.5}}}},
}


class Export(unittest.TestCase):
    def check(self, case, folder):
        x, y = case.inputs("evaluation"), case.labels("evaluation")
        for name, plan in PLANS.items():
            with self.subTest(f"{case.name}, {name}"):
                (folder / "plan.json").write_text(json.dumps(plan))
                shared = ["--plan", folder / "plan.json", "--calibration", case.file("calibration"), *case.arguments()]
                measured = support.kerf_json("eval", case.model, *shared, "--data", case.file("evaluation"),
                                             "--seconds", "0.05")
                support.kerf("export", case.model, *shared, "-o", folder / "out.onnx")
                onnx.checker.check_model(str(folder / "out.onnx"), full_check=True)
                outputs = support.onnxruntime_outputs(folder / "out.onnx", x)
                self.assertAlmostEqual(support.accuracy(outputs, y), measured["accuracy"], delta=0.005)
                # Reading it back gives the same network.
                np.savez(folder / "x.npz", x=x[:256])
                support.kerf("infer", folder / "out.onnx", "--input", folder / "x.npz", "--output", folder / "y.npz")
                with np.load(folder / "y.npz") as again:
                    got = again[again.files[0]].reshape(256, -1)
                agreement = np.mean(got.argmax(1) == outputs.reshape(len(y), -1)[:256].argmax(1))
                self.assertGreaterEqual(agreement, 0.97)

    def test_examples(self):
        with support.scratch() as folder:
            for case in support.example_cases():
                self.check(case, folder)

    def test_models_of_others(self):
        with support.scratch() as folder:
            cases = support.shared_cases(folder)
            if not cases:
                self.skipTest("skipped: no shared data beside the checkout")
            for case in cases:
                self.check(case, folder)

    def test_eight_bits_cost_at_most_a_point(self):
        with support.scratch() as folder:
            (folder / "plan.json").write_text(json.dumps(PLANS["8-bit"]))
            for case in support.example_cases() + support.shared_cases(folder):
                with self.subTest(case.name):
                    measured = support.kerf_json(
                        "eval", case.model, "--plan", folder / "plan.json", "--calibration", case.file("calibration"),
                        *case.arguments(), "--data", case.file("evaluation"), "--seconds", "0.05")
                    self.assertLess(measured["accuracy_drop"], 0.01)
                    self.assertEqual({l["executes_as"] for l in measured["layers"] if l["name"] in ("conv1", "fc")} - {"s8"},
                                     set())


if __name__ == "__main__":
    unittest.main()
