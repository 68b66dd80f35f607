# SPDX-License-Identifier: Apache-2.0
"""What is measured, as data: the rows of DESIGN's table, the freeze ladder, and what Thaw's plan
says that each of them costs."""
import json
import subprocess
from dataclasses import dataclass

import models

STAGES = {"resnet20": 3}  # else 4
BLOCKS = 12               # of a Vision Transformer
CACHED = "memory"


@dataclass(frozen=True)
class Work:
    title: str
    thaw: str
    cache: str = "off"
    prefix: str = "fp32"
    lora: str = ""            # beside `thaw`; PyTorch with PEFT
    twin: bool = True         # PyTorch does it as well, without cache and in fp32
    promised: tuple = ()      # against eager with AVX-512, with AVX2; against compiled

    @property
    def twins_name(self) -> str:
        return "/".join([self.thaw, *([f"lora {self.lora}"] if self.lora else [])])

    @property
    def name(self) -> str:
        return "/".join([self.twins_name, *([self.cache] if self.cache != "off" else []),
                         *([self.prefix] if self.prefix != "fp32" else [])])

    @property
    def exact(self) -> bool:
        return self.prefix == "fp32"


FULL = {"resnet18": (1.5, 1.2, 1.25), "resnet50": (1.4, 1.15, 1.15),
        "vit_small_patch16_224": (1.25, 1.25, None)}


def stage_names(backbone: str) -> list[str]:
    return [f"stage{i + 1}" for i in range(STAGES.get(backbone, 4))]


def vit_table(backbone: str) -> list[Work]:
    """`bias` and `norm` name tensors in every block, so that nothing lies below a cut."""
    last = ",".join([*(f"block{i}" for i in range(BLOCKS - 2, BLOCKS)), "norm", "head"])
    return [
        Work("full fine-tuning", "all", promised=FULL.get(backbone, ())),
        Work("last two blocks, norm and head", last),
        Work("the same from the cache", last, CACHED),
        Work("biases alone and the head", "bias,head"),
        Work("LayerNorms alone and the head", "norm,head"),
        Work("LoRA r=8 of qkv, and the head", "head", lora="r=8,alpha=16,targets=qkv",
             promised=(1.5, 1.5, None)),
        Work("head only, first epoch", "head", promised=(1.5, 1.5, None)),
        Work("head only from the cache", "head", CACHED, promised=(50, 50, None)),
    ]


def table(backbone: str) -> list[Work]:
    if models.is_vit(backbone):
        return vit_table(backbone)
    last = stage_names(backbone)[-1] + ",head"
    return [
        Work("full fine-tuning", "all", promised=FULL.get(backbone, ())),
        Work("last stage and head, BN frozen below", last, promised=(1.6, 1.6, None)),
        Work("the same from the cache", last, CACHED, promised=(4, 4, None)),
        Work("head only, first epoch", "head", promised=(1.5, 1.5, None)),
        Work("head only, --prefix int8", "head", prefix="int8", promised=(4, None, None)),
        Work("head only from the cache", "head", CACHED, promised=(50, 50, None)),
    ]


def ladder(backbone: str) -> list[Work]:
    """Bar c: all; without the lowest stages, one by one; the head; the first block. A ViT's
    rows are its table's."""
    if models.is_vit(backbone):
        return [w for w in table(backbone) if w.cache == "off"]
    stages = stage_names(backbone)
    parts = ["all", *(",".join(stages[i:]) + ",head" for i in range(1, len(stages))), "head",
             "stem,stage1,head"]
    return [Work(part, part, twin=False) for part in parts]


def every(backbone: str) -> list[Work]:
    named = {w.name for w in table(backbone)}
    return table(backbone) + [w for w in ladder(backbone) if w.name not in named]


@dataclass
class Cost:
    """Of one step: multiply-adds, and those left if all 3x3 convolutions of stride 1 take
    Winograd's F(4x4,3x3), which needs 36 products for 16 pixels instead of 144."""
    macs: int = 0
    macs_winograd: float = 0
    bytes: int = 0

    def add(self, step: dict) -> None:
        small = step.get("kernel") == [3, 3] and step.get("stride") == [1, 1]
        self.macs += step["macs"]
        self.macs_winograd += step["macs"] / (4 if small else 1)
        self.bytes += step["bytes"]


def belongs(name: str, stage: str) -> bool:
    return name.startswith({"head": ("fc", "linear", "head"), "stem": ("conv1", "bn1")}.get(
        stage, (stage.replace("stage", "layer").replace("block", "blocks.") + ".",)))


def cost(plan: list[dict], work: Work) -> Cost:
    """Of a plan's steps; from the cache: without what comes before the first thawed stage."""
    total, first = Cost(), work.thaw.split(",")[0]
    below = work.cache != "off"
    for step in (s for s in plan if s["phase"] != "derived"):
        below = below and not belongs(step["name"], first)
        if not below:
            total.add(step)
    return total


def inspect(thaw: str, model: str, options: list[str]) -> dict:
    """The first phase of `thaw inspect --json`."""
    done = subprocess.run([thaw, "inspect", model, "--json", *options], capture_output=True,
                          text=True)
    if done.returncode:
        raise SystemExit(f"thaw inspect: {done.stderr}")
    return json.loads(done.stdout)["phases"][0]
