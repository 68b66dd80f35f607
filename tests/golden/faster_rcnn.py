# SPDX-License-Identifier: Apache-2.0
"""Makes faster_rcnn.h and, of the second version, faster_rcnn_v2.h: losses, gradients, proposals
and detections of torchvision's Faster R-CNN on a small ResNet and a pyramid of 32 channels, in
fp64. Weights and images are the formulas of make.py; what torchvision draws at random is the
first ones here.

    python3 tests/golden/faster_rcnn.py > tests/golden/faster_rcnn.h
    python3 tests/golden/faster_rcnn.py v2 > tests/golden/faster_rcnn_v2.h
                                                     (needs torch, torchvision, numpy)
"""
import sys

import numpy as np
import torch
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNConvFCHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

import fcos
import make

WIDTH, SIZE, N, CLASSES, KEY = 32, 128, 2, 3, 21
FOUND = 24  # of an image, the best
OBJECTS = fcos.OBJECTS
V2 = sys.argv[1:] == ["v2"]
NORM = torch.nn.BatchNorm2d if V2 else None  # of pyramid and box head
# What these layers say has about this deviation: nothing saturates, all parts of the loss matter.
MODERATE = {"rpn.head.cls_logits": 1.5, "rpn.head.bbox_pred": 0.2,
            **{"roi_heads.box_head." + k: 1.0 for k in (["5"] if V2 else ["fc6", "fc7"])},
            "roi_heads.box_predictor.cls_score": 1.5, "roi_heads.box_predictor.bbox_pred": 1.0}


class Backbone(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = fcos.Body()
        self.fpn = FeaturePyramidNetwork([16, 32, 64], WIDTH, LastLevelMaxPool(), NORM)
        self.out_channels = WIDTH

    def forward(self, x):
        return self.fpn(self.body(x))


def first(self, labels):
    """In place of a draw: the first ones with a class and of the background."""
    masks = [], []
    for row in labels:
        positive = torch.where(row >= 1)[0][:int(self.batch_size_per_image * self.positive_fraction)]
        negative = torch.where(row == 0)[0][:self.batch_size_per_image - len(positive)]
        for mask, found in zip(masks, (positive, negative)):
            mask.append(torch.zeros_like(row, dtype=torch.uint8).index_fill_(0, found, 1))
    return masks


def build(dtype: torch.dtype) -> FasterRCNN:
    ratios = ((0.5, 1.0, 2.0),)
    heads = {"rpn_head": RPNHead(WIDTH, 3, conv_depth=2), "box_head": FastRCNNConvFCHead(
        (WIDTH, 7, 7), [WIDTH] * 4, [1024], norm_layer=NORM)} if V2 else {}
    model = FasterRCNN(
        Backbone(), CLASSES + 1,
        rpn_anchor_generator=AnchorGenerator(((32,), (64,), (128,), (256,)), ratios * 4),
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], 7, 2), **heads)
    x = torch.from_numpy(make.images(KEY, N, SIZE)).to(dtype)
    images = ImageList(x, [(SIZE, SIZE)] * N)
    model.transform.forward = lambda _, t=None: (images, t)
    model.transform.postprocess = lambda result, *_: result
    with torch.no_grad():
        for name, t in model.state_dict().items():
            if not t.dtype.is_floating_point:
                continue
            own = fcos.ours(name)
            if t.dim() == 2:
                z = make.normal(make.mix_name(KEY, own), t.numel()).reshape(t.shape)
                t.copy_(torch.from_numpy(np.float32(0.01) * z))
            else:
                t.copy_(torch.from_numpy(make.tensor(KEY, own, tuple(t.shape))))
    return model.to(dtype)


def moderate(model: FasterRCNN) -> dict[str, float]:
    """Powers of 2 on the weights of MODERATE, layer by layer."""
    model.eval()
    factors = {}
    for name, want in MODERATE.items():
        said = []
        layer = model.get_submodule(name)
        hook = layer.register_forward_hook(lambda *a: said.append(a[2].flatten()))
        with torch.no_grad():
            model([torch.zeros(3, SIZE, SIZE)] * N)
            factors[name] = 2.0 ** round(float(torch.log2(want / torch.cat(said).std())))
            layer.weight.mul_(factors[name])
        hook.remove()
    return factors


def run(dtype: torch.dtype, factors: dict[str, float]):
    """Losses, gradients by name, boxes that were learnt from, and detections."""
    BalancedPositiveNegativeSampler.__call__ = first
    model = build(dtype).train()
    with torch.no_grad():
        for name, factor in factors.items():
            model.get_submodule(name).weight.mul_(factor)
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.eval()
    targets = [{"boxes": torch.tensor([b for b, _ in o], dtype=dtype),
                "labels": torch.tensor([c + 1 for _, c in o])} for o in OBJECTS]
    drawn = []
    select = model.roi_heads.select_training_samples

    def keep(proposals, truth):
        found = select(proposals, truth)
        drawn.append([(b.detach().double().numpy(), l.numpy()) for b, l in zip(found[0], found[2])])
        return found

    model.roi_heads.select_training_samples = keep
    losses = model([torch.zeros(3, SIZE, SIZE)] * N, targets)
    sum(losses.values()).backward()
    grads = {fcos.ours(k): p.grad.double().numpy().reshape(-1) for k, p in model.named_parameters()
             if p.grad is not None}
    model.eval()
    with torch.no_grad():
        found = model([torch.zeros(3, SIZE, SIZE)] * N)
    return {k: v.item() for k, v in losses.items()}, grads, drawn[0], found


HEAD = """/* SPDX-License-Identifier: Apache-2.0
 * Made by golden/faster_rcnn.py with torchvision's %(version)s in fp64; do not edit.
 * resnet20_s4 with a pyramid of %(width)d channels, %(n)d images of %(size)d px that are normalised
 * already, values as in golden/resnet.h with key %(key)d, but matrices 0.01 z, and the weights of
 * golden_factors times these; BatchNorm on running statistics. What is drawn are the first ones.
 * PyTorch's own fp32 gradients are within %(worst).1e of these. */
#ifndef TH_GOLDEN_FASTER_RCNN%(guard)s_H
#define TH_GOLDEN_FASTER_RCNN%(guard)s_H

struct golden_gradient {
    const char *name;
    double norm, sample[%(samples)d]; /* elements k * (n - 1) / (samples - 1) */
};

struct golden_factor {
    const char *name; /* NAME.weight */
    double by;
};

struct golden_box {
    int image, class;
    double score, box[4];
};

enum { GOLDEN_KEY = %(key)d, GOLDEN_WIDTH = %(width)d, GOLDEN_SIZE = %(size)d, GOLDEN_IMAGES = %(n)d,
    GOLDEN_CLASSES = %(classes)d };

/* objectness, its boxes, classes, boxes */
static const double golden_loss[4] = {%(loss)s};
"""


def boxes_text(title: str, boxes: list[tuple]) -> str:
    lines = [f"    {{{i}, {c}, {make.number(s)}, {make.array(np.asarray(b))}}}," for i, c, s, b in boxes]
    return f"static const struct golden_box {title}[] = {{\n" + "\n".join(lines) + "\n};\n"


def main() -> None:
    factors = moderate(build(torch.float64))
    losses, grads, drawn, found = run(torch.float64, factors)
    _, single, other, _ = run(torch.float32, factors)
    errors = {k: make.error(single[k], grads[k]) for k in grads}
    print(sorted(errors.items(), key=lambda e: -e[1])[:5], file=sys.stderr)
    for (boxes, labels), (b, l) in zip(drawn, other):
        print(len(labels), (labels > 0).sum(), "apart:", np.abs(boxes - b).max(), (labels != l).sum(),
              file=sys.stderr)
    print(losses, [len(f["boxes"]) for f in found], file=sys.stderr)
    parts = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")
    print(HEAD % {"key": KEY, "width": WIDTH, "size": SIZE, "n": N, "classes": CLASSES,
                  "worst": max(errors.values()), "samples": make.N_SAMPLES,
                  "version": "Faster R-CNN v2" if V2 else "Faster R-CNN", "guard": "_V2" if V2 else "",
                  "loss": ", ".join(make.number(losses[k]) for k in parts)})
    print("static const struct golden_factor golden_factors[] = {")
    for name, by in factors.items():
        print(f'    {{"{name}.weight", {by}}},')
    print("};\n")
    print(boxes_text("golden_objects", [(i, c, 1.0, np.array(b)) for i, objects in enumerate(OBJECTS)
                                        for b, c in objects]))
    print(boxes_text("golden_found", [
        (i, int(c) - 1, float(s), b.numpy()) for i, f in enumerate(found)
        for b, c, s in list(zip(f["boxes"], f["labels"], f["scores"]))[:FOUND]]))
    print(make.rows("golden_gradients", grads).replace("golden_tensor", "golden_gradient"))
    print("#endif")


if __name__ == "__main__":
    main()
