# SPDX-License-Identifier: Apache-2.0
"""How far a net's ReLU and max-pool decisions are from a tie, in units of fp32's own error.

A ReLU whose input changes sign between two roundings changes a gradient by much more than the
rounding: tests that promise 1e-4 choose inputs whose margin is well above 1.
"""
import contextlib

import torch
from torch import nn
from torch.nn import functional as F


class Watch:
    """Collects, while a model runs, the input of every ReLU and max pool that a gradient will
    pass, in order of execution."""

    def __init__(self) -> None:
        self.sites: list[tuple[torch.Tensor, nn.Module]] = []

    def attach(self, model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, (nn.ReLU, nn.MaxPool2d)):
                module.register_forward_pre_hook(self.keep)

    def keep(self, module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if inputs[0].requires_grad:
            self.sites.append((inputs[0].detach().clone(), module))


def pool_gap(x: torch.Tensor, pool: nn.MaxPool2d) -> float:
    """The smallest distance between a positive maximum and the runner-up in its window."""
    size = (x.shape[2] + 2 * pool.padding - pool.kernel_size) // pool.stride + 1
    x = F.pad(x, [pool.padding] * 4)  # x is after a ReLU: zero is as good as minus infinity
    windows = F.unfold(x, pool.kernel_size, stride=pool.stride)  # [n][c * k * k][size * size]
    top = windows.view(x.shape[0], x.shape[1], -1, size * size).topk(2, dim=2).values
    return smallest((top[:, :, 0] - top[:, :, 1])[top[:, :, 0] > 0])


def smallest(gaps: torch.Tensor) -> float:
    return gaps.min().item() if gaps.numel() else float("inf")


def margin(exact: Watch, rounded: Watch) -> float:
    """The least ratio, over all decisions, of the distance from a tie to the site's error."""
    least = float("inf")
    for (a, module), (b, _) in zip(exact.sites, rounded.sites):
        error = max((a - b).abs().max().item(), 1e-30)
        pool = isinstance(module, nn.MaxPool2d)
        gap = pool_gap(a, module) if pool else smallest(a.abs()[a != 0])
        least = min(least, gap / error)
    return least


class Relus:
    """Every ReLU of a run, functional ones too, in order: its inputs are kept, and decisions (site,
    element) can be turned over, which shows what a rounding that turned them over would have changed."""

    def __init__(self, flips: tuple[tuple[int, int], ...] = ()) -> None:
        self.flips, self.inputs, self.outputs = flips, [], []
        self.behind: dict[str, list[int]] = {}  # of a layer, the site that comes next, each time it runs

    def note(self, model: nn.Module) -> list:
        """Hooks that fill `behind`."""
        def hook(name: str):
            return lambda *_: self.behind.setdefault(name, []).append(len(self.outputs))
        return [module.register_forward_hook(hook(name)) for name, module in model.named_modules()
                if getattr(module, "weight", None) is not None]

    @contextlib.contextmanager
    def watch(self, keep: bool, model: nn.Module):
        own, hooks = F.relu, self.note(model)

        def relu(x: torch.Tensor, inplace: bool = False) -> torch.Tensor:
            site = len(self.outputs)
            mask = x > 0
            for where, element in self.flips:
                if where == site:
                    mask.view(-1)[element] ^= True
            y = torch.where(mask, x, torch.zeros_like(x))
            self.outputs.append(y if keep else None)
            if keep and y.requires_grad:
                y.retain_grad()
            self.inputs.append(x.detach().clone() if keep else None)
            return y

        F.relu = relu
        try:
            yield self
        finally:
            F.relu = own
            for hook in hooks:
                hook.remove()


def begins(run: Relus, layers: set[str]) -> set[int]:
    """The sites behind which gradients are right and before which they are not, those of `layers` being
    off: the first two behind the last of them."""
    known = [name for name in layers if name in run.behind]
    if not known:
        return set()
    last = run.behind[max(known, key=lambda name: run.behind[name][0])]
    return {site + k for site in last for k in (0, 1)}


def undecided(exact: Relus, rounded: Relus, most: int, first: set[int], within: float = 2.0) -> list[tuple[int, int]]:
    """Decisions (site, element) nearer to a tie than `within` times fp32's error there: half of `most` at
    the sites `first`, then everywhere; each time those through which the largest gradient goes."""
    found = []
    for site, (a, b, y) in enumerate(zip(exact.inputs, rounded.inputs, exact.outputs)):
        if y.grad is None:
            continue
        near = (a.abs() <= within * (a - b).abs().max()).view(-1).nonzero().view(-1)
        size = y.grad.reshape(-1)[near].abs()
        found += [(float(s), site, int(i)) for s, i in zip(size, near) if s > 0]
    ranked = [(site, i) for _, site, i in sorted(found, reverse=True)]
    chosen = [flip for flip in ranked if flip[0] in first][:most // 2]
    return chosen + [flip for flip in ranked if flip not in chosen][:most - len(chosen)]
