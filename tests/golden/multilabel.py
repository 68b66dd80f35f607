# SPDX-License-Identifier: Apache-2.0
"""Makes multilabel.h: what scikit-learn and PyTorch say about logits of images that have any number
of classes. Needs numpy, scikit-learn, torch; run by hand:
python3 tests/golden/multilabel.py > tests/golden/multilabel.h

Class 2 has ties, class 4 is never predicted at 0.5, class 5 has no image, class 6 has them all.
"""
import numpy as np
import torch
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, precision_recall_fscore_support

N, K = 53, 7


def data():
    rng = np.random.default_rng(7)
    truth = rng.random((N, K)) < [.5, .2, .3, .1, .15, 0, 1.1]
    logits = rng.normal(-0.5, 1.3, (N, K)) + 1.5 * truth
    logits[:, 2] = np.round(logits[:, 2])
    logits[:, 4] -= 9
    return np.round(logits * 64) / 64, truth.astype(int)  # exact in float


def best(truth, logits):
    """The lowest score that is taken where F1 is largest, of equal ones the highest; that F1."""
    precision, recall, scores = precision_recall_curve(truth, logits)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    i = len(scores) - 1 - np.argmax(f1[:-1][::-1])
    return scores[i], f1[i]


def array(x):
    return "{" + ", ".join(f"{v:.12g}" for v in np.asarray(x).reshape(-1)) + "}"


def main():
    logits, truth = data()
    predicted = (logits >= 0).astype(int)
    ap = [average_precision_score(truth[:, c], logits[:, c]) if truth[:, c].any() else -1 for c in range(K)]
    cut = [best(truth[:, c], logits[:, c]) if truth[:, c].any() else (-1, -1) for c in range(K)]
    every = precision_recall_fscore_support(truth, predicted, zero_division=0)
    weight = torch.linspace(.5, 3.5, K, dtype=torch.float64)
    x = torch.tensor(logits, requires_grad=True)
    soft = torch.tensor(truth, dtype=torch.float64) * .8 + .1
    weighted = torch.nn.BCEWithLogitsLoss(pos_weight=weight)(x, soft)
    weighted.backward()
    plain = torch.nn.BCEWithLogitsLoss()(x, torch.tensor(truth, dtype=torch.float64))
    print("/* Made by multilabel.py with scikit-learn and PyTorch; do not edit. -1: has no images. */")
    print(f"enum {{ GOLDEN_IMAGES = {N}, GOLDEN_CLASSES = {K} }};")
    for name, type_, values in (
            ("logits", "float", logits), ("truth", "int", truth), ("ap", "double", ap),
            ("lowest_taken", "double", [c[0] for c in cut]), ("best_f1", "double", [c[1] for c in cut]),
            ("precision", "double", every[0]), ("recall", "double", every[1]),
            ("f1", "double", every[2]), ("support", "int", every[3]),
            ("pos_weight", "float", weight), ("dlogits", "double", x.grad)):
        print(f"static const {type_} golden_{name}[] = {array(values)};")
    for name, value in (("map", np.mean([a for a in ap if a >= 0])),
                        ("micro_f1", f1_score(truth, predicted, average="micro")),
                        ("macro_f1", np.mean([f for f, s, p in zip(every[2], every[3], predicted.sum(0)) if s + p])),
                        ("loss", plain.item()), ("weighted_loss", weighted.item())):
        print(f"static const double golden_{name} = {value:.12g};")


main()
