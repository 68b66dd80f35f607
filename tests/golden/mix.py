# SPDX-License-Identifier: Apache-2.0
# Makes mix.h: boxes and mixed pairs as timm makes them, quantiles of Beta(a, a) as SciPy
# has them. Needs timm and SciPy; run by hand in this folder.
from unittest import mock

import numpy as np
import torch
from scipy.stats import beta
from timm.data.mixup import cutmix_bbox_and_lam, mixup_target

SIZE, CLASSES = 5, 4
rows = {"box": [], "mixup": [], "cutmix": []}


def values(tensor):
    return ", ".join(f"{v!r}f" for v in map(float, tensor.flatten().numpy().astype(str)))


def box_at(x, y, size, lam):
    with mock.patch.object(np.random, "randint", side_effect=[y, x]):
        (top, bottom, left, right), kept = cutmix_bbox_and_lam((2, 3, size, size), lam)
    return left, top, right, bottom, kept


for size in (8, 32, 33, 224):
    for lam in (0, 0.1, 0.37, 0.75, 0.999, 1):
        for x, y in ((0, 0), (size // 2, size // 3), (size - 1, size // 2)):
            left, top, right, bottom, kept = box_at(x, y, size, lam)
            rows["box"].append(f"{{{size}, {lam}, {x}, {y}, {left}, {top}, {right}, {bottom}, {kept:.17g}}}")

images = (torch.arange(2 * 3 * SIZE * SIZE) * 37 % 101 / 10 - 5).float().reshape(2, 3, SIZE, SIZE)
labels = torch.tensor([2, 0])
for lam in (0.3, 0.85):
    for smoothing in (0.0, 0.1):
        target = mixup_target(labels, CLASSES, lam, smoothing)
        mixed = images.clone()
        mixed.mul_(lam).add_(images.flip(0).mul_(1 - lam))  # Mixup._mix_batch
        rows["mixup"].append(f"{{{lam}, {smoothing}f, {{{values(target)}}}, {{{values(mixed)}}}}}")
        left, top, right, bottom, kept = box_at(3, 1, SIZE, lam)
        cut = images.clone()
        cut[:, :, top:bottom, left:right] = images.flip(0)[:, :, top:bottom, left:right]
        target = mixup_target(labels, CLASSES, kept, smoothing)
        rows["cutmix"].append(f"{{{lam}, {smoothing}f, {{{values(target)}}}, {{{values(cut)}}}}}")

with open("mix.h", "w") as f:
    print("/* Made by mix.py with timm and SciPy; do not edit. */", file=f)
    print("static const struct {\n    int size;\n    double lambda;\n    int x, y, left, top, right, bottom;\n"
          "    double kept;\n} golden_box[] = {", file=f)
    print(",\n".join("    " + r for r in rows["box"]) + "};", file=f)
    print("/* Two images of 5 x 5 and four classes; the box is about (3, 1). */\n"
          f"struct mixed {{\n    double lambda;\n    float smoothing, target[2 * {CLASSES}], "
          f"images[2 * 3 * {SIZE} * {SIZE}];\n}};", file=f)
    for name in ("mixup", "cutmix"):
        print(f"static const struct mixed golden_{name}[] = {{", file=f)
        print(",\n".join("    " + r for r in rows[name]) + "};", file=f)
    print("/* Quantiles 1/20 .. 19/20. */\nstatic const struct {\n    double a, quantile[19];\n} golden_beta[] = {", file=f)
    print(",\n".join("    {%g, {%s}}" % (a, ", ".join(f"{q:.12g}" for q in beta.ppf(np.arange(1, 20) / 20, a, a)))
                     for a in (0.1, 0.2, 0.4, 1, 2, 8, 200)) + "};", file=f)
