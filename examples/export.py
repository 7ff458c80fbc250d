#!/usr/bin/env python3
"""Writes a network's ONNX model (opset 13) from the weights that a training script left as npz.

Node by node with onnx.helper, so that names are those of networks.py, batch normalisation stays
a node of its own and the same weights give the same bytes. Needs onnx and NumPy.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import networks


def build(name, weights, half=False):
    """The model; half: weights of conv and gemm are stored as float16 behind a Cast to float."""
    graph = networks.NETWORKS[name]()
    shapes, _, _ = networks.output_shapes(graph)
    nodes, initializers = [], []

    def constant(array, label, may_be_half=False):
        array = np.ascontiguousarray(array)
        if half and may_be_half:
            stored = label + ".f16"
            initializers.append(numpy_helper.from_array(array.astype(np.float16), stored))
            nodes.append(helper.make_node("Cast", [stored], [label], name=label + ".cast",
                                          to=TensorProto.FLOAT))
        else:
            initializers.append(numpy_helper.from_array(array, label))
        return label

    last = graph.nodes[-1]["name"]

    def value(node):
        if node == "input":
            return node
        return "logits" if node == last else node + ".out"

    for node in graph.nodes:
        label, op = node["name"], node["op"]
        inputs, fields = [value(source) for source in node["inputs"]], {}
        if op == "conv":
            kind = "Conv"
            inputs.append(constant(weights[label + ".weight"], label + ".weight", True))
            fields = {"kernel_shape": [node["kernel"]] * 2, "strides": [node["stride"]] * 2,
                      "pads": [node["pad"]] * 4, "dilations": [1, 1], "group": node["group"]}
        elif op == "bn":
            kind = "BatchNormalization"
            inputs += [constant(weights[f"{label}.{field}"], f"{label}.{field}")
                       for field in ("weight", "bias", "mean", "var")]
            fields = {"epsilon": 1e-5}
        elif op == "gemm":
            kind = "Gemm"
            inputs.append(constant(weights[label + ".weight"], label + ".weight", True))
            inputs.append(constant(weights[label + ".bias"], label + ".bias"))
            fields = {"transB": 1}
        elif op in ("maxpool", "avgpool"):
            kind = "MaxPool" if op == "maxpool" else "AveragePool"
            fields = {"kernel_shape": [node["kernel"]] * 2, "strides": [node["stride"]] * 2}
        elif op == "flatten":
            kind, fields = "Flatten", {"axis": 1}
        else:
            kind = {"relu": "Relu", "add": "Add", "gap": "GlobalAveragePool"}[op]
        nodes.append(helper.make_node(kind, inputs, [value(label)], name=label, **fields))

    def port(label, shape):
        return helper.make_tensor_value_info(label, TensorProto.FLOAT, ["N", *shape])

    model = helper.make_model(
        helper.make_graph(nodes, name, [port("input", graph.input_shape)],
                          [port("logits", shapes[last])], initializers),
        opset_imports=[helper.make_opsetid("", 13)], ir_version=7,
        producer_name="kerf-examples", producer_version="1")
    onnx.checker.check_model(model, full_check=True)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=networks.NETWORKS)
    parser.add_argument("weights", type=Path, help="npz from a training script")
    parser.add_argument("out", type=Path, help="the .onnx file")
    parser.add_argument("--half", action="store_true", help="store large weights as float16")
    options = parser.parse_args()
    with np.load(options.weights) as arrays:
        data = build(options.network, dict(arrays), options.half).SerializeToString(
            deterministic=True)
    options.out.write_bytes(data)
    print(f"{options.out}: {len(data)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
