"""Gradients of a fixed network, by PyTorch: what training_torch_test.cc compares ours with.

    training_torch.py FOLDER

FOLDER holds shapes.txt (lines "name dim dim …") and one file of raw f32 for each name: the input x,
the loss's factors c (loss = sum(c * output)), and the parameters. Writes output.out and, for each
parameter, NAME.out. Exit code 77 where PyTorch isn't there.
"""
import pathlib
import sys

try:
    import numpy as np
    import torch
    import torch.nn.functional as f
except ImportError as missing:
    print(f"no PyTorch: {missing}")
    sys.exit(77)


def main(folder):
    torch.set_num_threads(1)
    values = {}
    for line in (folder / "shapes.txt").read_text().splitlines():
        name, *dims = line.split()
        data = np.fromfile(folder / name, np.float32).reshape([int(d) for d in dims])
        values[name] = torch.tensor(data, requires_grad=name not in ("x", "c"))
    p = values
    y = f.conv2d(p["x"], p["w1"], p["b1"], padding=1)
    first = f.relu(y)
    y = f.conv2d(first, p["w2"], p["b2"], padding=1, groups=8)
    y = f.hardswish(y)
    y = f.conv2d(y, p["w3"], p["b3"])
    gate = f.adaptive_avg_pool2d(y, 1)
    y = y * torch.sigmoid(f.conv2d(gate, p["w4"], p["b4"]))
    y = first + y
    y = f.max_pool2d(y, 3, stride=2, padding=1)
    y = f.conv2d(y, p["w5"], p["b5"], stride=2, padding=2, dilation=2, groups=2)
    y = f.gelu(y)
    y = f.avg_pool2d(y, 2, stride=1, padding=1, count_include_pad=False)
    y = torch.tanh(y).flatten(1)
    output = f.linear(y, p["w6"], p["b6"])
    (output * p["c"]).sum().backward()
    output.detach().numpy().tofile(folder / "output.out")
    for name, value in values.items():
        if value.requires_grad:
            value.grad.numpy().tofile(folder / f"{name}.out")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
