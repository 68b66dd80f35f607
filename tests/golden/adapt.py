# SPDX-License-Identifier: Apache-2.0
"""Makes adapt.h: BatchNorm's running statistics after AdaBN, by PyTorch in fp64. Weights are the
formulas of make.py, images bytes floor(256 * uniform), so only results are stored.

    python3 tests/golden/adapt.py > tests/golden/adapt.h      (needs torch, torchvision, numpy)

One BatchNorm after the other, from the image up, gets the mean and the unbiased variance of its
input over all images at once, everything in evaluation mode.
"""
import numpy as np
import torch

import make
import models
import reference

NETS = (("resnet20", 7, 16, 5), ("resnet18", 7, 64, 6))  # backbone, images, pixels, key


def images(key, n, size):
    own = make.mix_name(key, "pixels")
    u = make.uniform(own, n * size * size * 3)
    return (u * np.float32(256)).astype(np.uint8).reshape(n, size, size, 3)


def seen_by(model, bn, x):
    """The input of one BatchNorm, [channels][values]."""
    kept = []
    hook = bn.register_forward_pre_hook(lambda _, args: kept.append(args[0]))
    with torch.no_grad():
        model(x)
    hook.remove()
    return kept[0].transpose(0, 1).flatten(1)


def adapt(backbone, n, size, key):
    model = reference.load(reference.Run(backbone), make.weights(backbone, key), reference.FP64)
    models.freeze(model, "none", "frozen", n, 0)
    x = reference.pixels(images(key, n, size), reference.Run(backbone), reference.FP64)
    for module in model.modules():
        if isinstance(module, models.ModeBN):
            seen = seen_by(model, module, x)
            module.running_mean.copy_(seen.mean(1))
            module.running_var.copy_(seen.var(1, unbiased=True))
    return {k: v.numpy().reshape(-1) for k, v in model.named_buffers() if "running" in k}


def main():
    print("/* Made by adapt.py with PyTorch in fp64; do not edit. */\n#include <stdint.h>\n")
    print(f"struct golden_tensor {{ /* of n elements: its 2-norm, and elements k (n - 1) / 7 */\n"
          f"    const char *name;\n    double norm;\n    double sample[{make.N_SAMPLES}];\n}};")
    rows = ""
    for backbone, n, size, key in NETS:
        buffers = adapt(backbone, n, size, key)
        print(make.rows(f"golden_{backbone}_adapted", buffers), end="")
        rows += f'    {{"{backbone}", {n}, {size}, {key}u, {len(buffers)}, golden_{backbone}_adapted}},\n'
    print("static const struct golden_adapted {\n    const char *backbone;\n    int n_images, size;\n"
          "    uint64_t key;\n    int n_buffers;\n    const struct golden_tensor *buffers;\n"
          "} golden_adapted[] = {\n" + rows + "};")


main()
