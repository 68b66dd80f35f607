# SPDX-License-Identifier: Apache-2.0
"""Low-rank adapters by Hugging Face's PEFT: the referee of the cases lora/*.

PEFT wraps the layers and saves the adapter that `thaw train --adapter` begins with; its
gradients are PyTorch's. Written here: which layers, values that are not zero (with B = 0 the
gradient of A would be), and the loop.
"""
import os

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

import models
import reference
from reference import Arithmetic, Result, Run

PREFIX = "base_model.model."


def fields(spec: str) -> dict[str, str]:
    """"r=8,alpha=16,targets=qkv,proj": what has no '=' goes on with the targets."""
    found: dict[str, str] = {}
    for part in spec.split(","):
        key, equals, value = part.partition("=")
        if equals:
            found[key] = value
        else:
            found["targets"] += "," + part
    return found


def head_of(model: nn.Module) -> str:
    return next(n for n, _ in model.named_modules() if n in ("fc", "linear", "head"))


def layers(model: nn.Module, targets: str) -> list[str]:
    """By kind, or by last component, as PEFT's own lists of names are read."""
    words, head = targets.split(","), head_of(model)
    kinds = {"conv": nn.Conv2d, "all-linear": nn.Linear}
    return [n for n, m in model.named_modules()
            if n != head and isinstance(m, (nn.Conv2d, nn.Linear))
            and any(isinstance(m, kinds[w]) if w in kinds else n.split(".")[-1] == w
                    for w in words)]


def wrap(model: nn.Module, run: Run) -> nn.Module:
    said = fields(run.lora)
    config = LoraConfig(r=int(said.get("r", 8)), lora_alpha=float(said["alpha"]),
                        target_modules=layers(model, said["targets"]), lora_dropout=0.0,
                        use_rslora=said.get("rslora") == "1", modules_to_save=[head_of(model)])
    return get_peft_model(model, config)


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """What trains, under Thaw's names."""
    found = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            name = name.removeprefix(PREFIX).replace(".modules_to_save", "")
            found[name.replace(".default", "")] = p.data
    return found


def initial(run: Run, weights: dict[str, np.ndarray], folder: str) -> dict[str, np.ndarray]:
    """Values of A, B and the head, in PEFT's own files in `folder`."""
    model = wrap(reference.load(run, weights, reference.FP32[0]), run)
    rng = np.random.RandomState(5000)
    for name, t in tensors(model).items():
        if ".lora_" in name:
            fan_in = t[0].numel() if "lora_A" in name else 16 * t.shape[1]
            t.copy_(torch.from_numpy(rng.standard_normal(tuple(t.shape))) * fan_in ** -0.5)
    model.save_pretrained(os.path.join(folder, "adapter"))
    return {k: v.numpy().copy() for k, v in tensors(model).items()}


def reload(run: Run, weights: dict[str, np.ndarray], folder: str) -> dict[str, np.ndarray]:
    """What PEFT makes of a folder that Thaw wrote."""
    model = reference.load(run, weights, reference.FP32[0])
    model = PeftModel.from_pretrained(model, folder, is_trainable=True)
    return {k: v.numpy().copy() for k, v in tensors(model).items()}


def new_optimizer(model: nn.Module, run: Run) -> torch.optim.Optimizer:
    rows = [{"params": [p], "weight_decay": run.weight_decay if p.dim() >= 2 else 0.0}
            for p in model.parameters() if p.requires_grad]
    if run.optimizer == "adamw":
        return torch.optim.AdamW(rows, lr=run.lr, betas=(0.9, 0.999), eps=1e-8)
    return torch.optim.SGD(rows, lr=run.lr, momentum=run.momentum)


def train(run: Run, weights: dict[str, np.ndarray], start: dict[str, np.ndarray],
          images: np.ndarray, labels: np.ndarray, how: Arithmetic) -> Result:
    """--thaw head, BatchNorm frozen, a constant learning rate."""
    model = reference.load(run, weights, how)
    models.freeze(model, "head", "frozen", run.batch, 0)
    model = wrap(model, run).to(how.dtype)
    for name, t in tensors(model).items():
        t.copy_(torch.from_numpy(start[name]))
    x, y = reference.pixels(images, run, how), torch.from_numpy(labels)
    optimizer, result = new_optimizer(model, run), Result({})
    for first in range(0, len(labels), run.batch):
        part = slice(first, first + run.batch)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x[part]), y[part])
        loss.backward()
        optimizer.step()
        result.losses.append(loss.item())
        result.lrs.append(run.lr)
    result.tensors = {k: v.numpy().copy() for k, v in tensors(model).items()}
    return result
