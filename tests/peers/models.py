# SPDX-License-Identifier: Apache-2.0
"""The PyTorch side's networks: torchvision's ResNets, the CIFAR ResNets of He et al. 4.2
(akamaster's form: option A shortcuts without parameters, the classifier named `linear`), and
timm's Vision Transformers.

Owns: building, stage names, BatchNorm modes, freezing, and weights drawn from a fixed stream.
Does not: train (reference.py), compare (numerics.py).
"""
import fnmatch
import re
from typing import Iterator

import numpy as np
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

BN_MODES = ("train", "frozen", "stats", "stats-running", "affine")
BATCH_STATISTICS = ("train", "stats")
AUTO_TRAIN_BATCH = 16  # --bn auto: from this batch size a trained BN uses batch statistics
CIFAR_BLOCKS = {"resnet20": 3, "resnet32": 5, "resnet56": 9}


class ModeBN(nn.BatchNorm2d):
    """BatchNorm2d with the five modes of DESIGN section 2; every path is PyTorch's own."""

    mode = "train"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.mode in BATCH_STATISTICS:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight,
                                self.bias, True, self.momentum, self.eps)
        mean, var = self.running_mean.clone(), self.running_var.clone()
        y = F.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, self.eps)
        if self.mode == "stats-running":
            self.update_after(x.detach())
        return y

    def update_after(self, x: torch.Tensor) -> None:
        m = self.momentum
        with torch.no_grad():
            self.running_mean.mul_(1 - m).add_(x.mean((0, 2, 3)), alpha=m)
            self.running_var.mul_(1 - m).add_(x.var((0, 2, 3), unbiased=True), alpha=m)


class CifarBlock(nn.Module):
    def __init__(self, n_in: int, n_out: int, stride: int, norm: type):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = norm(n_out)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = norm(n_out)
        self.stride, self.pad = stride, (n_out - n_in) // 2

    def shortcut(self, x: torch.Tensor) -> torch.Tensor:
        if self.stride == 1:
            return x
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    def __init__(self, n_blocks: int, n_classes: int, norm: type):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = norm(16)
        self.relu = nn.ReLU()
        self.layer1 = self.stage(16, 16, n_blocks, 1, norm)
        self.layer2 = self.stage(16, 32, n_blocks, 2, norm)
        self.layer3 = self.stage(32, 64, n_blocks, 2, norm)
        self.linear = nn.Linear(64, n_classes)

    @staticmethod
    def stage(n_in: int, n_out: int, n_blocks: int, stride: int, norm: type) -> nn.Sequential:
        first = CifarBlock(n_in, n_out, stride, norm)
        return nn.Sequential(
            first, *(CifarBlock(n_out, n_out, 1, norm) for _ in range(n_blocks - 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


# Vision Transformers for small images: not timm's sizes, but its class.
SMALL_VITS = {
    "vit_micro_patch4_32": dict(embed_dim=128, depth=6, num_heads=4),
    "vit_micro_patch4_gap_32": dict(embed_dim=128, depth=6, num_heads=4, global_pool="avg",
                                    class_token=False),
    "vit_tiny_patch4_32": dict(embed_dim=192, depth=12, num_heads=3),
}


def is_vit(backbone: str) -> bool:
    return backbone.startswith(("vit_", "deit"))


def build_vit(backbone: str, n_classes: int, size: int) -> nn.Module:
    import timm  # here: the ResNets do not need it
    if backbone in SMALL_VITS:
        return timm.models.VisionTransformer(img_size=size, patch_size=4, num_classes=n_classes,
                                             **SMALL_VITS[backbone])
    name = backbone.removesuffix(".dino")  # a tag would ask for the published weights' setup
    return timm.create_model(name, num_classes=n_classes, img_size=size)


def build(backbone: str, n_classes: int, norm: type = ModeBN, size: int = 224) -> nn.Module:
    if is_vit(backbone):
        return build_vit(backbone, n_classes, size)
    if backbone in CIFAR_BLOCKS:
        return CifarResNet(CIFAR_BLOCKS[backbone], n_classes, norm)
    return getattr(torchvision.models, backbone)(
        weights=None, num_classes=n_classes, norm_layer=norm)


def settled(backbone: str, n_classes: int, x: torch.Tensor) -> nn.Module:
    """torchvision's random weights, seeded, with the statistics of x in every BatchNorm: what a
    frozen network computes then stays in range."""
    torch.manual_seed(0)
    model = build(backbone, n_classes, nn.BatchNorm2d, x.shape[-1])
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for m in norms:
        m.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
    for m in norms:
        m.momentum = 0.1
    return model


def thaw_stages(model: nn.Module, thawed: list[str]) -> None:
    """Frozen stages have BatchNorm in evaluation mode."""
    for name, p in model.named_parameters():
        p.requires_grad_(stage_of(name) in thawed)
    for name, m in model.named_modules():
        if isinstance(m, nn.BatchNorm2d):
            m.train(stage_of(name + ".") in thawed)


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer that a weights file holds, by name."""
    return {k: v for k, v in model.state_dict().items() if "num_batches" not in k}


TOKENS = ("cls_token", "pos_embed", "reg_token", "dist_token")  # of stage patch, never decayed


def stage_of(name: str) -> str:
    """The stage of a tensor or module: stem, stage1.., head."""
    match = re.match(r"(layer|blocks\.)(\d+)\.", name)
    if match:
        return {"layer": "stage", "blocks.": "block"}[match.group(1)] + match.group(2)
    first = name.split(".")[0]
    if first in ("norm", "fc_norm"):
        return "norm"
    if first in TOKENS or first in ("patch_embed", "norm_pre"):
        return "patch"
    return "head" if first in ("fc", "linear", "head", "head_dist") else "stem"


def stages(model: nn.Module) -> list[str]:
    """In depth order, stem first."""
    return list(dict.fromkeys(stage_of(name) for name, _ in model.named_parameters()))


def batchnorms(model: nn.Module) -> Iterator[tuple[str, ModeBN]]:
    return ((n, m) for n, m in model.named_modules() if isinstance(m, ModeBN))


def conv_of_bn(bn: str) -> str:
    """The weight of the convolution a BatchNorm follows, by the naming of both families."""
    if bn.endswith("downsample.1"):
        return bn[:-1] + "0.weight"
    head, _, leaf = bn.rpartition(".")
    return (head + "." if head else "") + leaf.replace("bn", "conv") + ".weight"


def bn_params(model: nn.Module) -> set[str]:
    return {f"{n}.{leaf}" for n, _ in batchnorms(model) for leaf in ("weight", "bias")}


def layernorm_params(model: nn.Module) -> set[str]:
    return {f"{n}.{leaf}" for n, m in model.named_modules() if isinstance(m, nn.LayerNorm)
            for leaf in ("weight", "bias")}


def matches(item: str, model: nn.Module, items: list[str]) -> set[str]:
    """The parameters one item of --thaw names. `norm` beside a block is the last norm."""
    if item == "norm" and not set(items) & set(stages(model)) - {"norm", "head"}:
        return layernorm_params(model)
    names = [n for n, _ in model.named_parameters()]
    if item == "all":
        return set(names)
    if item == "none":
        return set()
    if item == "bn":
        return bn_params(model)
    if item == "bias":
        return {n for n in names if n.endswith(".bias")}
    if item in stages(model):
        return {n for n in names if stage_of(n) == item}
    found = set(fnmatch.filter(names, item))
    if not found:
        raise ValueError(f"--thaw {item}: matches nothing")
    return found


def timetable(spec: str) -> list[tuple[int, str]]:
    """[(first epoch, items)], ascending: "0:head 3:all" or one set for the whole run."""
    if ":" not in spec:
        return [(0, spec)]
    rows = [part.split(":") for part in spec.split()]
    return sorted((int(epoch), items) for epoch, items in rows)


def named_at(spec: str, epoch: int, model: nn.Module) -> set[str]:
    items = [row for first, row in timetable(spec) if first <= epoch][-1]
    words = items.split(",")
    return set().union(*(matches(item, model, words) for item in words))


def bn_spec_mode(spec: str, stage: str, order: list[str]) -> str:
    """--bn "stem-stage3:frozen stage4:train"; a stage that no range names is auto."""
    if ":" not in spec:
        return spec
    for part in spec.split():
        span, mode = part.split(":")
        first, _, last = span.partition("-")
        if order.index(first) <= order.index(stage) <= order.index(last or first):
            return mode
    return "auto"


def auto_mode(bn: str, named: set[str], batch: int) -> str:
    if conv_of_bn(bn) in named:
        return "train" if batch >= AUTO_TRAIN_BATCH else "frozen"
    return "affine" if named & {bn + ".weight", bn + ".bias"} else "frozen"


def freeze(model: nn.Module, thaw: str, bn: str, batch: int, epoch: int) -> set[str]:
    """Set requires_grad and every BatchNorm's mode for this epoch; returns what trains."""
    named, order = named_at(thaw, epoch, model), stages(model)
    trained = set(named)
    for name, module in batchnorms(model):
        module.mode = bn_spec_mode(bn, stage_of(name + "."), order)
        if module.mode == "auto":
            module.mode = auto_mode(name, named, batch)
        if module.mode not in ("train", "affine"):
            trained -= {name + ".weight", name + ".bias"}
    for name, p in model.named_parameters():
        p.requires_grad_(name in trained)
    return trained


def fill(model: nn.Module, seed: int) -> None:
    """Weights from NumPy's RandomState, whose stream never changes between versions."""
    rng = np.random.RandomState(seed)
    for name, t in tensors(model).items():
        z = torch.from_numpy(rng.standard_normal(tuple(t.shape)))
        t.copy_(initial(name, z))


def initial(name: str, z: torch.Tensor) -> torch.Tensor:
    if z.dim() == 4:
        return z * (2.0 / (z.shape[0] * z.shape[2] * z.shape[3])) ** 0.5
    if z.dim() == 2:
        return z * (z.shape[1] ** -0.5 if name.startswith("blocks.") else 0.1)
    if name.endswith("gamma"):  # far from timm's 1e-5: blocks are to matter
        return 0.5 + 0.1 * z
    if name.endswith("running_var"):
        return torch.exp(0.3 * z)
    return 1 + 0.2 * z if name.endswith("weight") else 0.2 * z


def calibrate(model: nn.Module, x: torch.Tensor) -> None:
    """Give a net in fp64 running statistics near its own activations', but off by so much that
    the BatchNorm modes differ. Rounded, so that every machine writes the same file."""
    wanted = {n: (m.running_mean.clone(), m.running_var.clone()) for n, m in batchnorms(model)}
    for _, m in batchnorms(model):
        m.mode, m.momentum = "train", 1.0
    with torch.no_grad():
        model(x)
    for name, m in batchnorms(model):
        shift, scale = wanted[name]
        m.momentum = 0.1
        m.running_mean.add_(shift * m.running_var.sqrt())
        m.running_var.mul_(scale)
        for t in (m.running_mean, m.running_var):
            t.copy_(torch.tensor([float(f"{v:.4g}") for v in t.tolist()]))


def resampled(backbone: str, weights: dict[str, np.ndarray], n_classes: int,
              size: int) -> dict[str, np.ndarray]:
    """Weights of one image size for another, by timm's own resampling of positions."""
    from timm.layers import resample_abs_pos_embed
    model = build(backbone, n_classes, size=size)
    rows = weights["pos_embed"].shape[1]
    wanted = model.pos_embed.shape[1] - model.patch_embed.num_patches
    if rows == model.pos_embed.shape[1]:
        return weights
    positions = resample_abs_pos_embed(
        torch.from_numpy(weights["pos_embed"]), model.patch_embed.grid_size,
        num_prefix_tokens=wanted)
    return {**weights, "pos_embed": positions.numpy()}
