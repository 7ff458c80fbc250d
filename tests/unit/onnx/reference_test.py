#!/usr/bin/env python3
"""Models through reader and writer, compared with ONNX's own reference and ONNX Runtime.

Usage: reference_test.py CONVERT_PROGRAM

1. The node tests that the onnx package generates: what is written must pass the ONNX checker with
   full_check, and compute in ONNX Runtime what the test expects.
2. Models at another batch: must compute, sample by sample, what the original computes.
3. Einsum's equations: taken apart, and equal to NumPy's.
4. Local functions: what is written has none, and computes what ONNX Runtime makes of the original.
5. The table of operators in docs: from the opset that ONNX brought an operator in to the last that has it.
"""

import os
import re
import subprocess
import sys
import tempfile
import warnings

try:
    import numpy as np
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper
    from onnx.backend.test.case.node import collect_testcases
except ImportError as missing:
    print(f"SKIPPED: {missing}")
    sys.exit(77)

warnings.simplefilter("ignore")
ort.set_default_logger_severity(4)

# Ops of vision, MLP and small transformer models.
OPS = """abs add and argmax argmin attention_ averagepool basic_conv batchnorm cast_ ceil clip concat constant
constantofshape conv_ convinteger convtranspose cumsum depthtospace dequantizelinear div dropout_default
dynamicquantizelinear elu equal erf exp expand flatten floor gather gelu gemm globalaveragepool
globalmaxpool greater group_normalization hardmax hardsigmoid hardswish identity instancenorm layer_norm
leakyrelu less log logsoftmax lrn matmul matmulinteger max maxpool mean min mish mod_ mul neg not onehot
or_ pow prelu qlinearconv qlinearmatmul quantizelinear range reciprocal reduce_ relu reshape resize
round selu shape sigmoid sign slice softmax softplus softsign spacetodepth split sqrt squeeze sub sum
affine_grid bitshift bitwise blackman center_crop_pad col2im dft einsum eyelike gridsample gru hamming hann if
lstm lpnorm l1normalization l2normalization lppool maxunpool melweight mvn reversesequence rnn roialign rotary_embedding scan9 scatter simple_rnn stft swish tanh thresholdedrelu tile top_k transpose tril triu unsqueeze where xor""".split()
NEWEST = 24


# ONNX Runtime itself doesn't agree with the reference on these.
RUNTIME_DIFFERS = {"resize_downsample_scales_linear_align_corners", "resize_downsample_scales_cubic_align_corners"}


def difference(got, expected):
    """What differs between a result and the expected one, or None."""
    if list(got.shape) != list(expected.shape):
        return f"shape {got.shape}, expected {expected.shape}"
    if got.dtype.kind == "f":
        same = np.allclose(got, expected.astype(np.float64), rtol=2e-3, atol=2e-3, equal_nan=True)
    else:
        same = np.all(np.abs(got.astype(np.int64) - expected.astype(np.int64)) <= 1)
    return None if same else "values differ"


class Converter:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, source, target, batch=""):
        self.process.stdin.write(f"{source}\t{target}\t{batch}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise RuntimeError(f"the converter died on {source}")
        return answer


def session(path):
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


def is_plain(array):
    return isinstance(array, np.ndarray) and array.dtype.kind in "fiub"


# Ops whose parameters the node tests give as graph inputs; models have them as constants.
PARAMETERS = {"Reshape", "Resize", "Upsample", "Unsqueeze", "Squeeze", "Slice", "Split", "Tile", "Expand", "Pad",
              "ConstantOfShape", "Range", "TopK", "CumSum", "OneHot", "Clip", "Trilu"}


def with_constant_parameters(model, inputs):
    """The model with its parameters as initializers, and the inputs that are left."""
    op = model.graph.node[0].op_type
    if op not in PARAMETERS and not op.startswith("Reduce"):
        return inputs
    first = 0 if op in ("ConstantOfShape", "Range") else 1
    left = []
    infos = list(model.graph.input)
    for position, (info, value) in enumerate(zip(infos, inputs)):
        if position >= first and is_plain(value):
            model.graph.initializer.append(numpy_helper.from_array(value, info.name))
            model.graph.input.remove(info)
        else:
            left.append(value)
    return left


def node_tests(convert, folder):
    failures, passed, refused, skipped = [], 0, 0, 0
    for case in collect_testcases(None):
        name = re.sub(r"^test_", "", case.name)
        if case.model is None or not name.startswith(tuple(OPS)) or "expanded" in name:
            continue
        # The package's cases follow its newest opset, whose ops mean the same in the newest that is read.
        for entry in case.model.opset_import:
            if entry.domain == "":
                entry.version = min(entry.version, NEWEST)
        inputs, outputs = case.data_sets[0]
        inputs = with_constant_parameters(case.model, inputs)
        source, target = os.path.join(folder, "in.onnx"), os.path.join(folder, "out.onnx")
        onnx.save(case.model, source)
        answer = convert(source, target)
        if answer != "ok":
            refused += 1
            if not answer.startswith(("invalid_argument", "unimplemented")):
                failures.append(f"{name}: {answer}")
            continue
        if not all(is_plain(a) for a in [*inputs, *outputs]):
            skipped += 1
            continue
        try:
            onnx.checker.check_model(onnx.load(target), full_check=True)
            runtime = session(target)
            wanted = {i.name: i.type for i in runtime.get_inputs()}
            feeds = {info.name: value.astype(np.float32) if wanted.get(info.name) == "tensor(float)" else value
                     for info, value in zip(case.model.graph.input, inputs) if info.name in wanted}
            results = runtime.run([o.name for o in case.model.graph.output], feeds)
        except Exception as error:  # noqa: BLE001: whatever the checker or the runtime says is the result
            text = str(error).replace("\n", " ")
            # Types that the runtime doesn't implement, and rules that changed after opset 17.
            if ("NOT_IMPLEMENTED" in text or "ConvInteger" in text or "fmod" in text or "_ceil_" in name
                    or "Unrecognized attribute: mode" in text or "layout_ == 0" in text):
                skipped += 1
            else:
                failures.append(f"{name}: {text[:300]}")
            continue
        wrong = [text for text in map(difference, results, outputs) if text]
        if wrong and name not in RUNTIME_DIFFERS:
            failures.append(f"{name}: {wrong[0]}")
        else:
            passed += 1
    print(f"node tests: {passed} equal, {refused} refused with a reason, {skipped} not comparable, {len(failures)} failed")
    if passed < 400:
        failures.append(f"only {passed} node tests were compared")
    return failures


def initializer(rng, name, *shape):
    return numpy_helper.from_array((rng.standard_normal(shape) * 0.3).astype(np.float32), name)


def integers(name, *values):
    return numpy_helper.from_array(np.array(values, np.int64), name)


def batch_models(rng):
    """(name, own batch or None, shape of a sample, nodes, initializers)."""
    node = helper.make_node
    cnn = [node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]), node("Relu", ["a"], ["b"]),
           node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2])]
    weights = [initializer(rng, "w", 4, 3, 3, 3), initializer(rng, "v", 64, 5), initializer(rng, "p", 1, 4, 1, 1)]
    tail = [node("MatMul", ["f", "v"], ["y"])]
    yield "constant reshape", 1, [3, 8, 8], cnn + [node("Reshape", ["c", "t"], ["f"])] + tail, weights + [integers("t", 1, 64)]
    yield "open reshape", 2, [3, 8, 8], cnn + [node("Add", ["c", "p"], ["d"]), node("Reshape", ["d", "t"], ["f"])] + tail, weights + [integers("t", 2, -1)]
    view = [node("Shape", ["c"], ["s"]), node("Gather", ["s", "i"], ["n"]), node("Unsqueeze", ["n", "ax"], ["n1"]),
            node("Concat", ["n1", "rest"], ["t"], axis=0), node("Reshape", ["c", "t"], ["f"])]
    extra = [numpy_helper.from_array(np.array(0, np.int64), "i"), integers("ax", 0), integers("rest", -1)]
    yield "view", None, [3, 8, 8], cnn + view + tail, weights + extra
    yield "view at a batch of one", 1, [3, 8, 8], cnn + view + tail, weights + extra
    head = [node("Concat", ["cls", "x"], ["q"], axis=1), node("Add", ["q", "pos"], ["e"]),
            node("LayerNormalization", ["e", "g"], ["l"], axis=-1), node("MatMul", ["l", "w"], ["m"])]
    attend = [node("Transpose", ["h"], ["ht"], perm=[0, 2, 1, 3]), node("Transpose", ["h"], ["hk"], perm=[0, 2, 3, 1]),
              node("MatMul", ["ht", "hk"], ["sc"]), node("Softmax", ["sc"], ["pr"], axis=-1),
              node("MatMul", ["pr", "ht"], ["o"]), node("Transpose", ["o"], ["ot"], perm=[0, 2, 1, 3])]
    params = [initializer(rng, "cls", 1, 1, 8), initializer(rng, "pos", 1, 5, 8), initializer(rng, "g", 8), initializer(rng, "w", 8, 8)]
    yield ("attention with constant shapes", 1, [4, 8],
           head + [node("Reshape", ["m", "split"], ["h"])] + attend + [node("Reshape", ["ot", "join"], ["y"])],
           params + [integers("split", 1, 5, 2, 4), integers("join", 1, 5, 8)])
    yield ("rows of a sample in the batch axis", 1, [6, 4],
           [node("Reshape", ["x", "in"], ["a"]), node("Gemm", ["a", "w"], ["b"]), node("Reshape", ["b", "out"], ["y"])],
           [integers("in", 6, 4), initializer(rng, "w", 4, 3), integers("out", 1, 6, 3)])


def batch_tests(convert, folder):
    rng, failures, passed = np.random.default_rng(3), [], 0
    for name, own, shape, nodes, initializers in batch_models(rng):
        source, target = os.path.join(folder, "in.onnx"), os.path.join(folder, "out.onnx")
        graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [own or "N", *shape])],
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], initializers)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), source)
        for batch in (1, 4, 6):
            answer = convert(source, target, batch)
            if answer != "ok":
                failures.append(f"{name}, batch {batch}: {answer}")
                continue
            onnx.checker.check_model(onnx.load(target), full_check=True)
            x = rng.standard_normal([12, *shape]).astype(np.float32)
            step = own or 1
            expected = np.concatenate([session(source).run(None, {"x": x[i:i + step]})[0] for i in range(0, 12, step)])
            got = np.concatenate([session(target).run(None, {"x": x[i:i + batch]})[0] for i in range(0, 12, batch)])
            if got.shape != expected.shape or not np.allclose(got, expected, rtol=1e-4, atol=1e-5):
                failures.append(f"{name}, batch {batch}: values differ")
            else:
                passed += 1
    print(f"batches: {passed} equal, {len(failures)} failed")
    return failures


EQUATIONS = [("ij,jk->ik", (3, 4), (4, 5)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)), ("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)),
             ("bqhd,bkhd->bhqk", (2, 4, 3, 5), (2, 6, 3, 5)), ("bhqk,bkhd->bqhd", (2, 3, 4, 6), (2, 6, 3, 5)),
             ("abcd,cde->abe", (2, 3, 4, 5), (4, 5, 6)), ("abc,cde->abde", (2, 3, 4), (4, 5, 6)), ("ij,ij->", (3, 4), (3, 4)),
             ("i,j->ij", (3,), (4,)), ("ij,j->i", (3, 4), (4,)), ("i,ij->j", (3,), (3, 4)), ("bij,bij->b", (2, 3, 4), (2, 3, 4)),
             ("bc,bcd->bcd", (2, 3), (2, 3, 4)), ("ij->ji", (3, 4)), ("ijk->j", (3, 4, 5)), ("ij->", (3, 4)), ("ij->ij", (3, 4)),
             ("ij,jk,kl->il", (3, 4), (4, 5), (5, 6)), ("bn,anm,bm->ba", (2, 3), (4, 3, 5), (2, 5)), ("ij,kj->", (3, 4), (5, 4)),
             ("...ij,...jk->...ik", (2, 3, 4), (2, 4, 5)), ("...ij,jk", (2, 3, 4), (4, 5)), ("...i->...", (2, 3, 4)),
             ("hs,bqhd,bkhd->bsqk", (3, 2), (2, 4, 3, 5), (2, 6, 3, 5)), ("i,i->", (4,), (4,)), ("ij,jk->ki", (3, 4), (4, 5))]


def einsum_tests(convert, folder):
    rng, failures, passed = np.random.default_rng(11), [], 0
    for equation, *shapes in EQUATIONS:
        arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
        expected = np.einsum(equation, *arrays)
        names = [f"x{i}" for i in range(len(arrays))]
        graph = helper.make_graph([helper.make_node("Einsum", names, ["y"], equation=equation)], "g",
                                  [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in zip(names, arrays)],
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
        source, target = os.path.join(folder, "in.onnx"), os.path.join(folder, "out.onnx")
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), source)
        answer = convert(source, target)
        if answer != "ok":
            failures.append(f"{equation}: {answer}")
            continue
        if any(node.op_type == "Einsum" for node in onnx.load(target).graph.node):
            failures.append(f"{equation}: stays an Einsum")
        got = session(target).run(None, dict(zip(names, arrays)))[0]
        if got.shape != expected.shape or not np.allclose(got, expected, rtol=1e-4, atol=1e-5):
            failures.append(f"{equation}: values differ")
        else:
            passed += 1
    print(f"equations: {passed} equal, {len(failures)} failed")
    return failures


FUNCTIONS = """<ir_version: 9, opset_import: ["" : 17, "local" : 1]>
g (float[2, 6] x) => (float[2, 6] z) {
    y = local.Block <slope = 0.3> (x)
    w = local.Block (y)
    z = local.Gate (w, x)
}
<domain: "local", opset_import: ["" : 17, "local" : 1]>
Block <slope: float = 0.05> (a) => (b) {
    t = LeakyRelu <alpha: float = @slope> (a)
    u = local.Gate (t, a)
    b = Add (u, a)
}
<domain: "local", opset_import: ["" : 17]>
Gate (a, c) => (b) {
    s = Sigmoid (c)
    b = Mul (a, s)
}
"""


def function_tests(convert, folder):
    source, target = os.path.join(folder, "in.onnx"), os.path.join(folder, "out.onnx")
    onnx.save(onnx.parser.parse_model(FUNCTIONS), source)
    answer = convert(source, target)
    if answer != "ok":
        return [f"functions: {answer}"]
    written = onnx.load(target)
    onnx.checker.check_model(written, full_check=True)
    x = np.random.default_rng(12).standard_normal((2, 6)).astype(np.float32)
    expected, got = session(source).run(None, {"x": x})[0], session(target).run(None, {"x": x})[0]
    failures = [] if np.allclose(got, expected, rtol=1e-5, atol=1e-6) else ["functions: values differ"]
    if written.functions or len(written.graph.node) != 10:
        failures.append(f"functions: {len(written.graph.node)} nodes are written")
    print(f"functions: {1 - len(failures)} equal, {len(failures)} failed")
    return failures


def table_tests():
    """Rows "| `Op` | from – to |" of docs/operators.md against the history of ONNX's schemas."""
    table = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../docs/operators.md")
    history, gone = {}, {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain:
            continue
        history.setdefault(schema.name, []).append(schema.since_version)
        if schema.deprecated:
            gone.setdefault(schema.name, []).append(schema.since_version)
    failures, rows = [], 0
    for op, low, high in re.findall(r"^\| `(\w+)` \| (\d+) – (\d+) \|", open(table, encoding="utf-8").read(), re.M):
        rows += 1
        first = max(7, min(history[op]))
        # A version that was withdrawn and came back (GroupNormalization) doesn't end the row.
        last = NEWEST if max(history[op]) not in gone.get(op, []) else max(history[op]) - 1
        if (int(low), int(high)) != (first, last):
            failures.append(f"docs/operators.md: {op} {low} – {high}, expected {first} – {last}")
    if rows < 150:
        failures.append(f"docs/operators.md: only {rows} rows were found")
    print(f"table: {rows} rows, {len(failures)} failed")
    return failures


def main():
    convert = Converter(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        failures = (table_tests() + batch_tests(convert, folder) + einsum_tests(convert, folder)
                    + function_tests(convert, folder) + node_tests(convert, folder))
    for failure in failures:
        print("FAILED", failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
