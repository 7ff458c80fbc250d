"""What the tests of the command line share: the program, the examples, ONNX Runtime as reference."""
import contextlib
import hashlib
import json
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
import time
import unittest

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
KERF = os.environ["KERF_PROGRAM"]
EXAMPLES = ROOT / "examples"
SHARED = ROOT.parent / "shared" / "data"


def has_vnni():
    """Whether the processor adds products of bytes in 32 bits; without, those that ONNX Runtime multiplies may saturate."""
    flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    return "avx512_vnni" in flags or "avx_vnni" in flags


needs_vnni = unittest.skipUnless(has_vnni(), "no VNNI: ONNX Runtime's sums of bytes may saturate, ours run in f32")


def kerf(*arguments, timeout=300, check=True, **more):
    """Runs kerf; with check=True a failure shows what it said."""
    done = subprocess.run([KERF, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, **more)
    if check and done.returncode != 0:
        raise AssertionError(f"kerf {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stderr}")
    return done


def kerf_json(*arguments, **more):
    return json.loads(kerf(*arguments, "--json", **more).stdout)


def wait_until(condition, limit, what):
    """The condition's first true value; fails where `limit` seconds bring none."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        select.select([], [], [], 0.01)
    raise AssertionError(f"timed out: {what}")


@contextlib.contextmanager
def scratch():
    path = pathlib.Path(tempfile.mkdtemp(prefix="kerf-test-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Case:
    """A model, its data and how the data is preprocessed."""

    def __init__(self, name, model, data, preprocess=None):
        self.name, self.model, self.data, self.preprocess = name, pathlib.Path(model), pathlib.Path(data), preprocess

    def file(self, split):
        return self.data / f"{split}.npz"

    def arguments(self):
        return ["--preprocess", self.preprocess] if self.preprocess else []

    def prepared_calibration(self, folder):
        """The calibration set as inputs() gives it: for `kerf infer` on what NumPy preprocessed."""
        if not self.preprocess:
            return self.file("calibration")
        path = pathlib.Path(folder) / f"{self.name.replace('/', '_')}.calibration.npz"
        if not path.exists():
            np.savez(path, x=self.inputs("calibration"), y=self.labels("calibration"))
        return path

    def inputs(self, split, count=None):
        """The model's own input, preprocessed in NumPy."""
        x = np.load(self.file(split))["x"][:count].astype(np.float64)
        if self.preprocess:
            p = json.loads(pathlib.Path(self.preprocess).read_text())
            shape = (1, -1) + (1,) * (x.ndim - 2)
            x = (x * p.get("scale", 1) - np.reshape(p.get("mean", [0]), shape)) / np.reshape(p.get("std", [1]), shape)
        return x.astype(np.float32)

    def labels(self, split):
        return np.load(self.file(split))["y"]

    def study(self, **changes):
        study = {"model": str(self.model),
                 "data": {s: str(self.file(s)) for s in ("calibration", "evaluation", "test")},
                 "search": {"sampler": "random", "seed": 1}}
        if self.preprocess:
            study["preprocess"] = json.loads(pathlib.Path(self.preprocess).read_text())
        study.update(changes)
        return study


def example_cases():
    cases = [Case("digits/mlp", EXAMPLES / "digits/mlp/model.onnx", EXAMPLES / "digits/mlp"),
             Case("digits/cnn", EXAMPLES / "digits/cnn/model.onnx", EXAMPLES / "digits/cnn")]
    for name in ("resnet8", "dscnn"):
        folder = EXAMPLES / "shapes" / name
        cases.append(Case(f"shapes/{name}", folder / "model.onnx", EXAMPLES / "shapes", folder / "preprocess.json"))
    return cases


def shared_cases(folder):
    """Models that others made, where they are there; `folder` takes the preprocessing files."""
    cases = []
    if (SHARED / "mnist_cnn/model.onnx").exists():
        cases.append(Case("mnist_cnn", SHARED / "mnist_cnn/model.onnx", SHARED / "mnist_cnn"))
    if (SHARED / "cifar_resnet20/model.onnx").exists():
        how = pathlib.Path(folder) / "cifar.json"
        how.write_text(json.dumps({"scale": 0.00392157, "mean": [0.485, 0.456, 0.406],
                                   "std": [0.229, 0.224, 0.225], "layout": "NCHW"}))
        cases.append(Case("cifar_resnet20", SHARED / "cifar_resnet20/model.onnx", SHARED / "cifar_resnet20", how))
    return cases


def sha256(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def first_array(path):
    with np.load(path) as arrays:
        return arrays[arrays.files[0]]


def onnxruntime_outputs(model, x, step=250):
    """ONNX Runtime's first output; sample by sample where the model's batch is fixed."""
    import onnxruntime
    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name, batch = session.get_inputs()[0].name, session.get_inputs()[0].shape[0]
    step = batch if isinstance(batch, int) else step
    return np.concatenate([session.run(None, {name: x[i:i + step]})[0] for i in range(0, len(x), step)])


def accuracy(outputs, labels):
    return float(np.mean(np.argmax(outputs.reshape(len(labels), -1), axis=1) == labels))
