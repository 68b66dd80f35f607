# SPDX-License-Identifier: Apache-2.0
"""Makes scores.h: what scikit-learn, and for calibration and intervals NumPy, say about a list of
logits. Needs numpy, scikit-learn; run by hand: python3 tests/golden/scores.py > tests/golden/scores.h

Class 2 is never predicted, class 5 never true, class 6 neither. The intervals use the product's
random words (vision/rng.c, by make.py); a check against NumPy's own generator stands at the end.
"""
import sys

import numpy as np
from sklearn.metrics import (balanced_accuracy_score, confusion_matrix, f1_score, log_loss,
                             precision_recall_fscore_support, top_k_accuracy_score)

import make

N, K, BINS, RESAMPLES = 60, 7, 15, 1000


def data():
    rng = np.random.default_rng(20)
    labels = rng.choice([0, 1, 2, 3, 4], N, p=[.3, .25, .1, .2, .15])
    logits = rng.normal(0, 1.2, (N, K)) + 1.7 * np.eye(K)[labels]
    logits[:, 2] -= 6
    logits[:, 6] -= 8
    return np.round(logits * 64) / 64, labels  # exact in float


def calibration(p, labels):
    """Guo et al. 2017, equation 3."""
    top, right = p.max(1), p.argmax(1) == labels
    edges, ece = np.linspace(0, 1, BINS + 1), 0.0
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (top > low) & (top <= high)
        if inside.any():
            ece += inside.mean() * abs(right[inside].mean() - top[inside].mean())
    return ece


def interval(labels, predicted, draws):
    """Both metrics over resamples; `draws` gives the indices of resample r."""
    top1, f1 = [], []
    for r in range(RESAMPLES):
        i = draws(r)
        top1.append(np.mean(labels[i] == predicted[i]))
        f1.append(f1_score(labels[i], predicted[i], average="macro", zero_division=0))
    return [list(np.percentile(x, [2.5, 97.5])) for x in (top1, f1)]


def words(r):
    key = make.mix(make.mix_name(0, "bootstrap"), r)
    w = make.block(key, np.arange((N + 3) // 4, dtype=np.uint64)).reshape(-1)[:N]
    return ((w * np.uint64(N)) >> np.uint64(32)).astype(int)


def array(x):
    return "{" + ", ".join(f"{v:.12g}" for v in np.asarray(x).reshape(-1)) + "}"


def main():
    logits, labels = data()
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    predicted = logits.argmax(1)
    # The bootstrap draws from images in the order of the confusion counts.
    order = np.lexsort((predicted, labels))
    own = interval(labels[order], predicted[order], words)
    rng = np.random.default_rng(1)
    other = interval(labels, predicted, lambda r: rng.integers(0, N, N))
    print("intervals", own, "by NumPy's generator", other, file=sys.stderr)
    assert np.max(np.abs(np.subtract(own, other))) < 0.03
    every = precision_recall_fscore_support(labels, predicted, labels=range(K), zero_division=0)
    averages = [precision_recall_fscore_support(labels, predicted, average=a, zero_division=0)[:3]
                for a in ("macro", "weighted")]
    print("/* Made by scores.py with scikit-learn and NumPy; do not edit. */")
    print(f"enum {{ GOLDEN_IMAGES = {N}, GOLDEN_CLASSES = {K} }};")
    for name, type_, values in (
            ("logits", "float", logits), ("labels", "int", labels),
            ("confusion", "int", confusion_matrix(labels, predicted, labels=range(K))),
            ("precision", "double", every[0]), ("recall", "double", every[1]),
            ("f1", "double", every[2]), ("support", "int", every[3]),
            ("macro", "double", averages[0]), ("weighted", "double", averages[1]),
            ("top1_interval", "double", own[0]), ("f1_interval", "double", own[1])):
        print(f"static const {type_} golden_{name}[] = {array(values)};")
    for name, value in (("top1", np.mean(labels == predicted)),
                        ("top5", top_k_accuracy_score(labels, p, k=5, labels=range(K))),
                        ("balanced", balanced_accuracy_score(labels, predicted)),
                        ("loss", log_loss(labels, p, labels=range(K))),
                        ("ece", calibration(p, labels))):
        print(f"static const double golden_{name} = {value:.12g};")


main()
