# SPDX-License-Identifier: Apache-2.0
"""A detector's training steps in Thaw and in torchvision, in turn: seconds and peak memory.

The same weights and made pictures with boxes. Thaw is driven through its command line on JPEGs and
timed by metrics.jsonl (epochs after the first); torchvision has the pixels in memory as
tensors. BatchNorms are frozen on both sides, as torchvision's detectors have them. Of each side
the best step of all rounds is printed, and the median.
"""
import argparse
import json
import os
import statistics
import sys
import tempfile
import time

import torch
from safetensors.numpy import save_file
from torchvision.models.detection import FasterRCNN

import child
import detect
import files
import images
import machine

BATCHES, EPOCHS = 3, 3
LR = 1e-9  # so that no made-up weights diverge: what a step takes does not depend on it
THAWED = {"full": ["--thaw", "all"], "backbone frozen": ["--thaw", "head", "--cache", "off"],
          "the same from the cache": ["--thaw", "head"]}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def model_of(args) -> torch.nn.Module:
    torch.manual_seed(1)
    model = detect.HEADS[args.head](args.backbone, (args.size, args.size))
    detect.fill(model, 1)
    if args.head != "fcos":
        detect.moderate(model, images.pictures(3000, 2, args.size))
    return model


def twin(args) -> None:
    """One measurement of torchvision, in a process of its own: JSON on standard output."""
    torch.set_num_threads(args.threads)
    model = model_of(args).train().to(memory_format=LAYOUTS[args.twin])
    if args.what != "full":
        model.backbone.body.requires_grad_(False)
    if isinstance(model, FasterRCNN):  # its own draws, which are faster than Thaw's done in numpy
        for owner in (model.rpn, model.roi_heads):
            owner.fg_bg_sampler = owner.fg_bg_sampler.instead_of
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], LR, momentum=0.9)
    pixels = images.pictures(3000, args.batch, args.size)
    batch = [torch.from_numpy(p).float().permute(2, 0, 1) / 255 for p in pixels]
    targets = [{"boxes": torch.from_numpy(b).reshape(-1, 4), "labels": torch.from_numpy(l) + detect.background(model)}
               for b, l in detect.objects(0, args.batch, (args.size, args.size))]
    seconds = []
    for _ in range(1 + BATCHES * (EPOCHS - 1)):
        start = time.perf_counter()
        loss = sum(model(batch, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        float(loss.detach())
        seconds.append(time.perf_counter() - start)
    print(json.dumps(seconds[1:]))


def measure_twin(args, what: str, layout: str, folder: str) -> tuple[list[float], int]:
    argv = [sys.executable, os.path.abspath(__file__), "--thaw", "-", "--twin", layout, "--what", what,
            "--head", args.head, "--backbone", args.backbone, "--size", str(args.size), "--batch",
            str(args.batch), "--threads", str(args.threads)]
    done = child.run(argv, folder, machine.environment(args.threads, "auto"))
    return json.loads(done.out.splitlines()[-1]), done.peak


def measure_thaw(args, what: str, folder: str) -> tuple[list[float], int]:
    out = tempfile.mkdtemp(prefix="run", dir=folder) + "/run"
    argv = [args.thaw, "train", "voc:" + os.path.join(folder, "data"), "-o", out,
            "--weights", os.path.join(folder, "w.safetensors"), "--backbone", args.backbone, "--head",
            args.head, "--keep-head", *THAWED[what], "--bn", "frozen", "--epochs", str(EPOCHS),
            "--batch", str(args.batch), "--lr", str(LR), "--lr-schedule", "constant", "--augment", "none",
            "--val", "0", "--image-size", str(args.size), "--threads", str(args.threads)]
    done = child.run(argv, folder, machine.environment(args.threads, "auto"))
    epochs = files.read_events(out, "epoch")[1:]
    return [args.batch / e["images_per_s"] for e in epochs], done.peak


def measure(args, what: str, folder: str) -> None:
    sides: dict[str, list] = {"thaw": [], **{layout: [] for layout in LAYOUTS}}
    peak = dict.fromkeys(sides, 0)
    for _ in range(args.repeat):
        for side, samples in sides.items():
            got, bytes_ = (measure_thaw(args, what, folder) if side == "thaw" else
                           measure_twin(args, what, side, folder))
            samples += got
            peak[side] = max(peak[side], bytes_)
            print(f"{what:24} {side:14} {min(got):.3f} s/step {bytes_ / 2**20:6.0f} MiB", flush=True)
    better = min(LAYOUTS, key=lambda k: min(sides[k]))
    best = {k: min(v) for k, v in sides.items()}
    median = {k: statistics.median(v) for k, v in sides.items()}
    print(f"{args.head} {args.backbone} {args.size} px batch {args.batch}, {what}: Thaw {best['thaw']:.3f} s, "
          f"torchvision {best[better]:.3f} s ({better}): {best[better] / best['thaw']:.2f}x best, "
          f"{median[better] / median['thaw']:.2f}x median, memory {peak['thaw'] / peak[better]:.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--thaw", required=True, metavar="BIN")
    parser.add_argument("--head", default="fcos", choices=detect.HEADS)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--what", choices=THAWED, help="only this")
    parser.add_argument("--twin", choices=LAYOUTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.twin:
        twin(args)
        return
    args.thaw = os.path.abspath(args.thaw)
    print(machine.describe(args.thaw))
    n = args.batch * BATCHES
    with tempfile.TemporaryDirectory(prefix="thaw-detect-") as folder:
        detect.write_voc(os.path.join(folder, "data"), images.pictures(3000, n, args.size),
                         detect.objects(0, n, (args.size, args.size)))
        save_file(detect.tensors(model_of(args)), os.path.join(folder, "w.safetensors"))
        for what in [args.what] if args.what else THAWED:
            measure(args, what, folder)


if __name__ == "__main__":
    main()
