# SPDX-License-Identifier: Apache-2.0
"""Makes fcos.h: loss, gradients and detections of torchvision's FCOS on a small ResNet and a
pyramid of 64 channels, in fp64. Weights and images are the formulas of make.py.

    python3 tests/golden/fcos.py > tests/golden/fcos.h      (needs torch, torchvision, numpy)
"""
import collections
import sys

import numpy as np
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

import make

WIDTH, SIZE, N, CLASSES, KEY = 64, 128, 2, 3, 15
FOUND = 24  # of an image, the best
LAST = ("cls_logits.weight", "bbox_reg.weight", "bbox_ctrness.weight")  # a sixteenth
OBJECTS = [[((8.0, 12.0, 61.0, 56.0), 0), ((40.0, 20.0, 122.0, 120.0), 2), ((80.0, 6.0, 94.0, 19.0), 1)],
           [((0.0, 0.0, 128.0, 128.0), 1), ((66.0, 60.0, 100.0, 110.0), 0)]]


class Body(torch.nn.Module):
    """resnet20_s4: resnet20 whose first convolution strides, and a pooling behind it."""

    def __init__(self):
        super().__init__()
        import models
        net = models.build("resnet20", 10, torch.nn.BatchNorm2d)
        self.conv1, self.bn1 = net.conv1, net.bn1
        self.layer1, self.layer2, self.layer3 = net.layer1, net.layer2, net.layer3

    def forward(self, x):
        x = torch.nn.functional.conv2d(x, self.conv1.weight, stride=2, padding=1)
        x = torch.nn.functional.max_pool2d(self.bn1(x).relu(), 3, 2, 1)
        out = collections.OrderedDict()
        for i, layer in enumerate((self.layer1, self.layer2, self.layer3)):
            x = layer(x)
            out[str(i)] = x
        return out


class Backbone(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = Body()
        self.fpn = FeaturePyramidNetwork([16, 32, 64], WIDTH, LastLevelP6P7(WIDTH, WIDTH))
        self.out_channels = WIDTH

    def forward(self, x):
        return self.fpn(self.body(x))


def ours(name: str) -> str:
    return name.replace("backbone.body.", "").replace("backbone.fpn", "fpn")


def build(dtype: torch.dtype) -> FCOS:
    strides = (4, 8, 16, 32, 64)
    model = FCOS(Backbone(), CLASSES, anchor_generator=AnchorGenerator(
        tuple((s,) for s in strides), ((1.0,),) * 5))
    with torch.no_grad():
        for name, t in model.state_dict().items():
            if t.dtype.is_floating_point:
                t.copy_(torch.from_numpy(make.tensor(KEY, ours(name), tuple(t.shape))))
            if name.endswith(LAST):
                t.mul_(1 / 16)
            if name.endswith("bbox_reg.bias"):
                t.add_(1)
    return model.to(dtype)


def step(model: FCOS, key: int, size: int, objects, gradients):
    """Losses, gradients by name, as `gradients` makes them of what has one, and detections: of images
    that are normalised already."""
    x = torch.from_numpy(make.images(key, len(objects), size)).to(next(model.parameters()).dtype)
    images = ImageList(x, [(size, size)] * len(objects))
    targets = [{"boxes": torch.tensor([b for b, _ in o], dtype=x.dtype),
                "labels": torch.tensor([c for _, c in o])} for o in objects]
    model.transform.forward = lambda _, t=None: (images, t)
    losses = model([torch.zeros(3, 8, 8)] * len(objects), targets)
    sum(losses.values()).backward()
    grads = gradients({k: p.grad.double() for k, p in model.named_parameters() if p.grad is not None})
    model.eval()
    model.transform.postprocess = lambda result, *_: result
    with torch.no_grad():
        found = model([torch.zeros(3, size, size)] * len(objects))
    return {k: v.item() for k, v in losses.items()}, grads, found


def run(dtype: torch.dtype):
    model = build(dtype).train()
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.eval()
    return step(model, KEY, SIZE, OBJECTS,
                lambda g: {ours(k): v.numpy().reshape(-1) for k, v in g.items()})


def tables(losses, grads, found, objects, sizes: str) -> str:
    """What tests/detect.h compares with."""
    parts = [f"""struct golden_gradient {{
    const char *name;
    double norm, sample[{make.N_SAMPLES}]; /* elements k * (n - 1) / {make.N_SAMPLES - 1} */
}};

struct golden_box {{
    int image, class;
    double score, box[4];
}};

{sizes}

/* classes, boxes, centerness */
static const double golden_loss[3] = {{{make.number(losses["classification"])}, \
{make.number(losses["bbox_regression"])}, {make.number(losses["bbox_ctrness"])}}};

static const struct golden_box golden_objects[] = {{"""]
    for i, of_image in enumerate(objects):
        for box, label in of_image:
            parts.append(f"    {{{i}, {label}, 1, {make.array(np.array(box))}}},")
    parts.append("};\n\nstatic const struct golden_box golden_found[] = {")
    for i, f in enumerate(found):
        for box, label, score in list(zip(f["boxes"], f["labels"], f["scores"]))[:FOUND]:
            parts.append(f"    {{{i}, {int(label)}, {make.number(float(score))}, {make.array(box.numpy())}}},")
    parts.append("};\n")
    parts.append(make.rows("golden_gradients", grads).replace("golden_tensor", "golden_gradient"))
    return "\n".join(parts)


def main() -> None:
    losses, grads, found = run(torch.float64)
    _, single, _ = run(torch.float32)
    errors = {k: make.error(single[k], grads[k]) for k in grads}
    print(sorted(errors.items(), key=lambda e: -e[1])[:5], file=sys.stderr)
    worst = max(errors.values())
    print(f"PyTorch's own fp32 error {worst:.1e}", losses, [len(f["boxes"]) for f in found],
          file=sys.stderr)
    print(f"""/* SPDX-License-Identifier: Apache-2.0
 * Made by golden/fcos.py with torchvision's FCOS in fp64; do not edit.
 * resnet20_s4 with a pyramid of {WIDTH} channels, {N} images of {SIZE} px that are normalised
 * already, values as in golden/resnet.h with key {KEY}, those of the last convolutions' weights
 * a sixteenth of that and bbox_reg's bias one more; BatchNorm on running statistics.
 * PyTorch's own fp32 gradients are within {worst:.1e} of these. */
#ifndef TH_GOLDEN_FCOS_H
#define TH_GOLDEN_FCOS_H
""")
    print(tables(losses, grads, found, OBJECTS, f"""enum {{ GOLDEN_KEY = {KEY}, GOLDEN_WIDTH = {WIDTH}, GOLDEN_SIZE = {SIZE}, GOLDEN_IMAGES = {N},
    GOLDEN_CLASSES = {CLASSES} }};"""))
    print("#endif")


if __name__ == "__main__":
    main()
