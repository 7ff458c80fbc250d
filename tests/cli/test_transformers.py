"""Small transformers end to end: in f32, under a bf16 plan, and as ONNX Runtime quantizes them."""
import json
import logging
import os
import pathlib
import unittest

import numpy as np

import small_transformers
import support

MODELS = [("image", small_transformers.image_transformer, small_transformers.image_data),
          ("text", small_transformers.text_transformer, small_transformers.text_data)]


def reference(model, data, optimized=True):
    """ONNX Runtime's answer."""
    import onnxruntime
    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return session.run(None, data)[0]


def infer(folder, model, data, *more):
    np.savez(folder / "x.npz", **data)
    support.kerf("infer", model, "--input", folder / "x.npz", "--output", folder / "y.npz", *more)
    with np.load(folder / "y.npz") as outputs:
        return outputs[outputs.files[0]]


def kernels(model, *more):
    """The kernel of each step, by the node's name."""
    bench = support.kerf_json("bench", model, "--threads", 1, *more)
    return {layer["name"]: layer["kernel"] for layer in bench["layers"]}


def distance(got, expected):
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def bf16_here():
    """Whether the processor has bf16 (and VNNI), and oneDNN may use them."""
    return "avx512_bf16" in pathlib.Path("/proc/cpuinfo").read_text() and "ONEDNN_MAX_CPU_ISA" not in os.environ


def in_integers(kernel):
    """The kernels for bytes of processors that have bf16."""
    return "vnni" in kernel or "amx" in kernel


class Transformers(unittest.TestCase):
    def each(self, check):
        import onnx
        for name, build, data in MODELS:
            with support.scratch() as folder, self.subTest(name):
                model = folder / "model.onnx"
                onnx.save(build(), model)
                check(folder, model, data)

    def test_f32_equals_onnxruntime(self):
        def check(folder, model, data):
            x = data(64)
            expected = reference(model, x)
            self.assertGreater(np.abs(expected).max(), 0.5)
            self.assertLess(np.abs(infer(folder, model, x) - expected).max(), 2.0 ** -14 * np.abs(expected).max())

        self.each(check)

    def test_attention_and_rotary_embedding_of_opset_23_equal_onnxruntime(self):
        import onnx
        with support.scratch() as folder:
            model = folder / "model.onnx"
            onnx.save(small_transformers.causal_transformer(), model)
            x = {"ids": small_transformers.text_data(64)["ids"]}
            expected = reference(model, x)
            self.assertGreater(np.abs(expected).max(), 0.5)
            self.assertLess(np.abs(infer(folder, model, x) - expected).max(), 2.0 ** -14 * np.abs(expected).max())
            found = kernels(model)
            self.assertFalse([name for name, kernel in found.items() if kernel == "kerf:reference"], found)

    def test_a_bf16_plan_computes_the_attention_in_bf16(self):
        def check(folder, model, data):
            plan = folder / "plan.json"
            plan.write_text(json.dumps({"layers": {"*": {"weight_bits": 16, "activation_bits": 16}}}))
            x = data(64)
            expected = reference(model, x)
            # 8 bits of mantissa, through some twenty products.
            error = distance(infer(folder, model, x, "--plan", plan), expected)
            self.assertLess(error, 0.03)
            self.assertGreater(error, 1e-5, "nothing was computed in bf16")
            if bf16_here():
                found = kernels(model, "--plan", plan)
                for name, kernel in found.items():
                    if name.endswith(("_scores", "_mixture")):
                        self.assertIn("bf16", kernel, name)
                self.assertEqual(sum(name.endswith(("_scores", "_mixture")) for name in found), 4)

        self.each(check)

    @support.needs_vnni
    def test_statically_quantized_files_compute_the_attention_in_integers(self):
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        logging.disable(logging.WARNING)

        class Reader(CalibrationDataReader):
            def __init__(self, data):
                self.batches = iter([data])

            def get_next(self):
                return next(self.batches, None)

        def check(folder, model, data):
            x = data(64)
            exact = reference(model, x)
            for activations in (QuantType.QUInt8, QuantType.QInt8):
                quantized = folder / f"{activations}.onnx"
                quantize_static(model, quantized, Reader(data(128, seed=9)), quant_format=QuantFormat.QDQ, per_channel=True,
                                activation_type=activations, weight_type=QuantType.QInt8)
                expected = reference(quantized, x, optimized=False)
                got = infer(folder, quantized, x)
                # Values next to the middle between two steps may fall to either side.
                self.assertLess(distance(got, expected), 0.5 * distance(expected, exact), activations)
                self.assertLess(distance(got, exact), 1.2 * distance(expected, exact), activations)
                steps = support.kerf_json("bench", quantized, "--threads", 1)["layers"]
                attention = [step for step in steps if step["name"].endswith(("_scores", "_mixture"))]
                self.assertEqual(len(attention), 4)
                for step in attention:
                    self.assertNotIn("ref", step["kernel"], step)
                if bf16_here():
                    self.assertTrue(all(in_integers(step["kernel"]) for step in attention), attention)

        self.each(check)

    @support.needs_vnni
    def test_dynamically_quantized_files_run_in_integers(self):
        from onnxruntime.quantization import QuantType, quantize_dynamic
        logging.disable(logging.WARNING)
        def check(folder, model, data):
            x = {name: values[:1] for name, values in data(1).items()}
            for weights in (QuantType.QInt8, QuantType.QUInt8):
                quantized = folder / f"{weights}.onnx"
                quantize_dynamic(model, quantized, weight_type=weights, op_types_to_quantize=["MatMul"])
                expected = reference(quantized, x)
                got = infer(folder, quantized, x)
                self.assertLess(distance(got, expected), 0.01, weights)
                found = kernels(quantized, "--batch", 1)
                self.assertFalse([name for name, kernel in found.items() if kernel == "kerf:reference"], found)
                products = [kernel for name, kernel in found.items() if name.endswith("_quant")]
                self.assertGreaterEqual(len(products), 12, found)
                if bf16_here():
                    self.assertTrue(all(map(in_integers, products)), products)

        self.each(check)

    def test_dynamically_quantized_convolutions_run_in_integers(self):
        from onnxruntime.quantization import QuantType, quantize_dynamic
        logging.disable(logging.WARNING)
        for case in support.example_cases()[1:3]:
            with support.scratch() as folder, self.subTest(case.name):
                quantized = folder / "quantized.onnx"
                quantize_dynamic(case.model, quantized, weight_type=QuantType.QUInt8)
                x = case.inputs("test", 1)
                np.savez(folder / "x.npz", x=x)
                support.kerf("infer", quantized, "--input", folder / "x.npz", "--output", folder / "y.npz")
                expected = support.onnxruntime_outputs(quantized, x)
                with np.load(folder / "y.npz") as outputs:
                    got = outputs[outputs.files[0]]
                self.assertLess(distance(got, expected), 0.01)
                found = kernels(quantized, "--batch", 1)
                self.assertFalse([name for name, kernel in found.items() if kernel == "kerf:reference"], found)
                layers = [kernel for name, kernel in found.items() if name.endswith("_quant")]
                self.assertGreaterEqual(len(layers), 3, found)
                if bf16_here():
                    self.assertTrue(all(map(in_integers, layers)), found)


if __name__ == "__main__":
    unittest.main()
