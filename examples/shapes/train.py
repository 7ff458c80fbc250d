#!/usr/bin/env python3
"""Trains resnet8, dscnn or resnet18w32 on pictures that make_data.py draws; writes weights as npz.

Needs PyTorch (CPU). The pictures that it trains on are drawn as it goes: epoch e takes its own
stretch of the split "train", so no picture is seen twice. What is printed
as "held out" is a further stretch of that split; evaluation and test are never loaded here.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import make_data  # noqa: E402
import networks  # noqa: E402
import trainer  # noqa: E402

HELD_CHUNKS = 40  # 2,000 pictures at the split's start
# Stages of (side in pixels, epochs, pictures an epoch, batch, peak learning rate). The big network
# learns at the small side first, which costs a quarter.
PLANS = {
    "resnet8": ((32, 24, 25000, 128, 0.005),),
    "dscnn": ((32, 12, 20000, 64, 0.004), (32, 5, 20000, 128, 0.0015)),
    "resnet18w32": ((32, 8, 16000, 64, 0.003), (64, 3, 8000, 64, 0.001)),
}


def prepare(raw):
    """x = (raw * scale - mean) / std as in preprocess.json, laid out for the CPU's kernels."""
    x = (torch.from_numpy(raw).float() * 0.00392157 - 0.5) / 0.25
    return x.contiguous(memory_format=torch.channels_last)


def draw_chunks(first, count, size):
    parts = [make_data.draw_chunk(make_data.SEEDS["train"], chunk, size)
             for chunk in range(first, first + count)]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=PLANS)
    parser.add_argument("--out", type=Path,
                        help="default: build/examples/NETWORK.npz in the repository")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--from-stage", type=int, default=1,
                        help="go on with this stage from the weights in --out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, help="in place of the plan's, for a trial run")
    parser.add_argument("--images", type=int, help="an epoch, in place of the plan's")
    options = parser.parse_args()
    out = options.out or HERE.parent.parent / "build" / "examples" / f"{options.network}.npz"
    out.parent.mkdir(parents=True, exist_ok=True)

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    graph = networks.NETWORKS[options.network]()
    shapes, macs, params = networks.output_shapes(graph)
    model = trainer.Network(graph, shapes).to(memory_format=torch.channels_last)
    print(f"{options.network}: seed {options.seed}, {sum(macs.values())} MACs, "
          f"{sum(params.values())} parameters, PyTorch {torch.__version__}")
    if options.from_stage > 1:
        with np.load(out) as arrays:
            model.set_weights(dict(arrays))
    used = HELD_CHUNKS
    for stage, (size, epochs, images, batch, peak) in enumerate(PLANS[options.network]):
        epochs, images = options.epochs or epochs, options.images or images
        chunks = images // make_data.CHUNK
        first = used
        used += epochs * chunks
        if stage + 1 < options.from_stage:
            continue
        print(f"stage {stage + 1}: {epochs} epochs of {images} pictures at {size}x{size}, "
              f"batch {batch}, peak rate {peak}")
        trainer.train(model, prepare,
                      lambda epoch: draw_chunks(first + epoch * chunks, chunks, size),
                      draw_chunks(0, HELD_CHUNKS, size), epochs, peak,
                      batch=batch, seed=options.seed + stage)
        np.savez(out, **model.weights())
    print(f"wrote {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
