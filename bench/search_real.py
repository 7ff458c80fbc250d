"""What the native sampler finds on real networks in 20 trials, its profile paid, beside Optuna in 200.

usage: search_real.py BUILD_DIR [--models a,b] [--seeds N] [--trials 20] [--optuna-trials 200]
                      [--samplers optuna-tpe,optuna-nsga2] [--objectives accuracy,latency_p50_us,storage_bytes]
                      [--samples 2000] [--judge unseen|evaluation] [--unseen 20000] [--workers 2] [--drop 0.05]
                      [--space default|precision|channels] [--json OUT]
                      [--keep DIR] [--stages search,quality,timing] [--seconds N]

Every run is a `kerf run` of its own in an empty directory: same model, data, space, constraint, seed;
all start from the uniform candidates. Their fronts are then measured again: accuracy on samples that
no search saw (`--judge unseen`: what is left of the evaluation part, and the test part, in ten views of
each picture; of shapes the test part is drawn on), as of 200 accuracies on 1,000 samples the best are lucky ones, and a front that
is judged by the samples that chose it keeps its luck; latency in one session, one plan of each run
after the other, as the ratio to the f32 baseline that is timed beside it, the median of `--rounds`. A gain is the hypervolume of
those over that of the baseline and the uniform candidates alone. The reference point is the study's:
the baseline's accuracy less the constraint, 1.1 × the baseline's value of what is minimised.

`--space default` is what a study has that names no space: f32, 8 and 4 bits with f32 or 8-bit activations, a
quarter or half of the channels, and for the whole model how ranges are chosen and whether biases are
corrected. `precision` is six values a layer (bf16 as well), `channels` those and channels.

With `--keep` what was run and measured stays in DIR, and a later call goes on from it. `--stages` takes
only some parts of the work (what needs the machine alone, and what doesn't: quality); after `--seconds`
nothing new is begun.
"""
import argparse
import hashlib
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
# Mirrored, pixels down and to the right: what the network was trained on as well (padded with black).
VIEWS = [(False, 0, 0), (True, 0, 0), (False, 2, 0), (True, -2, 0), (False, 0, 2), (True, 0, -2),
         (False, -1, -1), (True, 1, 1), (False, 1, -3), (True, -3, 1)]


def moved(pictures, mirrored, down, right):
    """Pictures [N, C, H, W], shifted by so many pixels; black comes in."""
    out = np.zeros_like(pictures)
    height, width = pictures.shape[2:]
    source = pictures[..., ::-1] if mirrored else pictures
    out[..., max(down, 0):height + min(down, 0), max(right, 0):width + min(right, 0)] = \
        source[..., max(-down, 0):height - max(down, 0), max(-right, 0):width - max(right, 0)]
    return out


class NotYet(Exception):
    """A part of a row that this call isn't to do."""


def is_uniform(plan):
    """Whether all layers are alike, but for their channels."""
    layers = [{k: v for k, v in layer.items() if k != "prune"} for layer in plan.get("layers", {}).values()]
    return all(layer == layers[0] for layer in layers)


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
    def __init__(self, arguments, folder, kept, deadline):
        self.arguments = arguments
        self.folder = pathlib.Path(folder)
        self.kept = pathlib.Path(kept)
        self.deadline = deadline
        self.stages = arguments.stages.split(",")
        self.kerf = pathlib.Path(arguments.build) / "bin/kerf"
        self.objectives = arguments.objectives.split(",")
        self.environment = dict(os.environ)
        self.environment.setdefault("KERF_PYTHON", str(ROOT / "build/venv/bin/python"))

    def once(self, stage, name, make):
        """What is kept under this name, or made now."""
        file = self.kept / f"{name}.json"
        if file.exists():
            return json.loads(file.read_text())
        if stage not in self.stages or time.monotonic() > self.deadline:
            raise NotYet(f"{stage} of {name}")
        made = make()
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".part")
        partial.write_text(json.dumps(made))
        partial.replace(file)
        return made

    def run(self, *command):
        done = subprocess.run([str(self.kerf), *map(str, command)], capture_output=True, text=True, env=self.environment)
        if done.returncode != 0:
            sys.exit(f"kerf {command[0]} failed: {done.stderr.strip()[-500:]}")
        return json.loads(done.stdout)

    def part(self, source, name, first=0, last=None):
        """Samples of a part, the first ones that a search is given unless said otherwise."""
        last = self.arguments.samples if last is None else last
        target = self.folder / f"{source.parent.name}-{name}.npz"
        if not target.exists():
            with np.load(source) as arrays:
                np.savez(target, **{key: arrays[key][first:last] for key in arrays.files})
        return target

    def unseen(self, model, data):
        """Samples that no search is given."""
        target = self.kept / f"{data.name}-{self.arguments.samples}-{self.arguments.unseen}.npz"
        if target.exists():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        if model.startswith("shapes/"):
            # The first pictures of a split don't depend on how many are drawn after them.
            sys.path.insert(0, str(data))
            import make_data
            x, y = make_data.draw("test", self.arguments.unseen, 32)
            np.savez(target, x=x, y=y)
            return target
        with np.load(data / "evaluation.npz") as rest, np.load(data / "test.npz") as test:
            x, y = (np.concatenate([rest[key][self.arguments.samples:], test[key]]) for key in ("x", "y"))
        # Of a few thousand pictures a front's best are lucky ones again; several views of each tell more.
        x = np.concatenate([moved(x, *view) for view in VIEWS])[:self.arguments.unseen]
        np.savez(target, x=x, y=np.tile(y, len(VIEWS))[:len(x)])
        return target

    def study(self, model):
        path, data, preprocess = MODELS[model]
        self.judge = (self.unseen(model, data) if self.arguments.judge == "unseen"
                      else self.part(data / "evaluation.npz", "evaluation"))
        self.few = self.part(data / "test.npz", "few", 0, 64)
        layer = {"weight_bits": [4, 8, 16, 32], "activation_bits": [8, 32]}
        if self.arguments.space == "channels":
            layer["prune"] = {"structure": "channel", "ratios": [0, 0.25, 0.5]}
        space = {} if self.arguments.space == "default" else {"space": {"default": layer}}
        self.preprocess = self.folder / "preprocess.json"
        self.preprocess.write_text(json.dumps(preprocess))
        return {"model": str(path),
                "data": {"calibration": str(data / "calibration.npz"),
                         "evaluation": str(self.part(data / "evaluation.npz", "evaluation"))},
                "preprocess": preprocess,
                "objectives": [{"metric": m, "direction": "maximize" if m in MAXIMISED else "minimize"}
                               for m in self.objectives],
                "constraints": [{"metric": "accuracy_drop", "max": self.arguments.drop}],
                **space}

    def search(self, study, sampler, trials, seed):
        name = f"{sampler}-{seed}"
        file = self.folder / f"{name}.json"
        file.write_text(json.dumps(dict(study, search={"sampler": sampler, "seed": seed}, budget={"trials": trials})))
        start = time.monotonic()
        with tempfile.TemporaryDirectory(dir=self.folder) as data_dir:
            report = self.run("run", file, "--data-dir", data_dir, "--workers", self.arguments.workers, "--json", "--quiet")
        report["wall"] = time.monotonic() - start
        return report

    def measure(self, study, plan, data):
        file = self.folder / "plan.json"
        file.write_text(json.dumps(plan))
        return self.run("eval", study["model"], "--plan", file, "--data", data,
                        "--calibration", study["data"]["calibration"], "--preprocess", self.preprocess, "--json")

    def again(self, study, runs, model, row):
        """Metrics of all plans of `runs`: quality on the judge's samples, then latency in one session."""
        plans = {}
        order = [list(run.values()) for run in runs.values()]
        for i in range(max(map(len, order))):
            for members in order:
                if i < len(members):
                    plans[json.dumps(members[i], sort_keys=True)] = members[i]
        short = {key: hashlib.sha256(key.encode()).hexdigest()[:16] for key in plans}
        judge = f"{model}/{self.arguments.judge}-{self.arguments.samples}-{self.arguments.unseen}"
        measured = {key: self.once("quality", f"{judge}/{short[key]}", lambda plan=plan: self.measure(study, plan, self.judge))
                    for key, plan in plans.items()}
        if "latency_p50_us" in self.objectives:
            # A machine whose clock changes under its load makes single ratios wrong by a quarter: medians of rounds.
            rounds = [{key: self.once("timing", f"{row}/timed-{number}-{short[key]}",
                                      lambda plan=plan: self.measure(study, plan, self.few)) for key, plan in plans.items()}
                      for number in range(self.arguments.rounds)]
            for key in plans:
                measured[key] = {**measured[key], **{metric: statistics.median(timed[key][metric] for timed in rounds)
                                                     for metric in ("latency_p50_us", "latency_ratio")}}
        return measured

    def compare(self, model, seed):
        study = self.study(model)
        row = f"{model}/{'-'.join(self.objectives)}-{self.arguments.space}-{self.arguments.samples}/{seed}"
        reports = {}
        missing = None
        for sampler in ["profile", *self.arguments.samplers.split(",")]:
            trials = self.arguments.trials if sampler == "profile" else self.arguments.optuna_trials
            try:
                reports[sampler] = self.once("search", f"{row}/{sampler}-{trials}",
                                             lambda: self.search(study, sampler, trials, seed))
            except NotYet as left:
                missing = left
        if missing:
            raise missing
        first = reports[self.arguments.samplers.split(",")[0]]["trials"][:ANCHORS]
        runs = {"anchors": {}}
        for trial in first:
            if not is_uniform(trial["candidate"]):
                break
            if trial["state"] == "complete":
                runs["anchors"][trial["number"]] = trial["candidate"]
        for name, report in reports.items():
            runs[name] = {m["trial"]: m["candidate"] for m in report["front"]}
        # Everyone starts from the uniform candidates, or could have: they are the baseline's company.
        measured = self.again(study, runs, model, row)
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
    parser.add_argument("--samples", type=int, default=2000, help="of the evaluation part, at most")
    parser.add_argument("--judge", choices=["unseen", "evaluation"], default="unseen")
    parser.add_argument("--unseen", type=int, default=20000, help="samples of the judge, at most")
    parser.add_argument("--rounds", type=int, default=3, help="that latency is measured in, of which medians are taken")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--drop", type=float, default=0.05)
    parser.add_argument("--space", choices=["precision", "channels", "default"], default="default")
    parser.add_argument("--json", help="all rows are written there")
    parser.add_argument("--keep", help="what was run and measured is kept there, and found there")
    parser.add_argument("--stages", default="search,quality,timing")
    parser.add_argument("--seconds", type=float, default=math.inf, help="nothing new is begun later")
    arguments = parser.parse_args()
    rows = []
    deadline = time.monotonic() + arguments.seconds
    for model in arguments.models.split(","):
        if not MODELS[model][0].exists():
            print(f"{model}: not here, left out")
            continue
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            with tempfile.TemporaryDirectory(prefix="kerf-search-real-") as folder:
                try:
                    rows.append(Bench(arguments, folder, arguments.keep or folder, deadline).compare(model, seed))
                except NotYet as left:
                    print(f"{model}, seed {seed}: left for another call: {left}", flush=True)
                    continue
            show(rows[-1])
            if arguments.json:
                pathlib.Path(arguments.json).write_text(json.dumps(rows, indent=1))
    ratios = {}
    for row in rows:
        ratios.setdefault(row["model"], []).append(row["ratio"])
    print()
    for model, values in ratios.items():
        print(f"{model}: median gain ratio {statistics.median(values):.2f}, worst {min(values):.2f}, over {len(values)} seeds")
    medians = [statistics.median(v) for v in ratios.values()]
    if medians and all(0 < m < math.inf for m in medians):
        print(f"geometric mean {math.exp(statistics.fmean(map(math.log, medians))):.2f}")


if __name__ == "__main__":
    main()
