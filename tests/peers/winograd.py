#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rounding errors of convolution algorithms on real images, layer by layer.

    make -C BUILD conv_once
    tests/peers/winograd.py BUILD resnet20 WEIGHTS IMAGES [--isa avx2] [--size N]

Each 3x3 convolution of stride 1 of the network gets the input that it has in it, and the
gradient that the cross-entropy loss sends it in training mode. y, dx and dw by each
algorithm (tests/conv_once.c) are compared with PyTorch's in double: |a - b|_2 / |b|_2.
WEIGHTS: a file of thaw's or torchvision's names (.h5, .pth), or "he" for He-normal ones.
IMAGES: a folder of classes; the first of each are taken. Prints markdown."""
import argparse, pathlib, subprocess, sys, tempfile

import numpy as np
import torch
import torchvision
from PIL import Image

ALGORITHMS = ["direct", "onednn-winograd", "winograd"]
OPS = ["conv", "conv_dx", "conv_dw"]


class Block(torch.nn.Module):
    def __init__(self, c, o, stride):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(c, o, 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(o)
        self.conv2 = torch.nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(o)
        self.pad, self.stride = (o - c) // 2, stride

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.pad:
            x = torch.nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return torch.relu(x + y)


class CifarResNet(torch.nn.Module):
    """ResNet-20 of He et al. 2016, section 4.2, with parameter-free shortcuts."""

    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(16)
        for i, (c, o) in enumerate([(16, 16), (16, 32), (32, 64)]):
            blocks = [Block(c if k == 0 else o, o, 2 if i and k == 0 else 1) for k in range(3)]
            setattr(self, f"layer{i + 1}", torch.nn.Sequential(*blocks))
        self.linear = torch.nn.Linear(64, 10)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def load(net, path):
    if path == "he":
        torch.manual_seed(0)
        for m in net.modules():
            if isinstance(m, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
        return
    if path.endswith(".h5"):
        import h5py

        with h5py.File(path) as f:
            state = {k: torch.from_numpy(f[k][()]) for k in f}
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
    left = net.load_state_dict(state, strict=False)
    heads = ("linear.", "fc.", "num_batches")
    missing = [k for k in left.missing_keys if not any(h in k for h in heads)]
    if missing:
        sys.exit(f"{path}: lacks {missing[:3]}")


def read_images(folder, n, size, mean, std):
    classes = sorted(p for p in pathlib.Path(folder).iterdir() if p.is_dir())
    images, labels = [], []
    for i in range(n):
        c = i % len(classes)
        path = sorted(p for p in classes[c].iterdir() if p.is_file())[i // len(classes)]
        with Image.open(path) as im:
            im = im.convert("RGB")
            im = torchvision.transforms.functional.center_crop(
                torchvision.transforms.functional.resize(im, size), size)
            images.append((np.asarray(im, np.float64) / 255 - mean) / std)
        labels.append(c)
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()), torch.tensor(labels)


def layers_of(net, x, target):
    """[name, x, w, dy] of each layer, in double."""
    found = []

    def keep(name):
        def hook(module, inputs, output):
            output.retain_grad()
            found.append((name, inputs[0].detach(), module.weight.detach(), output))
        return hook

    for name, m in net.named_modules():
        if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3) and m.stride == (1, 1):
            if m.in_channels > 3:
                m.register_forward_hook(keep(name))
    torch.nn.functional.cross_entropy(net(x), target).backward()
    return [(name, i, w, o.grad) for name, i, w, o in found]


def run(program, device, algorithm, op, sizes, a, b, shape, folder):
    paths = [str(folder / n) for n in ("a", "b", "out")]
    a.numpy().astype(np.float32).tofile(paths[0])
    b.numpy().astype(np.float32).tofile(paths[1])
    done = subprocess.run([program, device, algorithm, op, *map(str, sizes), *paths])
    if done.returncode == 3:
        return None
    if done.returncode:
        sys.exit(done.returncode)
    return torch.from_numpy(np.fromfile(paths[2], np.float32).reshape(shape).astype(np.float64))


def error(a, exact):
    return float((a - exact).norm() / exact.norm())


def main():
    p = argparse.ArgumentParser()
    p.add_argument("build", type=pathlib.Path)
    p.add_argument("backbone", choices=["resnet20", "resnet18", "resnet50"])
    p.add_argument("weights")
    p.add_argument("images")
    p.add_argument("--isa", default="avx2")
    p.add_argument("--n", type=int, default=16)
    p.add_argument("--size", type=int)
    o = p.parse_args()
    small = o.backbone == "resnet20"
    net = CifarResNet() if small else getattr(torchvision.models, o.backbone)(num_classes=10)
    load(net, o.weights)
    net.double().train()
    mean = [0.485, 0.456, 0.406]
    std = [0.229, 0.224, 0.225]
    x, target = read_images(o.images, o.n, o.size or (32 if small else 224), mean, std)
    print("| layer | " + " | ".join(f"{op} {a}" for op in OPS for a in ALGORITHMS) + " |")
    print("|---" * (1 + len(OPS) * len(ALGORITHMS)) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for name, x, w, dy in layers_of(net, x, target):
            # What single-precision kernels get is exact in double.
            x, w, dy = (t.float().double() for t in (x, w, dy))
            n, c, h, width = x.shape
            sizes = (n, c, h, width, w.shape[0])
            exact = {
                "conv": torch.nn.functional.conv2d(x, w, padding=1),
                "conv_dx": torch.nn.grad.conv2d_input(x.shape, w, dy, padding=1),
                "conv_dw": torch.nn.grad.conv2d_weight(x, w.shape, dy, padding=1),
            }
            first = {"conv": (x, w), "conv_dx": (dy, w), "conv_dw": (x, dy)}
            row = []
            for op in OPS:
                for a in ALGORITHMS:
                    y = run(o.build / "conv_once", f"cpu:{o.isa}", a, op, sizes, *first[op],
                            exact[op].shape, pathlib.Path(folder))
                    row.append("—" if y is None else f"{error(y, exact[op]):.1e}")
            print(f"| {name} {c}x{h} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
