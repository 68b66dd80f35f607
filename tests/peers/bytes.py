# SPDX-License-Identifier: Apache-2.0
"""Bytes that a training step keeps from forward to backward, Thaw's beside PyTorch's, and Thaw's
memory as planned, foreseen and measured.

PyTorch's are those that autograd saves (saved_tensors_hooks), each storage once and without the
parameters and buffers, which exist anyway. Thaw's are the plan's, from `thaw inspect --json`: what
backward or update steps read of what forward steps or the loader made. A short run of the same
options then says what the process really took.
"""
import argparse
import os
import re
import tempfile
from dataclasses import dataclass

import torch
from torch import nn

import child
import files
import images
import machine
import models
import reference
import works

N_CLASSES = 10
MIB = 2 ** 20
# batch and pixels: FIELD.md section 3's, and the table's of DESIGN section 10
SHAPES, QUICK = ((8, 160), (32, 224)), ((8, 160),)
UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}


@dataclass(frozen=True)
class Case:
    title: str
    thaw: str
    bn: str                   # thaw's --bn
    train: tuple[str, ...]    # stages whose BatchNorms use batch statistics in PyTorch
    target: str = ""


ALL = ("stem", "stage1", "stage2", "stage3", "stage4", "head")
CASES = (
    Case("full", "all", "train", ALL),
    Case("stage4 and head", "stage4,head", "stem-stage3:frozen stage4:train", ("stage4",)),
    Case("first block only (stem, stage1)", "stem,stage1",
         "stem-stage1:train stage2-stage4:frozen", ("stem", "stage1"), "≤ 1/4"),
    Case("the same, its BatchNorm frozen", "stem,stage1", "frozen", (), "≤ 1/4"),
    Case("biases only", "bias", "affine", (), "≤ 1/40"),
    Case("BatchNorm only (scale and shift)", "bn", "affine", ()),
)


def freeze(model: nn.Module, case: Case) -> None:
    norms = [n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    chosen = {"bias": lambda name: name.endswith("bias"),
              "bn": lambda name: name.rpartition(".")[0] in norms,
              "all": lambda name: True}.get(
                  case.thaw, lambda name: models.stage_of(name) in case.thaw.split(","))
    for name, p in model.named_parameters():
        p.requires_grad_(chosen(name))
    for name in norms:
        model.get_submodule(name).train(models.stage_of(name + ".") in case.train)


def saved_by_torch(backbone: str, case: Case, x: torch.Tensor, y: torch.Tensor) -> int:
    """Bytes of the unique storages that backward would read."""
    model = models.build(backbone, N_CLASSES, nn.BatchNorm2d).to(memory_format=torch.channels_last)
    freeze(model, case)
    lasting = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    kept = {}

    def pack(t: torch.Tensor) -> torch.Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in lasting:
            kept[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        loss = nn.functional.cross_entropy(model(x), y)  # holds all that is saved
    total = sum(kept.values())
    del loss
    return total


def prepare(folder: str, args) -> None:
    """Two batches of each shape in csv files, and weights."""
    few = images.pictures(1, 16, 256)
    paths = images.write_jpegs(folder, few)
    for batch, _ in args.shapes:
        images.list_csv(os.path.join(folder, f"{batch}.csv"),
                        [paths[i % len(paths)] for i in range(2 * batch)],
                        images.labels(2, 2 * batch, N_CLASSES))
    torch.set_num_threads(args.threads)
    some = reference.pixels(few[:8, :160, :160], reference.Run(), reference.Arithmetic(torch.float32))
    model = models.settled(args.backbone, N_CLASSES, some)
    files.save_weights(folder, "h5", {k: v.detach().numpy()
                                      for k, v in models.tensors(model).items()})


def foreseen(text: str) -> float:
    """The forecast line's peak memory, in bytes."""
    found = re.search(r"peak memory ([0-9.]+) (B|kB|MB|GB)", text)
    return float(found[1]) * UNITS[found[2]] if found else float("nan")


def run_thaw(args, folder: str, case: Case, batch: int, size: int) -> tuple[dict, float, int]:
    """(the plan, the forecast's peak, the measured peak)"""
    options = ["--thaw", case.thaw, "--bn", case.bn, "--batch", str(batch), "--image-size",
               str(size), "--threads", str(args.threads), *args.extra]
    weights = os.path.join(folder, "weights.h5")
    plan = works.inspect(args.thaw, weights, options)
    with tempfile.TemporaryDirectory() as out:
        done = child.run([args.thaw, "train", f"csv:{folder}/{batch}.csv", "-o",
                          os.path.join(out, "run"), "--weights", weights, "--keep-head",
                          "--augment", "none", "--cache", "off", "--val", "0", "--epochs", "1",
                          "--lr", "0.0001",
                          *options],
                         out, machine.environment(args.threads, "auto"))
    return plan, foreseen(done.out + done.err), done.peak


def row(args, folder: str, case: Case, batch: int, size: int) -> list[str]:
    x = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    theirs = saved_by_torch(args.backbone, case, x, torch.arange(batch) % N_CLASSES)
    plan, forecast, peak = run_thaw(args, folder, case, batch, size)
    ours, arena, live = plan["saved_bytes"], plan["arena_bytes"], plan["live_bytes"]
    return [case.title, f"{ours / MIB:.1f}", f"{theirs / MIB:.1f}", f"1/{theirs / ours:.1f}",
            case.target or "–", f"{arena / MIB:.0f}", f"{live / MIB:.0f}",
            f"{100 * (arena / live - 1):+.1f} %", f"{forecast / MIB:.0f}", f"{peak / MIB:.0f}",
            f"{100 * (peak / forecast - 1):+.0f} %"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--thaw", metavar="BIN", required=True)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="batch 8 at 160 pixels alone")
    parser.add_argument("extra", nargs="*", metavar="-- OPTION", help="for thaw, after --")
    args = parser.parse_args()
    args.thaw = os.path.abspath(args.thaw)
    args.shapes = QUICK if args.quick else SHAPES
    heads = ["trains", "saved MiB, Thaw", "PyTorch", "ratio", "promised", "arena", "live at most",
             "arena over that", "peak foreseen", "peak measured", "off by"]
    print(machine.describe(args.thaw))
    with tempfile.TemporaryDirectory(prefix="thaw-bytes-") as folder:
        prepare(folder, args)
        for batch, size in args.shapes:
            print(f"\n{args.backbone}, batch {batch}, {size} px, MiB\n\n| " + " | ".join(heads)
                  + " |\n" + "|---" * len(heads) + "|", flush=True)
            for case in CASES:
                print("| " + " | ".join(row(args, folder, case, batch, size)) + " |", flush=True)


if __name__ == "__main__":
    main()
