# SPDX-License-Identifier: Apache-2.0
"""What a user waits for: from the command to the model file, ten epochs of a new head on photographs,
ResNet-50 at 224 pixels, validated after each. Thaw's command against the script that people write
in PyTorch (story_twin.py), and against the cleverer one that computes the features once.

    random crops   RandomResizedCrop and flips: every epoch sees other pixels, nothing can be cached
    centre crops   the same pixels every epoch: Thaw caches by itself, PyTorch where someone wrote it
"""
import argparse
import json
import os
import sys
import tarfile
import tempfile
from dataclasses import dataclass

import torch
from PIL import Image
from torchvision import transforms

import child
import files
import machine
import models
import reference

HERE = os.path.dirname(os.path.abspath(__file__))
MIB = 2 ** 20
ARCHIVE = "data/flowers-5class-800.tar.gz"
SETTLE = 16


@dataclass
class Told:
    seconds: float
    peak: int      # bytes, of the process
    family: int    # and with its loader processes
    top1: float    # of the last epoch
    bytes: int     # of the model file


def find_data(path: str | None, folder: str) -> str:
    """The folder with train/ and val/; out of the assets where none is given."""
    if path:
        return path
    assets = os.environ.get("THAW_TEST_ASSETS")
    if not assets:
        raise SystemExit("story: give DATA, or set THAW_TEST_ASSETS")
    with tarfile.open(os.path.join(assets, ARCHIVE)) as archive:
        archive.extractall(folder, filter="data")
    return os.path.join(folder, "flowers")


def make_weights(args, data: str, folder: str) -> None:
    """torchvision's random weights, BatchNorm statistics of a few of the photographs; or the file
    that is given, for both sides."""
    if args.weights:
        weights = files.read_weights(args.weights)
    else:
        torch.set_num_threads(args.threads)
        read = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224),
                                   transforms.ToTensor()])
        paths = sorted(os.path.join(where, name) for where, _, names in
                       os.walk(os.path.join(data, "train")) for name in names)
        some = paths[::max(1, len(paths) // SETTLE)][:SETTLE]
        x = torch.stack([read(Image.open(path).convert("RGB")) for path in some])
        normalise = transforms.Normalize(reference.MEAN, reference.STD)
        model = models.settled("resnet50", 1000, normalise(x))
        weights = {k: v.detach().numpy() for k, v in models.tensors(model).items()}
    files.save_weights(folder, "h5", weights)
    files.save_weights(folder, "pth", weights)


def tell_thaw(args, data: str, folder: str, crops: str) -> Told:
    out = os.path.join(folder, f"run-{crops}")
    done = child.run([
        args.thaw, "train", data, "-o", out, "--weights", os.path.join(folder, "weights.h5"),
        "--thaw", "head", "--epochs", str(args.epochs), "--augment",
        "basic" if crops == "random" else "none", "--isa", args.isa, "--threads",
        str(args.threads), "--workers", str(args.threads)],
        folder, machine.environment(args.threads, "auto"), family=True)
    last = files.read_events(out, "epoch")[-1]
    return Told(done.seconds, done.peak, done.family, last["val_top1"],
                os.path.getsize(os.path.join(out, "last.h5")))


def tell_twin(args, data: str, folder: str, crops: str, cached: bool) -> Told:
    out = os.path.join(folder, "twin.pth")
    done = child.run([
        sys.executable, os.path.join(HERE, "story_twin.py"), data,
        os.path.join(folder, "weights.pth"), out, "--crops", crops, "--epochs", str(args.epochs),
        "--workers", str(args.threads), *(["--cached"] if cached else [])],
        folder, machine.environment(args.threads, args.isa), family=True)
    last = json.loads(done.out.splitlines()[-1])
    return Told(done.seconds, done.peak, done.family, last["val_top1"], os.path.getsize(out))


def rows(args, data: str, folder: str):
    """(crops, who, what it cost), each printed as it comes."""
    for crops in args.crops:
        yield crops, "Thaw", tell_thaw(args, data, folder, crops)
        yield crops, "PyTorch, the plain script", tell_twin(args, data, folder, crops, False)
        if crops == "centre":
            yield crops, "PyTorch, features cached", tell_twin(args, data, folder, crops, True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--thaw", metavar="BIN", required=True)
    parser.add_argument("data", nargs="?", help="with train/ and val/; default: the flowers of "
                        "$THAW_TEST_ASSETS")
    parser.add_argument("--weights", help="of a ResNet-50; default: random ones")
    parser.add_argument("--crops", action="append", choices=("random", "centre"))
    parser.add_argument("--isa", choices=machine.ISAS, default="auto", help="both sides")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    args.thaw, args.crops = os.path.abspath(args.thaw), args.crops or ["random", "centre"]
    print(machine.describe(args.thaw) + f"; {args.epochs} epochs\n\n| crops | who | s, command to "
          "model file | Thaw is faster by | peak MiB | with loaders | top-1 at the end | model MB |"
          "\n" + "|---" * 8 + "|", flush=True)
    with tempfile.TemporaryDirectory(prefix="thaw-story-") as folder:
        data, ours = find_data(args.data, folder), 0.0
        make_weights(args, data, folder)
        for crops, who, told in rows(args, data, folder):
            ours = told.seconds if who == "Thaw" else ours
            print(f"| {crops} | {who} | {told.seconds:.1f} | {told.seconds / ours:.2f}× | "
                  f"{told.peak / MIB:.0f} | {told.family / MIB:.0f} | {100 * told.top1:.1f} % | "
                  f"{told.bytes / 1e6:.0f} |", flush=True)


if __name__ == "__main__":
    main()
