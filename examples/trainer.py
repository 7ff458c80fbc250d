"""Trains a network of networks.py with PyTorch (CPU, 1.13 or later) and keeps its weights as npz.

Only the training scripts import this; users of the examples never need PyTorch.
"""

import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Network(nn.Module):
    """Runs a Graph node by node; a node's name with "/" for "." is its module's name."""

    def __init__(self, graph, shapes):
        super().__init__()
        self.graph = graph
        for node in graph.nodes:
            source = shapes[node["inputs"][0]]
            if node["op"] == "conv":
                module = nn.Conv2d(source[0], node["out"], node["kernel"], node["stride"],
                                   node["pad"], groups=node["group"], bias=False)
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif node["op"] == "bn":
                module = nn.BatchNorm2d(source[0])
            elif node["op"] == "gemm":
                module = nn.Linear(source[0], node["out"])
            else:
                continue
            self.add_module(node["name"].replace(".", "/"), module)

    def forward(self, x):
        values = {"input": x}
        for node in self.graph.nodes:
            source = values[node["inputs"][0]]
            op = node["op"]
            if op in ("conv", "bn", "gemm"):
                y = self._modules[node["name"].replace(".", "/")](source)
            elif op == "relu":
                y = functional.relu(source)
            elif op == "add":
                y = source + values[node["inputs"][1]]
            elif op == "maxpool":
                y = functional.max_pool2d(source, node["kernel"], node["stride"])
            elif op == "avgpool":
                y = functional.avg_pool2d(source, node["kernel"], node["stride"])
            elif op == "gap":
                y = source.mean((2, 3), keepdim=True)
            else:
                y = torch.flatten(source, 1)
            values[node["name"]] = y
        return y

    def _named(self):
        """Tensors that the export needs by "node.field": weight, bias, mean and var."""
        fields = {"weight": "weight", "bias": "bias", "running_mean": "mean",
                  "running_var": "var"}
        for key, value in self.state_dict().items():
            module, _, field = key.rpartition(".")
            if field in fields:
                yield f"{module.replace('/', '.')}.{fields[field]}", value

    def weights(self):
        """Copies of the weights as arrays, by name."""
        return {name: value.numpy().copy() for name, value in self._named()}

    def set_weights(self, arrays):
        """Takes over what weights() gave."""
        with torch.no_grad():
            for name, value in self._named():
                value.copy_(torch.from_numpy(arrays[name]))


def accuracy(model, prepare, x, y, batch=250):
    """Share of 1 of the samples whose largest output is the label's."""
    model.eval()
    right = 0
    with torch.no_grad():
        for start in range(0, len(x), batch):
            outputs = model(prepare(x[start:start + batch]))
            right += int((outputs.argmax(1).numpy() == y[start:start + batch]).sum())
    return right / len(x)


def train(model, prepare, draw_epoch, held, epochs, peak, batch=128, decay=0.02, smoothing=0.0,
          seed=1, augment=None):
    """AdamW and one learning-rate cycle (linear up for a fifth, cosine down).

    draw_epoch(epoch) -> (x, y) NumPy arrays; prepare(x) -> the network's input tensor;
    held = (x, y) to report on; augment(generator, tensor) -> tensor, where given.
    """
    order = np.random.Generator(np.random.PCG64(seed))
    torch.manual_seed(seed)
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": decay},
                                 {"params": plain, "weight_decay": 0.0}],
                                lr=peak)
    x, y = draw_epoch(0)
    steps = epochs * (len(x) // batch)
    step, began = 0, time.monotonic()
    for epoch in range(epochs):
        if epoch:
            x, y = draw_epoch(epoch)
        model.train()
        total = 0.0
        picks = order.permutation(len(x))
        for start in range(0, len(x) - batch + 1, batch):
            part = step / steps
            rate = peak * (part / 0.2 if part < 0.2
                           else 0.5 * (1 + np.cos(np.pi * (part - 0.2) / 0.8)))
            for group in optimizer.param_groups:
                group["lr"] = rate
            pick = picks[start:start + batch]
            inputs = prepare(x[pick])
            if augment:
                inputs = augment(order, inputs)
            loss = functional.cross_entropy(model(inputs), torch.from_numpy(y[pick]),
                                            label_smoothing=smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += float(loss.detach())
            step += 1
        print(f"epoch {epoch + 1}/{epochs} loss {total / (len(x) // batch):.4f} "
              f"held out {accuracy(model, prepare, *held):.4f} "
              f"{time.monotonic() - began:.0f} s", flush=True)
