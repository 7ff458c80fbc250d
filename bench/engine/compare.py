"""kerf, ONNX Runtime and OpenVINO on the same ONNX files, interleaved in one run.

usage: compare.py BUILD_DIR [--models a,b] [--precisions f32,bf16,int8] [--batches 1,32]
                  [--threads 1,2] [--seconds 1.0] [--launches 3] [--json OUT]

A cell is model x precision x batch x threads. Each engine is a process of its own that holds the
compiled model; they take turns in blocks of some 15 ms, half as much to warm up before each, in an
order drawn anew each round, on the same cores, and each waits until the last one's threads sleep. All are launched several times a cell: what a process
found when it began (where its memory lies, how an engine tuned itself) is its luck, not the cell's
figure. An engine's figure is the median of its blocks over all launches; a cell's ratio the median
over all rounds of kerf's block to the other's of the same round, for the fastest other. int8 is the QDQ file that
`kerf export` writes: all three read the same one. ONNX Runtime has no bf16 kernels here.

Outputs are compared first: f32 within 1e-3 of the largest output, bf16 and int8 by their signal to
noise against ONNX Runtime on the same file. An engine that computes something else is an error.
"""
import argparse
import itertools
import json
import math
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnx.numpy_helper

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MODELS = {
    "mlp": ("examples/digits/mlp/model.onnx", "examples/digits/mlp/calibration.npz", None),
    "cnn": ("examples/digits/cnn/model.onnx", "examples/digits/cnn/calibration.npz", None),
    "resnet8": ("examples/shapes/resnet8/model.onnx", "examples/shapes/calibration.npz",
                "examples/shapes/resnet8/preprocess.json"),
    "dscnn": ("examples/shapes/dscnn/model.onnx", "examples/shapes/calibration.npz",
              "examples/shapes/dscnn/preprocess.json"),
    "resnet18w32": ("examples/shapes/resnet18w32/model.onnx", "examples/shapes/calibration64.npz",
                    "examples/shapes/resnet18w32/preprocess.json"),
    "mnist_cnn": ("../shared/data/mnist_cnn/model.onnx", "../shared/data/mnist_cnn/calibration.npz", None),
    "cifar_resnet20": ("../shared/data/cifar_resnet20/model.onnx", "../shared/data/cifar_resnet20/calibration.npz",
                       {"scale": 0.00392157, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
                        "layout": "NCHW"}),
}
SEED = 1
VERBOSE = bool(os.environ.get("VERBOSE"))  # also says how kerf cut the batch
# A virtual machine's second core may sit on the first one's sibling thread until both have been busy
# for a while: shorter blocks measure where the host put us.
BLOCK_US = 15000
FEWEST_ROUNDS = 9  # of all launches together


class Peer:
    """One engine's process; ready() waits until its model is compiled."""

    def __init__(self, name, command, cores):
        self.name = name
        self.said = ""
        environment = dict(os.environ, OMP_NUM_THREADS=str(len(cores)))
        self.process = subprocess.Popen(
            ["taskset", "-c", ",".join(map(str, cores))] + command, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    def ready(self):
        line = self.process.stdout.readline()
        if line.strip() != "ready":
            raise RuntimeError(f"{self.name}: {self.process.stderr.read().strip()[-400:]}")
        return self

    def block(self, runs, warm_up=0):
        if warm_up:
            self.ask(warm_up)
        took = self.ask(runs)
        self.fall_asleep()
        return took

    def fall_asleep(self):
        """Threads of all three go on looking for work for a while, ONNX Runtime's for some 50 ms, on
        cores that the next engine needs."""
        before = self.busy_ns()
        for _ in range(100):
            time.sleep(0.004)
            now = self.busy_ns()
            if now - before < 100_000:
                return
            before = now

    def busy_ns(self):
        total = 0
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[0])
            except OSError:
                pass  # a thread that has just ended
        return total

    def ask(self, runs):
        self.process.stdin.write(f"{runs}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended: {self.process.stderr.read().strip()[-400:]}")
        return float(line)

    def end(self):
        try:
            self.said = self.process.communicate("0\n", timeout=20)[1].strip()
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self.process.kill()
            self.process.wait()


def with_batch(model, batch, path):
    """A copy of the file whose inputs have this batch, and with them the targets of its Reshapes."""
    proto = onnx.load(str(model))
    graph = proto.graph
    weights = {i.name: i for i in graph.initializer}
    own = None
    for value in graph.input:
        if value.name in weights:
            continue
        dim = value.type.tensor_type.shape.dim[0]
        own = dim.dim_value if dim.HasField("dim_value") else None
        dim.dim_value = batch
    if own not in (None, batch):
        for node in graph.node:
            if node.op_type != "Reshape" or node.input[0] in weights or node.input[1] not in weights:
                continue
            target = onnx.numpy_helper.to_array(weights[node.input[1]]).copy()
            if len(target) and target[0] == own:
                target[0] = batch
                name = node.input[1] + "_batch"
                graph.initializer.append(onnx.numpy_helper.from_array(target, name))
                node.input[1] = name
    del graph.value_info[:]
    for value in graph.output:
        if len(value.type.tensor_type.shape.dim):
            value.type.tensor_type.shape.dim[0].dim_value = batch
    onnx.save(proto, str(path))
    return path


def input_shapes(path):
    graph = onnx.load(str(path)).graph
    weights = {i.name for i in graph.initializer}
    return [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.input if v.name not in weights]


def real_inputs(shapes, calibration, preprocess, generator):
    """Calibration samples as the model wants them; the first input only has real data."""
    data = np.load(calibration)
    key = "x" if "x" in data else next(k for k in data.files if k != "y")
    x = data[key][:shapes[0][0]].astype(np.float32)
    if preprocess:
        if preprocess.get("layout") == "NHWC" or x.shape[-1] == shapes[0][1] != x.shape[1]:
            x = x.transpose(0, 3, 1, 2)
        bend = (1, -1) + (1,) * (x.ndim - 2)
        x = (x * preprocess.get("scale", 1.0) - np.reshape(preprocess.get("mean", [0.0]), bend)) / np.reshape(
            preprocess.get("std", [1.0]), bend)
    return [x.reshape(shapes[0]).astype(np.float32)] + [
        generator.normal(size=s).astype(np.float32) for s in shapes[1:]]


def compared(reference, got, precision):
    if reference.size != got.size or not np.isfinite(got).all():
        return "another shape or not finite", False
    error = float(np.abs(reference - got).max()) / max(float(np.abs(reference).max()), 1e-12)
    if precision == "f32":
        return f"error {error:.1e}", error < 1e-3
    noise = float(((reference - got) ** 2).sum())
    ratio = 10 * math.log10(float((reference ** 2).sum()) / noise) if noise > 0 else math.inf
    return f"{ratio:.0f} dB", ratio > 20


def launch(commands, cores):
    """All engines, ready. kerf times its ways to run while it compiles: it comes last, alone."""
    peers = []
    try:
        for name in sorted(commands, key=lambda n: n == "kerf"):
            if name == "kerf":
                for peer in peers:
                    peer.ready()
            peers.append(Peer(name, commands[name], cores))
        peers[-1].ready()
    except BaseException:
        for peer in peers:
            peer.end()
        raise
    return peers


def turns(peers, seconds, fewest, generator):
    """Rounds of one block an engine: a dict of microseconds a run each."""
    runs = {}
    for peer in peers:
        once = min(peer.block(1) for _ in range(3))
        runs[peer.name] = max(2, min(8000, int(BLOCK_US / max(once, 0.5))))
    rounds = []
    end = time.monotonic() + seconds * len(peers)
    while len(rounds) < fewest or time.monotonic() < end:
        order = list(peers)
        generator.shuffle(order)
        rounds.append({p.name: p.block(runs[p.name], (runs[p.name] + 1) // 2) for p in order})
    return rounds


def run_cell(programs, folder, files, precision, batch, threads, options, generator):
    cores = sorted(os.sched_getaffinity(0))[-threads:]
    model = files["int8" if precision == "int8" else "f32"]
    source = folder / "input.raw"
    shapes = input_shapes(model)
    arrays = real_inputs(shapes, files["calibration"], files["preprocess"], np.random.default_rng(SEED))
    source.write_bytes(b"".join(a.tobytes() for a in arrays))
    target = {n: folder / f"{n}.raw" for n in ("kerf", "ort", "openvino")}
    hint = "bf16" if precision == "bf16" else "f32"
    commands = {
        "kerf": [programs["kerf"], str(model), "--batch", str(batch), "--threads", str(threads), "--input",
                 str(source), "--output", str(target["kerf"])] +
                (["--plan", str(files["bf16_plan"])] if precision == "bf16" else []),
        "ort": [sys.executable, str(HERE / "onnxruntime_peer.py"), str(model), str(batch), str(threads),
                str(source), str(target["ort"])],
        "openvino": [programs["openvino"], str(model), hint, str(batch), str(threads), str(source),
                     str(target["openvino"])],
    }
    if precision == "bf16":
        # It still says what the answer is.
        Peer("ort", commands.pop("ort"), cores).ready().end()
    rounds, notes, cuts = [], {}, []
    for _ in range(options.launches):
        peers = launch(commands, cores)
        try:
            reference = np.fromfile(target["ort"], np.float32)
            for peer in peers:
                said, right = compared(reference, np.fromfile(target[peer.name], np.float32), precision)
                notes[peer.name] = said
                if not right and peer.name == "kerf":
                    raise RuntimeError(f"kerf computes something else than ONNX Runtime: {said}")
            fewest = math.ceil(FEWEST_ROUNDS / options.launches)
            rounds += turns(peers, options.seconds / options.launches, fewest, generator)
        finally:
            for peer in peers:
                peer.end()
        cuts += [p.said for p in peers if p.name == "kerf"]
    notes["kerf"] += f" ({' | '.join(cuts)})" if VERBOSE else ""
    # In pairs: where the host gives both cores' threads one core for a while, all engines of a round
    # have it. The fastest other is the one that kerf is slowest beside.
    ratio = max(statistics.median(r["kerf"] / r[name] for r in rounds) for name in commands if name != "kerf")
    return {name: statistics.median(r[name] for r in rounds) for name in commands}, ratio, notes


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--precisions", default="f32,bf16,int8")
    parser.add_argument("--batches", default="1,32")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=0.7)
    parser.add_argument("--launches", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    programs = {"kerf": str(options.build / "bin" / "bench_engine_kerf"),
                "openvino": str(options.build / "bin" / "bench_engine_openvino")}
    generator = random.Random(SEED)
    print(f"seed {SEED}; {options.launches} launches a cell; median us of a run; "
          "ratio = kerf / fastest other, median over rounds")
    print(f"{'model':15}{'precision':>9}{'batch':>6}{'threads':>8}{'kerf':>11}{'ort':>11}{'openvino':>11}{'ratio':>7}  checked")
    rows = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for name in options.models.split(","):
            path, calibration, preprocess = MODELS[name]
            if not (ROOT / path).exists():
                print(f"{name:15} skipped: {path} isn't here")
                continue
            if isinstance(preprocess, str):
                preprocess = json.loads((ROOT / preprocess).read_text())
            plan8, plan16, settings = folder / "8.json", folder / "16.json", folder / "preprocess.json"
            plan8.write_text('{"layers": {"*": {"weight_bits": 8, "activation_bits": 8}}}')
            plan16.write_text('{"layers": {"*": {"weight_bits": 16, "activation_bits": 16}}}')
            exported = folder / f"{name}.int8.onnx"
            command = [str(options.build / "bin" / "kerf"), "export", str(ROOT / path), "--plan", str(plan8),
                       "--calibration", str(ROOT / calibration), "-o", str(exported)]
            if preprocess:
                settings.write_text(json.dumps(preprocess))
                command += ["--preprocess", str(settings)]
            subprocess.run(command, check=True, capture_output=True)
            for batch, threads, precision in itertools.product(
                    map(int, options.batches.split(",")), map(int, options.threads.split(",")),
                    options.precisions.split(",")):
                files = {"f32": with_batch(ROOT / path, batch, folder / "f32.onnx"),
                         "int8": with_batch(exported, batch, folder / "int8.onnx"),
                         "bf16_plan": plan16, "calibration": ROOT / calibration, "preprocess": preprocess}
                cell = f"{name:15}{precision:>9}{batch:6}{threads:8}"
                times, ratio, notes = run_cell(programs, folder, files, precision, batch, threads, options, generator)
                shown = "".join(f"{times[k]:11.1f}" if k in times else f"{'-':>11}" for k in ("kerf", "ort", "openvino"))
                print(f"{cell}{shown}{ratio:7.2f}  {', '.join(f'{k} {v}' for k, v in notes.items())}", flush=True)
                rows.append({"model": name, "precision": precision, "batch": batch, "threads": threads,
                             "us": times, "ratio": ratio})
    if rows:
        mean = math.exp(statistics.fmean(math.log(r["ratio"]) for r in rows))
        worst = max(rows, key=lambda r: r["ratio"])
        print(f"{len(rows)} cells; geometric mean {mean:.3f}; worst {worst['ratio']:.2f} "
              f"({worst['model']} {worst['precision']} batch {worst['batch']} threads {worst['threads']}); "
              f"above 1.20: {sum(r['ratio'] > 1.2 for r in rows)}; above 1.00: {sum(r['ratio'] > 1 for r in rows)}; "
              f"{(time.monotonic() - began) / 60:.1f} min")
        if options.json:
            options.json.write_text(json.dumps({"geometric_mean": mean, "cells": rows}, indent=1))


main()
