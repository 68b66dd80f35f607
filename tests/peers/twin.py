# SPDX-License-Identifier: Apache-2.0
"""The PyTorch side of speed.py, one process per measurement: fine-tunes on pictures already in
memory as normalised tensors, so no loading, decoding or augmentation is in its time.

Prints a JSON line when PyTorch is imported, one when the first step is done, and one with the
seconds of each later step and the loss of all.
"""
import argparse
import json
import time

import numpy as np
import torch
from torch import nn

import child
import lora
import models
import reference

LAYOUTS = ("channels_last", "contiguous", "compile")


def build(args: argparse.Namespace) -> nn.Module:
    weights = torch.load(args.weights, weights_only=True, mmap=True)
    head = next(k for k in weights if models.stage_of(k) == "head" and k.endswith("bias"))
    size = np.load(args.images, mmap_mode="r").shape[1]
    model = models.build(args.backbone, len(weights[head]), nn.BatchNorm2d, size)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and all("num_batches" in k for k in missing)
    every = models.stages(model)
    if models.is_vit(args.backbone):
        model.train()
        models.freeze(model, args.thaw, "frozen", args.batch, 0)
    else:
        models.thaw_stages(model, every if args.thaw == "all" else args.thaw.split(","))
    if args.lora:
        model = lora.wrap(model, reference.Run(lora=args.lora))
    return model


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """thaw's defaults: SGD 0.01, momentum 0.9, decay 1e-4 on weights of rank 2 and more."""
    params = [p for p in model.parameters() if p.requires_grad]
    rows = [{"params": [p for p in params if p.dim() >= 2], "weight_decay": 1e-4},
            {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0}]
    return torch.optim.SGD([r for r in rows if r["params"]], lr=0.01, momentum=0.9)


def batches(args: argparse.Namespace, how: reference.Arithmetic):
    """Normalised beforehand and used in turn."""
    images, labels = np.load(args.images, mmap_mode="r"), np.load(args.labels)
    spans = [slice(i * args.batch, (i + 1) * args.batch) for i in range(args.batches)]
    return [(reference.pixels(np.asarray(images[s]), reference.Run(), how),
             torch.from_numpy(labels[s])) for s in spans]


def compiled(model: nn.Module, avx2: bool) -> nn.Module:
    import torch._inductor.config as inductor
    if avx2:
        inductor.cpp.simdlen = 256
    return torch.compile(model)


def train(args: argparse.Namespace, how: reference.Arithmetic) -> tuple[list[float], list[float]]:
    """(seconds, loss) of each step: one, a warm-up, then until the time is over."""
    data, model = batches(args, how), build(args)
    if how.channels_last:
        model = model.to(memory_format=torch.channels_last)
    update, lossf = optimizer(model), nn.CrossEntropyLoss()
    forward = compiled(model, args.avx2) if args.layout == "compile" else model
    seconds, losses = [], []
    while len(seconds) < 2 + args.least or (sum(seconds[2:]) < args.seconds
                                            and len(seconds) < 2 + args.most):
        x, y = data[len(seconds) % len(data)]
        started = time.perf_counter()
        update.zero_grad(set_to_none=True)
        loss = lossf(forward(x), y)
        loss.backward()
        update.step()
        seconds.append(time.perf_counter() - started)
        losses.append(loss.item())
        if len(seconds) == 1:
            print(json.dumps({"event": "first"}), flush=True)
    return seconds, losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--thaw", default="all", help="all, or stages with commas")
    parser.add_argument("--lora", default="", help="as thaw's: r=8,alpha=16,targets=qkv; by PEFT")
    parser.add_argument("--layout", choices=LAYOUTS, default="channels_last")
    parser.add_argument("--avx2", action="store_true", help="for torch.compile")
    parser.add_argument("--seconds", type=float, default=8, help="of timed steps")
    for name in ("weights", "images", "labels"):
        parser.add_argument("--" + name, required=True)
    for name, default in (("batch", 32), ("batches", 2), ("threads", 2), ("least", 2),
                          ("most", 60)):
        parser.add_argument("--" + name, type=int, default=default)
    args = parser.parse_args()
    print(json.dumps({"event": "imported", "resident": child.status("self", "VmRSS")}), flush=True)
    torch.set_num_threads(args.threads)
    how = reference.Arithmetic(torch.float32, args.layout != "contiguous")
    seconds, losses = train(args, how)
    print(json.dumps({"event": "steps", "seconds": seconds[2:], "losses": losses}))


if __name__ == "__main__":
    main()
