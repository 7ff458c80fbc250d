"""The example networks as lists of nodes, read by the trainer (PyTorch) and the exporter (ONNX).

A node is a dict: name, op, inputs (names of nodes, or "input"), and the op's own fields:
  conv  out, kernel, stride, pad, group      (no bias: a bn follows)
  bn, relu, add, flatten                     (none)
  maxpool, avgpool  kernel, stride           (no padding)
  gap                                        (mean over height and width, keeps them as 1 x 1)
  gemm  out                                  (with bias)
The last node is the graph's output. Needs no package.
"""


class Graph:
    """Builds a list of nodes; every method returns its node's name."""

    def __init__(self, channels, height=None, width=None):
        self.input_shape = (channels,) if height is None else (channels, height, width)
        self.nodes = []

    def add(self, name, op, *inputs, **fields):
        self.nodes.append({"name": name, "op": op, "inputs": list(inputs), **fields})
        return name

    def conv_bn(self, source, name, out, kernel=3, stride=1, group=1, relu=True):
        """A convolution, then bn and relu: conv1, bn1, relu1, or dw1, dw1_bn, dw1_relu."""
        path, dot, leaf = name.rpartition(".")
        number = leaf.removeprefix("conv")
        if leaf.startswith("conv"):
            bn, act = f"bn{number}", f"relu{number}"
        else:
            bn, act = f"{leaf}_bn", f"{leaf}_relu"
        last = self.add(name, "conv", source, out=out, kernel=kernel, stride=stride,
                        pad=kernel // 2, group=group)
        last = self.add(path + dot + bn, "bn", last)
        return self.add(path + dot + act, "relu", last) if relu else last

    def basic_block(self, source, name, channels, out, stride):
        """Two 3x3 convolutions and a residual sum; a 1x1 shortcut where the shape changes."""
        last = self.conv_bn(source, f"{name}.conv1", out, stride=stride)
        last = self.conv_bn(last, f"{name}.conv2", out, relu=False)
        if stride != 1 or channels != out:
            source = self.conv_bn(source, f"{name}.shortcut", out, kernel=1, stride=stride,
                                  relu=False)
        last = self.add(f"{name}.add", "add", last, source)
        return self.add(f"{name}.relu2", "relu", last)

    def head(self, source, classes):
        """Global average pool and the classifier."""
        last = self.add("pool", "gap", source)
        last = self.add("flatten", "flatten", last)
        return self.add("fc", "gemm", last, out=classes)


def digits_mlp():
    graph = Graph(64)
    last = graph.add("fc1", "gemm", "input", out=128)
    last = graph.add("relu1", "relu", last)
    last = graph.add("fc2", "gemm", last, out=64)
    last = graph.add("relu2", "relu", last)
    graph.add("fc3", "gemm", last, out=10)
    return graph


def digits_cnn():
    graph = Graph(1, 8, 8)
    last = graph.conv_bn("input", "conv1", 16)
    last = graph.conv_bn(last, "conv2", 32)
    last = graph.add("pool1", "maxpool", last, kernel=2, stride=2)
    last = graph.conv_bn(last, "conv3", 64)
    last = graph.add("pool2", "avgpool", last, kernel=2, stride=2)
    last = graph.add("flatten", "flatten", last)
    graph.add("fc", "gemm", last, out=10)
    return graph


def resnet8():
    graph = Graph(3, 32, 32)
    last, channels = graph.conv_bn("input", "conv1", 16), 16
    for index, (out, stride) in enumerate(((16, 1), (32, 2), (64, 2)), 1):
        last, channels = graph.basic_block(last, f"block{index}", channels, out, stride), out
    graph.head(last, 10)
    return graph


def dscnn():
    graph = Graph(3, 32, 32)
    last, channels = graph.conv_bn("input", "conv1", 32), 32
    for index, (out, stride) in enumerate(((64, 2), (64, 1), (128, 2), (128, 1), (128, 1)), 1):
        last = graph.conv_bn(last, f"dw{index}", channels, stride=stride, group=channels)
        last, channels = graph.conv_bn(last, f"pw{index}", out, kernel=1), out
    graph.head(last, 10)
    return graph


def resnet18w32():
    graph = Graph(3, 64, 64)
    last, channels = graph.conv_bn("input", "conv1", 32), 32
    index = 0
    for out, first in ((32, 1), (64, 2), (128, 2), (256, 2)):
        for stride in (first, 1):
            index += 1
            last = graph.basic_block(last, f"block{index}", channels, out, stride)
            channels = out
    graph.head(last, 10)
    return graph


NETWORKS = {"digits_mlp": digits_mlp, "digits_cnn": digits_cnn,
            "resnet8": resnet8, "dscnn": dscnn, "resnet18w32": resnet18w32}


def output_shapes(graph):
    """Shape of every node's output without the batch axis, and the multiply-adds of the layers.

    Returns (shapes by name, macs by name of conv or gemm, parameters by name)."""
    shapes, macs, params = {"input": graph.input_shape}, {}, {}
    for node in graph.nodes:
        shape = shapes[node["inputs"][0]]
        name, op = node["name"], node["op"]
        if op == "conv":
            side = [(extent + 2 * node["pad"] - node["kernel"]) // node["stride"] + 1
                    for extent in shape[1:]]
            params[name] = node["out"] * shape[0] // node["group"] * node["kernel"] ** 2
            macs[name] = params[name] * side[0] * side[1]
            shape = (node["out"], *side)
        elif op in ("maxpool", "avgpool"):
            shape = (shape[0], *((extent - node["kernel"]) // node["stride"] + 1
                                 for extent in shape[1:]))
        elif op == "gap":
            shape = (shape[0], 1, 1)
        elif op == "flatten":
            product = 1
            for extent in shape:
                product *= extent
            shape = (product,)
        elif op == "gemm":
            macs[name] = node["out"] * shape[0]
            params[name] = macs[name] + node["out"]
            shape = (node["out"],)
        elif op == "bn":
            params[name] = 4 * shape[0]
        shapes[name] = shape
    return shapes, macs, params
