"""Two small transformers with seeded random weights: an image one (patches, pre-normalization, Gelu as
exporters write it) and a text one (token and position embeddings, a mask, post-normalization)."""
import numpy as np
from onnx import TensorProto, helper, numpy_helper


class Builder:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.initializers, self.count = [], [], 0

    def constant(self, array, name=None):
        name = name or f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weights(self, *shape):
        return self.constant((self.rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32))

    def add(self, op, *inputs, name=None, outputs=1, **attributes):
        self.count += 1
        name = name or f"{op}_{self.count}"
        made = [f"{name}_out{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), made, name=name, **attributes))
        return made[0] if outputs == 1 else made

    def linear(self, x, rows, columns, name):
        y = self.add("MatMul", x, self.weights(rows, columns), name=name)
        return self.add("Add", y, self.constant((self.rng.standard_normal(columns) * 0.1).astype(np.float32)))

    def normalized(self, x, width):
        gain = (1 + 0.1 * self.rng.standard_normal(width)).astype(np.float32)
        shift = (0.1 * self.rng.standard_normal(width)).astype(np.float32)
        return self.add("LayerNormalization", x, self.constant(gain), self.constant(shift), axis=-1)

    def gelu(self, x):
        half = self.constant(np.float32(0.5))
        gate = self.add("Erf", self.add("Div", x, self.constant(np.float32(np.sqrt(2)))))
        return self.add("Mul", self.add("Mul", x, self.add("Add", gate, self.constant(np.float32(1)))), half)

    def attention(self, x, length, width, heads, name, mask=None):
        depth = width // heads
        split = self.constant(np.array([0, length, heads, depth], np.int64))

        def part(what, order):
            y = self.add("Reshape", self.linear(x, width, width, f"{name}_{what}"), split)
            return self.add("Transpose", y, perm=order)

        query, key, value = part("query", [0, 2, 1, 3]), part("key", [0, 2, 3, 1]), part("value", [0, 2, 1, 3])
        scores = self.add("Div", self.add("MatMul", query, key, name=f"{name}_scores"), self.constant(np.float32(np.sqrt(depth))))
        if mask:
            scores = self.add("Add", scores, mask)
        mixed = self.add("MatMul", self.add("Softmax", scores, axis=-1), value, name=f"{name}_mixture")
        joined = self.add("Reshape", self.add("Transpose", mixed, perm=[0, 2, 1, 3]),
                          self.constant(np.array([0, length, width], np.int64)))
        return self.linear(joined, width, width, f"{name}_output")

    def model(self, inputs, output):
        graph = helper.make_graph(self.nodes, "transformer", inputs,
                                  [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", 10])], self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def image_transformer(seed=5, width=32, heads=2):
    b = Builder(seed)
    patches = b.add("Conv", "x", b.weights(width, 3, 4, 4), name="patches", kernel_shape=[4, 4], strides=[4, 4])
    rows = b.add("Transpose", b.add("Reshape", patches, b.constant(np.array([0, width, 16], np.int64))), perm=[0, 2, 1])
    y = b.add("Add", rows, b.constant((b.rng.standard_normal((1, 16, width)) * 0.2).astype(np.float32)))
    for i in range(2):
        y = b.add("Add", y, b.attention(b.normalized(y, width), 16, width, heads, f"block{i}"))
        hidden = b.gelu(b.linear(b.normalized(y, width), width, 4 * width, f"block{i}_up"))
        y = b.add("Add", y, b.linear(hidden, 4 * width, width, f"block{i}_down"))
    y = b.add("ReduceMean", b.normalized(y, width), axes=[1], keepdims=0)
    y = b.add("Gemm", y, b.weights(width, 10), b.constant(np.zeros(10, np.float32)), name="head")
    return b.model([helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])], y)


def text_transformer(seed=6, width=32, heads=2, length=12, words=50):
    b = Builder(seed)
    tokens = b.add("Gather", b.constant(b.rng.standard_normal((words, width)).astype(np.float32)), "ids", axis=0)
    y = b.add("Add", tokens, b.constant((b.rng.standard_normal((1, length, width)) * 0.3).astype(np.float32)))
    y = b.normalized(y, width)
    # 0 where a token counts, -10000 where it is padding.
    real = b.add("Cast", b.add("Unsqueeze", "mask", b.constant(np.array([1, 2], np.int64))), to=TensorProto.FLOAT)
    mask = b.add("Mul", b.add("Sub", b.constant(np.float32(1)), real), b.constant(np.float32(-10000)))
    for i in range(2):
        y = b.normalized(b.add("Add", y, b.attention(y, length, width, heads, f"layer{i}", mask)), width)
        hidden = b.gelu(b.linear(y, width, 4 * width, f"layer{i}_up"))
        y = b.normalized(b.add("Add", y, b.linear(hidden, 4 * width, width, f"layer{i}_down")), width)
    first = b.add("Gather", y, b.constant(np.int64(0)), axis=1)
    pooled = b.add("Tanh", b.add("Gemm", first, b.weights(width, width), b.constant(np.zeros(width, np.float32)), name="pooler"))
    y = b.add("Gemm", pooled, b.weights(width, 10), b.constant(np.zeros(10, np.float32)), name="head")
    return b.model([helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", length]),
                    helper.make_tensor_value_info("mask", TensorProto.INT64, ["N", length])], y)


def causal_transformer(seed=10, width=32, heads=4, shared=2, length=12, words=50):
    """As decoders are since opset 23: RotaryEmbedding, Attention whose heads share keys and values, RMSNormalization."""
    b = Builder(seed)
    depth = width // heads
    angles = np.arange(length)[:, None] / 100.0 ** (np.arange(depth // 2)[None, :] / (depth // 2))
    cosines, sines = b.constant(np.cos(angles).astype(np.float32)), b.constant(np.sin(angles).astype(np.float32))
    places = b.add("Sub", b.add("CumSum", b.add("ConstantOfShape", b.add("Shape", "ids"), value=helper.make_tensor("one", TensorProto.INT64, [1], [1])),
                                b.constant(np.int64(1))), b.constant(np.int64(1)))
    y = b.add("Gather", b.constant(b.rng.standard_normal((words, width)).astype(np.float32)), "ids", axis=0)
    for i in range(2):
        x = b.add("RMSNormalization", y, b.constant(np.ones(width, np.float32)), axis=-1)
        query, key = b.linear(x, width, width, f"layer{i}_query"), b.linear(x, width, shared * depth, f"layer{i}_key")
        query = b.add("RotaryEmbedding", query, cosines, sines, places, num_heads=heads)
        key = b.add("RotaryEmbedding", key, cosines, sines, places, num_heads=shared)
        value = b.linear(x, width, shared * depth, f"layer{i}_value")
        mixed = b.add("Attention", query, key, value, name=f"layer{i}_attention", is_causal=1, q_num_heads=heads, kv_num_heads=shared)
        y = b.add("Add", y, b.linear(mixed, width, width, f"layer{i}_output"))
        hidden = b.gelu(b.linear(b.add("RMSNormalization", y, b.constant(np.ones(width, np.float32)), axis=-1), width, 2 * width, f"layer{i}_up"))
        y = b.add("Add", y, b.linear(hidden, 2 * width, width, f"layer{i}_down"))
    last = b.add("Gather", y, b.constant(np.int64(-1)), axis=1)
    y = b.add("Gemm", last, b.weights(width, 10), b.constant(np.zeros(10, np.float32)), name="head")
    graph = helper.make_graph(b.nodes, "decoder", [helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", length])],
                              [helper.make_tensor_value_info(y, TensorProto.FLOAT, ["N", 10])], b.initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def image_data(count, seed=7):
    return {"x": np.random.default_rng(seed).standard_normal((count, 3, 16, 16)).astype(np.float32)}


def text_data(count, seed=8, length=12, words=50):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, length + 1, count)
    return {"ids": rng.integers(0, words, (count, length)).astype(np.int64),
            "mask": (np.arange(length)[None, :] < lengths[:, None]).astype(np.int64)}
