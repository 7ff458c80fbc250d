"""kerf infer computes what ONNX Runtime computes, within f32's rounding."""
import unittest

import numpy as np

import support


class Infer(unittest.TestCase):
    def compare(self, case, folder):
        x = case.inputs("test", 500)
        np.savez(folder / "x.npz", x=x)
        support.kerf("infer", case.model, "--input", folder / "x.npz", "--output", folder / "y.npz")
        expected = support.onnxruntime_outputs(case.model, x)
        with np.load(folder / "y.npz") as outputs:
            got = outputs[outputs.files[0]]
        self.assertEqual(got.shape, expected.shape)
        # Each logit is a chain of sums of at most some thousand terms; their rounding errors grow
        # with the root of that. 2^-24 x 4096 of the largest logit is a generous bound.
        bound = 2.0 ** -12 * np.abs(expected).max()
        self.assertLess(np.abs(got - expected).max(), bound, case.name)
        self.assertGreater(np.abs(expected).max(), 0)

    def test_examples_equal_onnxruntime(self):
        with support.scratch() as folder:
            for case in support.example_cases():
                with self.subTest(case.name):
                    self.compare(case, folder)

    def test_models_of_others_equal_onnxruntime(self):
        with support.scratch() as folder:
            cases = support.shared_cases(folder)
            if not cases:
                self.skipTest("skipped: no shared data beside the checkout")
            for case in cases:
                with self.subTest(case.name):
                    self.compare(case, folder)

    def test_preprocessing_is_the_formula_of_the_contract(self):
        with support.scratch() as folder:
            case = next(c for c in support.example_cases() if c.preprocess)
            with np.load(case.file("test")) as data:
                np.savez(folder / "raw.npz", x=data["x"][:64])
            np.savez(folder / "x.npz", x=case.inputs("test", 64))
            support.kerf("infer", case.model, "--input", folder / "raw.npz", "--output", folder / "a.npz",
                         "--preprocess", case.preprocess)
            support.kerf("infer", case.model, "--input", folder / "x.npz", "--output", folder / "b.npz")
            with np.load(folder / "a.npz") as a, np.load(folder / "b.npz") as b:
                np.testing.assert_allclose(a[a.files[0]], b[b.files[0]], rtol=1e-3, atol=1e-4)


if __name__ == "__main__":
    unittest.main()
