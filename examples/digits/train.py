#!/usr/bin/env python3
"""Trains the digits networks on the split "train" that make_data.py leaves in the cache.

Needs PyTorch (CPU). What is printed as "held out" is the calibration split; evaluation and test
are never loaded here.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

import networks  # noqa: E402
import trainer  # noqa: E402

EPOCHS = {"mlp": 80, "cnn": 40}
PEAK = {"mlp": 0.003, "cnn": 0.005}


def shift(order, x):
    """Moves each picture [1, 8, 8] of a batch by up to one pixel either way."""
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    return torch.stack([padded[i, :, top:top + 8, left:left + 8]
                        for i, (top, left) in enumerate(order.integers(0, 3, (len(x), 2)))])


def soften(order, x):
    """Adds a little noise to each picture [64] of a batch."""
    noise = order.standard_normal(tuple(x.shape), dtype=np.float32)
    return x + torch.from_numpy(noise) * 0.1


AUGMENT = {"mlp": soften, "cnn": shift}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=EPOCHS)
    parser.add_argument("--cache", type=Path,
                        default=HERE.parent.parent / "build" / "examples")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    def load(path):
        with np.load(path) as arrays:
            return arrays["x"], arrays["y"]

    name = f"digits_{options.network}"
    data = load(options.cache / f"{name}_train.npz")
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    graph = networks.NETWORKS[name]()
    shapes, macs, params = networks.output_shapes(graph)
    model = trainer.Network(graph, shapes)
    print(f"{name}: seed {options.seed}, {sum(macs.values())} MACs, "
          f"{sum(params.values())} parameters, PyTorch {torch.__version__}")
    trainer.train(model, torch.from_numpy, lambda epoch: data,
                  load(HERE / options.network / "calibration.npz"), EPOCHS[options.network],
                  PEAK[options.network], batch=64, decay=0.05, seed=options.seed, augment=AUGMENT[options.network])
    out = options.cache / f"{name}.npz"
    np.savez(out, **model.weights())
    print(f"wrote {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
