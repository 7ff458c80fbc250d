#!/usr/bin/env python3
"""Runs every example's model in ONNX Runtime and prints its accuracy on evaluation and test.

Also prints the size of the file, the multiply-adds and the parameters. Needs onnxruntime and
NumPy; run setup.py first.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

import networks

HERE = Path(__file__).resolve().parent
EXAMPLES = {"digits/mlp": "digits_mlp", "digits/cnn": "digits_cnn", "shapes/resnet8": "resnet8",
            "shapes/dscnn": "dscnn", "shapes/resnet18w32": "resnet18w32"}


def prepared(raw, rules):
    """x = (raw * scale - mean) / std per channel of NCHW data; as it is without rules."""
    if rules is None:
        return raw
    mean = np.asarray(rules["mean"], np.float32).reshape(1, -1, 1, 1)
    std = np.asarray(rules["std"], np.float32).reshape(1, -1, 1, 1)
    return (raw.astype(np.float32) * np.float32(rules["scale"]) - mean) / std


def accuracy(session, path, rules, batch=100):
    with np.load(path) as arrays:
        x, y = arrays["x"], arrays["y"]
    right = 0
    for start in range(0, len(x), batch):
        inputs = prepared(x[start:start + batch], rules)
        logits, = session.run(["logits"], {"input": inputs})
        right += int((logits.argmax(1) == y[start:start + batch]).sum())
    return right / len(x)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("example", nargs="*", help="folders such as digits/mlp (default: all)")
    parser.add_argument("--at-least", type=float, default=0.85,
                        help="fail below this accuracy (default 0.85)")
    options = parser.parse_args()
    for name in options.example:
        if name not in EXAMPLES:
            parser.error(f"{name}: expected one of {', '.join(EXAMPLES)}")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    failed = 0
    print(f"{'example':20} {'evaluation':>10} {'test':>8} {'MACs':>11} {'params':>9} {'bytes':>9}")
    for name in options.example or EXAMPLES:
        folder = HERE / name
        study = json.loads((folder / "study.json").read_text())
        model = folder / study["model"]
        session = onnxruntime.InferenceSession(model, settings,
                                               providers=["CPUExecutionProvider"])
        found = [accuracy(session, folder / study["data"][split], study.get("preprocess"))
                 for split in ("evaluation", "test")]
        _, macs, params = networks.output_shapes(networks.NETWORKS[EXAMPLES[name]]())
        print(f"{name:20} {found[0]:10.4f} {found[1]:8.4f} {sum(macs.values()):11} "
              f"{sum(params.values()):9} {model.stat().st_size:9}", flush=True)
        failed += min(found) < options.at_least
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
