# SPDX-License-Identifier: Apache-2.0
"""The cases of numerics.py, as data. `step`: one step at lr 1, so that the difference of the
weights is the gradient. `trace`: several steps, held to the looser bound of traces. `logits`:
prediction only."""
from dataclasses import dataclass

from reference import Run


@dataclass(frozen=True)
class Case:
    name: str
    run: Run
    n_images: int = 4
    n_classes: int = 4
    kind: str = "step"
    weights: str = "h5"       # one of files.FORMATS
    quick: bool = False
    repeat: bool = False      # run twice: the same bits
    optional: bool = False    # reported, never counted as a failure
    seed: int = 0
    weights_size: int = 0     # image size that the weights' positions are for; 0: the run's


BN_MODES = ("train", "frozen", "stats", "stats-running", "affine")
# Image seeds by `numerics.py --find-seeds`: no decision of the net is near a tie there (ties.py).
SEEDS = {f"bn/resnet20/{mode}": 45 if mode in ("train", "stats") else 9
         for mode in BN_MODES}
SEEDS |= {f"bn/resnet18/{mode}": 4 if mode in ("train", "stats") else 1
          for mode in BN_MODES}
SEEDS |= {"backbone/resnet50-affine": 10, "backbone/resnext50_32x4d": 12}
SEEDS |= {"freeze/bn,head-resnet20": 9, "freeze/stage4,head-auto16": 5}
SEEDS |= {name: 1 for name in ("bn/auto-below-16", "bn/by-stage", "loss/clip", "loss/lr-decay",
                               "freeze/stage1-frozen-bn", "freeze/bn", "freeze/bias",
                               "freeze/stem,stage3")}
SEEDS |= {"trace/sgd-train": 6, "trace/adamw-resnet18": 8, "trace/timetable": 1,
          "backbone/resnet50-stage4": 12}
SEEDS |= {name: 4 for name in ("freeze/stage1", "freeze/bn-train", "freeze/stem,stage3-train",
                               "input/same-bits-again")}

SGD = dict(lr=1e-3, momentum=0.9, weight_decay=1e-4)
ADAMW = dict(optimizer="adamw", lr=1e-4, weight_decay=0.5)


def step(name: str, n: int = 4, **options) -> Case:
    own = {k: options.pop(k) for k in ("weights", "quick", "repeat", "kind", "n_classes",
                                        "weights_size") if k in options}
    options = {"image_size": 48, "batch": 4, **options}
    return Case(name, Run(**options), n, seed=SEEDS.get(name, 0), **own)


def trace(name: str, n: int = 12, optional: bool = False, **options) -> Case:
    own = {k: options.pop(k) for k in ("quick", "repeat") if k in options}
    options = {"image_size": 48, "batch": 4, **options}
    return Case(name, Run(**options), n, kind="trace", optional=optional,
                seed=SEEDS.get(name, 0), **own)


def bn_cases() -> list[Case]:
    small = dict(backbone="resnet20", image_size=32, n=2, n_classes=2)
    return [step(f"bn/resnet20/{mode}", bn=mode, quick=True, **small) for mode in BN_MODES] + \
           [step(f"bn/resnet18/{mode}", bn=mode) for mode in BN_MODES] + [
        step("bn/auto-below-16", bn="auto"),
        step("bn/auto-16", bn="auto", batch=16, n=16),
        step("bn/by-stage", bn="stem-stage3:frozen stage4:train"),
        step("bn/by-stage-stats", bn="stem:stats stage1-stage2:affine stage3:stats-running "
                                     "stage4:train"),
    ]


def freeze_cases() -> list[Case]:
    return [
        step("freeze/head", thaw="head", bn="auto", quick=True),
        step("freeze/head-stats-running", thaw="head", bn="stats-running"),
        step("freeze/none-stats", thaw="none", bn="stats"),
        step("freeze/none-auto", thaw="none", bn="auto"),
        step("freeze/stage4,head", thaw="stage4,head", bn="auto", quick=True),
        step("freeze/stage4,head-train", thaw="stage4,head", bn="train"),
        step("freeze/stage4,head-auto16", thaw="stage4,head", bn="auto", batch=16, n=16),
        step("freeze/stem,stage3", thaw="stem,stage3", bn="affine"),
        step("freeze/stem,stage3-train", thaw="stem,stage3", bn="train"),
        step("freeze/stage1", thaw="stage1", bn="train"),
        step("freeze/stage1-frozen-bn", thaw="stage1", bn="frozen"),
        step("freeze/bn", thaw="bn", bn="auto"),
        step("freeze/bn-train", thaw="bn", bn="train"),
        step("freeze/bn,head-resnet20", thaw="bn,head", bn="auto", backbone="resnet20",
             image_size=32, n=2, n_classes=2, quick=True),
        step("freeze/bias", thaw="bias", bn="auto"),
        step("freeze/pattern", thaw="layer3.*.conv2.weight", bn="train"),
        step("freeze/pattern-auto16", thaw="layer3.*.conv2.weight", bn="auto", batch=16, n=16),
    ]


def backbone_cases() -> list[Case]:
    few = dict(image_size=32, n=2, n_classes=2, bn="affine")  # a deep net far from every tie
    return [
        step("backbone/resnet34", backbone="resnet34", **few),
        step("backbone/resnet50-train", backbone="resnet50", bn="train"),
        step("backbone/resnet50-affine", backbone="resnet50", **few),
        step("backbone/resnet50-stage4", backbone="resnet50", bn="auto", thaw="stage4,head"),
        step("backbone/wide_resnet50_2", backbone="wide_resnet50_2", bn="affine",
             thaw="stage4,head"),
        step("backbone/resnext50_32x4d", backbone="resnext50_32x4d", **few),
        step("backbone/odd-size", backbone="resnet18", bn="affine", image_size=75),
    ]


def input_cases() -> list[Case]:
    small = dict(backbone="resnet20", image_size=32, bn="frozen", thaw="stage3,head", n=2,
                 n_classes=2)
    return [
        step("input/h5-nested", weights="h5-nested", **small),
        step("input/pth", weights="pth", quick=True, **small),
        step("input/pth-prefixed", weights="pth-prefixed", **small),
        step("input/pth-legacy", weights="pth-legacy", **small),
        step("input/resnet18-pth", weights="pth", thaw="head", bn="auto"),
        step("input/mean-std", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25), quick=True, **small),
        step("input/same-bits-again", repeat=True, bn="train"),
        step("logits/resnet20", kind="logits", quick=True, **{**small, "thaw": "none"}),
        step("logits/resnet18", kind="logits", thaw="none", bn="frozen"),
        step("logits/resnet50", kind="logits", thaw="none", bn="frozen", backbone="resnet50"),
        step("logits/after-training", kind="logits", thaw="head", bn="auto", lr=0.01),
    ]


def loss_cases() -> list[Case]:
    return [
        step("loss/label-smoothing", thaw="stage4,head", bn="affine", label_smoothing=0.1),
        step("loss/clip", bn="affine", clip=0.5, lr=64.0),
        step("loss/clip-partly-frozen", thaw="stage4,head", bn="affine", clip=0.5, lr=64.0),
        step("loss/clip-not-reached", thaw="head", bn="auto", clip=1e6),
        step("loss/lr-decay", bn="affine", lr_decay=0.5),
    ]


def trace_cases() -> list[Case]:
    phases = "0:head 1:stage4,head 2:all"
    tiny = dict(backbone="resnet20", image_size=16)
    return [
        trace("trace/sgd", bn="affine", quick=True, **tiny, **SGD),
        trace("trace/sgd-train", bn="train", **SGD),
        trace("trace/sgd-decay", bn="affine", lr=1e-3, weight_decay=1.0, quick=True, **tiny),
        trace("trace/nesterov", bn="affine", nesterov=True, quick=True, **tiny, **SGD),
        trace("trace/adamw", bn="affine", quick=True, **tiny, **ADAMW),
        trace("trace/adamw-resnet18", bn="train", **ADAMW),
        trace("trace/partial-batch", n=10, bn="train", quick=True, **tiny, **SGD),
        trace("trace/single-joins", n=9, bn="train", quick=True, **tiny, **SGD),
        trace("trace/single-alone", n=9, bn="frozen", **tiny, **SGD),
        trace("trace/head-two-epochs", n=8, epochs=2, thaw="head", bn="auto", **SGD),
        trace("trace/timetable", n=8, epochs=3, thaw=phases, bn="affine", **SGD),
        trace("trace/timetable-auto16", n=32, batch=16, epochs=3, thaw=phases, bn="auto",
              **SGD),
        trace("trace/timetable-refreeze", n=8, epochs=3, thaw="0:all 1:head 2:all", bn="affine",
              quick=True, **tiny, **ADAMW),
        trace("trace/cosine", n=8, epochs=2, bn="affine", lr_schedule="cosine", **tiny, **SGD),
        trace("trace/cosine-warmup", n=8, epochs=4, bn="affine", lr_schedule="cosine", warmup=2,
              quick=True, **tiny, **SGD),
        trace("trace/lr-decay-clip", n=8, bn="affine", lr_decay=0.75, clip=1.0,
              **{**SGD, "lr": 0.05}),
        trace("trace/accumulate", n=12, bn="train", accumulate=2, **tiny, **SGD),
        trace("trace/accumulate-ragged", n=10, bn="affine", accumulate=2, **tiny, **SGD),
    ]


VITS = ("vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224",
        "deit3_small_patch16_224", "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2",
        "vit_base_patch32_clip_224", "vit_base_patch32_clip_quickgelu_224",
        "deit_tiny_distilled_patch16_224", "vit_medium_patch16_gap_240",
        "vit_medium_patch16_reg4_gap_256", "vit_micro_patch4_32", "vit_micro_patch4_gap_32")


def vit_size(name: str) -> int:
    """Small, and a whole number of patches."""
    patch = next(word for word in name.split("_") if word.startswith("patch"))
    return {"patch14": 70, "patch16": 64, "patch32": 96, "patch4": 32}[patch]


def vit_cases() -> list[Case]:
    tiny = dict(backbone="vit_tiny_patch16_224", image_size=64)
    last = "block10,block11,norm,head"
    return [step(f"vit/{name}", backbone=name, n=2, n_classes=2, batch=2, weights="safetensors",
                 quick=name == "vit_micro_patch4_32", image_size=vit_size(name))
            for name in VITS] + [
        step(f"vit/{name}-whole", backbone=name, n=2, n_classes=2, batch=2, weights="safetensors", image_size=size)
        for name, size in (("vit_tiny_patch16_224", 224), ("vit_small_patch14_dinov2", 518))
    ] + [
        step("vit/resampled-up", n=2, n_classes=2, batch=2, weights="safetensors", weights_size=64,
             backbone="vit_tiny_patch16_224", image_size=112),
        step("vit/resampled-down", n=2, n_classes=2, batch=2, weights="safetensors", weights_size=224,
             backbone="vit_small_patch14_reg4_dinov2", image_size=70),
        step("vit/resampled-deit3", n=2, n_classes=2, batch=2, weights_size=64,
             backbone="deit3_small_patch16_224", image_size=80),
        step("vit/logits", kind="logits", thaw="none", **tiny),
        step("vit/logits-distilled", kind="logits", thaw="none", image_size=64,
             backbone="deit_tiny_distilled_patch16_224"),
        step("vit/lr-decay", lr_decay=0.75, **tiny),
        step("vit/pattern", thaw="blocks.*.attn.qkv.weight", **tiny),
        step("vit/block3-alone", thaw="block3", **tiny),
    ] + [step(f"vit/thaw-{thaw}", thaw=thaw, **tiny)
         for thaw in (last, "bias", "norm", "norm,head", "patch", "head")] + [
        trace(f"vit/trace-{kind}-{thaw}", n=40, batch=2, thaw=thaw, **tiny, **options)
        for kind, options in (("sgd", SGD), ("adamw", ADAMW))
        for thaw in ("all", last, "bias", "norm")
    ]


def lora_cases() -> list[Case]:
    """A and B begin with PEFT's values, B not zero; the base is frozen."""
    frozen = dict(thaw="head", bn="frozen")
    vit = dict(backbone="vit_tiny_patch16_224", image_size=64, weights="pth", **frozen)
    small = dict(backbone="resnet20", image_size=32, n_classes=2, **frozen)
    return [
        step("lora/resnet18-conv", lora="r=8,alpha=16,targets=conv", **frozen),
        step("lora/resnet18-rank4", lora="r=4,alpha=4,targets=conv1,conv2", **frozen),
        step("lora/resnet20-conv", lora="r=8,alpha=8,targets=conv", quick=True, n=2, **small),
        step("lora/vit-qkv,proj", lora="r=8,alpha=16,targets=qkv,proj", **vit),
        step("lora/vit-all-linear", lora="r=4,alpha=2,targets=all-linear,rslora=1", **vit),
    ] + [
        trace(f"lora/trace-{kind}-{name}", n=40, **{**options, **setup, "batch": 2})
        for kind, options in (("sgd", SGD), ("adamw", ADAMW))
        for name, setup in (
            ("vit", {**{k: v for k, v in vit.items() if k != "weights"},
                     "lora": "r=8,alpha=16,targets=qkv,proj"}),
            ("resnet18", dict(lora="r=8,alpha=2,targets=conv", **frozen, lr=1e-4)))
    ]


def every() -> list[Case]:
    return (bn_cases() + freeze_cases() + backbone_cases() + input_cases() + loss_cases()
            + trace_cases() + vit_cases() + lora_cases())
