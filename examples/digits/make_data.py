#!/usr/bin/env python3
"""Splits scikit-learn's digits (1,797 pictures of 8x8) into the committed npz files.

Arrays:   x float32, grey 0..16 divided by 16, [N, 64] in mlp/ and [N, 1, 8, 8] in cnn/;
          y int64 [N] in 0..9.
Splits:   a seeded order of the whole set cut into train 897, calibration 100, evaluation 400
          and test 400 pictures; train goes to the cache of the training script.
Needs:    scikit-learn, which carries the data, and NumPy. Users of the examples need neither.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

SEED = 201
CUTS = (("train", 897), ("calibration", 100), ("evaluation", 400), ("test", 400))


def main():
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=here, help="gets mlp/ and cnn/")
    parser.add_argument("--cache", type=Path,
                        default=here.parent.parent / "build" / "examples")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)

    digits = load_digits()
    x = (digits.images / 16).astype(np.float32)
    y = digits.target.astype(np.int64)
    order = np.argsort(np.random.PCG64(SEED).random_raw(len(y)), kind="stable")
    start = 0
    for split, count in CUTS:
        pick = order[start:start + count]
        start += count
        for folder, shape in (("mlp", (-1, 64)), ("cnn", (-1, 1, 8, 8))):
            if split == "train":
                path = options.cache / f"digits_{folder}_train.npz"
            else:
                path = options.out / folder / f"{split}.npz"
                path.parent.mkdir(exist_ok=True)
            np.savez_compressed(path, x=x[pick].reshape(shape), y=y[pick])
        print(f"{split}: {count} pictures")
    assert start == len(y)
    return 0


if __name__ == "__main__":
    sys.exit(main())
