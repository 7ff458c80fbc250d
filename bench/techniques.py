"""Every compression technique on the examples: accuracy, storage and latency, as tables in docs/techniques.md.

usage: techniques.py BUILD_DIR [--stages accuracy,onnxruntime,latency,tables] [--models a,b] [--rows PATTERN]
                     [--results build/techniques.json] [--again | --keep] [--jobs N] [--seconds N] [-o docs/techniques.md]

Each row is a plan. Its accuracy is `kerf eval`'s on the samples of the evaluation and the test split
together (calibration and recovery see the calibration split only), its storage the packed file's size.
Latency is taken apart from that, paired with the f32 model's, for the same plan without recovery and
rounding to the nearest: these change values, not shapes or kernels. The second table of a model sets our
8-bit rows beside ONNX Runtime's own static quantization of the same model, sample by sample: same
calibration samples, its accuracy taken in ONNX Runtime.

What was measured is kept in --results, row by row: a run that was ended goes on where it was. A row that
this program has measured with this plan isn't measured again (--again does), one of another build of the
program is (--keep doesn't). No row is begun after --seconds. Accuracies are taken --jobs at a time, one thread each; latencies alone,
at the end. The tables replace what stands between the markers of the output file.
"""
import argparse
import concurrent.futures
import fnmatch
import hashlib
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

from techniques_onnxruntime import OnnxRuntime, beside_onnxruntime, percent, static_tables

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
CIFAR = {"scale": 0.00392157, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "layout": "NCHW"}
MODELS = {
    "digits/mlp": (ROOT / "examples/digits/mlp/model.onnx", ROOT / "examples/digits/mlp", None),
    "shapes/resnet8": (ROOT / "examples/shapes/resnet8/model.onnx", ROOT / "examples/shapes",
                       ROOT / "examples/shapes/resnet8/preprocess.json"),
    "mnist_cnn": (SHARED / "mnist_cnn/model.onnx", SHARED / "mnist_cnn", None),
    "cifar_resnet20": (SHARED / "cifar_resnet20/model.onnx", SHARED / "cifar_resnet20", CIFAR),
}
# Epochs end the training, not time: the same rows on a busy machine.
DISTILL = {"seconds": 3000}
LONG = {"seconds": 3000, "epochs": 40}
# Models whose pictures say the same mirrored and moved by a pixel: ten views of each tell small differences
# apart that the samples alone can't.
VIEWED = {"cifar_resnet20"}
BEGIN, END = "<!-- made by `make bench-techniques`: begin -->", "<!-- end -->"


def everywhere(**keys):
    recovery = keys.pop("recovery", None)
    more = {k: keys.pop(k) for k in ("range", "weight_range", "equalize", "distill") if k in keys}
    layers = keys.pop("layers", {})
    plan = {"layers": {"*": keys, **layers}}
    if recovery == "distill" or isinstance(recovery, list) and "distill" in recovery:
        more.setdefault("distill", DISTILL)
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


def weights(bits, **keys):
    return everywhere(weight_bits=bits, activation_bits=32, **keys)


# Name → plan. A plan that a model can't do is a row that says why.
ROWS = {
    "f32": {},
    "bf16": everywhere(weight_bits=16),
    "8-bit, min–max": integers(8, range="minmax"),
    "8-bit, moving average": integers(8, range="moving_average"),
    "8-bit, percentile": integers(8, range="percentile"),
    "8-bit, entropy": integers(8, range="entropy"),
    "8-bit, MSE": integers(8, range="mse"),
    "8-bit, MSE, bias correction": integers(8, range="mse", recovery="bias_correction"),
    "8-bit, MSE, equalized": integers(8, range="mse", equalize=True),
    "8-bit, MSE, one scale a tensor": integers(8, range="mse", granularity="tensor"),
    "8-bit, MSE, asymmetric activations": integers(8, range="mse", symmetric=False),
    "8-bit, dynamic activations": integers(8, activation_range="dynamic"),
    "8-bit weights only": weights(8),
    "6-bit": integers(6, range="mse"),
    "4-bit, nearest": integers(4, range="mse"),
    "4-bit, normalizations re-estimated": integers(4, range="mse", recovery="batch_norm"),
    "4-bit, adaptive": integers(4, range="mse", rounding="adaptive"),
    "4-bit, adaptive, reconstructed": integers(4, range="mse", rounding="adaptive", recovery="reconstruct"),
    "4-bit, distilled": integers(4, range="mse", recovery="distill"),
    "4-bit weights, groups of 64": weights(4, weight_range="mse", granularity="group:64", symmetric=False),
    "3-bit, nearest": integers(3, range="mse"),
    "3-bit, normalizations re-estimated": integers(3, range="mse", recovery="batch_norm"),
    "3-bit, adaptive": integers(3, range="mse", rounding="adaptive"),
    "3-bit, adaptive, reconstructed": integers(3, range="mse", rounding="adaptive", recovery="reconstruct"),
    "3-bit, distilled": integers(3, range="mse", recovery="distill"),
    "2-bit, distilled": integers(2, range="mse", recovery="distill"),
    "ternary weights": weights("ternary"),
    "ternary weights, normalizations re-estimated": weights("ternary", recovery="batch_norm"),
    "ternary weights, distilled": weights("ternary", recovery="distill"),
    "binary weights": weights(1),
    "binary weights, distilled": weights(1, recovery="distill"),
    "binary weights and activations, distilled": everywhere(weight_bits=1, activation_bits=1, recovery="distill"),
    "50 % of the weights": pruned(0.5),
    "50 % of the weights, wanda": pruned(0.5, score="wanda"),
    "50 % of the weights, normalizations re-estimated": pruned(0.5, recovery="batch_norm"),
    "50 % of the weights, reconstructed": pruned(0.5, recovery="reconstruct"),
    "50 % of the weights, distilled": pruned(0.5, recovery="distill"),
    "70 % of the weights, distilled": pruned(0.7, recovery="distill"),
    "2:4": pruned(None, structure="2:4"),
    "2:4, distilled": pruned(None, structure="2:4", recovery="distill"),
    "12.5 % of the channels": pruned(0.125, structure="channel"),
    "25 % of the channels": pruned(0.25, structure="channel"),
    "25 % of the channels, normalizations re-estimated": pruned(0.25, structure="channel", recovery="batch_norm"),
    "25 % of the channels, reconstructed": pruned(0.25, structure="channel", recovery="reconstruct"),
    "25 % of the channels, distilled": pruned(0.25, structure="channel", recovery="distill"),
    "25 % of the channels, reconstructed and distilled": pruned(
        0.25, structure="channel", recovery=["reconstruct", "distill"]),
    "25 % of the channels, 8-bit, distilled": pruned(
        0.25, structure="channel", weight_bits=8, activation_bits=8, range="mse", recovery="distill"),
    "rank 75 %": everywhere(rank=0.75),
    "rank 50 %": everywhere(rank=0.5),
    "rank 50 %, data-aware": everywhere(rank={"share": 0.5, "data_aware": True}),
    "rank by 95 % of the energy": everywhere(rank={"energy": 0.95}),
    "spatial factors, 50 %": everywhere(rank={"share": 0.5, "form": "spatial", "data_aware": True}),
    "Tucker factors, 60 %": everywhere(rank={"share": 0.6, "form": "tucker", "data_aware": True}),
    "rank 50 %, distilled": everywhere(rank=0.5, recovery="distill"),
    "32 shared values": everywhere(codebook=32),
    "16 shared values": everywhere(codebook=16),
    "16 shared values of the half that isn't zero, distilled": pruned(0.5, codebook=16, recovery="distill"),
    "16 shared values of the 30 % that aren't zero, distilled": pruned(0.7, codebook=16, recovery="distill"),
    "3-bit weights, 50 % zero, distilled": pruned(0.5, weight_bits=3, activation_bits=32, weight_range="mse",
                                                  recovery="distill"),
    "4-bit, 70 % zero, distilled": pruned(0.7, weight_bits=4, activation_bits=8, range="mse", recovery="distill"),
    "3-bit, 45 % zero, adaptive, reconstructed": pruned(
        0.45, weight_bits=3, activation_bits=8, range="mse", rounding="adaptive", recovery="reconstruct"),
    "3-bit, 45 % zero, reconstructed and distilled": pruned(
        0.45, weight_bits=3, activation_bits=8, range="mse", recovery=["reconstruct", "distill"]),
    "3-bit, 60 % zero, adaptive, reconstructed": pruned(
        0.6, weight_bits=3, activation_bits=8, range="mse", rounding="adaptive", recovery="reconstruct"),
    "2-bit weights, 60 % zero, one scale a tensor, reconstructed and distilled for long": pruned(
        0.6, weight_bits=2, activation_bits=32, granularity="tensor", range="mse", recovery=["reconstruct", "distill"], distill=LONG),
    "2-bit, reconstructed and distilled for long": integers(
        2, range="mse", recovery=["reconstruct", "distill"], distill=LONG),
    "4-bit, 80 % zero, distilled for long": pruned(0.8, weight_bits=4, activation_bits=8, range="mse",
                                                   recovery="distill", distill=LONG),
}

# What the techniques have to reach: text, model, rows of which the best counts, points below f32 at most,
# times smaller at least.
EXPECTED = [
    ("8-bit, static ranges: at most 0.5 points", "cifar_resnet20",
     ["8-bit, min–max", "8-bit, moving average", "8-bit, percentile", "8-bit, entropy", "8-bit, MSE"], 0.5, 1),
    ("4-bit weights, adaptive rounding: at most 2 points", "cifar_resnet20", ["4-bit, adaptive"], 2, 1),
    ("3-bit weights with recovery: at most 5 points", "cifar_resnet20",
     ["3-bit, adaptive, reconstructed", "3-bit, distilled"], 5, 1),
    ("half of the weights zero, with recovery: at most 1.5 points", "cifar_resnet20",
     ["50 % of the weights, reconstructed", "50 % of the weights, distilled"], 1.5, 1),
    ("a quarter of the channels of every group gone, distilled: at most 3 points", "cifar_resnet20",
     ["25 % of the channels, distilled", "25 % of the channels, reconstructed and distilled"], 3, 1),
] + [
    (f"the file 10 × smaller: at most 2 points ({model})", model,
     [row for row in ROWS if "distilled" in row or "reconstructed" in row], 2, 10) for model in MODELS
]


def moved(pictures, down, right):
    """Pictures [n, c, h, w] moved by a pixel; what comes in from outside repeats the edge."""
    wide = np.pad(pictures, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    rows, columns = pictures.shape[2:]
    return np.ascontiguousarray(wide[:, :, 1 - down:1 - down + rows, 1 - right:1 - right + columns])


class Model:
    def __init__(self, name, folder, program):
        self.name, self.program = name, program
        self.lock, self.exact_outputs = threading.Lock(), None
        self.path, self.data, preprocess = MODELS[name]
        self.folder = folder / name.replace("/", "_")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.preprocess = None
        if isinstance(preprocess, dict):
            self.preprocess = self.folder / "preprocess.json"
            self.preprocess.write_text(json.dumps(preprocess))
        elif preprocess is not None:
            self.preprocess = preprocess
        self.splits = [s for s in ("evaluation", "test") if (self.data / f"{s}.npz").exists()]
        parts = [dict(np.load(self.data / f"{split}.npz")) for split in self.splits]
        self.joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        np.savez(self.folder / "joined.npz", **self.joined)
        self.views = 1
        if name in VIEWED:
            images = next(key for key in self.joined if key != "y")
            seen = [moved(part, down, right) for part in (self.joined[images], self.joined[images][..., ::-1])
                    for down, right in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))]
            self.views = len(seen)
            self.viewed = {images: np.concatenate(seen), "y": np.tile(self.joined["y"], self.views)}
        else:
            self.viewed = self.joined
        np.savez(self.folder / "viewed.npz", **self.viewed)
        np.savez(self.folder / "few.npz", **{key: value[:16] for key, value in self.joined.items()})

    def own(self, name):
        """A file that no other thread writes."""
        return self.folder / f"{threading.get_ident()}-{name}"

    def kerf(self, command, plan, *arguments):
        """What the command printed, read as JSON where it is that; a text where it failed."""
        file = self.own("plan.json")
        file.write_text(json.dumps(plan))
        line = [self.program, command, str(self.path), "--plan", str(file), "--calibration",
                str(self.data / "calibration.npz"), *map(str, arguments)]
        if self.preprocess:
            line += ["--preprocess", str(self.preprocess)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=7200)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            return said[-1].removeprefix("kerf: ") if said else f"exit code {done.returncode}"
        return json.loads(done.stdout) if done.stdout else {}

    def accuracy(self, plan):
        got = self.kerf("eval", plan, "--data", self.folder / "joined.npz", "--seconds", "0.02", "--json")
        if isinstance(got, str):
            return {"refused": got}
        return {"accuracy": got["accuracy"], "storage_bytes": got["storage_bytes"], "samples": len(self.joined["y"]),
                "recovery_seconds": got.get("recovery_seconds", 0), "warnings": got.get("warnings", [])}

    def latency(self, plan):
        bare = json.loads(json.dumps(plan))
        for key in ("recovery", "distill"):
            bare.get("global", {}).pop(key, None)
        for keys in bare.get("layers", {}).values():
            keys.pop("rounding", None)
        got = self.kerf("eval", bare, "--data", self.folder / "few.npz", "--seconds", "0.3", "--json")
        if isinstance(got, str):
            return {"refused": got}
        return {"latency_p50_us": got["latency_p50_us"], "latency_ratio": got.get("latency_ratio", 1.0), "noisy": got["noisy"]}

    def outputs(self, plan):
        """What the candidate says of each view of each sample; a text where it failed."""
        out = self.own("out.npz")
        failed = self.kerf("infer", plan, "--input", self.folder / "viewed.npz", "--output", out)
        if isinstance(failed, str):
            return failed
        with np.load(out) as arrays:
            found = arrays[arrays.files[0]]
        return found.reshape(len(self.viewed["y"]), -1)

    def exact(self):
        """The f32 model's outputs()."""
        with self.lock:
            if self.exact_outputs is None:
                self.exact_outputs = self.outputs({})
        return self.exact_outputs

    def inputs(self, data):
        x = data["x" if "x" in data else next(key for key in data if key != "y")].astype(np.float32)
        if self.preprocess:
            how = json.loads(self.preprocess.read_text())
            if how.get("layout") == "NHWC":
                x = x.transpose(0, 3, 1, 2)
            bend = (1, -1) + (1,) * (x.ndim - 2)
            x = (x * how.get("scale", 1.0) - np.reshape(how.get("mean", [0.0]), bend)) / np.reshape(how.get("std", [1.0]), bend)
        return x.astype(np.float32)


# ONNX Runtime's row → its arguments and our plan, with weights by their largest, as it has them.
METHODS = {"min–max": ("MinMax", "minmax"), "percentile": ("Percentile", "percentile"), "entropy": ("Entropy", "entropy")}
STATIC = {
    f"8-bit, {name}, {how}": (theirs, how == "per channel", integers(8, range=ours, weight_range="minmax", **keys))
    for name, (theirs, ours) in METHODS.items()
    for how, keys in (("per channel", {}), ("per tensor", {"granularity": "tensor"}))
}


class Results:
    """What was measured, by model, stage and row; on disk after every row."""

    def __init__(self, path, program, again, keep, seconds):
        self.path, self.again, self.keep = path, again, keep
        self.end = time.monotonic() + seconds
        self.left = 0  # rows that weren't begun
        self.program = hashlib.sha256(program.read_bytes()).hexdigest()[:16]
        self.all = json.loads(path.read_text()) if path.exists() else {}
        self.lock = threading.Lock()

    def knows(self, known, key):
        if self.again or known.get("key") != key or "refused" in known:
            return False
        return self.keep or known.get("program") == self.program

    def row(self, model, stage, row, plan, make):
        key = hashlib.sha256(json.dumps([plan, MODELS[model][0].stat().st_size], sort_keys=True).encode()).hexdigest()[:16]
        with self.lock:
            known = self.all.setdefault(model, {}).setdefault(stage, {}).get(row, {})
        if self.knows(known, key):
            return
        if time.monotonic() > self.end:
            self.left += 1
            return
        made = {"key": key, "program": self.program, **make()}
        with self.lock:
            self.all[model][stage][row] = made
            begun = self.path.with_suffix(".part")
            begun.write_text(json.dumps(self.all, indent=1, ensure_ascii=False))
            begun.replace(self.path)
            said = {k: v for k, v in made.items() if k not in ("key", "program")}
            print(f"{model}: {stage}: {row}: {json.dumps(said, ensure_ascii=False)}", file=sys.stderr, flush=True)


def measure(options, results, folder):
    models = []
    for name in options.models.split(","):
        if MODELS[name][0].exists():
            models.append(Model(name, folder, str(options.build / "bin" / "kerf")))
        else:
            print(f"{name}: skipped, {MODELS[name][0]} isn't here", file=sys.stderr)
    wanted = {row: plan for row, plan in ROWS.items() if fnmatch.fnmatch(row, options.rows)}
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        work = []
        if "accuracy" in options.stages:
            work += [pool.submit(results.row, model.name, "accuracy", row, plan, lambda model=model, plan=plan: model.accuracy(plan))
                     for model in models for row, plan in wanted.items()]
        if "onnxruntime" in options.stages:
            for model in models:
                theirs = OnnxRuntime(model)
                work += [pool.submit(results.row, model.name, "onnxruntime", row, plan,
                                     lambda about=(model, theirs, method, per_channel, plan): beside_onnxruntime(*about))
                         for row, (method, per_channel, plan) in STATIC.items()]
        for done in work:
            done.result()
    if "latency" in options.stages:
        for model in models:
            for row, plan in wanted.items():
                results.row(model.name, "latency", row, plan, lambda: model.latency(plan))


def table_of(name, kept):
    rows, latency = kept.get("accuracy", {}), kept.get("latency", {})
    base = rows["f32"]
    lines = [f"### {name}", "", f"{base['samples']:,} samples, f32 {percent(base['accuracy'])}.", "",
             "| plan | accuracy | to f32, points | storage, bytes | smaller | latency p50, µs | faster | recovery, s |",
             "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for row in ROWS:
        got = rows.get(row)
        if got is None:
            continue
        if "refused" in got:
            lines.append(f"| {row} | refused: {got['refused']} | | | | | | |")
            continue
        timed = latency.get(row, {})
        timed = {} if "refused" in timed else timed
        time = f"{timed['latency_p50_us']:.1f}" if timed else ""
        faster = f"{1 / timed['latency_ratio']:.2f} ×" if timed else ""
        seconds = f"{got['recovery_seconds']:.1f}" if got["recovery_seconds"] else ""
        lines.append(f"| {row} | {percent(got['accuracy'])} | {100 * (got['accuracy'] - base['accuracy']):+.2f} | "
                     f"{got['storage_bytes']:,.0f} | {base['storage_bytes'] / got['storage_bytes']:.1f} × | {time} | {faster} | {seconds} |")
    lines.append("")
    return lines + static_tables(kept.get("onnxruntime", {}))


def expectations(results):
    lines = ["| what it has to reach | reached | by |", "| --- | --- | --- |"]
    for text, model, rows, points, smaller in EXPECTED:
        kept = results.all.get(model, {}).get("accuracy", {})
        base = kept.get("f32")
        found = [(row, kept[row]) for row in rows if row in kept and "refused" not in kept[row]]
        if base is None or not found:
            continue
        fits = [(row, got) for row, got in found if base["storage_bytes"] / got["storage_bytes"] >= smaller]
        row, got = max(fits or found, key=lambda pair: (pair[1]["accuracy"], -pair[1]["storage_bytes"]))
        lost = 100 * (base["accuracy"] - got["accuracy"])
        times = base["storage_bytes"] / got["storage_bytes"]
        met = lost <= points + 1e-9 and times >= smaller
        lines.append(f"| {text} | {'yes' if met else '**no**'}: {-lost:+.2f} points, {times:.1f} × smaller | {row} |")
    return lines + [""]


def write_tables(options, results):
    lines = expectations(results)
    for name in MODELS:
        if "f32" in results.all.get(name, {}).get("accuracy", {}):
            lines += table_of(name, results.all[name])
    text = "\n".join([BEGIN, "", *lines, END])
    if options.output is None:
        print(text)
        return
    old = options.output.read_text()
    begin, end = old.index(BEGIN), old.index(END) + len(END)
    options.output.write_text(old[:begin] + text + old[end:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--stages", default="accuracy,onnxruntime,latency,tables", type=lambda text: text.split(","))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--rows", default="*")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "build/techniques.json")
    parser.add_argument("--again", action="store_true", help="measure rows that are known, too")
    parser.add_argument("--keep", action="store_true", help="take rows that another build of the program measured as they are")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="accuracies at a time")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no row after that")
    parser.add_argument("-o", "--output", type=pathlib.Path)
    options = parser.parse_args()
    results = Results(options.results, options.build / "bin" / "kerf", options.again, options.keep, options.seconds)
    with tempfile.TemporaryDirectory() as temporary:
        measure(options, results, pathlib.Path(temporary))
    if results.left > 0:
        print(f"{results.left} rows are left: run it again", file=sys.stderr)
        return 1
    if "tables" in options.stages:
        write_tables(options, results)
    return 0


sys.exit(main())
