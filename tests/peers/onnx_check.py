# SPDX-License-Identifier: Apache-2.0
"""ONNX files of Thaw in other programs: onnx.checker (full, with shape inference), onnxruntime's logits
within 1e-4 of `thaw predict`, with the preprocessing inside and outside, and the same classes in OpenCV's
dnn. Weights are random, images are real where a folder of them is given. Of detectors the boxes in
onnxruntime are those of `thaw predict`.

    python tests/peers/onnx_check.py build/thaw [NAME ...] [--images FOLDER]
"""
import argparse, json, pathlib, sys, tempfile

import cv2
import numpy as np
import onnx
import onnxruntime
import timm
import torch
import torchvision
from PIL import Image

import detect
import files as shared
import images as made
from roundtrip import Work, shaken, tensors, verdict
from safetensors.numpy import save_file
from torchvision.ops import box_iou

# Output deviations of random networks may be tiny, and classes then a matter of rounding: OpenCV's
# class has to be one whose logit is within this of the largest.
ONE_STAGE = ("fcos", "retinanet", "retinanet_v2")  # heads whose boxes an ONNX file makes
TIE = 1e-4
CLOSE = 1e-2  # OpenCV's logits, relative: classes alone agree by chance where one class always wins


def vit(name):
    return lambda: timm.create_model(name, num_classes=10)


def tv(name):
    return lambda: torchvision.models.get_model(name, num_classes=10)


CASES = {
    "resnet18": tv("resnet18"), "resnet50": tv("resnet50"), "resnext50_32x4d": tv("resnext50_32x4d"),
    "resnet20": None, "resnet8": None,
    "vit_tiny": vit("vit_tiny_patch16_224"), "deit_distilled": vit("deit_tiny_distilled_patch16_224"),
    "deit3_small": vit("deit3_small_patch16_224"), "dinov2_small": vit("vit_small_patch14_dinov2"),
    "clip": vit("vit_base_patch32_clip_quickgelu_224"), "vit_gap_reg": vit("vit_medium_patch16_reg4_gap_256"),
}


def pictures(work, folder, size, n):
    """n images of size x size as PNG, so that Thaw's resize changes nothing."""
    found = sorted(p for p in pathlib.Path(folder).rglob("*.jpg"))[:: 37][:n] if folder else []
    rng = np.random.default_rng(1)
    pixels, names = [], []
    for i in range(n):
        if i < len(found):
            picture = np.array(Image.open(found[i]).convert("RGB").resize((size, size), Image.BILINEAR))
        else:
            picture = rng.integers(0, 256, (size, size, 3)).astype("uint8")
        names.append(work.folder / f"picture-{size}-{i}.png")
        Image.fromarray(picture).save(names[-1])
        pixels.append(picture)
    return np.stack(pixels), names


def weights(work, name, make, images):
    if make is None:  # of no library: a run of no epochs leaves a model file
        run = work.folder / name
        work.run("train", images, "-o", run, "--backbone", name, "--weights", "random", "--thaw", "all",
                 "--epochs", 1, "--batch", 8, "--quiet")
        return run / "last.h5"
    path = work.folder / f"{name}.pth"
    torch.save(shaken(make()).state_dict(), path)
    return work.convert(path, f"{name}.h5")


def training_images(work):
    folder, rng = work.folder / "train", np.random.default_rng(2)
    for i in range(24):
        (folder / f"c{i % 3}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3)).astype("uint8")).save(folder / f"c{i % 3}" / f"{i}.png")
    return folder


def answers(path, batch):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["logits"], {"image": batch[i:i + 1]})[0] for i in range(len(batch))])


def opencv(path, x):
    net = cv2.dnn.readNetFromONNX(str(path))
    logits = []
    for i in range(len(x)):
        net.setInput(x[i:i + 1])
        logits.append(net.forward().reshape(1, -1))
    return np.concatenate(logits)


def check(work, name, make, folder, n):
    h5 = weights(work, name, make, training_images(work))
    given = shared.read_attributes(h5)
    size = int(np.ravel(given["input_size"])[0])
    pixels, names = pictures(work, folder, size, n)
    outside = work.convert(h5, f"{name}.onnx")
    inside = work.folder / f"{name}-inside.onnx"
    inside.unlink(missing_ok=True)
    work.run("convert", h5, inside, "--embed-preprocessing")
    for path in (outside, inside):
        onnx.checker.check_model(str(path), full_check=True)
    meta = {p.key: p.value for p in onnx.load(outside).metadata_props}
    classes = [c.decode() if isinstance(c, bytes) else str(c) for c in given["classes"]]
    good = json.loads(meta["classes"]) == classes and json.loads(meta["input_size"]) == size
    good = good and np.allclose(json.loads(meta["mean"]), given["mean"]) and np.allclose(json.loads(meta["std"]), given["std"])
    if not good:
        print(f"FAIL {name}: metadata {meta}")
    want = work.logits(h5, names)
    x = tensors(pixels, given["mean"], given["std"]).numpy()
    good &= verdict(f"{name}, onnxruntime", answers(outside, x), want)
    good &= verdict(f"{name}, onnxruntime, u8 images", answers(inside, pixels), want)
    try:
        theirs = opencv(outside, x)
    except cv2.error as e:
        print(f"FAIL {name}, OpenCV: {str(e)[:300]}")
        return False
    best = theirs.argmax(1)
    gap = (want.max(1) - want[np.arange(len(want)), best]).max()
    error = np.abs(theirs - want).max() / max(1, np.abs(want).max())
    same = gap <= TIE and error <= CLOSE
    print(f"{'ok  ' if same else 'FAIL'} {name}, OpenCV {cv2.__version__}: classes {best.tolist()}, Thaw's "
          f"{want.argmax(1).tolist()}, logits within {error:.1e}")
    return bool(good and same)


def letterbox(picture, size, mean, std):
    """What a detector's file wants, and the scale of its boxes (Pillow's resize, as Thaw's)."""
    w, h = picture.size
    to = [max(1, round(v * size / max(w, h))) for v in (w, h)]
    pixels = np.array(picture.resize(to, Image.BILINEAR))[None]
    x = np.zeros((1, 3, size, size), "float32")
    x[:, :, :to[1], :to[0]] = tensors(pixels, mean, std).numpy()
    return x, np.array([w / to[0], h / to[1]] * 2)


def check_detector(work, name, head, size=128):
    """Boxes in onnxruntime beside `thaw predict`: IoU >= 0.999 and the same label, scores to 1e-4."""
    model = detect.HEADS[head]("resnet18", (size, size))
    detect.fill(model, 1)
    square = made.pictures(3000, 3, size)
    detect.moderate(model, square) if head != "fcos" else None
    path = work.folder / f"{name}.safetensors"
    save_file(detect.tensors(model), path)
    out = work.convert(path, f"{name}.onnx")
    onnx.checker.check_model(str(out), full_check=True)
    meta = {p.key: json.loads(p.value) for p in onnx.load(out).metadata_props if p.key in ("input_size", "mean", "std")}
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    good, n, least, off = True, 0, 1.0, 0.0
    for i, (pixels, h) in enumerate(zip(square, (size, size * 3 // 4, 2 * size))):
        picture = Image.fromarray(pixels).resize((size * 2 if i == 1 else size, h))
        file = work.folder / f"{name}-{i}.png"
        picture.save(file)
        said, _ = work.run("predict", path, file, "--json", "--quiet")
        want = json.loads(said)["boxes"]
        x, scale = letterbox(picture, meta["input_size"], meta["mean"], meta["std"])
        boxes, scores, labels = session.run(None, {"image": x})
        boxes = np.clip(boxes * scale, 0, [*picture.size, *picture.size])
        if len(boxes) != len(want) or len(want) < 50:
            good = print(f"FAIL {name}, picture {i}: {len(boxes)} boxes, {len(want)} by thaw predict")
        theirs, ours = boxes, np.array([b["box"] for b in want])
        overlap = box_iou(torch.tensor(theirs).double(), torch.tensor(ours)).numpy()
        apart = np.abs(theirs[:, None] - ours).max(2)
        overlap = np.where(np.isnan(overlap), apart < 1e-3, overlap)  # of boxes without an area
        for k, b in enumerate(want):
            fits = [j for j in range(len(boxes)) if overlap[j, k] >= 0.999 and f"class_{labels[j]}" == b["class"]]
            if not fits:
                good = print(f"FAIL {name}, picture {i}: no {b}; nearest {overlap[:, k].max():.5f}")
            else:
                j = min(fits, key=lambda j: abs(scores[j] - b["score"]))
                least, off = min(least, overlap[j, k]), max(off, abs(scores[j] - b["score"]))
        n += len(want)
    good = bool(good and off <= 1e-4)
    print(f"{'ok  ' if good else 'FAIL'} {name}: {n} boxes in 3 pictures, IoU from {least:.6f}, scores within {off:.1e}")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("thaw")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--images", help="folder of JPEGs; default: noise")
    parser.add_argument("-n", type=int, default=4, help="images a network")
    a = parser.parse_args()
    torch.manual_seed(0)
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        work = Work(a.thaw, folder)
        for name in a.names or [*CASES, *ONE_STAGE]:
            good = check_detector(work, name, name) if name in ONE_STAGE else \
                check(work, name, CASES[name], a.images, a.n)
            failed += [] if good else [name]
    print(f"failed: {', '.join(failed)}" if failed else "all hold")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
