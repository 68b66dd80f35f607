# SPDX-License-Identifier: Apache-2.0
"""A PyTorch training run by the rules of DESIGN sections 2, 3 and 8: the referee of numerics.py.

The optimizers, the clipping, the loss and every gradient are PyTorch's own; only the schedules,
the freeze timetable and the batching are written here, from the design's formulas.
"""
import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import models
import ties

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Run:
    """What one training run is asked to do; the fields are the options of `thaw train`."""
    backbone: str = "resnet18"
    thaw: str = "all"
    bn: str = "train"
    lora: str = ""  # lora.py
    batch: int = 8
    epochs: int = 1
    optimizer: str = "sgd"
    lr: float = 1.0
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    lr_schedule: str = "constant"
    warmup: int = 0
    lr_decay: float = 1.0
    label_smoothing: float = 0.0
    clip: float = 0.0
    accumulate: int = 1
    image_size: int = 64
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD


@dataclass
class Result:
    """Tensors after the run, and one loss and learning rate per optimizer step."""
    tensors: dict[str, np.ndarray]
    losses: list[float] = field(default_factory=list)
    lrs: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Arithmetic:
    dtype: torch.dtype = torch.float64
    channels_last: bool = False


FP64 = Arithmetic()
FP32 = (Arithmetic(torch.float32, False), Arithmetic(torch.float32, True))


def pixels(images: np.ndarray, run: Run, how: Arithmetic) -> torch.Tensor:
    """u8 [n][h][w][3] to the network's input [n][3][h][w]."""
    x = torch.tensor(images).permute(0, 3, 1, 2).to(how.dtype) / 255
    mean, std = (torch.tensor(v, dtype=how.dtype).view(1, 3, 1, 1) for v in (run.mean, run.std))
    return to_layout((x - mean) / std, how)


def to_layout(x: torch.Tensor, how: Arithmetic) -> torch.Tensor:
    kind = torch.channels_last if how.channels_last else torch.contiguous_format
    return x.contiguous(memory_format=kind)


def load(run: Run, weights: dict[str, np.ndarray], how: Arithmetic) -> nn.Module:
    head = [k for k in weights if models.stage_of(k) == "head" and k.endswith("bias")][0]
    model = models.build(run.backbone, len(weights[head]), size=run.image_size).to(how.dtype)
    for name, t in models.tensors(model).items():
        t.copy_(torch.from_numpy(weights[name]))
    if how.channels_last:
        model = model.to(memory_format=torch.channels_last)
    return model


def batches(n: int, run: Run, model: nn.Module) -> list[slice]:
    """The last, smaller batch is kept; a single image joins the batch before it if some
    BatchNorm uses batch statistics."""
    starts = list(range(0, n, run.batch))
    uses_batch = any(m.mode in models.BATCH_STATISTICS for _, m in models.batchnorms(model))
    if n % run.batch == 1 and uses_batch and len(starts) > 1:
        starts.pop()
    return [slice(a, b) for a, b in zip(starts, starts[1:] + [n])]


def groups(parts: list[slice], size: int) -> list[list[slice]]:
    return [parts[i:i + size] for i in range(0, len(parts), size)]


def lr_at(step: int, total: int, warm: int, run: Run) -> float:
    """step counts from 0 over the whole run."""
    if step < warm:
        return run.lr * (step + 1) / warm
    if run.lr_schedule == "cosine":
        return run.lr / 2 * (1 + math.cos(math.pi * step / total))
    return run.lr


def new_optimizer(model: nn.Module, run: Run) -> torch.optim.Optimizer:
    """One group per trained tensor: its decay and its share of the learning rate."""
    depth = {stage: i for i, stage in enumerate(models.stages(model))}
    top = len(depth) - 1
    rows = [{"params": [p], "scale": run.lr_decay ** (top - depth[models.stage_of(name)]),
             "weight_decay": run.weight_decay if p.dim() >= 2 and name not in models.TOKENS else 0.0}
            for name, p in model.named_parameters() if p.requires_grad]
    if not rows:
        rows = [{"params": [nn.Parameter(torch.zeros(1))], "scale": 1.0}]
    if run.optimizer == "adamw":
        return torch.optim.AdamW(rows, lr=run.lr, betas=(0.9, 0.999), eps=1e-8)
    return torch.optim.SGD(rows, lr=run.lr, momentum=run.momentum, nesterov=run.nesterov)


def next_phase(model: nn.Module, run: Run, old: torch.optim.Optimizer | None):
    """A new phase keeps the slots of what stays trained and drops the others."""
    fresh = new_optimizer(model, run)
    if old is not None:
        kept = {p for group in fresh.param_groups for p in group["params"]}
        for p, slots in old.state.items():
            if p in kept:
                fresh.state[p] = slots
    return fresh


def backward(model: nn.Module, run: Run, x: torch.Tensor, y: torch.Tensor,
             group: list[slice]) -> float:
    """Gradients of the mean loss over a group of micro-batches; returns that mean."""
    n = sum(part.stop - part.start for part in group)
    total = 0.0
    for part in group:
        loss = F.cross_entropy(model(x[part]), y[part], reduction="sum",
                               label_smoothing=run.label_smoothing) / n
        if loss.requires_grad:
            loss.backward()
        total += loss.item()
    return total


def update(optimizer: torch.optim.Optimizer, lr: float, clip: float) -> None:
    params = []
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]
        params += [p for p in group["params"] if p.grad is not None]
    if clip > 0:
        nn.utils.clip_grad_norm_(params, clip)
    optimizer.step()


def plan_phases(model: nn.Module, run: Run, n: int) -> list[list[list[slice]]]:
    """Per epoch, the groups of micro-batches: their number sets the schedule's length."""
    epochs = []
    for epoch in range(run.epochs):
        models.freeze(model, run.thaw, run.bn, run.batch, epoch)
        epochs.append(groups(batches(n, run, model), run.accumulate))
    return epochs


def train(run: Run, weights: dict[str, np.ndarray], images: np.ndarray, labels: np.ndarray,
          how: Arithmetic, watch: ties.Watch | None = None) -> Result:
    model = load(run, weights, how)
    if watch:
        watch.attach(model)
    x, y = pixels(images, run, how), torch.from_numpy(labels)
    epochs = plan_phases(model, run, len(labels))
    total, warm = sum(map(len, epochs)), sum(map(len, epochs[:run.warmup]))
    optimizer, result, trained = None, Result({}), None
    for epoch, work in enumerate(epochs):
        now = models.freeze(model, run.thaw, run.bn, run.batch, epoch)
        if now != trained:
            optimizer, trained = next_phase(model, run, optimizer), now
        for group in work:
            lr = lr_at(len(result.losses), total, warm, run)
            model.zero_grad(set_to_none=True)
            result.losses.append(backward(model, run, x, y, group))
            result.lrs.append(lr)
            update(optimizer, lr, run.clip)
    result.tensors = {k: v.detach().numpy().copy() for k, v in models.tensors(model).items()}
    return result


def logits(run: Run, weights: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """What prediction gives, in fp64."""
    run = replace(run, thaw="none", bn="frozen")
    model = load(run, weights, FP64)
    models.freeze(model, run.thaw, run.bn, run.batch, 0)
    with torch.no_grad():
        return model(pixels(images, run, FP64)).numpy()
