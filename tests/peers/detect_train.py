# SPDX-License-Identifier: Apache-2.0
"""torchvision's FCOS trained on a VOC folder by the recipe of docs/detection.md: Thaw's other side.

    python tests/peers/detect_train.py --voc FOLDER --weights examples/weights/resnet20-cifar10.h5

On the backbone resnet20_s4 with a pyramid of 96 channels, weights of the classifier or, without
--weights, PyTorch's random ones. AdamW, a warm-up of one epoch, half a cosine; pictures at 320 pixels
with their sides' ratio, mirrored or not. Of each epoch the seconds, and the validation images' AP and
AP50 by pycocotools; then those of the test images with the best epoch's weights.
"""
import argparse
import contextlib
import copy
import io
import json
import math
import os
import resource
import time

import h5py
import numpy as np
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.fcos import FCOS
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

import coco_results
import models

STRIDES = (4, 8, 16, 32, 64)


class Quarter(nn.Module):
    """resnet20 with a stem of stride 4 (Thaw's resnet20_s4)."""

    def __init__(self):
        super().__init__()
        net = models.CifarResNet(3, 10, nn.BatchNorm2d)
        net.conv1.stride = (2, 2)
        self.conv1, self.bn1, self.relu = net.conv1, net.bn1, net.relu
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1, self.layer2, self.layer3 = net.layer1, net.layer2, net.layer3


def build(args, n_classes: int) -> FCOS:
    body = Quarter()
    if args.weights:
        with h5py.File(args.weights) as f:
            state = {k: torch.from_numpy(np.asarray(f[k])) for k in
                     (n for n in body.state_dict() if "num_batches" not in n)}
        missing = body.load_state_dict(state, strict=False).missing_keys
        assert all("num_batches" in k for k in missing), missing
    backbone = BackboneWithFPN(body, {f"layer{i}": str(i) for i in (1, 2, 3)}, [16, 32, 64], args.width,
                               LastLevelP6P7(args.width, args.width))
    model = FCOS(backbone, n_classes, min_size=args.size // 2, max_size=args.size, score_thresh=0.05,
                 anchor_generator=AnchorGenerator(tuple((s,) for s in STRIDES), ((1.0,),) * len(STRIDES)))
    return model.to(memory_format=torch.channels_last)


def read(voc: str, split: str) -> tuple[dict, list]:
    """(COCO's truth, [(number of the image, pixels, boxes, labels)])"""
    truth = coco_results.coco_of(voc, split)
    by_image: dict[int, list] = {image["id"]: [] for image in truth["images"]}
    for a in truth["annotations"]:
        by_image[a["image_id"]].append(a)
    items = []
    for image in truth["images"]:
        pixels = np.asarray(Image.open(os.path.join(voc, "JPEGImages", image["file_name"])).convert("RGB"))
        found = by_image[image["id"]]
        boxes = np.array([a["bbox"] for a in found], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        items.append((image["id"], torch.from_numpy(pixels.copy()).permute(2, 0, 1),
                      torch.from_numpy(boxes), [a["category_id"] for a in found]))
    return truth, items


def decayed(model: nn.Module) -> list[dict]:
    """Weights of convolutions decay, biases and norms do not."""
    params = list(model.parameters())
    return [{"params": [p for p in params if p.dim() > 1], "weight_decay": 1e-4},
            {"params": [p for p in params if p.dim() <= 1], "weight_decay": 0.0}]


def factor(step: int, epoch: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / epoch)
    return warm * 0.5 * (1 + math.cos(math.pi * step / steps))


def train_epoch(model, items, optimizer, schedule, args, numbers, random) -> float:
    model.train()
    total, order = 0.0, random.permutation(len(items))
    for first in range(0, len(order) - args.batch + 1, args.batch):
        images, targets = [], []
        for i in order[first:first + args.batch]:
            _, pixels, boxes, labels = items[i]
            pixels, boxes = pixels.float() / 255, boxes.clone()
            if random.random() < 0.5:
                pixels = pixels.flip(-1)
                boxes[:, [0, 2]] = pixels.shape[-1] - boxes[:, [2, 0]]
            images.append(pixels)
            targets.append({"boxes": boxes, "labels": torch.tensor([numbers.index(k) for k in labels],
                                                                   dtype=torch.int64)})
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += float(loss.detach())
    return total / (len(order) // args.batch)


def judge(model, truth: dict, items: list, numbers: list) -> tuple[float, float]:
    model.eval()
    results = []
    with torch.no_grad():
        for number, pixels, _, _ in items:
            found = model([pixels.float() / 255])[0]
            for (x0, y0, x1, y1), score, label in zip(found["boxes"].tolist(), found["scores"].tolist(),
                                                      found["labels"].tolist()):
                results.append({"image_id": number, "category_id": numbers[label], "score": score,
                                "bbox": [x0, y0, x1 - x0, y1 - y0]})
    if not results:
        return 0.0, 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--voc", required=True)
    parser.add_argument("--weights")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    random = np.random.default_rng(args.seed)
    data = {split: read(args.voc, split) for split in ("train", "val", "test")}
    numbers = sorted({c["id"] for c in data["train"][0]["categories"]})
    model = build(args, len(numbers))
    optimizer = torch.optim.AdamW(decayed(model), args.lr)
    epoch_steps = len(data["train"][1]) // args.batch
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: factor(step, epoch_steps, args.epochs * epoch_steps))
    best, kept = -1.0, None
    for epoch in range(args.epochs):
        start = time.perf_counter()
        loss = train_epoch(model, data["train"][1], optimizer, schedule, args, numbers, random)
        seconds = time.perf_counter() - start
        ap, ap50 = judge(model, *data["val"], numbers)
        if ap > best:
            best, kept = ap, copy.deepcopy(model.state_dict())
        print(json.dumps({"epoch": epoch + 1, "loss": round(loss, 4), "seconds": round(seconds, 1),
                          "val_ap": round(ap, 4), "val_ap50": round(ap50, 4)}), flush=True)
    model.load_state_dict(kept)
    ap, ap50 = judge(model, *data["test"], numbers)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(json.dumps({"test_ap": round(ap, 4), "test_ap50": round(ap50, 4), "peak_mib": round(peak)}))


if __name__ == "__main__":
    main()
