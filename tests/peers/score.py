# SPDX-License-Identifier: Apache-2.0
"""Does the ranking of `thaw score` hold? Scores of weight files on folders of photographs beside
the accuracies that training then gives; the tables of docs/score.md.

    python tests/peers/score.py THAW ASSETS OUT.json [--seeds 3] [--threads 1] [--render]

ASSETS has weights/ and data/ (THAW_TEST_ASSETS). Each training goes into OUT.json as it ends; the same
command again goes on, --render only prints the tables. What judges is never looked at by a score:
flowers' validation images; of trashnet validation and test images together, so that there are
759 of them. The standard library is enough.
"""
import argparse
import itertools
import json
import math
import os
import pathlib
import subprocess
import tarfile
import tempfile

FILES = {"resnet20": "cifar10-resnet20-12fca82f.th", "resnet32": "cifar10-resnet32-d509ac18.th",
         "resnet56": "cifar10-resnet56-4bfd9763.th",
         "resnet8 (Keras)": "mlperf-tiny-resnet8-cifar10.keras.h5",
         "resnet20 (ours)": None, "random": "random"}
ARCHIVES = {"flowers": "flowers-5class-800.tar.gz", "trashnet": "trashnet-6class-2527.tar.gz"}
EPOCHS = {"flowers": 12, "trashnet": 6}
SCORES = ["logme", "h_score", "h_score_shrunk", "leep", "knn", "probe"]
INPUT = ["--image-size", "32", "--crop", "1"]
OURS = pathlib.Path(__file__).parents[2] / "examples/weights/resnet20-cifar10.h5"


def unpack(assets, work):
    """work/NAME/train and work/NAME/test, which has all that judges."""
    for name, archive in ARCHIVES.items():
        with tarfile.open(f"{assets}/data/{archive}") as tar:
            tar.extractall(work, filter="data")
        root = pathlib.Path(work, name)
        for image in sorted(root.glob("val/*/*")):
            to = root / "test" / image.parent.name / f"val-{image.name}"
            to.parent.mkdir(parents=True, exist_ok=True)
            image.rename(to)
        for folder in sorted(root.glob("val/*")):
            folder.rmdir()
        (root / "val").rmdir()


def path_of(name, assets):
    if name == "random":
        return name
    return str(OURS) if FILES[name] is None else f"{assets}/weights/{FILES[name]}"


def scores(thaw, data, assets, threads):
    names = list(FILES)
    paths = {path_of(n, assets): n for n in names}
    out = subprocess.run([thaw, "score", data, "--weights", ",".join(paths), "--val", "0", "--json", "--quiet",
                          "--threads", str(threads), *INPUT], check=True, capture_output=True, text=True).stdout
    rows = [json.loads(line) for line in out.splitlines()]
    return {paths[r["weights"]]: r for r in rows}


def train(thaw, data, name, assets, kind, seed, threads):
    """Top-1 on what judges, of the last model: nothing was chosen by it."""
    weights = ["--weights", path_of(name, assets)] + (["--backbone", "resnet20"] if name == "random" else [])
    recipe = ["--augment", "basic", "--scale", "0.3", "--epochs", str(EPOCHS[data.name]), "--lr", "0.02",
              "--thaw", "all", "--bn", "train"]
    if kind == "head":  # features once, then many epochs on them
        recipe = ["--augment", "none", "--epochs", "40", "--lr", "0.05", "--thaw", "head",
                  "--bn", "stats" if name == "random" else "frozen"]
    with tempfile.TemporaryDirectory() as work:
        subprocess.run([thaw, "train", data, "-o", f"{work}/run", "--val", "0", "--batch", "32", "--seed", str(seed),
                        "--threads", str(threads), "--workers", "1", "--quiet", *INPUT, *weights, *recipe],
                       check=True, stdout=subprocess.DEVNULL)
        return json.load(open(f"{work}/run/test.json"))


def collect(args, kept):
    with tempfile.TemporaryDirectory() as work:
        unpack(args.assets, work)
        for data in (pathlib.Path(work, d) for d in ARCHIVES):
            if f"{data.name} scores" not in kept:
                kept[f"{data.name} scores"] = scores(args.thaw, data, args.assets, args.threads)
                keep(args.out, kept)
        for seed, kind in itertools.product(range(args.seeds), ("head", "all")):
            for name, data in itertools.product(FILES, ARCHIVES):
                key = f"{data} {name} {kind} {seed}"
                if key in kept:
                    continue
                test = train(args.thaw, pathlib.Path(work, data), name, args.assets, kind, seed, args.threads)
                kept[key] = {"top1": test["top1"], "images": test["images"]}
                keep(args.out, kept)
                print(key, test["top1"], flush=True)


def keep(path, kept):
    with open(path + ".part", "w") as f:
        json.dump(kept, f, indent=1)
    os.replace(path + ".part", path)


# ---- Tables ----

def accuracy(kept, data, name, kind, seeds):
    """Mean over the seeds that there are and its standard error: of so many images, or of the seeds where that is more."""
    runs = [kept[key] for key in (f"{data} {name} {kind} {s}" for s in range(seeds)) if key in kept]
    top1, n = [r["top1"] for r in runs], len(runs)
    mean = sum(top1) / n
    images = math.sqrt(mean * (1 - mean) / runs[0]["images"])
    spread = math.sqrt(sum((t - mean) ** 2 for t in top1) / max(n - 1, 1) / n)
    return mean, max(images, spread)


def agreement(kept, data, score, kind, names, seeds):
    """Pairs that both order alike, and otherwise; pairs within a standard error of the difference are ties."""
    alike = other = ties = 0
    s = {n: kept[f"{data} scores"][n][score] for n in names}
    for a, b in itertools.combinations([n for n in names if s[n] is not None], 2):
        (x, ex), (y, ey) = accuracy(kept, data, a, kind, seeds), accuracy(kept, data, b, kind, seeds)
        if abs(x - y) <= math.hypot(ex, ey):
            ties += 1
        elif (x - y) * (s[a] - s[b]) > 0:
            alike += 1
        else:
            other += 1
    return alike, other, ties


def tau(kept, data, score, kind, names, seeds):
    """Kendall's tau-b of all pairs, ties in accuracy or not."""
    s = {n: kept[f"{data} scores"][n][score] for n in names}
    names = [n for n in names if s[n] is not None]
    t = {n: accuracy(kept, data, n, kind, seeds)[0] for n in names}
    sign = lambda v: (v > 0) - (v < 0)
    pairs = [(sign(s[a] - s[b]), sign(t[a] - t[b])) for a, b in itertools.combinations(names, 2)]
    known = [sum(p[i] != 0 for p in pairs) for i in (0, 1)]
    return sum(p * q for p, q in pairs) / math.sqrt(known[0] * known[1]) if all(known) else math.nan


def cell(row, score):
    if row[score] is None:
        return "–"
    percent = {"knn": "{:.1f} %", "probe": "{:.1f} %"}.get(score)
    text = percent.format(100 * row[score]) if percent else f"{row[score]:.3f}"
    return f"{text} ({row[score + '_rank']})"


def render(kept, seeds):
    for data in ARCHIVES:
        rows = kept[f"{data} scores"]
        print(f"\n**{data}**\n\n| weights | " + " | ".join(SCORES) + " | head only | all |")
        print("|---" * (len(SCORES) + 3) + "|")
        for name in sorted(FILES, key=lambda n: -rows[n]["logme"]):
            ends = []
            for kind in ("head", "all"):
                mean, error = accuracy(kept, data, name, kind, seeds)
                ends.append(f"{100 * mean:.1f} ± {100 * error:.1f} %")
            print(f"| {name} | " + " | ".join(cell(rows[name], s) for s in SCORES) + " | " +
                  " | ".join(ends) + " |")
    files = [n for n in FILES if n != "random"]
    columns = list(itertools.product(ARCHIVES, ("head", "all")))
    print("\n| score | " + " | ".join(f"{d}, {k}" for d, k in columns) + " | clear pairs in all | with random |")
    print("|---" * (len(columns) + 3) + "|")
    for score in SCORES:
        cells, sums = [], {}
        for data, kind in columns:
            a, o, t = agreement(kept, data, score, kind, files, seeds)
            cells.append(f"{a} : {o}, {t} ties, τ {tau(kept, data, score, kind, files, seeds):+.2f}")
        for label, names in (("files", files), ("all", list(FILES))):
            all_ = [agreement(kept, d, score, k, names, seeds) for d, k in columns]
            sums[label] = f"{sum(x[0] for x in all_)} : {sum(x[1] for x in all_)}"
        print(f"| {score} | " + " | ".join(cells) + f" | {sums['files']} | {sums['all']} |")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("thaw")
    p.add_argument("assets")
    p.add_argument("out")
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--render", action="store_true")
    args = p.parse_args()
    kept = json.load(open(args.out)) if os.path.exists(args.out) else {}
    if not args.render:
        collect(args, kept)
    render(kept, args.seeds)
    for kind in ("head", "all"):
        print(f"{kind}: seeds", *(s for s in range(args.seeds) if all(f"{d} {n} {kind} {s}" in kept for d in ARCHIVES
                                                                     for n in FILES)))


main()
