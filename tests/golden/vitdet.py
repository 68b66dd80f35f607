# SPDX-License-Identifier: Apache-2.0
"""Makes vitdet.h: loss, gradients and detections, in fp64, of torchvision's FCOS on ViTDet's simple
feature pyramid (Li et al. 2022, arXiv:2203.16527) on timm's vit_micro. The pyramid is Detectron2's
SimpleFeaturePyramid with norm "LN", restated here: Detectron2 is on no package index.

    python3 tests/golden/vitdet.py > tests/golden/vitdet.h      (needs torch, torchvision, timm, numpy)
"""
import collections
import sys

import numpy as np
import torch
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

import fcos
import make
import models

BACKBONE, PATCH, WIDTH, SIZE, N, CLASSES, KEY = "vit_micro_patch4_32", 4, 64, 48, 2, 3, 15
STRIDES = (2, 4, 8, 16, 32)
OBJECTS = [[((2.0, 3.0, 15.0, 14.0), 0), ((10.0, 5.0, 30.0, 30.0), 2), ((20.0, 1.5, 23.5, 4.5), 1)],
           [((0.0, 0.0, 48.0, 48.0), 1), ((16.5, 15.0, 25.0, 27.5), 0)]]


class LayerNorm(nn.LayerNorm):
    """Over the channels of each place of [n][c][h][w]."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Conv2d(nn.Conv2d):
    """Detectron2's: the norm is a part of it."""

    def __init__(self, inputs, outputs, kernel):
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.norm = LayerNorm(outputs, eps=1e-6)

    def forward(self, x):
        return self.norm(super().forward(x))


class SimpleFeaturePyramid(nn.Module):
    """The levels of one map, finest first."""

    def __init__(self, dim, stride, scales, out):
        super().__init__()
        for scale in scales:
            if scale == 4:
                layers, c = [nn.ConvTranspose2d(dim, dim // 2, 2, 2), LayerNorm(dim // 2, eps=1e-6), nn.GELU(),
                             nn.ConvTranspose2d(dim // 2, dim // 4, 2, 2)], dim // 4
            elif scale == 2:
                layers, c = [nn.ConvTranspose2d(dim, dim // 2, 2, 2)], dim // 2
            else:
                layers, c = [] if scale == 1 else [nn.MaxPool2d(2, 2)], dim
            layers += [Conv2d(c, out, 1), Conv2d(out, out, 3)]
            self.add_module(f"simfp_{int(np.log2(stride / scale))}", nn.Sequential(*layers))

    def forward(self, x):
        return [level(x) for level in self.children()]


class Backbone(nn.Module):
    """Scales 2, 1 and 1/2, and FCOS's P6 and P7."""

    def __init__(self):
        super().__init__()
        self.body = models.build(BACKBONE, CLASSES, size=SIZE)
        self.fpn = SimpleFeaturePyramid(self.body.embed_dim, PATCH, (2, 1, 0.5), WIDTH)
        self.top_block = LastLevelP6P7(WIDTH, WIDTH)
        self.out_channels = WIDTH

    def forward(self, x):
        tokens = self.body.forward_features(x)[:, 1:]
        side = SIZE // PATCH
        levels = self.fpn(tokens.transpose(1, 2).reshape(len(x), -1, side, side))
        levels, _ = self.top_block(levels, levels, [str(i) for i in range(3)])
        return collections.OrderedDict((str(i), level) for i, level in enumerate(levels))


def ours(name: str) -> str:
    return name.replace("backbone.body.", "").replace("backbone.fpn.", "").replace("backbone.", "")


def is_upconv(name: str) -> bool:
    return name.startswith("simfp_1.0") and name.endswith("weight")


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The values of tests/net.h; of transposed convolutions as a linear layer's, (row, column, out) x in."""
    f32 = np.float32
    z = make.normal(make.mix_name(KEY, name), int(np.prod(shape)))
    if is_upconv(name):
        inputs, outputs, kh, kw = shape
        return f32(0.01) * z.reshape(kh, kw, outputs, inputs).transpose(3, 2, 0, 1)
    z = z.reshape(shape)
    if len(shape) == 4:
        return f32(np.sqrt(2.0 / (shape[0] * shape[2] * shape[3]))) * z
    if len(shape) == 2:
        return f32(0.01) * z
    return f32(1) + f32(0.1) * z if name.endswith("weight") else f32(0.1) * z


def gradient(name: str, g: torch.Tensor) -> np.ndarray:
    return (g.permute(2, 3, 1, 0) if is_upconv(name) else g).numpy().reshape(-1)


def build(dtype: torch.dtype) -> FCOS:
    model = FCOS(Backbone(), CLASSES, anchor_generator=AnchorGenerator(
        tuple((s,) for s in STRIDES), ((1.0,),) * len(STRIDES)))
    with torch.no_grad():
        for name, t in model.state_dict().items():
            t.copy_(torch.from_numpy(tensor(ours(name), tuple(t.shape))))
            if name.endswith(fcos.LAST):
                t.mul_(1 / 16)
            if name.endswith("bbox_reg.bias"):
                t.add_(1)
    return model.to(dtype)


def run(dtype: torch.dtype):
    return fcos.step(build(dtype).train(), KEY, SIZE, OBJECTS,
                     lambda g: {ours(k): gradient(ours(k), v) for k, v in g.items()})


def shown(name: str) -> bool:
    """Of the blocks, the first and the last."""
    return not name.startswith("blocks.") or name.split(".")[1] in ("0", "5")


def main() -> None:
    losses, grads, found = run(torch.float64)
    _, single, _ = run(torch.float32)
    errors = {k: make.error(single[k], grads[k]) for k in grads}
    worst = max(errors.values())
    print(sorted(errors.items(), key=lambda e: -e[1])[:5], losses, [len(f["boxes"]) for f in found], file=sys.stderr)
    print(f"""/* SPDX-License-Identifier: Apache-2.0
 * Made by golden/vitdet.py with torchvision's FCOS, timm and a restatement of Detectron2's
 * SimpleFeaturePyramid in fp64; do not edit.
 * {BACKBONE} with a pyramid of {WIDTH} channels, {N} images of {SIZE} px that are normalised
 * already, values as in net.h with key {KEY}, those of the last convolutions' weights a
 * sixteenth of that and bbox_reg's bias one more.
 * PyTorch's own fp32 gradients are within {worst:.1e} of these. */
#ifndef TH_GOLDEN_VITDET_H
#define TH_GOLDEN_VITDET_H
""")
    print(fcos.tables(losses, {k: v for k, v in grads.items() if shown(k)}, found, OBJECTS,
                      f"""enum {{ GOLDEN_KEY = {KEY}, GOLDEN_WIDTH = {WIDTH}, GOLDEN_SIZE = {SIZE}, GOLDEN_IMAGES = {N},
    GOLDEN_CLASSES = {CLASSES} }};"""))
    print("#endif")


if __name__ == "__main__":
    main()
