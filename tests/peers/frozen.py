# SPDX-License-Identifier: Apache-2.0
"""1,000 training steps on darkened images: what is frozen must not move by one bit.

Usage: frozen.py THAW ASSETS   (needs h5py and Pillow)

Prints, for three freeze states of the CIFAR resnet20, how many tensors of last.h5 are
bit-identical to the weights file and the top-1 on the 10,000 unchanged test images.
`--thaw none --bn stats` is what PyTorch does when only requires_grad is set to False.
"""
import json
import os
import subprocess
import sys
import tarfile
import tempfile

import h5py
import numpy as np
from PIL import Image

STATES = (["--thaw", "none", "--bn", "frozen"], ["--thaw", "head", "--bn", "frozen"],
          ["--thaw", "none", "--bn", "stats"])
PER_CLASS = 128  # 10 classes: 40 batches of 32, 25 epochs


def tensors(path: str) -> dict[str, np.ndarray]:
    found = {}

    def visit(name: str, item) -> None:
        if isinstance(item, h5py.Dataset):
            found[name.replace("/", ".")] = item[()]

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def darken(source: str, target: str) -> None:
    for name in sorted(os.listdir(source)):
        os.makedirs(f"{target}/{name}")
        for file in sorted(os.listdir(f"{source}/{name}"))[:PER_CLASS]:
            image = Image.open(f"{source}/{name}/{file}").convert("RGB")
            image.point(lambda v: int(v * 0.3)).save(f"{target}/{name}/{file[:-4]}.png")


def run(*args: str) -> str:
    return subprocess.run(args, check=True, capture_output=True, text=True).stdout


def main() -> None:
    thaw, assets = sys.argv[1:]
    weights = f"{assets}/weights/cifar10-resnet20-12fca82f.converted.h5"
    with tempfile.TemporaryDirectory() as work:
        with tarfile.open(f"{assets}/data/cifar10-jpeg-test.tar.gz") as archive:
            archive.extractall(work, filter="data")
        darken(f"{work}/test", f"{work}/dark")
        before = tensors(weights)
        for i, state in enumerate(STATES):
            run(thaw, "train", f"{work}/dark", "-o", f"{work}/run{i}", "--weights", weights,
                "--keep-head", "--val", "0", "--epochs", "25", "--augment", "none", *state)
            after = tensors(f"{work}/run{i}/last.h5")
            same = sum(before[k].tobytes() == after[k].tobytes() for k in before)
            score = json.loads(run(thaw, "eval", f"{work}/run{i}/last.h5", f"{work}/test", "--json"))
            print(f"{' '.join(state)}: {same} of {len(before)} tensors bit-identical, "
                  f"top-1 {score['top1']}", flush=True)


if __name__ == "__main__":
    main()
