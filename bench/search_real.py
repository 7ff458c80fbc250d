"""What the native sampler finds on real networks in 20 trials, its profile paid, beside Optuna in 200.

usage: search_real.py BUILD_DIR [--models a,b] [--seeds N] [--trials 20] [--optuna-trials 200]
                      [--samplers optuna-tpe,optuna-nsga2] [--objectives accuracy,latency_p50_us,storage_bytes]
                      [--samples 1000] [--judge evaluation|test] [--workers 2] [--drop 0.05] [--space precision|channels] [--json OUT]

Every run is a `kerf run` of its own in an empty directory: same model, data, space, constraint, seed;
all start from the uniform candidates. Their fronts are then measured again in one session, one plan
of each run after the other, latency as the ratio to the f32 baseline that is timed beside it, so that
neither the hour nor a lucky measurement decides (nor, with `--judge test`, a lucky evaluation set: of
200 accuracies the best are lucky ones). A gain is the hypervolume of those over that of the
baseline and the uniform candidates alone. The reference point is the study's: the baseline's accuracy
less the constraint, 1.1 × the baseline's value of what is minimised.

`--space precision` is six values a layer (f32, bf16, 8 and 4 bits with f32 or 8-bit activations),
`channels` also a quarter or half of the channels.
"""
import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
SHAPES = {"scale": 0.00392157, "mean": [0.5] * 3, "std": [0.25] * 3, "layout": "NCHW"}
CIFAR = {"scale": 0.00392157, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "layout": "NCHW"}
MODELS = {
    "shapes/resnet8": (ROOT / "examples/shapes/resnet8/model.onnx", ROOT / "examples/shapes", SHAPES),
    "shapes/dscnn": (ROOT / "examples/shapes/dscnn/model.onnx", ROOT / "examples/shapes", SHAPES),
    "cifar_resnet20": (SHARED / "cifar_resnet20/model.onnx", SHARED / "cifar_resnet20", CIFAR),
}
MAXIMISED = {"accuracy", "top5", "agreement", "sqnr_db", "throughput_sps"}
ANCHORS = 8  # what a search starts from at most


def hypervolume(points, reference):
    """Of minimised points; slices along the last objective."""
    points = [p for p in points if all(a < r for a, r in zip(p, reference))]
    if not points:
        return 0.0
    if len(reference) == 1:
        return reference[0] - min(p[0] for p in points)
    points.sort(key=lambda p: p[-1])
    volume = 0.0
    for i, point in enumerate(points):
        upper = points[i + 1][-1] if i + 1 < len(points) else reference[-1]
        if upper > point[-1]:
            volume += (upper - point[-1]) * hypervolume([p[:-1] for p in points[:i + 1]], reference[:-1])
    return volume


class Bench:
    def __init__(self, arguments, folder):
        self.arguments = arguments
        self.folder = pathlib.Path(folder)
        self.kerf = pathlib.Path(arguments.build) / "bin/kerf"
        self.objectives = arguments.objectives.split(",")
        self.environment = dict(os.environ)
        self.environment.setdefault("KERF_PYTHON", str(ROOT / "build/venv/bin/python"))

    def run(self, *command):
        done = subprocess.run([str(self.kerf), *map(str, command)], capture_output=True, text=True, env=self.environment)
        if done.returncode != 0:
            sys.exit(f"kerf {command[0]} failed: {done.stderr.strip()[-500:]}")
        return json.loads(done.stdout)

    def part(self, source, name):
        """At most so many samples of a part, the first ones."""
        target = self.folder / f"{source.parent.name}-{name}.npz"
        if not target.exists():
            with np.load(source) as arrays:
                np.savez(target, **{key: arrays[key][:self.arguments.samples] for key in arrays.files})
        return target

    def study(self, model):
        path, data, preprocess = MODELS[model]
        self.judge = self.part(data / f"{self.arguments.judge}.npz", self.arguments.judge)
        layer = {"weight_bits": [4, 8, 16, 32], "activation_bits": [8, 32]}
        if self.arguments.space == "channels":
            layer["prune"] = {"structure": "channel", "ratios": [0, 0.25, 0.5]}
        self.preprocess = self.folder / "preprocess.json"
        self.preprocess.write_text(json.dumps(preprocess))
        return {"model": str(path),
                "data": {"calibration": str(data / "calibration.npz"),
                         "evaluation": str(self.part(data / "evaluation.npz", "evaluation"))},
                "preprocess": preprocess,
                "objectives": [{"metric": m, "direction": "maximize" if m in MAXIMISED else "minimize"}
                               for m in self.objectives],
                "constraints": [{"metric": "accuracy_drop", "max": self.arguments.drop}],
                "space": {"default": layer}}

    def search(self, study, sampler, trials, seed):
        name = f"{sampler}-{seed}"
        file = self.folder / f"{name}.json"
        file.write_text(json.dumps(dict(study, search={"sampler": sampler, "seed": seed}, budget={"trials": trials})))
        start = time.monotonic()
        data_dir = tempfile.mkdtemp(dir=self.folder)
        report = self.run("run", file, "--data-dir", data_dir, "--workers", self.arguments.workers, "--json", "--quiet")
        report["wall"] = time.monotonic() - start
        return report

    def measure(self, study, plan):
        file = self.folder / "plan.json"
        file.write_text(json.dumps(plan))
        return self.run("eval", study["model"], "--plan", file, "--data", self.judge,
                        "--calibration", study["data"]["calibration"], "--preprocess", self.preprocess, "--json")

    def again(self, study, runs):
        """Metrics of all plans of `runs`, measured in turn in one session."""
        plans = {}
        order = [list(run.values()) for run in runs.values()]
        for i in range(max(map(len, order))):
            for members in order:
                if i < len(members):
                    plans[json.dumps(members[i], sort_keys=True)] = members[i]
        measured = {key: self.measure(study, plan) for key, plan in plans.items()}
        return measured

    def compare(self, model, seed):
        study = self.study(model)
        reports = {"profile": self.search(study, "profile", self.arguments.trials, seed)}
        for sampler in self.arguments.samplers.split(","):
            reports[sampler] = self.search(study, sampler, self.arguments.optuna_trials, seed)
        first = reports[self.arguments.samplers.split(",")[0]]["trials"][:ANCHORS]
        runs = {"anchors": {t["number"]: t["candidate"] for t in first if t["state"] == "complete"}}
        for name, report in reports.items():
            runs[name] = {m["trial"]: m["candidate"] for m in report["front"]}
        # Everyone starts from the uniform candidates, or could have: they are the baseline's company.
        measured = self.again(study, runs)
        baseline = measured[json.dumps(runs["anchors"][0], sort_keys=True)]
        timed = "latency_p50_us" in self.objectives
        sign = {m: -1 if m in MAXIMISED else 1 for m in self.objectives}

        def point(metrics):
            out = []
            for name in self.objectives:
                value = metrics[name]
                if name == "latency_p50_us":
                    value = metrics["latency_ratio"] * baseline["latency_p50_us"]
                out.append(sign[name] * value)
            return tuple(out)

        reference = []
        for name in self.objectives:
            value = baseline[name]
            if name == "accuracy":
                reference.append(-(value - self.arguments.drop))
            else:
                reference.append(sign[name] * value * (1.1 if sign[name] > 0 else 1 / 1.1))
        scale = 1.0
        ideal = [min(point(m)[i] for m in measured.values()) for i in range(len(reference))]
        for low, high in zip(ideal, reference):
            scale *= max(high - low, 1e-12)
        keys = {name: [json.dumps(p, sort_keys=True) for p in plans.values()] for name, plans in runs.items()}
        start = hypervolume([point(measured[k]) for k in keys["anchors"]], reference) / scale
        row = {"model": model, "seed": seed, "anchors": start, "remeasured": len(measured), "timed": timed,
               "profile_took": reports["profile"].get("profile"), "samplers": {}}
        for name, report in reports.items():
            own = hypervolume([point(measured[k]) for k in keys[name]], reference) / scale
            both = hypervolume([point(measured[k]) for k in keys[name] + keys["anchors"]], reference) / scale
            row["samplers"][name] = {"hypervolume": own, "gain": both - start, "trials": len(report["trials"]),
                                     "front": len(report["front"]), "wall": report["wall"],
                                     "failed": sum(t["state"] == "failed" for t in report["trials"])}
        best = max(row["samplers"][s]["gain"] for s in self.arguments.samplers.split(","))
        row["ratio"] = row["samplers"]["profile"]["gain"] / best if best > 0 else math.inf
        return row


def show(row):
    print(f"\n{row['model']}, seed {row['seed']}: the uniform candidates have {row['anchors']:.4f} of the box; "
          f"{row['remeasured']} plans measured again")
    print(f"{'sampler':<14}{'trials':>7}{'front':>7}{'hypervolume':>13}{'gain':>9}{'seconds':>9}")
    for name, one in row["samplers"].items():
        print(f"{name:<14}{one['trials']:>7}{one['front']:>7}{one['hypervolume']:>13.4f}{one['gain']:>9.4f}{one['wall']:>9.1f}")
    profile = row["profile_took"]
    if profile:
        print(f"profile: {profile['probes']} looks in {profile['seconds']:.1f} s, a trial takes "
              f"{profile['trial_seconds']:.2f} s, counted as {profile['charged_trials']} trials")
    print(f"gain ratio to the best of Optuna's: {row['ratio']:.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("build")
    parser.add_argument("--models", default="shapes/resnet8,shapes/dscnn,cifar_resnet20")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--optuna-trials", type=int, default=200)
    parser.add_argument("--samplers", default="optuna-tpe,optuna-nsga2")
    parser.add_argument("--objectives", default="accuracy,latency_p50_us,storage_bytes")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--judge", choices=["evaluation", "test"], default="evaluation")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--drop", type=float, default=0.05)
    parser.add_argument("--space", choices=["precision", "channels"], default="precision")
    parser.add_argument("--json", help="all rows are written there")
    arguments = parser.parse_args()
    rows = []
    for model in arguments.models.split(","):
        if not MODELS[model][0].exists():
            print(f"{model}: not here, left out")
            continue
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            with tempfile.TemporaryDirectory(prefix="kerf-search-real-") as folder:
                rows.append(Bench(arguments, folder).compare(model, seed))
            show(rows[-1])
            if arguments.json:
                pathlib.Path(arguments.json).write_text(json.dumps(rows, indent=1))
    ratios = {}
    for row in rows:
        ratios.setdefault(row["model"], []).append(row["ratio"])
    print()
    for model, values in ratios.items():
        print(f"{model}: median gain ratio {statistics.median(values):.2f} over {len(values)} seeds")
    medians = [statistics.median(v) for v in ratios.values()]
    if medians and all(0 < m < math.inf for m in medians):
        print(f"geometric mean {math.exp(statistics.fmean(map(math.log, medians))):.2f}")


if __name__ == "__main__":
    main()
