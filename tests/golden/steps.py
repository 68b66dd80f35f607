# SPDX-License-Identifier: Apache-2.0
"""Makes steps.h: short training runs of a ResNet-20 by PyTorch in fp64, for what the update of a
step is made of: L2-SP, class weights, one cycle, groups of batches. Optimizers, schedule, loss and
clipping are PyTorch's own; L2-SP is a term of the loss (AdamW: a step of its own, decoupled).

    python3 tests/golden/steps.py > tests/golden/steps.h      (needs torch, torchvision, numpy)
"""
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
import make  # puts tests/peers on the path
import models
import torch
from torch.nn import functional as F

KEY, SIZE, CLASSES, BATCH = 43, 16, 3, 4
LABELS = [0] * 5 + [1] * 4 + [2] * 2
TENSORS = ("conv1.weight", "layer1.0.bn1.bias", "layer2.0.conv1.weight", "layer3.2.bn2.weight",
           "layer3.2.bn2.running_var", "linear.weight", "linear.bias")
ONE_CYCLE_STEPS = (1, 2, 3, 7, 40)

# name, then options of `thaw train` as steps.h gives them to the test
CASES = {
    "l2sp": dict(epochs=4, lr=0.0005, momentum=0.9, weight_decay=1, l2sp=50),
    "l2sp_adamw": dict(epochs=4, lr=0.0003, optimizer="adamw", weight_decay=10, l2sp=200),
    "class_weights": dict(epochs=2, lr=0.0005, momentum=0.9, weight_decay=0, class_weights=1,
                          label_smoothing=0.1),
    "one_cycle": dict(epochs=4, lr=0.001, momentum=0.9, weight_decay=0.0001, lr_schedule="onecycle"),
    "one_cycle_adamw": dict(epochs=4, lr=0.0003, optimizer="adamw", weight_decay=0.1,
                            lr_schedule="onecycle"),
    "accumulate": dict(epochs=3, lr=0.05, momentum=0.9, weight_decay=0.0001, accumulate=3,
                       bn="train"),
    "accumulate_ragged": dict(epochs=2, lr=0.5, momentum=0.9, weight_decay=0, accumulate=2,
                              class_weights=1, label_smoothing=0.1, clip=0.5, bn="train"),
}


def pixels() -> torch.Tensor:
    """[n][3][16][16]; 8-bit, then mean 0.5 and std 0.25."""
    rows = []
    for i in range(len(LABELS)):
        own = make.mix(make.mix_name(KEY, "pixels"), i)
        rows.append(np.floor(make.uniform(own, SIZE * SIZE * 3) * np.float32(256)))
    x = torch.from_numpy(np.stack(rows).astype(np.float64)).reshape(-1, SIZE, SIZE, 3)
    return (x.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25


def start() -> dict[str, np.ndarray]:
    """Formulas of make.py, but the head: that is new, drawn from seed 0 by vision/model.c."""
    model = models.build("resnet20", CLASSES)
    out = {k: make.tensor(KEY, k, tuple(t.shape)) for k, t in models.tensors(model).items()}
    seed = make.mix_name(0, "initial")
    for name in ("linear.weight", "linear.bias"):
        u = make.uniform(make.mix_name(seed, name), out[name].size).reshape(out[name].shape)
        out[name] = (np.float32(2) * u - np.float32(1)) / np.sqrt(np.float32(64))
    return out


def optimizer(named: dict[str, torch.nn.Parameter], o: dict) -> torch.optim.Optimizer:
    """Weight decay on tensors of rank 2 and more; with L2-SP only on the new head's."""
    decays = lambda n, p: p.dim() >= 2 and (not o.get("l2sp") or n.startswith("linear"))
    rows = [{"params": [p], "weight_decay": o["weight_decay"] if decays(n, p) else 0}
            for n, p in named.items()]
    if o.get("optimizer") == "adamw":
        return torch.optim.AdamW(rows, lr=o["lr"])
    return torch.optim.SGD(rows, lr=o["lr"], momentum=o["momentum"])


def pull(named: dict, origin: dict, o: dict):
    """L2-SP: X/2 sum of |w - w0|^2 over what the weights file had."""
    return o["l2sp"] / 2 * sum(((p - origin[n]) ** 2).sum() for n, p in named.items()
                               if not n.startswith("linear"))


def train(o: dict) -> dict:
    begin = start()
    model = models.build("resnet20", CLASSES).double()
    for name, t in models.tensors(model).items():
        t.copy_(torch.from_numpy(begin[name]))
    models.freeze(model, "all", o.get("bn", "affine"), BATCH, 0)
    named = dict(model.named_parameters())
    origin = {n: p.detach().clone() for n, p in named.items()}
    x, y = pixels(), torch.tensor(LABELS)
    count = torch.bincount(y).double()
    weight = len(y) / (CLASSES * count) if o.get("class_weights") else None
    parts = [slice(a, min(a + BATCH, len(y))) for a in range(0, len(y), BATCH)]
    size = o.get("accumulate", 1)
    groups = [parts[i:i + size] for i in range(0, len(parts), size)]
    update = optimizer(named, o)
    cycle = None
    if o.get("lr_schedule") == "onecycle":
        cycle = torch.optim.lr_scheduler.OneCycleLR(update, o["lr"],
                                                    total_steps=o["epochs"] * len(groups))
    losses = []
    for group in [g for _ in range(o["epochs"]) for g in groups]:
        all_y = torch.cat([y[part] for part in group])
        total = weight[all_y].sum() if weight is not None else len(all_y)
        update.zero_grad()
        loss = 0.0
        for part in group:
            share = F.cross_entropy(model(x[part]), y[part], weight=weight, reduction="sum",
                                    label_smoothing=o.get("label_smoothing", 0.0)) / total
            share.backward()
            loss += share.item()
        losses.append(loss)
        if len(group) == 1 and "bn" not in o:  # the mean that PyTorch itself takes
            assert abs(loss - F.cross_entropy(model(x[group[0]]), all_y, weight=weight,
                                              label_smoothing=o.get("label_smoothing", 0.0))) < 1e-9 * loss
        if o.get("clip"):
            torch.nn.utils.clip_grad_norm_(named.values(), o["clip"])
        decoupled = o.get("l2sp") and o.get("optimizer") == "adamw"
        if o.get("l2sp") and not decoupled:
            pull(named, origin, o).backward()
        if decoupled:
            with torch.no_grad():
                for n, p in named.items():
                    if not n.startswith("linear"):
                        p -= update.param_groups[0]["lr"] * o["l2sp"] * (p - origin[n])
        update.step()
        if cycle and len(losses) < o["epochs"] * len(groups):
            cycle.step()
    after = models.tensors(model)
    return {"losses": losses, "change": {
        n: (after[n].detach().double().numpy() - begin[n].astype(np.float64)).reshape(-1)
        for n in TENSORS}}


def one_cycle(steps: int) -> tuple[list[float], list[float]]:
    update = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    cycle = torch.optim.lr_scheduler.OneCycleLR(update, 0.1, total_steps=steps)
    lrs, momenta = [], []
    for i in range(steps):
        lrs.append(update.param_groups[0]["lr"])
        momenta.append(update.param_groups[0]["momentum"])
        update.step()
        if i + 1 < steps:
            cycle.step()
    return lrs, momenta


HEAD = """/* SPDX-License-Identifier: Apache-2.0
 * Made by golden/steps.py with PyTorch in fp64; do not edit.
 * Runs of a ResNet-20 with 3 classes on 11 images of 16 pixels (5, 4, 2 of a class), in order, in
 * batches of 4, 4, 3, everything thawed. Its weights are those of golden/resnet.h's formula for
 * key 43, its head is new (seed 0). Image i is made of floor(256 u) with
 * u[k] = th_rng_uniform(th_rng_mix(th_rng_mix_name(43, "pixels"), i), k), k over [h][w][3]; mean 0.5, std 0.25.
 * Of each tensor: the 2-norm of its change, and elements k * (n - 1) / 7 of it. */
#ifndef TH_GOLDEN_STEPS_H
#define TH_GOLDEN_STEPS_H

struct golden_change {
    const char *name;
    double norm;
    double sample[8];
};

struct golden_run {
    const char *name, *options[24]; /* pairs, NULL behind the last */
    int n_steps;
    double loss[12];
    struct golden_change change[%d];
};

"""


def option_pairs(o: dict) -> str:
    defaults = {"bn": "affine", "optimizer": "sgd", "lr_schedule": "constant"}
    pairs = [f'"{k.replace("_", "-")}", "{v}"' for k, v in {**defaults, **o}.items()]
    assert len(pairs) <= 11
    return ",\n     ".join([", ".join(pairs[i:i + 3]) for i in range(0, len(pairs), 3)])


def run_text(name: str, o: dict) -> str:
    done = train(o)
    numbers = lambda v: ", ".join(f"{x:.8g}" for x in v)
    changes = ",\n     ".join(
        f'{{"{n}", {np.linalg.norm(v):.8g},\n      {{{numbers(make.samples(v))}}}}}'
        for n, v in done["change"].items())
    losses = done["losses"]
    return (f'    {{"{name}",\n     {{{option_pairs(o)}}},\n     {len(losses)}, '
            f"{{{numbers(losses)}}},\n     {{{changes}}}}},\n")


def cycle_text() -> str:
    rows = ""
    for steps in ONE_CYCLE_STEPS:
        lrs, momenta = one_cycle(steps)
        numbers = lambda v: ", ".join(f"{x:.9g}" for x in v)
        rows += f"    {{{steps}, {{{numbers(lrs)}}},\n     {{{numbers(momenta)}}}}},\n"
    return ("/* torch.optim.lr_scheduler.OneCycleLR(max_lr=0.1), step by step. */\n"
            "static const struct golden_cycle {\n    int n;\n"
            f"    double lr[{max(ONE_CYCLE_STEPS)}], momentum[{max(ONE_CYCLE_STEPS)}];\n"
            "} golden_cycles[] = {\n" + rows + "};\n")


def main() -> None:
    torch.set_num_threads(1)
    runs = "".join(run_text(name, o) for name, o in CASES.items())
    print(HEAD % len(TENSORS) + "static const struct golden_run golden_runs[] = {\n" + runs
          + "};\n\n" + cycle_text() + "\n#endif")


if __name__ == "__main__":
    main()
