#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Thaw's loader beside torchvision's DataLoader, one worker each, in turn on the same files.

Files are 500x375 JPEGs (4:2:0, quality 75 to 90): mosaics of the photos in --photos DIR at
their own scale (so with the grain of photos), or pictures with the spectrum of photos (1/f)
where none are given. What counts is processor time an image, of all processes and threads
that an engine needs; the clock is shown beside it, and means something on an idle machine.
The last lines say how large a part of a training step Thaw's loader is.
"""
import argparse
import glob
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from PIL import Image, features
from torchvision import datasets, transforms as T

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
W, H = 500, 375
BATCH = 32


def texture(rng: np.random.RandomState, w: int, h: int) -> Image.Image:
    """A picture whose amplitudes fall as 1/f, as those of photos do (Field, 1987)."""
    fy, fx = np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None, :]
    f = np.maximum(np.hypot(fy, fx), 1 / max(w, h))
    planes = []
    for _ in range(3):
        phase = np.exp(2j * np.pi * rng.rand(*f.shape))
        planes.append(np.fft.irfft2(phase / f, (h, w)))
    luma, a, b = (p / p.std() for p in planes)
    rgb = np.stack([luma + 0.4 * a, luma, luma + 0.4 * b], -1)
    return Image.fromarray(np.clip(128 + 50 * rgb, 0, 255).astype(np.uint8))


def mosaic(rng: np.random.RandomState, photos: list) -> Image.Image:
    picture = Image.new("RGB", (W, H))
    for x, y in (0, 0), (W // 2, 0), (0, H // 2), (W // 2, H // 2):
        photo = Image.open(photos[rng.randint(len(photos))]).convert("RGB")
        if photo.width < W // 2 or photo.height < H // 2 + 1:
            photo = photo.resize((max(photo.width, W // 2), max(photo.height, H // 2 + 1)))
        picture.paste(photo.crop((0, 0, W // 2, H // 2 + 1)), (x, y))
    return picture


def make_images(folder: str, n: int, photos: list, side: int = 0) -> float:
    """DIR/CLASS/NNNN.jpg in four classes; returns the mean number of bytes. side: squares."""
    rng, n_bytes = np.random.RandomState(1), 0
    for i in range(n):
        picture = mosaic(rng, photos) if photos else texture(rng, W, H)
        if side:
            x, y = rng.randint(W - side), rng.randint(H - side)
            picture = picture.crop((x, y, x + side, y + side))
        home = os.path.join(folder, f"c{i % 4}")
        os.makedirs(home, exist_ok=True)
        path = os.path.join(home, f"{i:04d}.jpg")
        picture.save(path, quality=int(rng.randint(75, 91)), subsampling="4:2:0")
        n_bytes += os.path.getsize(path)
    return n_bytes / n


def processor_seconds(pid: int) -> float:
    """Of all threads of a process, from the scheduler's nanoseconds."""
    total = 0
    for task in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        with open(task) as f:
            total += int(f.read().split()[0])
    return total / 1e9


class Torch:
    """torchvision's own pieces as its reference scripts put them together."""

    def __init__(self, folder: str, augment: str):
        if augment == "none":
            pixels = [T.Resize(256, antialias=True), T.CenterCrop(224)]
        else:
            pixels = [T.RandomResizedCrop(224, antialias=True), T.RandomHorizontalFlip()]
        data = datasets.ImageFolder(
            folder, T.Compose(pixels + [T.ToTensor(), T.Normalize(MEAN, STD)]))
        self.loader = torch.utils.data.DataLoader(
            data, BATCH, shuffle=True, num_workers=1, persistent_workers=True)
        self.n = len(data)
        self.epoch()  # starts the worker, warms up

    def epoch(self) -> tuple:
        def spent(workers: list) -> float:
            return processor_seconds(os.getpid()) + sum(map(processor_seconds, workers))

        iterator = getattr(self.loader, "_iterator", None)
        pids = [w.pid for w in iterator._workers] if iterator else []
        cpu, wall, total = spent(pids), time.perf_counter(), 0.0
        for images, _ in self.loader:
            total += float(images[0, 0, 0, 0])
        wall = time.perf_counter() - wall
        return (spent(pids) - cpu) / self.n, wall / self.n


def thaw_epoch(program: str, folder: str, side: int, augment: str, epochs: int = 2) -> tuple:
    """Seconds an image (processor, clock): the least of some epochs after the first."""
    out = subprocess.run(
        [program, folder, str(side), augment, "1", str(epochs), str(BATCH)],
        check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = [json.loads(line) for line in out.splitlines()][1:]
    return (min(r["cpu_seconds"] / r["images"] for r in rows),
            min(r["seconds"] / r["images"] for r in rows))


def compare(program: str, folder: str, augment: str, repeats: int) -> None:
    peer, ours, theirs = Torch(folder, augment), [], []
    for _ in range(repeats):
        ours.append(thaw_epoch(program, folder, 224, augment))
        theirs.append(peer.epoch())

    def cell(values: list) -> str:
        return f"{min(values) * 1e3:.2f} / {statistics.median(values) * 1e3:.2f}"

    def ratio(i: int) -> str:
        return f"{min(t[i] for t in theirs) / min(o[i] for o in ours):.2f}"

    what = "random resized crops" if augment == "basic" else "evaluation"
    print(f"| {W}x{H} -> 224, {what} | {cell([o[0] for o in ours])} "
          f"| {cell([t[0] for t in theirs])} | {ratio(0)} "
          f"| {cell([o[1] for o in ours])} | {cell([t[1] for t in theirs])} | {ratio(1)} |",
          flush=True)


def step_share(thaw: str, program: str, folder: str, side: int, backbone: str,
               spec: str) -> None:
    """The loader's processor time an image beside the training step's, on one thread."""
    cpu = thaw_epoch(program, folder, side, "basic", 3)[0]
    with tempfile.TemporaryDirectory() as work:
        run = os.path.join(work, "run")
        subprocess.run(
            [thaw, "train", folder, "-o", run, "--backbone", backbone, "--weights",
             "random", "--thaw", spec, "--image-size", str(side), "--epochs", "2", "--val",
             "0", "--threads", "1", "--workers", "1", "--quiet"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(os.path.join(run, "metrics.jsonl")) as f:
            speeds = [r["images_per_s"] for r in map(json.loads, f)
                      if r.get("event") == "epoch"]
    step = 1 / max(speeds)
    print(f"| {backbone} --thaw {spec}, {side} px JPEGs | {cpu * 1e3:.3f} | {step * 1e3:.3f} "
          f"| {100 * cpu / step:.1f} % |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--thaw", required=True, help="the program; time_loader beside it")
    parser.add_argument("--photos", help="a folder with photos to make the images of")
    parser.add_argument("--images", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    program = os.path.join(os.path.dirname(os.path.abspath(args.thaw)), "time_loader")
    photos = sorted(glob.glob(os.path.join(args.photos, "**", "*.jpg"), recursive=True)) \
        if args.photos else []
    if args.photos and not photos:
        sys.exit(f"{args.photos}: no *.jpg below it")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        big, small = os.path.join(work, "big"), os.path.join(work, "small")
        n_bytes = make_images(big, args.images, photos)
        make_images(small, 2 * args.images, photos, 32)
        print(f"{args.images} JPEGs of {n_bytes / 1e3:.0f} kB on average; Pillow "
              f"{Image.__version__} (not pillow-simd) with libjpeg-turbo "
              f"{features.version('libjpeg_turbo')}, torch {torch.__version__}. Milliseconds "
              f"an image, least / median of {args.repeats}; ratios of the least.\n")
        print("| work | Thaw, processor | torchvision, processor | ratio "
              "| Thaw, clock | torchvision, clock | ratio |")
        print("|---|---|---|---|---|---|---|", flush=True)
        compare(program, big, "basic", args.repeats)
        compare(program, big, "none", args.repeats)
        print("\n| training, one thread | loader, ms an image | step, ms an image | share |")
        print("|---|---|---|---|", flush=True)
        step_share(args.thaw, program, small, 32, "resnet20", "all")
        step_share(args.thaw, program, big, 224, "resnet18", "head")


if __name__ == "__main__":
    main()
