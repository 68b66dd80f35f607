# SPDX-License-Identifier: Apache-2.0
"""Thaw and PyTorch in turn on one machine: images per second, peak memory, time to the first
step. Thaw is driven through its command line on a folder of JPEGs and timed by its own
metrics.jsonl (training time, steady state: the first epoch is left out); PyTorch is twin.py,
which has its images in memory as tensors already. Prints a markdown table.
"""
import argparse
import contextlib
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import numpy as np

import files
import images
import models
import twin

N_CLASSES = 10
POLL_S = 0.005
HERE = os.path.dirname(os.path.abspath(__file__))
WORKS = (  # title, --thaw, --cache
    ("full fine-tuning", "all", "off"),
    ("stage4 and head, BN frozen below", "stage4,head", "off"),
    ("the same, cut cached", "stage4,head", "memory"),
    ("head only", "head", "off"),
    ("head only, cached", "head", "memory"),
)


@dataclass
class Sample:
    rate: float     # images per second, steady state
    peak: int       # bytes: the process's largest resident size
    first: float    # seconds from the command to the end of the first step


@dataclass
class Material:
    data: str
    h5: str
    pth: str
    pixels: str
    labels: str


def prepare(args: argparse.Namespace, folder: str) -> Material:
    """JPEGs with a margin on disc for thaw; their centres in memory for PyTorch."""
    n, size = args.batch * args.batches, args.image_size
    pixels = images.pictures(1, n, size * 8 // 7)
    labels = images.labels(2, n, N_CLASSES)
    m = Material(*(os.path.join(folder, name) for name in
                   ("data", "weights.h5", "weights.pth", "pixels.npy", "labels.npy")))
    images.write_folder(m.data, pixels, labels, "jpg")
    edge = (pixels.shape[1] - size) // 2
    np.save(m.pixels, pixels[:, edge:edge + size, edge:edge + size])
    np.save(m.labels, labels)
    model = models.build(args.backbone, N_CLASSES)
    models.fill(model, 1)
    weights = {k: v.detach().numpy() for k, v in models.tensors(model).items()}
    files.save_weights(folder, "h5", weights)
    files.save_weights(folder, "pth", weights)
    return m


class Child:
    """A timed process; its output goes to files. Its peak is read from /proc while it runs:
    getrusage's would be this process's own, carried over by the fork."""

    def __init__(self, argv: list[str], folder: str, threads: int):
        self.out = open(os.path.join(folder, "stdout"), "w+")
        self.err = open(os.path.join(folder, "stderr"), "w+")
        self.started, self.argv, self.first = time.monotonic(), argv, 0.0
        self.peak = 0
        self.process = subprocess.Popen(argv, stdout=self.out, stderr=self.err, env={
            **os.environ, "OMP_NUM_THREADS": str(threads)})

    def run(self, sign: str, word: str) -> None:
        """Waits; notes the peak and when `word` is first in the file `sign`."""
        while self.process.poll() is None:
            self.look(sign, word)
            time.sleep(POLL_S)
        if self.process.returncode:
            self.err.seek(0)
            raise SystemExit(f"{' '.join(self.argv)}\nexit {self.process.returncode}: "
                             + self.err.read()[-800:])

    def look(self, sign: str, word: str) -> None:
        with contextlib.suppress(OSError), open(f"/proc/{self.process.pid}/status") as f:
            found = [line.split()[1] for line in f if line.startswith("VmHWM")]
            self.peak = max([self.peak] + [int(v) * 1024 for v in found])
        if not self.first and os.path.exists(sign):
            with open(sign) as f:
                if word in f.read():
                    self.first = time.monotonic() - self.started


def measure_thaw(args, m: Material, thaw: str, cache: str) -> Sample:
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "run")
        child = Child([
            args.thaw, "train", m.data, "-o", out, "--backbone", args.backbone, "--weights", m.h5,
            "--thaw", thaw, *([] if args.no_cache else ["--cache", cache]),
            "--epochs", str(args.epochs), "--batch", str(args.batch), "--lr", "0.01",
            "--augment", "none", "--val", "0", "--image-size", str(args.image_size),
            "--threads", str(args.threads), "--workers", str(args.threads), "--log-every", "1"],
            folder, args.threads)
        child.run(os.path.join(out, "metrics.jsonl"), '"step"')
        epochs = files.read_events(out, "epoch")
        rate = statistics.median(e["images_per_s"] for e in epochs[1:])
        return Sample(rate, child.peak, child.first)


def measure_twin(args, m: Material, thaw: str, layout: str) -> Sample:
    with tempfile.TemporaryDirectory() as folder:
        child = Child([
            sys.executable, os.path.join(HERE, "twin.py"), "--backbone", args.backbone, "--thaw",
            thaw, "--layout", layout, "--weights", m.pth, "--images", m.pixels, "--labels",
            m.labels, "--batch", str(args.batch), "--threads", str(args.threads), "--steps",
            str(args.steps)], folder, args.threads)
        child.run(os.path.join(folder, "stdout"), '"first"')
        child.out.seek(0)
        seconds = json.loads(child.out.read().splitlines()[-1])["seconds"]
        return Sample(args.batch / statistics.median(seconds), child.peak, child.first)


def works(args) -> list[tuple[str, str, str]]:
    cached = args.thaw and not args.no_cache
    return [w for w in WORKS if cached or w[2] == "off"]


def measure(args, m: Material) -> dict[tuple, list[Sample]]:
    """Every work by every engine, one after the other, again and again: {(thaw, engine): …}."""
    found: dict[tuple, list[Sample]] = {}
    for repetition in range(args.repeat):
        for title, thaw, cache in works(args):
            jobs = [(cache, lambda: measure_thaw(args, m, thaw, cache))] if args.thaw else []
            if cache == "off":
                jobs += [(layout, lambda layout=layout: measure_twin(args, m, thaw, layout))
                         for layout in args.layouts]
            for engine, job in jobs:
                sample = job()
                found.setdefault((thaw, engine), []).append(sample)
                print(f"{repetition + 1}/{args.repeat} {title:33} {engine:14} {sample.rate:8.2f}/s"
                      f" {sample.peak / 2**20:7.0f} MiB  first {sample.first:.2f} s",
                      file=sys.stderr, flush=True)
    return found


def rates(samples: list[Sample]) -> str:
    r = [s.rate for s in samples]
    return f"{statistics.median(r):.1f} ({min(r):.1f}–{max(r):.1f})"


def peak(samples: list[Sample]) -> float:
    return max(s.peak for s in samples) / 2 ** 20


def start(samples: list[Sample], batch: int) -> float:
    """Seconds from the command to the start of the first step: its end less a steady step."""
    return max(0.0, min(s.first - batch / s.rate for s in samples))


def row(args, found: dict[tuple, list[Sample]], title: str, thaw: str, cache: str) -> str:
    """Ratios are medians over repetitions, against the better layout in each."""
    twins = {layout: found[thaw, layout] for layout in args.layouts}
    cells = [title, *(rates(s) for s in twins.values())]
    ours = found.get((thaw, cache))
    if ours:
        best = [max(s.rate for s in turn) for turn in zip(*twins.values())]
        ratio = statistics.median(a.rate / b for a, b in zip(ours, best))
        least = min(map(peak, twins.values()))
        first = min(start(s, args.batch) for s in twins.values())
        cells[1:1] = [rates(ours)]
        cells += [f"{ratio:.2f}×", f"{peak(ours):.0f} / {least:.0f}",
                  f"{peak(ours) / least:.2f}×", f"{start(ours, args.batch):.2f} / {first:.2f}"]
    return "| " + " | ".join(cells) + " |"


def cpu_model() -> str:
    with open("/proc/cpuinfo") as f:
        lines = f.read().splitlines()
    get = lambda key: next((x.split(":", 1)[1].strip() for x in lines if x.startswith(key)), "?")
    level = next((k for k in ("avx512f", "avx2") if k in get("flags").split()), "neither AVX2")
    return f"{get('model name')}, {level}, {os.cpu_count()} cores"


def versions(args) -> str:
    import torch
    import torchvision
    said = "not measured"
    if args.thaw:
        done = subprocess.run([args.thaw, "--version"], capture_output=True, text=True)
        said = (done.stdout.strip().splitlines() or ["version unknown"])[0]
    return (f"thaw: {said}; PyTorch {torch.__version__}, torchvision {torchvision.__version__}, "
            f"Python {platform.python_version()}")


def report(args, found: dict[tuple, list[Sample]]) -> str:
    ours = ["thaw"] if args.thaw else []
    heads = ["images/s, median (min–max)", *ours, *("PyTorch " + x for x in args.layouts)]
    if args.thaw:
        heads += ["thaw / best", "peak MiB thaw / PyTorch", "ratio",
                  "s to first step thaw / PyTorch"]
    return "\n".join([
        f"{args.backbone}, {args.image_size} px, batch {args.batch}, {args.threads} threads, fp32; "
        f"{args.repeat} repetitions in turn.", f"{cpu_model()}; {datetime.date.today()}; "
        f"{versions(args)}.", "",
        "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads),
        *(row(args, found, *work) for work in works(args))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--thaw", metavar="BIN", help="without it only PyTorch is measured")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well (slow)")
    parser.add_argument("--no-cache", action="store_true",
                        help="for a thaw without --cache: the rows that need it are left out")
    for name, default in (("image-size", 224), ("batch", 32), ("batches", 3), ("epochs", 4),
                          ("steps", 6), ("threads", 2), ("repeat", 3)):
        parser.add_argument("--" + name, type=int, default=default)
    args = parser.parse_args()
    if args.epochs < 2:
        parser.error("--epochs: at least 2, the first is left out")
    args.layouts = twin.LAYOUTS if args.compile else twin.LAYOUTS[:2]
    args.thaw = os.path.abspath(args.thaw) if args.thaw else None
    with tempfile.TemporaryDirectory(prefix="thaw-speed-") as folder:
        found = measure(args, prepare(args, folder))
    print(report(args, found))


if __name__ == "__main__":
    main()
