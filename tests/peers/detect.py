# SPDX-License-Identifier: Apache-2.0
"""A detector of Thaw's beside torchvision's with the same weights, through the command line.

One step at lr 1 without momentum and decay: last.h5 minus the weights is minus the gradient, of
every tensor of backbone, pyramid and head; the loss is in metrics.jsonl. Truth is torchvision in
fp64; per tensor the bound is max(1e-4, 4 times PyTorch's own fp32 error), as in numerics.py.
Then `thaw predict` on the same weights: boxes are matched by IoU >= 0.999 and equal label.
The logits' and boxes' layers are scaled until detections survive. What torchvision draws at random
(anchors and boxes that Faster R-CNN learns from) is drawn as Thaw does (kernels/balance.c).
Pictures and objects are made up, or with --data voc:DIR those of a real data set, pressed to --size: a
square, or WxH.

Where gradients differ by more, a ReLU may have been decided otherwise by rounding. Then the decisions that
are nearest to a tie, where the differences begin and anywhere, are turned over in fp64, one by one: if what some of them change together is the
difference, to the same bound, they are named and the run has held; else it has failed.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as tree
import xml.sax.saxutils as xml
from functools import partial

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file
from torchvision.models import resnet
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor, resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNConvFCHead
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import box_iou
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
import files
import images
import make
import ties
from numerics import Check, check_series, check_tensor

CLASSES = ["alpha", "beta", "gamma"]
MOST_FLIPS, SKETCH = 16, 500  # decisions that are tried, by so many elements of a tensor


def body(name: str, p6_of: int = 256) -> torch.nn.Module:
    return resnet_fpn_backbone(backbone_name=name, weights=None, norm_layer=FrozenBatchNorm2d,
                               trainable_layers=5, returned_layers=[2, 3, 4],
                               extra_blocks=LastLevelP6P7(p6_of, 256))


Size = tuple[int, int]  # width, height


def whole(size: Size) -> dict[str, int]:
    """Pictures of this size, whose sides are multiples of 32, are an input as they are."""
    return {"min_size": min(size), "max_size": max(size)}


def fcos(name: str, size: Size) -> torch.nn.Module:
    return FCOS(body(name), num_classes=len(CLASSES), **whole(size))


def retinanet(name: str, size: Size) -> torch.nn.Module:
    return RetinaNet(body(name), num_classes=len(CLASSES), **whole(size))


def retinanet_v2(name: str, size: Size) -> torch.nn.Module:
    """As retinanet_resnet50_fpn_v2 builds it."""
    last = 512 if name in ("resnet18", "resnet34") else 2048
    head = RetinaNetHead(256, 9, len(CLASSES), norm_layer=partial(torch.nn.GroupNorm, 32))
    head.regression_head._loss_type = "giou"
    return RetinaNet(body(name, last), num_classes=len(CLASSES), head=head, **whole(size))


class Draw:
    """In place of a BalancedPositiveNegativeSampler: of each image's rows the first in an order by
    (seed 0, epoch 0, image, row). The last tails[image] rows are objects, which stand behind as
    many places as there are for proposals."""

    def __init__(self, sampler, purpose: str, name: str, proposals: int | None = None):
        self.count, fraction = sampler.batch_size_per_image, sampler.positive_fraction
        self.positive = int(self.count * fraction)
        self.purpose, self.name, self.proposals, self.tails = purpose, name, proposals, []
        self.instead_of = sampler

    def order(self, image: int, n: int) -> np.ndarray:
        key = make.mix_name(0, self.purpose)
        for coordinate in (0, image, 0):  # epoch, sample, occurrence
            key = make.mix(key, coordinate)
        row = np.arange(n, dtype=np.uint64)
        if self.proposals is not None:
            tail = self.tails[image]
            row[n - tail:] += np.uint64(self.proposals - (n - tail))
        words = make.block(make.mix_name(key, self.name), row)
        return np.argsort(np.argsort(words[:, 0] << np.uint64(32) | words[:, 1]))

    def __call__(self, labels: list[torch.Tensor]):
        masks = [], []
        for image, row in enumerate(labels):
            order, left = torch.from_numpy(self.order(image, len(row))), self.count
            for mask, which, most in ((masks[0], row >= 1, self.positive), (masks[1], row == 0, None)):
                found = torch.where(which)[0]
                found = found[order[found].argsort()][:left if most is None else most]
                left -= len(found)
                mask.append(torch.zeros_like(row, dtype=torch.uint8).index_fill_(0, found, 1))
        return masks


def faster_rcnn(name: str, size: Size) -> torch.nn.Module:
    backbone = resnet_fpn_backbone(backbone_name=name, weights=None, norm_layer=FrozenBatchNorm2d,
                                   trainable_layers=5)
    return drawing(FasterRCNN(backbone, len(CLASSES) + 1, **whole(size)), size)


def faster_rcnn_v2(name: str, size: Size) -> torch.nn.Module:
    """As fasterrcnn_resnet50_fpn_v2 builds it."""
    norm = torch.nn.BatchNorm2d
    backbone = _resnet_fpn_extractor(getattr(resnet, name)(), 5, norm_layer=norm)
    head = FastRCNNConvFCHead((256, 7, 7), [256] * 4, [1024], norm_layer=norm)
    return drawing(FasterRCNN(backbone, len(CLASSES) + 1, rpn_head=RPNHead(256, 3, conv_depth=2),
                              box_head=head, **whole(size)), size)


def drawing(model: FasterRCNN, size: Size) -> FasterRCNN:
    """With draws that are Thaw's."""
    rows = [3 * ((size[0] + s - 1) // s) * ((size[1] + s - 1) // s) for s in (4, 8, 16, 32, 64)]
    most = min(2000, sum(min(2000, n) for n in rows))
    model.rpn.fg_bg_sampler = Draw(model.rpn.fg_bg_sampler, "targets", "anchors")
    model.roi_heads.fg_bg_sampler = Draw(model.roi_heads.fg_bg_sampler, "sample", "rois", most)
    model.score_thresh = model.roi_heads.score_thresh
    return model


HEADS = {"fcos": fcos, "retinanet": retinanet, "retinanet_v2": retinanet_v2,
         "faster_rcnn": faster_rcnn, "faster_rcnn_v2": faster_rcnn_v2}
# Of heads whose BatchNorms are ordinary ones: --bn, and whether pyramid and head have the batch's statistics.
BN = {"frozen": ("frozen", False), "affine": ("affine", False),
      "train": ("stem-stage4:affine head:train", True)}


def background(model: torch.nn.Module) -> int:
    """What torchvision's labels begin with."""
    return 1 if isinstance(model, FasterRCNN) else 0


def fill(model: torch.nn.Module, seed: int) -> None:
    """Weights under which all parts of the loss and of the answer matter."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in list(model.named_parameters()) + list(model.named_buffers()):
        with torch.no_grad():
            if name.endswith("running_var"):
                p.copy_(torch.rand(p.shape, generator=generator) + 0.5)
            elif name.endswith("running_mean"):
                p.copy_(torch.randn(p.shape, generator=generator) * 0.1)
            elif p.dim() == 1 and name.endswith("weight"):
                p.copy_(torch.rand(p.shape, generator=generator) * 0.4 + 0.8)
            elif p.dim() == 1:
                p.copy_(torch.randn(p.shape, generator=generator) * 0.1)
            elif p.dim() > 1:
                fan_in = p[0].numel()
                gain = 3.0 if "cls_logits" in name else 1.4
                p.copy_(torch.randn(p.shape, generator=generator) * gain / fan_in ** 0.5)
            if name.endswith("bbox_reg.bias") and p.numel() == 4:
                p.add_(1.5)  # FCOS's sides are not below 0
            if name.endswith("cls_logits.bias"):
                p.sub_(1.0)


def moderate_layers(model: FasterRCNN, batch: list) -> None:
    """The same of Faster R-CNN, whose layers of 1024 come to a deviation of 1."""
    hidden = ("fc6", "fc7") if hasattr(model.roi_heads.box_head, "fc6") else ("5",)
    for name, want in (("rpn.head.cls_logits", 2.0), ("rpn.head.bbox_pred", 0.3),
                       *(("roi_heads.box_head." + layer, 1.0) for layer in hidden),
                       ("roi_heads.box_predictor.cls_score", 2.0),
                       ("roi_heads.box_predictor.bbox_pred", 1.0)):
        said = []
        layer = model.get_submodule(name)
        hook = layer.register_forward_hook(lambda *a: said.append(a[2].flatten()))
        model(batch)
        hook.remove()
        by = want / float(torch.cat(said).std())
        layer.weight.mul_(by)
        layer.bias.mul_(by)


def moderate(model: torch.nn.Module, pixels: np.ndarray) -> None:
    """Logits of deviation 2 and deltas of 0.3, whatever the towers make: nothing saturates."""
    batch = torch.from_numpy(pixels).float().permute(0, 3, 1, 2) / 255
    model.eval()
    with torch.no_grad():
        if isinstance(model, FasterRCNN):
            moderate_layers(model, list(batch))
            return
        said = model.head(list(model.backbone(model.transform(list(batch))[0].tensors).values()))
        for layer, of, want in ((model.head.classification_head.cls_logits, "cls_logits", 2.0),
                                (model.head.regression_head.bbox_reg, "bbox_regression", 0.3)):
            by = want / float(said[of].std())
            layer.weight.mul_(by)
            layer.bias.mul_(by)


def objects(seed: int, n: int, size: Size) -> list[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(seed)
    found = []
    for i in range(n):
        count = 0 if i == 1 and n > 2 else int(random.integers(2, 9))
        corner = random.uniform(0, np.array(size) * 0.7, (count, 2))
        extent = random.uniform(np.array(size) * 0.04, np.array(size) * 0.8, (count, 2))
        boxes = np.concatenate([corner, np.minimum(corner + extent, size)], 1)
        found.append((boxes.round(2).astype(np.float32), random.integers(0, 3, count)))
    return found


def read_objects(path: str, size: Size) -> tuple[np.ndarray, list[str]]:
    """Of an annotation, on a picture of that size: boxes of a pixel at least, and their names."""
    root = tree.parse(path)
    scale = np.array(size * 2) / np.array([float(root.findtext("size/" + k)) for k in ("width", "height")] * 2)
    boxes, names = [], []
    for o in root.iter("object"):
        corners = [float(o.findtext("bndbox/" + k)) for k in ("xmin", "ymin", "xmax", "ymax")]
        box = (np.clip(corners * scale, 0, size * 2)).round(2)
        if (box[2:] - box[:2]).min() >= 1:
            boxes.append(box)
            names.append(o.findtext("name"))
    return np.array(boxes, np.float32).reshape(-1, 4), names


def real(folder: str, seed: int, n: int, size: Size) -> tuple[np.ndarray, list]:
    """(pixels, objects) of n pictures of a VOC folder, which show all of its classes."""
    annotations = os.path.join(folder, "Annotations")
    stems = sorted(f[:-4] for f in os.listdir(annotations) if f.endswith(".xml"))
    found = [read_objects(os.path.join(annotations, s + ".xml"), size) for s in stems]
    names = sorted({name for _, of in found for name in of})
    if len(names) != len(CLASSES):
        raise SystemExit(f"{folder}: {len(names)} classes, not {len(CLASSES)}: {names}")
    random = np.random.default_rng(seed)
    for _ in range(1000):
        chosen = random.choice(len(stems), n, replace=False)
        if {name for i in chosen for name in found[i][1]} == set(names):
            break
    else:
        raise SystemExit(f"{folder}: no {n} pictures show all classes: more --images")
    pixels = [Image.open(os.path.join(folder, "JPEGImages", stems[i] + ".jpg")).convert("RGB")
              .resize(size, Image.BILINEAR) for i in chosen]
    truth = [(found[i][0], np.array([names.index(k) for k in found[i][1]])) for i in chosen]
    return np.stack([np.asarray(p) for p in pixels]), truth


def write_voc(folder: str, pixels: np.ndarray, truth: list) -> None:
    for sub in ("Annotations", "JPEGImages"):
        os.makedirs(os.path.join(folder, sub))
    # every class is in the data, whatever was drawn
    for i, (image, (boxes, labels)) in enumerate(zip(pixels, truth)):
        name = f"{i:04d}"
        Image.fromarray(image).save(os.path.join(folder, "JPEGImages", name + ".png"))
        lines = [f"<annotation><filename>{name}.png</filename><size><width>{image.shape[1]}"
                 f"</width><height>{image.shape[0]}</height><depth>3</depth></size>"]
        for box, label in zip(boxes, labels):
            corners = "".join(f"<{k}>{v:.9g}</{k}>" for k, v in
                              zip(("xmin", "ymin", "xmax", "ymax"), box))
            lines.append(f"<object><name>{xml.escape(CLASSES[label])}</name><difficult>0"
                         f"</difficult><bndbox>{corners}</bndbox></object>")
        lines.append("</annotation>")
        with open(os.path.join(folder, "Annotations", name + ".xml"), "w") as f:
            f.write("\n".join(lines))


def ours(name: str) -> str:
    """The name in Thaw's model file."""
    return name.replace("backbone.body.", "").replace("backbone.fpn", "fpn")


def gradients(model: torch.nn.Module, pixels: np.ndarray, truth: list, dtype: torch.dtype,
              relus: ties.Relus | None = None, keep: bool = False):
    """(loss by part, gradient by our name); of running statistics, what they lose. A head that has
    BatchNorms says in `follows` whether they take the batch's statistics, a body's never do."""
    relus = relus or ties.Relus()
    model = model.to(dtype).train()
    model.zero_grad()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train(model.follows and "backbone.body" not in name)
    before = {k: v.clone() for k, v in model.named_buffers()}
    batch = [torch.from_numpy(p).to(dtype).permute(2, 0, 1) / 255 for p in pixels]
    targets = [{"boxes": torch.from_numpy(b).reshape(-1, 4).to(dtype),
                "labels": torch.from_numpy(l) + background(model)} for b, l in truth]
    if isinstance(model, FasterRCNN):
        model.roi_heads.fg_bg_sampler.tails = [len(l) for _, l in truth]
    with relus.watch(keep, model):
        losses = model(batch, targets)
    sum(losses.values()).backward()
    lost = {}
    for name, value in model.named_buffers():
        lost[ours(name)] = (before[name] - value).double().numpy()
        value.copy_(before[name])
    return ({k: float(v.detach()) for k, v in losses.items()},
            {ours(k): p.grad.detach().double().numpy() for k, p in model.named_parameters()} |
            {k: v for k, v in lost.items() if "running" in k})


def tensors(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {k: v.detach().float().contiguous().numpy().copy()
            for k, v in model.state_dict().items() if "num_batches" not in k}


def check_gradients(before: dict, got: dict, exact: dict, own: dict) -> list[Check]:
    rows = []
    for name, value in before.items():
        zero = np.zeros(value.shape)
        want = value.astype(np.float64) - exact.get(name, zero)
        spread = [(value - own.get(name, zero)).astype(np.float32)]
        rows.append(check_tensor(name, got.get(name), value, want, spread, 1e-4))
    return rows


def sketch(gradient: dict, exact: dict) -> np.ndarray:
    """Some elements of every tensor, in units of the tensor's gradient."""
    return np.concatenate([g.ravel()[::1 + g.size // SKETCH] / max(np.linalg.norm(exact[k]), 1e-30)
                           for k, g in gradient.items()])


def explain(got: dict, exact: dict, near: list, turn) -> tuple:
    """Which of the decisions `near` a tie, turned over whole, make the difference."""
    if not near:
        return ()
    zero = sketch(exact, exact)
    effects = np.stack([sketch(turn((flip,)), exact) - zero for flip in near], 1)
    share = np.linalg.lstsq(effects, sketch(got, exact) - zero, rcond=None)[0]
    return tuple(flip for flip, s in zip(near, share) if s > 0.5)


def check_step(args, model, weights, pixels, truth, folder: str) -> list[Check]:
    out = os.path.join(folder, "run")
    run(args.thaw, ["train", "voc:" + os.path.join(folder, "data"), "-o", out, "--weights",
                    os.path.join(folder, "w.safetensors"), "--backbone", args.backbone, "--head",
                    args.head, "--keep-head", "--thaw", "all", "--bn", BN[args.bn][0], "--epochs", "1",
                    "--batch", str(len(pixels)), "--lr", "1", "--momentum", "0", "--weight-decay",
                    "0", "--lr-schedule", "constant", "--augment", "none", "--no-shuffle", "--val",
                    "0", "--image-size", "%dx%d" % args.size, "--log-every", "1", "--threads", "2"])
    sites = [ties.Relus(), ties.Relus()]
    losses, exact = gradients(model, pixels, truth, torch.float64, sites[0], True)
    single, own = gradients(model, pixels, truth, torch.float32, sites[1], True)
    model.double()
    print("losses by torchvision", losses)
    before = {ours(k): v for k, v in weights.items()}
    got = files.read_model(os.path.join(out, "last.h5"), before)
    rows = check_gradients(before, got, exact, own)
    if not all(r.ok for r in rows):
        layers = {name.rsplit(".", 1)[0] for name, _ in model.named_parameters()}
        off = {r.what.rsplit(".", 1)[0] for r in rows if not r.ok}
        first = ties.begins(sites[0], {name for name in layers if ours(name) in off})
        near = ties.undecided(*sites, MOST_FLIPS, first)

        def turn(flips):
            return gradients(model, pixels, truth, torch.float64, ties.Relus(flips))[1]

        flips = explain({k: before[k].astype(np.float64) - got[k] for k in exact}, exact, near, turn)
        again = check_gradients(before, got, turn(flips), own)
        print(f"{sum(not r.ok for r in rows)} gradients are off; with {len(flips)} of the {len(near)} ReLUs tried "
              f"that are near a tie decided otherwise {sum(not r.ok for r in again)}: (site, element) {flips}")
        rows = again
    steps = files.read_events(out, "step")
    return rows + check_series("loss", [e["loss"] for e in steps], [sum(losses.values())],
                               [[sum(single.values())]], 1e-4)


def check_boxes(args, model, pixels, folder: str) -> list[Check]:
    """`thaw predict` on the same weights."""
    names = [os.path.join(folder, "data", "JPEGImages", f"{i:04d}.png") for i in range(len(pixels))]
    text = run(args.thaw, ["predict", os.path.join(folder, "w.safetensors"), *names, "--json",
                           "--backbone", args.backbone, "--image-size", "%dx%d" % args.size,
                           "--threshold", str(model.score_thresh)])
    model = model.double().eval()
    rows = []
    with torch.no_grad():
        said = model([torch.from_numpy(p).double().permute(2, 0, 1) / 255 for p in pixels])
    for i, (line, want) in enumerate(zip(text.splitlines(), said)):
        boxes = json.loads(line)["boxes"]
        ours = torch.tensor([b["box"] for b in boxes]).reshape(-1, 4).double()
        label = [int(b["class"].split("_")[-1]) for b in boxes]
        overlap = box_iou(ours, want["boxes"])
        apart = (ours[:, None] - want["boxes"]).abs().amax(2)
        overlap = torch.where(overlap.isnan(), (apart < 1e-3).double(), overlap)  # of boxes without an area
        n = len(want["boxes"])
        free, lost, off, order = set(range(len(boxes))), 0, 0.0, 0
        for k in range(n):
            fits = [j for j in free if overlap[j, k] >= 0.999 and label[j] == int(want["labels"][k]) - background(model)]
            if not fits:
                lost += 1
                continue
            j = min(fits, key=lambda j: abs(boxes[j]["score"] - float(want["scores"][k])))
            free.discard(j)
            off = max(off, abs(boxes[j]["score"] - float(want["scores"][k])))
            order += any(boxes[j]["score"] < boxes[m]["score"] - 1e-5 for m in range(j + 1, len(boxes)))
        rows += [Check(f"image {i}: {n} boxes, not found", float(lost), 0.0),
                 Check(f"image {i}: {len(free)} more", float(len(free)), 0.0),
                 Check(f"image {i}: scores", off, 1e-4), Check(f"image {i}: order", order, 0.0),
                 Check(f"image {i}: fewer than 50 boxes", float(n < 50), 0.0)]
    return rows


def size_of(text: str) -> Size:
    """N, or WxH."""
    sides = tuple(int(side) for side in text.split("x"))
    if len(sides) > 2 or any(side % 32 for side in sides):
        raise argparse.ArgumentTypeError("N or WxH, multiples of 32")
    return sides[0], sides[-1]


def run(program: str, argv: list[str]) -> str:
    done = subprocess.run([program] + argv, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{argv[0]}: exit {done.returncode}: {done.stderr.strip()[-600:]}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--thaw", required=True, metavar="BIN")
    parser.add_argument("--head", default="fcos", choices=HEADS)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=size_of, default=(128, 128), metavar="N|WxH")
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bn", choices=BN, help="of faster_rcnn_v2: affine, or train for pyramid and head")
    parser.add_argument("--data", metavar="voc:DIR", help="real pictures and boxes, of three classes")
    args = parser.parse_args()
    args.thaw = os.path.abspath(args.thaw)
    torch.set_num_threads(2)
    args.bn = args.bn or ("affine" if args.head == "faster_rcnn_v2" else "frozen")
    model = HEADS[args.head](args.backbone, args.size)
    model.follows = BN[args.bn][1]
    fill(model, 1 + args.seed)
    if args.data:
        pixels, truth = real(args.data.removeprefix("voc:"), args.seed, args.images, args.size)
    else:
        pixels = images.pictures(3000 + args.seed, args.images, max(args.size))
        pixels = np.ascontiguousarray(pixels[:, :args.size[1], :args.size[0]])
        truth = objects(args.seed, args.images, args.size)
    if args.head != "fcos":
        moderate(model, pixels)
    weights = tensors(model)
    with tempfile.TemporaryDirectory(prefix="thaw-detect-") as folder:
        write_voc(os.path.join(folder, "data"), pixels, truth)
        save_file(weights, os.path.join(folder, "w.safetensors"))
        rows = check_boxes(args, model, pixels, folder)
        rows += check_step(args, model, weights, pixels, truth, folder)
    bad = [r for r in rows if not r.ok]
    for r in sorted(rows, key=lambda r: -r.e / r.bound if r.bound else 0)[:5]:
        print(f"{r.what:56} e {r.e:.1e}  bound {r.bound:.1e}")
    for r in bad[:20]:
        print(f"WRONG {r.what:50} e {r.e:.1e}  bound {r.bound:.1e}")
    print(f"{args.head} {args.backbone}: {len(rows)} checks, {len(bad)} failed")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
