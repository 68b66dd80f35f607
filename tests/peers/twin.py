# SPDX-License-Identifier: Apache-2.0
"""The PyTorch side of speed.py, one process per measurement: fine-tunes on pictures already in
memory as normalised tensors, so no loading, decoding or augmentation is in its time.

Prints one JSON line when the first step is done and one with the seconds of each later step.
"""
import argparse
import json
import time

import numpy as np
import torch
import torchvision
from torch import nn

import models
import reference

LAYOUTS = ("channels_last", "contiguous", "compile")
ADVICE = {"all": None, "stage4,head": ("stage4", "head"), "head": ("head",)}


def build(args: argparse.Namespace, n_classes: int) -> nn.Module:
    """torchvision's own net with a new head; frozen stages have BatchNorm in eval mode."""
    model = getattr(torchvision.models, args.backbone)(weights=None, num_classes=n_classes)
    weights = torch.load(args.weights, weights_only=True, mmap=True)
    body = {k: v for k, v in weights.items() if models.stage_of(k) != "head"}
    model.load_state_dict(body, strict=False)
    thawed = ADVICE[args.thaw] or tuple(models.stages(model))
    for name, p in model.named_parameters():
        p.requires_grad_(models.stage_of(name) in thawed)
    for name, m in model.named_modules():
        if isinstance(m, nn.BatchNorm2d):
            m.train(models.stage_of(name + ".") in thawed)
    return model


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """thaw's defaults: SGD 0.01, momentum 0.9, decay 1e-4 on weights of rank 2 and more."""
    params = [p for p in model.parameters() if p.requires_grad]
    rows = [{"params": [p for p in params if p.dim() >= 2], "weight_decay": 1e-4},
            {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0}]
    return torch.optim.SGD([r for r in rows if r["params"]], lr=0.01, momentum=0.9)


def batches(args: argparse.Namespace, how: reference.Arithmetic):
    """Two batches, normalised beforehand and used in turn."""
    images, labels = np.load(args.images, mmap_mode="r"), np.load(args.labels)
    run, size = reference.Run(), args.batch
    spans = [slice(0, size), slice(size, 2 * size)] if len(labels) >= 2 * size else [slice(0, size)]
    return [(reference.pixels(np.asarray(images[s]), run, how), torch.from_numpy(labels[s]))
            for s in spans]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--thaw", choices=ADVICE, default="all")
    parser.add_argument("--layout", choices=LAYOUTS, default="channels_last")
    for name in ("weights", "images", "labels"):
        parser.add_argument("--" + name, required=True)
    for name, default in (("batch", 32), ("threads", 2), ("warmup", 2), ("steps", 6)):
        parser.add_argument("--" + name, type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    how = reference.Arithmetic(torch.float32, args.layout != "contiguous")
    data = batches(args, how)
    model = build(args, int(np.load(args.labels).max()) + 1)
    if how.channels_last:
        model = model.to(memory_format=torch.channels_last)
    update, lossf = optimizer(model), nn.CrossEntropyLoss()
    forward = torch.compile(model) if args.layout == "compile" else model
    seconds = []
    for i in range(1 + args.warmup + args.steps):
        started = time.perf_counter()
        x, y = data[i % len(data)]
        update.zero_grad(set_to_none=True)
        lossf(forward(x), y).backward()
        update.step()
        seconds.append(time.perf_counter() - started)
        if i == 0:
            print(json.dumps({"event": "first"}), flush=True)
    print(json.dumps({"event": "steps", "seconds": seconds[1 + args.warmup:],
                      "torch": torch.__version__, "torchvision": torchvision.__version__}))


if __name__ == "__main__":
    main()
