# SPDX-License-Identifier: Apache-2.0
"""Thaw and PyTorch in turn on one machine, on the same images: seconds of a step, peak memory,
time to the first step, and how near each comes to what the machine can do.

Thaw is driven through its command line on JPEGs and timed by its own metrics.jsonl (training time
of the epochs after the first); PyTorch is twin.py, which has the same pixels in memory as tensors.
Every sample is kept in a JSON file as it comes, so that a run that was cut short goes on; the
tables (speed_table.py) are printed from that file.
"""
import argparse
import hashlib
import json
import os
import sys
import tempfile
import time

import numpy as np
import torch
from PIL import Image

import child
import files
import images
import machine
import models
import reference
import speed_table
import twin
import works
from works import Work

N_CLASSES = 10
BATCHES = 8                   # an epoch: of two, its end was a quarter of a frozen ViT-S's time
COMPARED = 4                  # losses
CROP = 0.875
PIXELS = ["--mean", ",".join(map(str, reference.MEAN)), "--std", ",".join(map(str, reference.STD)),
          "--interpolation", "bilinear"]
SETTLE = 16                   # images from which BatchNorm statistics come
HERE = os.path.dirname(os.path.abspath(__file__))
SHIPPED = {"resnet20": os.path.join(HERE, "../../examples/weights/resnet20-cifar10.h5")}
BACKBONES = ("resnet18", "resnet50", "resnet20", "vit_small_patch16_224",
             "vit_tiny_patch16_224")
SMALL = {"resnet20": {"image_size": 32, "batch": 128}}


class Material:
    """What both sides of one backbone are given, in a folder."""

    def __init__(self, args, backbone: str, folder: str):
        own = SMALL.get(backbone, {})
        self.size, self.batch = own.get("image_size", args.image_size), own.get("batch", args.batch)
        at = lambda name: os.path.join(folder, name)
        self.h5, self.pth, self.pixels, self.labels = map(
            at, ("weights.h5", "weights.pth", "pixels.npy", "labels.npy"))
        self.csv = at("images.csv")
        self.write_images(folder)
        self.write_weights(args, backbone, folder)

    def write_images(self, folder: str) -> None:
        """JPEGs with the margin that the centre crop cuts off; their decoded centres."""
        side, n = int(self.size / CROP), self.batch * BATCHES
        edge = (side - self.size) // 2
        paths = images.write_jpegs(folder, images.pictures(1, n, side))
        labels = images.labels(2, n, N_CLASSES)
        images.list_csv(self.csv, paths, labels)
        for_twin = [np.asarray(Image.open(path)) for path in paths]
        inside = slice(edge, edge + self.size)
        np.save(self.pixels, np.stack(for_twin)[:, inside, inside])
        np.save(self.labels, labels)

    def write_weights(self, args, backbone: str, folder: str) -> None:
        if backbone in SHIPPED:
            weights = files.read_h5(SHIPPED[backbone])
        else:
            some = np.load(self.pixels, mmap_mode="r")[:SETTLE]
            how = reference.Arithmetic(torch.float32)
            torch.set_num_threads(args.threads)
            model = models.settled(backbone, N_CLASSES,
                                   reference.pixels(some, reference.Run(), how))
            weights = {k: v.detach().numpy() for k, v in models.tensors(model).items()}
        files.save_weights(folder, "h5", weights)
        files.save_weights(folder, "pth", weights)


def plan(args, m: Material, work: Work) -> dict:
    """The plan's figures, and seconds at the machine's limits."""
    p = works.inspect(args.thaw, m.h5, ["--thaw", work.thaw, "--batch", str(m.batch),
                                        "--image-size", str(m.size), "--isa", args.isa,
                                        "--threads", str(args.threads), *lora(work)])
    cost = works.cost(p.pop("plan"), work)
    return {**p, "cost": cost.__dict__}


def epochs(args, m: Material, work: Work, said: dict) -> int:
    """One, and as many more as fit into the time if the machine does half of what it can."""
    limits = args.data["limits"]
    step = 2 * max(2 * said["cost"]["macs"] / limits["flops_per_s"],
                   said["cost"]["bytes"] / limits["bytes_per_s"])
    return 1 + min(30, max(2, int(args.seconds / (step * BATCHES))))


def measure_thaw(args, backbone: str, m: Material, work: Work) -> dict:
    n = epochs(args, m, work, args.data["plans"][backbone][work.name])
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "run")
        done = child.run([
            args.thaw, "train", "csv:" + m.csv, "-o", out, "--backbone", backbone,
            "--weights", m.h5, "--keep-head", "--thaw", work.thaw, "--epochs", str(n),
            "--batch", str(m.batch), "--lr", "0.01", "--lr-schedule", "constant", "--augment",
            "none", "--no-shuffle", "--val", "0", "--image-size", str(m.size), "--crop", str(CROP),
            *PIXELS, "--isa", args.isa,
            "--threads", str(args.threads), "--workers", str(args.threads), "--log-every", "1",
            *option(args, "--cache", work.cache), *option(args, "--prefix", work.prefix),
            *lora(work)],
            folder, machine.environment(args.threads, "auto"),
            os.path.join(out, "metrics.jsonl"), '"step"')
        rates = [e["images_per_s"] for e in files.read_events(out, "epoch")]
        return {"seconds": [m.batch / r for r in rates[1:]], "peak": done.peak,
                "first": done.first,
                "losses": [e["loss"] for e in files.read_events(out, "step")][:COMPARED]}


def lora(work: Work) -> list[str]:
    return ["--lora", work.lora] if work.lora else []


def option(args, name: str, value: str) -> list[str]:
    """Nothing for a default that an older thaw has no option for."""
    return [] if value in ("off", "fp32") and name not in args.help else [name, value]


def measure_twin(args, backbone: str, m: Material, work: Work, layout: str) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        done = child.run([
            sys.executable, os.path.join(HERE, "twin.py"), "--backbone", backbone, "--thaw",
            work.thaw, "--layout", layout, "--weights", m.pth, "--images", m.pixels, "--labels",
            m.labels, "--batch", str(m.batch), "--threads", str(args.threads), "--seconds",
            str(args.seconds), "--batches", str(BATCHES),
            *(["--avx2"] if args.isa == "avx2" else []), *lora(work)],
            folder, machine.environment(args.threads, args.isa), word='"first"')
        lines = [json.loads(line) for line in done.out.splitlines() if line.startswith("{")]
        return {"seconds": lines[-1]["seconds"], "peak": done.peak, "first": done.first,
                "imported": lines[0]["resident"], "losses": lines[-1]["losses"][:COMPARED]}


def engines(args, work: Work, repetition: int) -> list[str]:
    """Thaw, and the twins where the row is PyTorch's as well; compiling is done once."""
    twins = [x for x in args.layouts if x != "compile" or repetition == 0]
    return ["thaw", *(twins if work.twin and work.cache == "off" and work.exact else [])]


def save(args) -> None:
    with open(args.json + ".new", "w") as f:
        json.dump(args.data, f, indent=1)
    os.replace(args.json + ".new", args.json)


def sample(args, backbone: str, m: Material, work: Work, engine: str) -> dict:
    """One measurement; a refusal is kept as its reason."""
    try:
        if engine == "thaw":
            return measure_thaw(args, backbone, m, work)
        return measure_twin(args, backbone, m, work, engine)
    except child.Refused as why:
        return {"refused": str(why)}


def measure(args, backbone: str, m: Material) -> None:
    """Every work by every engine, one after the other, again and again."""
    plans = args.data["plans"].setdefault(backbone, {"batch": m.batch, "image_size": m.size})
    found = args.data["samples"].setdefault(backbone, {})
    for repetition in range(args.repeat):
        for work in works.every(backbone):
            plans[work.name] = plans.get(work.name) or plan(args, m, work)
            for engine in engines(args, work, repetition):
                list_ = found.setdefault(work.name, {}).setdefault(engine, [])
                if len(list_) > repetition:
                    continue
                began = time.monotonic()
                list_.append(sample(args, backbone, m, work, engine))
                save(args)
                report(repetition, backbone, work, engine, list_[-1], time.monotonic() - began)


def report(repetition: int, backbone: str, work: Work, engine: str, s: dict, took: float) -> None:
    said = s.get("refused") or (f"{min(s['seconds']):8.4f} s/step {s['peak'] / 2**20:6.0f} MiB "
                                f"first {s['first']:6.2f} s")
    print(f"{repetition + 1} {backbone:8} {work.name:24} {engine:13} {said} ({took:.0f} s)",
          file=sys.stderr, flush=True)


def settings(args) -> dict:
    with open(args.thaw, "rb") as f:
        program = hashlib.sha256(f.read())
    library = os.path.join(os.path.dirname(args.thaw), "libthaw.so.0")
    if os.path.exists(library):
        with open(library, "rb") as f:
            program.update(f.read())
    return {"program": program.hexdigest()[:16], "isa": args.isa, "threads": args.threads,
            "batch": args.batch, "image_size": args.image_size, "seconds": args.seconds}


def begin(args) -> None:
    """Goes on with the file of a run that was cut short; one of other settings makes way."""
    args.data = {}
    if os.path.exists(args.json):
        with open(args.json) as f:
            args.data = json.load(f)
    if args.render:
        return
    if args.data.get("settings") != settings(args):
        if args.data:
            os.replace(args.json, args.json + ".old")
            print(f"{args.json}: of another program or other options, kept as "
                  f"{args.json}.old", file=sys.stderr)
        args.data = {"settings": settings(args), "machine": machine.describe(args.thaw),
                     "limits": {}, "plans": {}, "samples": {}}


def measure_all(args) -> None:
    found = machine.limits(args.threads, args.isa)
    args.data["limits"] = {k: max(v, args.data["limits"].get(k, 0)) for k, v in found.items()}
    done = child.subprocess.run([args.thaw, "train", "--help"], capture_output=True, text=True)
    args.help = done.stdout
    for backbone in args.backbone:
        with tempfile.TemporaryDirectory(prefix="thaw-speed-") as folder:
            measure(args, backbone, Material(args, backbone, folder))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--thaw", metavar="BIN", required=True)
    parser.add_argument("--backbone", action="append", choices=BACKBONES, help="repeatable; "
                        "default: resnet18 and resnet50")
    parser.add_argument("--isa", choices=machine.ISAS, default="auto", help="both sides")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well (slow)")
    parser.add_argument("--quick", action="store_true", help="few steps, once: seven minutes")
    parser.add_argument("--render", action="store_true", help="print the tables of the JSON file")
    parser.add_argument("--json", metavar="FILE", help="default: speed-ISA.json here")
    parser.add_argument("--seconds", type=float, default=8, help="of timed steps a sample")
    for name, default in (("image-size", 224), ("batch", 32), ("threads", 2), ("repeat", 2)):
        parser.add_argument("--" + name, type=int, default=default)
    args = parser.parse_args()
    if args.quick:
        args.batch, args.repeat, args.seconds = 16, 1, 2
    args.thaw = os.path.abspath(args.thaw)
    args.backbone = args.backbone or ["resnet18", "resnet50"]
    args.json = args.json or f"speed{'-quick' if args.quick else ''}-{args.isa}.json"
    args.layouts = twin.LAYOUTS if args.compile else twin.LAYOUTS[:2]
    return args


def main() -> None:
    args = arguments()
    begin(args)
    if not args.render:
        measure_all(args)
    print(speed_table.render(args.data))


if __name__ == "__main__":
    main()
