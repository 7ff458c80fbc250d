"""Every compression technique on the examples: accuracy, storage and latency, as a table in Markdown.

usage: techniques.py BUILD_DIR [--models a,b] [--rows pattern] [-o docs/techniques.tables.md] [--json OUT]

Each row is a plan, built and measured by `kerf eval` on the evaluation split and, where there is a
test split, on that too: the accuracy of a row is the mean over the splits' samples. Calibration and
recovery see the calibration split only. The second table of a model sets our 8-bit rows beside
ONNX Runtime's own static quantization of the same model, with the same calibration samples, its
accuracy taken in ONNX Runtime on the same samples.
"""
import argparse
import fnmatch
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
CIFAR = {"scale": 0.00392157, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "layout": "NCHW"}
MODELS = {
    "digits/mlp": (ROOT / "examples/digits/mlp/model.onnx", ROOT / "examples/digits/mlp", None),
    "shapes/resnet8": (ROOT / "examples/shapes/resnet8/model.onnx", ROOT / "examples/shapes",
                       ROOT / "examples/shapes/resnet8/preprocess.json"),
    "cifar_resnet20": (SHARED / "cifar_resnet20/model.onnx", SHARED / "cifar_resnet20", CIFAR),
    "mnist_cnn": (SHARED / "mnist_cnn/model.onnx", SHARED / "mnist_cnn", None),
}
DISTILL = {"seconds": 120}


def everywhere(**keys):
    recovery = keys.pop("recovery", None)
    more = {k: keys.pop(k) for k in ("range", "equalize", "distill") if k in keys}
    plan = {"layers": {"*": keys}}
    if recovery or more:
        plan["global"] = dict(more, **({"recovery": recovery} if recovery else {}))
    return plan


def pruned(ratio, structure="unstructured", **keys):
    spec = {"structure": structure, "score": keys.pop("score", "l2" if structure == "channel" else "l1")}
    if ratio is not None:
        spec["ratio"] = ratio
    return everywhere(prune=spec, **keys)


def integers(bits, **keys):
    return everywhere(weight_bits=bits, activation_bits=8, **keys)


# Name → plan. A plan that a model can't do is a row that says why.
ROWS = {
    "f32": {},
    "bf16": everywhere(weight_bits=16, activation_bits=16),
    "8-bit, min–max": integers(8, range="minmax"),
    "8-bit, percentile": integers(8, range="percentile"),
    "8-bit, entropy": integers(8, range="entropy"),
    "8-bit, MSE": integers(8, range="mse"),
    "8-bit, MSE, bias correction": integers(8, range="mse", recovery="bias_correction"),
    "8-bit, equalized": integers(8, range="mse", equalize=True),
    "8-bit, one scale a tensor": integers(8, range="mse", granularity="tensor"),
    "8-bit, dynamic activations": integers(8, activation_range="dynamic"),
    "8-bit weights only": everywhere(weight_bits=8, activation_bits=32),
    "6-bit": integers(6, range="mse"),
    "4-bit, nearest": integers(4, range="mse"),
    "4-bit, adaptive": integers(4, range="mse", rounding="adaptive"),
    "4-bit, adaptive, bias correction": integers(4, range="mse", rounding="adaptive", recovery="bias_correction"),
    "4-bit, distilled": integers(4, range="mse", recovery="distill", distill=DISTILL),
    "3-bit, nearest": integers(3, range="mse"),
    "3-bit, adaptive": integers(3, range="mse", rounding="adaptive"),
    "3-bit, distilled": integers(3, range="mse", recovery="distill", distill=DISTILL),
    "2-bit, distilled": integers(2, range="mse", recovery="distill", distill=DISTILL),
    "ternary weights": everywhere(weight_bits="ternary", activation_bits=32),
    "ternary weights, distilled": everywhere(weight_bits="ternary", activation_bits=32, recovery="distill", distill=DISTILL),
    "binary weights, distilled": everywhere(weight_bits=1, activation_bits=32, recovery="distill", distill=DISTILL),
    "50 % of the weights": pruned(0.5),
    "50 % of the weights, wanda": pruned(0.5, score="wanda"),
    "50 % of the weights, reconstructed": pruned(0.5, recovery="reconstruct"),
    "50 % of the weights, distilled": pruned(0.5, recovery="distill", distill=DISTILL),
    "70 % of the weights, distilled": pruned(0.7, recovery="distill", distill=DISTILL),
    "2:4": pruned(None, structure="2:4", recovery="distill", distill=DISTILL),
    "12.5 % of the channels": pruned(0.125, structure="channel"),
    "25 % of the channels": pruned(0.25, structure="channel"),
    "25 % of the channels, reconstructed": pruned(0.25, structure="channel", recovery="reconstruct"),
    "25 % of the channels, distilled": pruned(0.25, structure="channel", recovery="distill", distill=DISTILL),
    "25 % of the channels, reconstructed and distilled": pruned(
        0.25, structure="channel", recovery=["reconstruct", "distill"], distill=DISTILL),
    "25 % of the channels, 8-bit, distilled": pruned(
        0.25, structure="channel", weight_bits=8, activation_bits=8, range="mse", recovery="distill", distill=DISTILL),
    "rank 75 %": everywhere(rank=0.75),
    "rank 50 %": everywhere(rank=0.5),
    "rank 50 %, distilled": everywhere(rank=0.5, recovery="distill", distill=DISTILL),
    "codebook of 32": everywhere(codebook=32),
    "codebook of 16": everywhere(codebook=16),
    "codebook of 16, 50 % of the weights, distilled": pruned(0.5, codebook=16, recovery="distill", distill=DISTILL),
    "codebook of 16, 70 % of the weights, distilled": pruned(0.7, codebook=16, recovery="distill", distill=DISTILL),
}


class Model:
    def __init__(self, name, folder):
        self.path, self.data, preprocess = MODELS[name]
        self.folder = folder
        self.preprocess = None
        if isinstance(preprocess, dict):
            self.preprocess = folder / f"{name.replace('/', '_')}.json"
            self.preprocess.write_text(json.dumps(preprocess))
        elif preprocess is not None:
            self.preprocess = preprocess
        self.splits = [self.data / f"{split}.npz" for split in ("evaluation", "test") if (self.data / f"{split}.npz").exists()]

    def measure(self, program, plan):
        """The row's numbers; a text where the plan is refused."""
        file = self.folder / "plan.json"
        file.write_text(json.dumps(plan))
        rows = []
        for split in self.splits:
            command = [program, "eval", str(self.path), "--plan", str(file), "--data", str(split), "--json",
                       "--calibration", str(self.data / "calibration.npz")]
            if self.preprocess:
                command += ["--preprocess", str(self.preprocess)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
            if done.returncode != 0:
                return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
            rows.append((json.loads(done.stdout), self.samples(split)))
        whole = sum(n for _, n in rows)
        first = rows[0][0]
        return {"accuracy": sum(r["accuracy"] * n for r, n in rows) / whole,
                "storage_bytes": first["storage_bytes"], "latency_p50_us": first["latency_p50_us"],
                "recovery_seconds": first.get("recovery_seconds", 0), "samples": whole}

    @staticmethod
    def samples(split):
        with np.load(split) as data:
            return len(data["y"])

    def inputs(self, split):
        with np.load(split) as data:
            x = data["x" if "x" in data else next(k for k in data.files if k != "y")]
            y = data["y"]
        x = x.astype(np.float32)
        if self.preprocess:
            how = json.loads(self.preprocess.read_text())
            if how.get("layout") == "NHWC":
                x = x.transpose(0, 3, 1, 2)
            bend = (1, -1) + (1,) * (x.ndim - 2)
            x = (x * how.get("scale", 1.0) - np.reshape(how.get("mean", [0.0]), bend)) / np.reshape(how.get("std", [1.0]), bend)
        return x.astype(np.float32), y


def onnxruntime_rows(model):
    """ONNX Runtime's own static quantization: name → accuracy."""
    import onnx
    import onnxruntime as ort
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    proto = onnx.load(str(model.path))
    weights = {i.name for i in proto.graph.initializer}
    entry = next(v for v in proto.graph.input if v.name not in weights)
    dims = [d.dim_value for d in entry.type.tensor_type.shape.dim]
    batch = dims[0] if dims and dims[0] > 0 else 64

    def shaped(x):
        return x.reshape([len(x)] + [d for d in dims[1:]]) if all(d > 0 for d in dims[1:]) else x

    def accuracy(path):
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        right = whole = 0
        for split in model.splits:
            x, y = model.inputs(split)
            x = shaped(x)
            for begin in range(0, len(x), batch):
                part = x[begin:begin + batch]
                short = batch - len(part)
                if short:
                    part = np.concatenate([part, np.repeat(part[-1:], short, 0)])
                out = session.run(None, {entry.name: part})[0]
                out = out.reshape(batch, -1)[:batch - short]
                right += int((out.argmax(1) == y[begin:begin + batch]).sum())
            whole += len(y)
        return right / whole

    class Reader(CalibrationDataReader):
        def __init__(self):
            x = shaped(model.inputs(model.data / "calibration.npz")[0])
            size = batch if batch > 0 else 64
            self.parts = iter([x[i:i + size] for i in range(0, len(x) - size + 1, size)])

        def get_next(self):
            part = next(self.parts, None)
            return None if part is None else {entry.name: part}

    prepared = model.folder / "prepared.onnx"
    try:
        quant_pre_process(str(model.path), str(prepared), skip_symbolic_shape=True)
    except Exception:  # its shape inference refuses some files; quantize_static takes them as they are
        prepared = model.path
    rows = {"f32": accuracy(model.path)}
    for name, method in (("min–max", CalibrationMethod.MinMax), ("percentile", CalibrationMethod.Percentile),
                         ("entropy", CalibrationMethod.Entropy)):
        for per_channel in (True, False):
            out = model.folder / "ort.onnx"
            label = f"8-bit, {name}, {'per channel' if per_channel else 'per tensor'}"
            try:
                quantize_static(str(prepared), str(out), Reader(), quant_format=QuantFormat.QDQ, per_channel=per_channel,
                                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=method)
                rows[label] = accuracy(out)
            except Exception as error:
                rows[label] = f"refused by ONNX Runtime: {str(error).splitlines()[0][:80]}"
    return rows


# ONNX Runtime's row → ours.
COUNTERPARTS = {
    f"8-bit, {name}, {how}": integers(8, range={"min–max": "minmax"}.get(name, name), **keys)
    for name in ("min–max", "percentile", "entropy")
    for how, keys in (("per channel", {}), ("per tensor", {"granularity": "tensor"}))
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--rows", default="*")
    parser.add_argument("-o", "--output", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--no-onnxruntime", action="store_true")
    options = parser.parse_args()
    program = str(options.build / "bin" / "kerf")
    lines, kept = [], {}

    def say(line=""):
        lines.append(line)
        print(line, flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        for name in options.models.split(","):
            if not MODELS[name][0].exists():
                say(f"### {name}\n\nSkipped: {MODELS[name][0].name} isn't here.\n")
                continue
            model = Model(name, pathlib.Path(temporary))
            base = model.measure(program, {})
            kept[name] = {"rows": {}, "onnxruntime": {}}
            say(f"### {name}\n")
            say(f"{base['samples']} samples of {' and '.join(s.stem for s in model.splits)}.\n")
            say("| technique | accuracy | to f32, points | storage, bytes | smaller | latency p50, µs | faster | recovery, s |")
            say("| --- | --- | --- | --- | --- | --- | --- | --- |")
            for row, plan in ROWS.items():
                if not fnmatch.fnmatch(row, options.rows):
                    continue
                got = base if not plan else model.measure(program, plan)
                kept[name]["rows"][row] = got
                if isinstance(got, str):
                    say(f"| {row} | refused: {got.removeprefix('kerf: ')} | | | | | | |")
                    continue
                say(f"| {row} | {100 * got['accuracy']:.2f} % | {100 * (got['accuracy'] - base['accuracy']):+.2f} | "
                    f"{got['storage_bytes']:,.0f} | {base['storage_bytes'] / got['storage_bytes']:.1f} × | "
                    f"{got['latency_p50_us']:.1f} | {base['latency_p50_us'] / got['latency_p50_us']:.2f} × | "
                    f"{got['recovery_seconds']:.1f} |")
            say()
            if options.no_onnxruntime or options.rows != "*":
                continue
            say("| static quantization | ONNX Runtime | kerf |")
            say("| --- | --- | --- |")
            for row, theirs in onnxruntime_rows(model).items():
                ours = base if row == "f32" else model.measure(program, COUNTERPARTS[row])
                kept[name]["onnxruntime"][row] = [theirs, ours if isinstance(ours, str) else ours["accuracy"]]
                shown = [value if isinstance(value, str) else f"{100 * value:.2f} %"
                         for value in (theirs, ours if isinstance(ours, str) else ours["accuracy"])]
                say(f"| {row} | {shown[0]} | {shown[1]} |")
            say()
    if options.output:
        options.output.write_text("\n".join(lines) + "\n")
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1, ensure_ascii=False))
    return 0


sys.exit(main())
