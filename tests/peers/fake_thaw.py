# SPDX-License-Identifier: Apache-2.0
"""A stand-in for `thaw` with its command line, done by PyTorch in fp32: it proves numerics.py
before and besides the real program. It can be given one planted error by name (BUGS), and
self_test() demands that each of them is caught by the case named beside it."""
import argparse
import contextlib
import csv
import json
import os
import sys
from dataclasses import replace
from unittest import mock

import h5py
import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

import files
import models
import reference

FLAGS = ("keep-head", "no-shuffle", "nesterov", "json")
FIELDS = {"backbone": str, "thaw": str, "bn": str, "batch": int, "epochs": int, "optimizer": str,
          "lr": float, "momentum": float, "weight_decay": float, "lr_schedule": str,
          "warmup": int, "lr_decay": float, "label_smoothing": float, "clip": float,
          "accumulate": int, "image_size": int}


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="thaw", exit_on_error=False)
    parser.add_argument("command")
    parser.add_argument("data")
    parser.add_argument("files", nargs="*")
    parser.add_argument("-o", dest="out")
    for name, kind in FIELDS.items():
        parser.add_argument("--" + name.replace("_", "-"), type=kind)
    for name in ("weights", "mean", "std", "augment", "val", "crop", "log-every", "threads"):
        parser.add_argument("--" + name)
    for name in FLAGS:
        parser.add_argument("--" + name, action="store_true")
    return parser.parse_args(argv)


def asked(args: argparse.Namespace) -> reference.Run:
    given = {k: getattr(args, k) for k in FIELDS if getattr(args, k) is not None}
    for name in ("mean", "std"):
        if getattr(args, name):
            given[name] = tuple(map(float, getattr(args, name).split(",")))
    return reference.Run(nesterov=args.nesterov, **given)


def read_csv(path: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    with open(path, newline="") as f:
        rows = list(csv.DictReader(f))
    classes = sorted({r["label"] for r in rows}, key=str.encode)
    home = os.path.dirname(path)
    pixels = np.stack([np.asarray(Image.open(os.path.join(home, r["path"]))) for r in rows])
    return pixels, np.array([classes.index(r["label"]) for r in rows]), classes


def write_run(out: str, run: reference.Run, classes: list[str], result: reference.Result) -> None:
    os.makedirs(out)
    with h5py.File(os.path.join(out, "last.h5"), "w") as f:
        f.attrs.update({"thaw_format": 1, "backbone": run.backbone, "classes": classes,
                        "input_size": run.image_size, "mean": run.mean, "std": run.std})
        for name, v in result.tensors.items():
            f[name.replace("linear.", "fc.")] = v
    with open(os.path.join(out, "metrics.jsonl"), "w") as f:
        for i, (loss, lr) in enumerate(zip(result.losses, result.lrs)):
            f.write(json.dumps({"event": "step", "step": i + 1, "loss": loss, "lr": lr}) + "\n")
        f.write(json.dumps({"event": "end", "frozen_verified": True}) + "\n")


def train(args: argparse.Namespace, bug: str | None) -> str:
    run = asked(args)
    pixels, labels, classes = read_csv(args.data.removeprefix("csv:"))
    weights = files.read_weights(args.weights)
    spoil = BUGS[bug][1] if bug else None
    with contextlib.ExitStack() as stack:
        if spoil:
            run, pixels, labels = spoil(stack, run, pixels, labels)
        if models.is_vit(run.backbone):
            weights = models.resampled(run.backbone, weights, len(classes), run.image_size)
        result = reference.train(run, weights, pixels, labels, reference.FP32[1])
    if bug == "frozen tensor moved by one ulp":
        v = result.tensors["layer2.0.conv1.weight"]
        v.flat[7] = np.nextafter(v.flat[7], np.float32(9))
    write_run(args.out, replace(run, backbone=args.backbone), classes, result)
    return ""


def predict(args: argparse.Namespace) -> str:
    with h5py.File(os.path.join(args.data, "last.h5")) as f:
        classes, mean, std = (f.attrs[k] for k in ("classes", "mean", "std"))
        run = reference.Run(f.attrs["backbone"], mean=tuple(mean), std=tuple(std),
                            image_size=int(f.attrs["input_size"]))
    stored = files.read_h5(os.path.join(args.data, "last.h5"))
    head = "linear." if run.backbone in models.CIFAR_BLOCKS else "fc."
    weights = {k.replace("fc.", head): v for k, v in stored.items()}
    lines = []
    for name in args.files:
        z = reference.logits(run, weights, np.asarray(Image.open(name))[None])[0]
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        lines.append(json.dumps({"file": name, "class": str(classes[z.argmax()]),
                                 "probability": p.max(), "probabilities": p.tolist(),
                                 "logits": z.tolist()}))
    return "\n".join(lines)


def main(argv: list[str], bug: str | None = None) -> str:
    args = parse(argv)
    return train(args, bug) if args.command == "train" else predict(args)


# Planted errors: each spoil(stack, run, pixels, labels) returns what is trained instead, or
# patches the twin for the length of the run.

def options(**changed):
    return lambda stack, run, pixels, labels: (replace(run, **changed), pixels, labels)


def patched(target, name: str, value):
    def spoil(stack, run, pixels, labels):
        stack.enter_context(mock.patch.object(target, name, value))
        return run, pixels, labels
    return spoil


def detached_statistics(self, x):
    """Batch statistics taken for constants in backward: the mean and variance terms are lost."""
    with torch.no_grad():
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        F.batch_norm(x, self.running_mean, self.running_var, None, None, True, self.momentum)
    return F.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, self.eps)


def updated_before_use(self, x):
    """stats-running that normalises with the values after the update."""
    self.update_after(x.detach())
    return F.batch_norm(x, self.running_mean.clone(), self.running_var.clone(), self.weight,
                        self.bias, False, 0.0, self.eps)


def biased_update(self, x):
    with torch.no_grad():
        m = self.momentum
        self.running_mean.mul_(1 - m).add_(x.mean((0, 2, 3)), alpha=m)
        self.running_var.mul_(1 - m).add_(x.var((0, 2, 3), unbiased=False), alpha=m)


def forgetful_phase(model, run, old):
    return reference.new_optimizer(model, run)


def remembering_phase(model, run, old):
    fresh = reference.new_optimizer(model, run)
    for p, slots in (old.state.items() if old else ()):
        fresh.state[p] = slots
    return fresh


def shrinking_batches(n, run, model):
    return [slice(a, a + run.batch) for a in range(0, n - run.batch + 1, run.batch)]


def lone_batches(n, run, model):
    return [slice(a, min(a + run.batch, n)) for a in range(0, n, run.batch)]


def resampled_plainly(backbone, weights, n_classes, size):
    """Positions resized bilinearly and without a filter."""
    model = models.build(backbone, n_classes, size=size)
    p = torch.from_numpy(weights["pos_embed"])
    before = model.pos_embed.shape[1] - model.patch_embed.num_patches
    side = round((p.shape[1] - before) ** 0.5)
    grid = p[:, before:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, model.patch_embed.grid_size, mode="bilinear")
    rows = torch.cat([p[:, :before], grid.flatten(2).transpose(1, 2)], 1)
    return {**weights, "pos_embed": rows.numpy()}


def decay_everywhere(model, run):
    run_params = [{"params": [p], "scale": 1.0} for p in model.parameters() if p.requires_grad]
    return torch.optim.SGD(run_params, lr=run.lr, momentum=run.momentum,
                           weight_decay=run.weight_decay)


def clipped_one_by_one(params, limit):
    for p in params:
        p.grad.mul_(min(1.0, limit / (p.grad.norm().item() + 1e-6)))


real_lr_at, real_build = reference.lr_at, models.build


def build_with_wrong_eps(*args):
    model = real_build(*args)
    for _, m in models.batchnorms(model):
        m.eps = 1e-3
    return model


S20 = "bn/resnet20/"
BUGS = {  # name: (the case that must catch it, how it is planted)
    "frozen BN instead of batch statistics": (S20 + "train", options(bn="frozen")),
    "affine trained where it is frozen": (S20 + "frozen", options(bn="affine")),
    "affine trained in statistics-only": (S20 + "stats", options(bn="train")),
    "statistics-only reads the batch": (S20 + "stats-running", options(bn="stats")),
    "running statistics drift": (S20 + "affine", options(bn="train")),
    "batch statistics constant in backward":
        (S20 + "train", patched(models.ModeBN, "forward", detached_statistics)),
    "running statistics updated before use":
        (S20 + "stats-running", patched(models.ModeBN, "forward", updated_before_use)),
    "biased running variance":
        (S20 + "stats-running", patched(models.ModeBN, "update_after", biased_update)),
    "auto keeps batch statistics below 16": ("bn/auto-below-16", options(bn="train")),
    "auto never uses the batch": ("bn/auto-16", options(bn="frozen")),
    "one stage too many": ("freeze/stage4,head", options(thaw="stage3,stage4,head")),
    "head left frozen": ("freeze/stage4,head", options(thaw="stage4")),
    "frozen tensor moved by one ulp": ("freeze/head", None),
    "bn also trains the head": ("freeze/bn", options(thaw="bn,head")),
    "no bias but the head's": ("freeze/bias", options(thaw="fc.bias")),
    "no weight decay": ("trace/sgd-decay", options(weight_decay=0.0)),
    "decay on every tensor":
        ("trace/sgd-decay", patched(reference, "new_optimizer", decay_everywhere)),
    "no momentum": ("trace/sgd", options(momentum=0.0)),
    "plain momentum for nesterov": ("trace/nesterov", options(nesterov=False)),
    "SGD for AdamW": ("trace/adamw", options(optimizer="sgd")),
    "last batch dropped":
        ("trace/partial-batch", patched(reference, "batches", shrinking_batches)),
    "single image trained alone":
        ("trace/single-joins", patched(reference, "batches", lone_batches)),
    "slots lost at a phase":
        ("trace/timetable", patched(reference, "next_phase", forgetful_phase)),
    "slots kept while frozen":
        ("trace/timetable-refreeze", patched(reference, "next_phase", remembering_phase)),
    "timetable ignored": ("trace/timetable", options(thaw="head")),
    "no warm-up": ("trace/cosine-warmup", options(warmup=0)),
    "cosine one step late": ("trace/cosine", patched(
        reference, "lr_at", lambda i, total, warm, run: real_lr_at(i + 1, total, warm, run))),
    "no layer decay": ("loss/lr-decay", options(lr_decay=1.0)),
    "no smoothing": ("loss/label-smoothing", options(label_smoothing=0.0)),
    "no clipping": ("loss/clip", options(clip=0.0)),
    "clipping per tensor":
        ("loss/clip", patched(torch.nn.utils, "clip_grad_norm_", clipped_one_by_one)),
    "channels reversed": ("input/pth", lambda stack, run, pixels, labels:
                          (run, pixels[..., ::-1].copy(), labels)),
    "mean and std ignored": ("input/mean-std", options(mean=reference.MEAN, std=reference.STD)),
    "classes shifted": ("freeze/head", lambda stack, run, pixels, labels:
                        (run, pixels, (labels + 1) % 4)),
    "GELU by tanh": ("vit/vit_micro_patch4_32", patched(
        torch.nn.GELU, "forward", lambda self, x: F.gelu(x, approximate="tanh"))),
    "GELU for quick-GELU": ("vit/vit_base_patch32_clip_quickgelu_224",
                            options(backbone="vit_base_patch32_clip_224")),
    "positions resized plainly":
        ("vit/resampled-down", patched(models, "resampled", resampled_plainly)),
    "tokens decay": ("vit/trace-adamw-all", patched(models, "TOKENS", ())),
    "norm is the last norm alone": ("vit/thaw-norm", options(thaw="norm.*")),
    "norm beside a block is every norm": ("vit/thaw-block10,block11,norm,head",
                                          options(thaw="block10,block11,*norm*,head")),
    "wrong epsilon": (S20 + "affine", patched(models, "build", build_with_wrong_eps)),
}


def self_test(chosen, run_all, judge, program) -> int:
    """Every chosen case must pass with the honest stand-in, and every planted error whose case
    is chosen must fail."""
    failed = run_all(chosen, program(function=main), None)
    by_name = {c.name: c for c in chosen}
    missed = planted = 0
    for bug, (name, _) in BUGS.items():
        if name not in by_name:
            continue
        ok, text = judge(by_name[name], program(function=lambda argv: main(argv, bug)), None)
        planted, missed = planted + 1, missed + ok
        print("MISSED" if ok else "CAUGHT", f"{bug:40}", text, flush=True)
    print(f"{planted} planted errors, {missed} missed")
    return 1 if failed or missed else 0


if __name__ == "__main__":
    print(main(sys.argv[1:]))
