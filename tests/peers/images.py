# SPDX-License-Identifier: Apache-2.0
"""Small made-up pictures: smooth noise, a gradient, a disc and a bar. Natural enough for a
network (neighbouring pixels agree), and drawn from NumPy's RandomState, which never changes."""
import csv
import os

import numpy as np
from PIL import Image


def smooth_noise(rng: np.random.RandomState, size: int, cells: int) -> np.ndarray:
    """Bilinear noise [size][size][3] in about [-1,1]."""
    grid = rng.uniform(-1, 1, (cells + 1, cells + 1, 3))
    at = np.linspace(0, cells - 1e-9, size)
    low, part = at.astype(int), (at - at.astype(int))[:, None]
    rows = grid[low] * (1 - part)[:, :, None] + grid[low + 1] * part[:, :, None]
    cols = rows[:, low] * (1 - part) + rows[:, low + 1] * part
    return cols


def picture(rng: np.random.RandomState, size: int) -> np.ndarray:
    """u8 [size][size][3]"""
    v = 128 + 70 * smooth_noise(rng, size, 3) + 25 * smooth_noise(rng, size, max(4, size // 8))
    y, x = np.mgrid[0:size, 0:size] / size
    cy, cx, r = rng.uniform(0.2, 0.8, 3)
    v[(y - cy) ** 2 + (x - cx) ** 2 < (r / 3) ** 2] += rng.uniform(-90, 90, 3)
    a, b, width = rng.uniform(0, 1, 3)
    v[abs(np.cos(6 * a) * (x - 0.5) + np.sin(6 * a) * (y - b)) < 0.03 + width / 20] += \
        rng.uniform(-90, 90, 3)
    v += rng.normal(0, 4, v.shape)
    return np.clip(np.rint(v), 0, 255).astype(np.uint8)


def pictures(seed: int, n: int, size: int) -> np.ndarray:
    rng = np.random.RandomState(seed)
    return np.stack([picture(rng, size) for _ in range(n)])


def labels(seed: int, n: int, n_classes: int) -> np.ndarray:
    """Every class at least once where n allows it."""
    return np.random.RandomState(seed).permutation(np.arange(n) % n_classes)


def class_name(label: int) -> str:
    return f"c{label:03d}"  # byte order is numeric order


def write_csv(folder: str, images: np.ndarray, y: np.ndarray) -> str:
    """PNGs and index.csv, whose rows are in the order of the arrays; returns the csv's path."""
    os.makedirs(os.path.join(folder, "png"), exist_ok=True)
    path = os.path.join(folder, "index.csv")
    with open(path, "w", newline="") as f:
        out = csv.writer(f)
        out.writerow(["path", "label"])
        for i, (pixels, label) in enumerate(zip(images, y)):
            name = f"png/{i:04d}.png"
            Image.fromarray(pixels).save(os.path.join(folder, name))
            out.writerow([name, class_name(int(label))])
    return path


def write_jpegs(folder: str, images: np.ndarray) -> list[str]:
    """FOLDER/NNNN.jpg; returns the paths."""
    paths = [os.path.join(folder, f"{i:04d}.jpg") for i in range(len(images))]
    for pixels, path in zip(images, paths):
        Image.fromarray(pixels).save(path, quality=90)
    return paths


def list_csv(path: str, files: list[str], y: np.ndarray) -> None:
    """A data set of files anywhere, in this order; a file may come again."""
    with open(path, "w", newline="") as f:
        csv.writer(f).writerows([("path", "label"), *((file, class_name(int(label)))
                                                      for file, label in zip(files, y))])


def write_folder(folder: str, images: np.ndarray, y: np.ndarray, ext: str) -> None:
    """DIR/CLASS/NNNN.ext"""
    for i, (pixels, label) in enumerate(zip(images, y)):
        home = os.path.join(folder, class_name(int(label)))
        os.makedirs(home, exist_ok=True)
        Image.fromarray(pixels).save(os.path.join(home, f"{i:04d}.{ext}"), quality=90)
