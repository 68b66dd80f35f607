# SPDX-License-Identifier: Apache-2.0
"""Thaw against PyTorch, to float rounding, through the command line alone.

Each case writes weights and pictures, runs `thaw train` in its exact mode and reads last.h5.
Truth is the same run by PyTorch in fp64. Per tensor, over its change d in the run:
    e = |d - d64| / |d64|   must be   <= max(tolerance, 4 * e_torch)
where e_torch is the larger error of PyTorch's own fp32 runs (contiguous, channels_last). With
lr 1, no momentum and no decay, d is minus the gradient; of a BatchNorm buffer it is the update.
Tensors that PyTorch leaves alone must be the same bits as in the weights file.
"""
import argparse
import contextlib
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import numpy as np
import torch

import cases
import files
import images
import models
import reference
import ties
from cases import Case

TOLERANCE = {"step": 1e-4, "logits": 1e-4, "trace": 1e-3}  # DESIGN section 10
OWN_SPREAD = 4.0
LR_TOLERANCE = 1e-6
GOOD_MARGIN = 1.5  # below 1, rounding may flip a ReLU


@dataclass
class Check:
    what: str
    e: float
    bound: float

    @property
    def ok(self) -> bool:
        return self.e <= self.bound  # false for NaN


@dataclass
class Truth:
    """PyTorch in fp64, its own fp32 runs, and how near the run comes to a tie (ties.py)."""
    exact: reference.Result
    own: list[reference.Result]
    margin: float


@dataclass
class Material:
    """What both sides are given."""
    folder: str
    weights: files.Tensors
    weights_file: str
    pixels: np.ndarray
    labels: np.ndarray
    csv: str


def make_weights(case: Case) -> files.Tensors:
    run = case.run
    size = case.weights_size or run.image_size
    model = models.build(run.backbone, case.n_classes, size=size).double()
    models.fill(model, 1000)
    if models.is_vit(run.backbone):
        return {k: v.detach().float().numpy().copy() for k, v in models.tensors(model).items()}
    other = images.pictures(2000, 12, run.image_size)
    models.calibrate(model, reference.pixels(other, run, reference.FP64))
    return {k: v.detach().float().numpy().copy() for k, v in models.tensors(model).items()}


def prepare(case: Case, folder: str) -> Material:
    pixels = images.pictures(3000 + case.seed, case.n_images, case.run.image_size)
    labels = images.labels(4000, case.n_images, case.n_classes)
    weights = make_weights(case)
    path = files.save_weights(folder, case.weights, weights)
    if case.weights_size:
        weights = models.resampled(case.run.backbone, weights, case.n_classes,
                                   case.run.image_size)
    return Material(folder, weights, path, pixels, labels,
                    images.write_csv(folder, pixels, labels))


def pytorch(case: Case, weights: files.Tensors, pixels: np.ndarray,
            labels: np.ndarray) -> Truth:
    watches = [ties.Watch() for _ in range(3)]
    results = [reference.train(case.run, weights, pixels, labels, how, watch)
               for how, watch in zip((reference.FP64, *reference.FP32), watches)]
    return Truth(results[0], results[1:], min(ties.margin(watches[0], w) for w in watches[1:]))


def number(v: float) -> str:
    return f"{v:.9g}"


def train_command(case: Case, given: Material, out: str) -> list[str]:
    run = case.run
    argv = ["train", "csv:" + given.csv, "-o", out, "--weights", given.weights_file,
            "--backbone", run.backbone, "--thaw", run.thaw, "--bn", run.bn,
            "--epochs", str(run.epochs), "--batch", str(run.batch),
            "--optimizer", run.optimizer, "--lr", number(run.lr),
            "--momentum", number(run.momentum), "--weight-decay", number(run.weight_decay),
            "--lr-schedule", run.lr_schedule, "--warmup", str(run.warmup), "--keep-head",
            "--augment", "none", "--no-shuffle", "--val", "0", "--crop", "1.0",
            "--image-size", str(run.image_size), "--log-every", "1", "--threads", "2"]
    unless_default = [("--lr-decay", run.lr_decay, 1.0), ("--clip", run.clip, 0.0),
                      ("--label-smoothing", run.label_smoothing, 0.0),
                      ("--accumulate", run.accumulate, 1)]
    for option, value, default in unless_default:
        if value != default:
            argv += [option, number(value)]
    for option, value, default in (("--mean", run.mean, reference.MEAN),
                                   ("--std", run.std, reference.STD)):
        if value != default or models.is_vit(run.backbone):
            argv += [option, ",".join(map(number, value))]
    return argv + (["--nesterov"] if run.nesterov else [])


class Program:
    """The thaw under test: a binary, or a function with the same command line (self-test)."""

    def __init__(self, binary: str | None = None, function=None):
        self.binary, self.function = binary, function

    def run(self, argv: list[str]) -> str:
        """Standard output; RuntimeError with the program's own words if it fails."""
        if self.function:
            return self.function(argv)
        done = subprocess.run([self.binary] + argv, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"exit {done.returncode}: {done.stderr.strip()[-400:]}")
        return done.stdout


def distance(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.linalg.norm((got - want).ravel()) / np.linalg.norm(want.ravel()))


def change(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    return after.astype(np.float64) - before.astype(np.float64)


def check_tensor(name: str, got: np.ndarray | None, before: np.ndarray,
                 exact: np.ndarray, own: list[np.ndarray], tolerance: float) -> Check:
    if got is None:
        return Check(name + " (missing)", float("inf"), 0.0)
    if got.shape != before.shape or got.dtype != np.float32:
        return Check(f"{name} ({got.dtype} {got.shape})", float("inf"), 0.0)
    d64 = change(exact, before)
    if not d64.any():
        same = got.tobytes() == before.tobytes()
        return Check(name + ("" if same else " (frozen, moved)"), 0.0 if same else float("inf"),
                     0.0)
    e_torch = max(distance(change(v, before), d64) for v in own)
    return Check(name, distance(change(got, before), d64),
                 max(tolerance, OWN_SPREAD * e_torch))


def check_series(what: str, got: list[float], exact: list[float], own: list[list[float]],
                 tolerance: float) -> list[Check]:
    if len(got) != len(exact):
        return [Check(f"{what}: {len(got)} steps, PyTorch {len(exact)}", float("inf"), 0.0)]
    rows = []
    for i, (a, b) in enumerate(zip(got, exact)):
        scale = max(abs(b), 1e-12)
        spread = max((abs(o[i] - b) / scale for o in own), default=0.0)
        rows.append(Check(f"{what} {i + 1}", abs(a - b) / scale,
                          max(tolerance, OWN_SPREAD * spread)))
    return rows


def check_run(case: Case, given: Material, truth: Truth, out: str) -> list[Check]:
    """The model file and the metrics of one training run against PyTorch."""
    exact, own = truth.exact, truth.own
    got = files.read_model(os.path.join(out, "last.h5"), given.weights)
    tolerance = TOLERANCE[case.kind]
    rows = [check_tensor(name, got.pop(name, None), before, exact.tensors[name],
                         [o.tensors[name] for o in own], tolerance)
            for name, before in given.weights.items()]
    rows += [Check(name + " (unexpected)", float("inf"), 0.0) for name in got]
    steps = files.read_events(out, "step")
    rows += check_series("loss", [e["loss"] for e in steps], exact.losses,
                         [o.losses for o in own], tolerance)
    rows += check_series("lr", [e["lr"] for e in steps], exact.lrs, [], LR_TOLERANCE)
    return rows + check_said(case, out)


def check_said(case: Case, out: str) -> list[Check]:
    """What the run says about itself: the certificate and the model file's attributes."""
    def truth(what: str, ok: bool) -> Check:
        return Check(what, 0.0 if ok else float("inf"), 0.0)

    end = files.read_events(out, "end")
    attributes = files.read_attributes(os.path.join(out, "last.h5"))
    text = lambda v: v.decode() if isinstance(v, bytes) else str(v)
    classes = [text(c) for c in np.asarray(attributes.get("classes", [])).ravel()]
    return [truth("frozen_verified", len(end) == 1 and end[0].get("frozen_verified") is True),
            truth("attribute thaw_format", int(attributes.get("thaw_format", 0)) == 1),
            truth("attribute backbone", text(attributes.get("backbone")) == case.run.backbone),
            truth("attribute classes",
                  classes == [images.class_name(i) for i in range(case.n_classes)])]


def check_logits(case: Case, given: Material, out: str, program: Program) -> list[Check]:
    """`thaw predict` on the model that the run wrote, against PyTorch in fp64 on that model."""
    names = [os.path.join(given.folder, "png", f"{i:04d}.png") for i in range(case.n_images)]
    lines = program.run(["predict", out, *names, "--json"]).splitlines()
    said = {os.path.basename(row["file"]): row for row in map(json.loads, filter(None, lines))}
    got = np.array([said[os.path.basename(n)]["logits"] for n in names])
    odds = np.array([said[os.path.basename(n)]["probabilities"] for n in names])
    model = files.read_model(os.path.join(out, "last.h5"), given.weights)
    want = reference.logits(case.run, model, given.pixels)
    soft = torch.softmax(torch.from_numpy(want), 1).numpy()
    wrong = sum(said[os.path.basename(n)]["class"] != images.class_name(int(k))
                for n, k in zip(names, want.argmax(1)))
    bound = TOLERANCE["logits"]
    return [Check(f"logits of image {i}", distance(got[i], want[i]), bound)
            for i in range(case.n_images)] + [
        Check("probabilities", float(abs(odds - soft).max()), bound),
        Check("predicted classes", float(wrong), 0.0)]


def check_repeat(given: Material, first: str, second: str) -> list[Check]:
    a, b = (files.read_model(os.path.join(run, "last.h5"), given.weights)
            for run in (first, second))
    return [Check(name + " (second run)", 0.0 if a[name].tobytes() == b[name].tobytes()
                  else float("inf"), 0.0) for name in a]


def compare_lora(case: Case, program: Program, folder: str) -> tuple[list[Check], float]:
    """PEFT's adapter goes in; A, B and the head of last.adapter.h5 against PEFT's, and the
    base in last.h5, whose bits stay wherever no adapter is merged."""
    import lora  # here: the other cases do not need PEFT
    given, out = prepare(case, folder), os.path.join(folder, "run")
    start = lora.initial(case.run, given.weights, folder)
    program.run(train_command(case, given, out) +
                ["--adapter", os.path.join(folder, "adapter")])
    exact, *own = (lora.train(case.run, given.weights, start, given.pixels, given.labels, how)
                   for how in (reference.FP64, *reference.FP32))
    tolerance = TOLERANCE[case.kind]
    got = files.read_h5(os.path.join(out, "last.adapter.h5"))
    rows = [check_tensor(name, got.pop(name, None), before, exact.tensors[name],
                         [o.tensors[name] for o in own], tolerance)
            for name, before in start.items()]
    rows += [Check(name + " (unexpected)", float("inf"), 0.0) for name in got]
    back = os.path.join(folder, "back")
    program.run(["convert", os.path.join(out, "last.adapter.h5"), back])
    wrote, theirs = files.read_h5(os.path.join(out, "last.adapter.h5")), \
        lora.reload(case.run, given.weights, back)
    rows += [Check(name + " (read by PEFT)",
                   0.0 if theirs[name].tobytes() == wrote[name].tobytes() else float("inf"), 0.0)
             for name in start]
    model = files.read_model(os.path.join(out, "last.h5"), given.weights)
    rows += [check_tensor(name, model.get(name), before, before, [], tolerance)
             for name, before in given.weights.items() if name not in start
             and name.removesuffix("weight") + "lora_A.weight" not in start]
    steps = files.read_events(out, "step")
    rows += check_series("loss", [e["loss"] for e in steps], exact.losses,
                         [o.losses for o in own], tolerance)
    return rows + check_said(case, out), float("nan")


def compare(case: Case, program: Program, folder: str) -> tuple[list[Check], float]:
    """All checks, and the margin."""
    if case.run.lora:
        return compare_lora(case, program, folder)
    given, out = prepare(case, folder), os.path.join(folder, "run")
    program.run(train_command(case, given, out))
    truth = pytorch(case, given.weights, given.pixels, given.labels)
    rows = check_run(case, given, truth, out)
    if case.kind == "logits":
        rows += check_logits(case, given, out, program)
    if case.repeat:
        again = os.path.join(folder, "again")
        program.run(train_command(case, given, again))
        rows += check_repeat(given, out, again)
    return rows, truth.margin


def worst(rows: list[Check]) -> Check:
    """The failing check by the most, else the one nearest to its bound."""
    def rank(row: Check) -> float:
        if not row.ok:
            return 1e300 if np.isnan(row.e) else max(row.e, 1.0) * 1e12
        return row.e / row.bound if row.bound else 0.0
    return max(rows, key=rank)


def judge(case: Case, program: Program, keep: str | None) -> tuple[bool, str]:
    """(passed, one line of text)."""
    with contextlib.ExitStack() as stack:
        folder = os.path.join(keep, case.name.replace("/", "_")) if keep else \
            stack.enter_context(tempfile.TemporaryDirectory(prefix="thaw-numerics-"))
        os.makedirs(folder, exist_ok=True)
        started = time.monotonic()
        try:
            rows, margin = compare(case, program, folder)
        except (RuntimeError, OSError, KeyError, ValueError) as problem:
            return False, f"{case.name:32} {type(problem).__name__}: {problem}"
    w, bad = worst(rows), sum(not r.ok for r in rows)
    losses = [r.e for r in rows if r.what.startswith("loss")]
    tail = f"{bad} of {len(rows)} wrong" if bad else f"{len(rows)} checks"
    seconds = time.monotonic() - started
    return bad == 0, (f"{case.name:32} {w.what:34} e {w.e:.1e}  bound {w.bound:.1e}  "
                      f"loss {max(losses):.0e}  margin {margin:.1f}  {tail}  {seconds:.1f} s")


def margin_of(case: Case, weights: files.Tensors, seed: int, beat: float) -> float:
    """Gives up early on a seed whose first fp32 run is no better than `beat`."""
    pixels = images.pictures(3000 + seed, case.n_images, case.run.image_size)
    labels = images.labels(4000, case.n_images, case.n_classes)
    exact, margin = ties.Watch(), float("inf")
    reference.train(case.run, weights, pixels, labels, reference.FP64, exact)
    for how in reference.FP32:
        if margin > beat:
            rounded = ties.Watch()
            reference.train(case.run, weights, pixels, labels, how, rounded)
            margin = min(margin, ties.margin(exact, rounded))
    return margin


def find_seed(case: Case, n: int) -> tuple[float, int]:
    """Of n image seeds, the one whose decisions stay furthest from a tie."""
    best, weights = (0.0, 0), make_weights(case)
    for seed in range(n):
        best = max(best, (margin_of(case, weights, seed, best[0]), seed))
        if best[0] >= GOOD_MARGIN:
            break
    return best


def selected(pattern: str, quick: bool) -> list[Case]:
    found = [c for c in cases.every()
             if fnmatch.fnmatch(c.name, pattern) and (c.quick or not quick)]
    if not found:
        raise SystemExit(f"--case {pattern}: matches nothing; see --list")
    return found


def run_all(chosen: list[Case], program: Program, keep: str | None) -> int:
    """Prints a line per case; returns how many failed."""
    failed = 0
    for case in chosen:
        ok, text = judge(case, program, keep)
        failed += not ok and not case.optional
        verdict = "PASS" if ok else "OPT " if case.optional else "FAIL"
        print(verdict, text, flush=True)
    print(f"{len(chosen)} cases, {failed} failed")
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--thaw", metavar="BIN", help="the program to test")
    parser.add_argument("--case", default="*", metavar="PATTERN", help="shell pattern on names")
    parser.add_argument("--list", action="store_true", help="print the cases and stop")
    parser.add_argument("--quick", action="store_true", help="the small cases only")
    parser.add_argument("--keep", metavar="DIR", help="leave each case's files in DIR")
    parser.add_argument("--threads", type=int, default=2, help="PyTorch's (default 2)")
    parser.add_argument("--find-seeds", type=int, metavar="N",
                        help="try N image seeds per case for cases.SEEDS")
    parser.add_argument("--self-test", action="store_true",
                        help="no thaw: PyTorch in its place, right and with planted errors")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    chosen = selected(args.case, args.quick)
    if args.list:
        print("\n".join(c.name for c in chosen))
    elif args.find_seeds:
        for case in chosen:
            margin, seed = find_seed(case, args.find_seeds)
            print(f'    "{case.name}": {seed},  # margin {margin:.2f}', flush=True)
    elif args.self_test:
        import fake_thaw
        chosen = [c for c in chosen if not c.run.lora]  # it has no adapters
        sys.exit(fake_thaw.self_test(chosen, run_all, judge, Program))
    elif args.thaw:
        sys.exit(1 if run_all(chosen, Program(os.path.abspath(args.thaw)), args.keep) else 0)
    else:
        parser.error("--thaw BIN, --self-test, --list or --find-seeds is needed")


if __name__ == "__main__":
    main()
