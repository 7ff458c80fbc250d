"""Layers that are binary on both sides count bits: the same outputs as bytes give, to the bit, and `inspect` says so."""
import json
import unittest

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import support

PLAN = {"layers": {"*": {"weight_bits": 1, "activation_bits": 1}, "stem": {"weight_bits": 32}}}


def wide_network(path):
    """A residual block of 256 channels between a stem and a classifier."""
    random = np.random.default_rng(11)
    constants = []

    def layer(op, name, source, shape, **attributes):
        deviation = (2.0 / np.prod(shape[1:])) ** 0.5
        constants.append(numpy_helper.from_array(random.normal(0, deviation, shape).astype(np.float32), name + ".w"))
        constants.append(numpy_helper.from_array(random.normal(0, 0.1, shape[0]).astype(np.float32), name + ".b"))
        return helper.make_node(op, [source, name + ".w", name + ".b"], [name + "_y"], name, **attributes)

    nodes = [
        layer("Conv", "stem", "x", (256, 3, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["stem_y"], ["a"], "relu0"),
        layer("Conv", "conv1", "a", (256, 256, 3, 3), pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv1_y"], ["b"], "relu1"),
        layer("Conv", "conv2", "b", (256, 256, 3, 3), pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["conv2_y", "a"], ["s"], "add"),
        helper.make_node("Relu", ["s"], ["c"], "relu2"),
        helper.make_node("GlobalAveragePool", ["c"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        layer("Gemm", "fc", "f", (10, 256), transB=1),
    ]
    graph = helper.make_graph(nodes, "wide", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
                              [helper.make_tensor_value_info("fc_y", TensorProto.FLOAT, ["N", 10])], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


class Signs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        scratch = support.scratch()
        cls.folder = scratch.__enter__()
        cls.addClassCleanup(scratch.__exit__, None, None, None)
        cls.model = cls.folder / "wide.onnx"
        wide_network(cls.model)
        random = np.random.default_rng(12)
        np.savez(cls.folder / "x.npz", x=random.normal(size=(30, 3, 8, 8)).astype(np.float32))
        (cls.folder / "plan.json").write_text(json.dumps(PLAN))
        cls.arguments = ["--plan", cls.folder / "plan.json", "--calibration", cls.folder / "x.npz"]

    def outputs(self, model, *arguments):
        support.kerf("infer", model, "--input", self.folder / "x.npz", "--output", self.folder / "y.npz", *arguments)
        with np.load(self.folder / "y.npz") as arrays:
            return arrays["fc_y"]

    def layers(self, command, *arguments):
        document = support.kerf_json(command, self.model, *self.arguments, *arguments)
        layers = document["candidate"]["layers"] if command == "inspect" else document["layers"]
        return {layer["name"]: layer for layer in layers}

    def test_outputs_are_those_of_bytes_to_the_bit(self):
        for more in ([], ["--threads", "2"]):
            bits = self.outputs(self.model, *self.arguments, *more)
            bytes_ = self.outputs(self.model, *self.arguments, *more, "--no-pass", "pack-signs")
            self.assertTrue(np.isfinite(bits).all())
            self.assertGreater(np.ptp(bits), 0)
            np.testing.assert_array_equal(bits, bytes_)

    def test_inspect_says_what_each_layer_runs_on(self):
        layers = self.layers("inspect")
        self.assertEqual(list(layers), ["stem", "conv1", "conv2", "fc"])
        self.assertEqual(layers["stem"]["executes_as"], "f32")
        for name in ("conv1", "conv2"):
            # Which one wins is this machine's matter; what is said of it has to be one thing or the other.
            kernels = {"bits": "^kerf:signs:(avx512_vpopcntdq|avx2|plain)$", "s8": "^(?!kerf:signs)"}
            self.assertIn(layers[name]["executes_as"], kernels, layers[name])
            self.assertRegex(layers[name]["kernel"], kernels[layers[name]["executes_as"]])
            self.assertEqual((layers[name]["weight_bits"], layers[name]["activation_bits"]), (1, 1))
        self.assertIn(layers["conv1"]["kernel"], support.kerf("inspect", self.model, *self.arguments).stdout)
        self.assertNotIn("candidate", support.kerf_json("inspect", self.model))
        for layer in self.layers("inspect", "--no-pass", "pack-signs").values():
            self.assertFalse(layer["kernel"].startswith("kerf:signs"), layer)

    def test_measurements_say_so_and_weights_take_a_bit(self):
        bits = support.kerf_json("bench", self.model, *self.arguments, "--seconds", "0.05")
        bytes_ = support.kerf_json("bench", self.model, *self.arguments, "--seconds", "0.05", "--no-pass", "pack-signs")
        self.assertTrue(any(layer["executes_as"] == "bits" for layer in bits["layers"]), bits["layers"])  # a matrix: 7 times
        counted = [layer["name"] for layer in bits["layers"] if layer["executes_as"] == "bits"]
        saved = sum(256 * 256 * 9 * 7 // 8 for name in counted if name.startswith("conv"))
        self.assertLessEqual(bits["weight_bytes"], bytes_["weight_bytes"] - 0.95 * saved)
        self.assertEqual(bits["storage_bytes"], bytes_["storage_bytes"])

    def test_the_exported_file_computes_the_same(self):
        support.kerf("export", self.model, *self.arguments, "-o", self.folder / "out.onnx")
        support.kerf("export", self.model, *self.arguments, "-o", self.folder / "bytes.onnx", "--no-pass", "pack-signs")
        exported = self.outputs(self.folder / "out.onnx")
        np.testing.assert_array_equal(exported, self.outputs(self.folder / "bytes.onnx", "--no-pass", "pack-signs"))
        np.testing.assert_array_equal(exported, self.outputs(self.model, *self.arguments))
        wanted = support.onnxruntime_outputs(self.folder / "out.onnx", np.load(self.folder / "x.npz")["x"])
        np.testing.assert_allclose(exported, wanted, rtol=1e-3, atol=1e-2 * np.abs(wanted).max())


if __name__ == "__main__":
    unittest.main()
