# SPDX-License-Identifier: Apache-2.0
"""COCO's figures beside pycocotools: equal on the same detections, and how much sooner.

    python3 tests/peers/ap.py BUILD [IMAGES [CLASSES]]      (needs numpy, pycocotools; 5000, 80)
    python3 tests/peers/ap.py BUILD TRUTH.json RESULTS.json       the same of a detector's results, COCO's formats

Objects as many an image as in COCO (7.3), 100 detections an image: moved objects, and boxes anywhere.
pycocotools' time is evaluate() and accumulate(), after its index is made; one thread on both sides.
"""
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

DETECTIONS = 100


def boxes(rng, n):
    size = np.exp(rng.uniform(np.log(6), np.log(400), (n, 2)))
    corner = rng.uniform(0, 1, (n, 2)) * np.maximum([640, 480] - size, 1)
    return np.concatenate([corner, corner + size], 1).astype(np.float32)


def make(rng, images, classes):
    for _ in range(images):
        n = rng.poisson(7.3)
        box, c = boxes(rng, n), rng.integers(0, classes, n)
        area = ((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) * rng.uniform(.4, 1, n)).astype(np.float32)
        crowd = (rng.uniform(size=n) < .02).astype(np.int32)
        found, fc = boxes(rng, DETECTIONS), rng.integers(0, classes, DETECTIONS)
        if n:
            k = rng.integers(0, n, DETECTIONS // 2)
            side = np.tile(box[k, 2:] - box[k, :2], 2)
            found[:len(k)] = box[k] + rng.normal(0, .08, (len(k), 4)) * side
            found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
            fc[:len(k)] = np.where(rng.uniform(size=len(k)) < .8, c[k], fc[:len(k)])
        score = rng.beta(1, 3, DETECTIONS).astype(np.float32)
        yield box, area, c.astype(np.int32), crowd, found, score, fc.astype(np.int32)


def write(path, data, classes):
    with open(path, "wb") as f:
        f.write(np.array([len(data), classes], np.int32).tobytes())
        for box, area, c, crowd, found, score, fc in data:
            f.write(np.array([len(box), len(found)], np.int32).tobytes())
            row = np.concatenate([box, area[:, None], c.view(np.float32)[:, None], crowd.view(np.float32)[:, None]], 1)
            f.write(np.ascontiguousarray(row, np.float32).tobytes())
            row = np.concatenate([found, score[:, None], fc.view(np.float32)[:, None]], 1)
            f.write(np.ascontiguousarray(row, np.float32).tobytes())


def load(truth, results):
    """A detector's, as make() gives them; corners rounded to floats, as Thaw keeps them."""
    with open(truth) as t, open(results) as r:
        truth, results = json.load(t), json.load(r)
    category = {c["id"]: i for i, c in enumerate(sorted(truth["categories"], key=lambda c: c["id"]))}
    rows = {i["id"]: ([], []) for i in sorted(truth["images"], key=lambda i: i["id"])}
    for a in truth["annotations"]:
        rows[a["image_id"]][0].append(a)
    for d in results:
        rows[d["image_id"]][1].append(d)

    def table(items, *more):
        b = np.array([i["bbox"] for i in items], np.float64).reshape(-1, 4)
        b = np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], 1).astype(np.float32)
        return [b] + [np.array([f(i) for i in items], t) for f, t in more]

    for objects, found in rows.values():
        box, area, c, crowd = table(objects, (lambda a: a["area"], np.float32),
                                    (lambda a: category[a["category_id"]], np.int32), (lambda a: a.get("iscrowd", 0), np.int32))
        yield box, area, c, crowd, *table(found, (lambda d: d["score"], np.float32),
                                          (lambda d: category[d["category_id"]], np.int32))


def xywh(b):
    b = b.astype(np.float64)
    return np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], 1).tolist()


def pycocotools(data, classes):
    truth = {"images": [{"id": i} for i in range(len(data))],
             "categories": [{"id": c, "name": str(c)} for c in range(classes)], "annotations": []}
    results = []
    for i, (box, area, c, crowd, found, score, fc) in enumerate(data):
        for b, a, k, w in zip(xywh(box), area.tolist(), c.tolist(), crowd.tolist()):
            truth["annotations"].append({"id": len(truth["annotations"]) + 1, "image_id": i, "bbox": b,
                                         "area": a, "category_id": k, "iscrowd": w})
        for b, s, k in zip(xywh(found), score.tolist(), fc.tolist()):
            results.append({"image_id": i, "bbox": b, "score": s, "category_id": k})
    gt = COCO()
    gt.dataset = truth
    gt.createIndex()
    e = COCOeval(gt, gt.loadRes(results), "bbox")
    start = time.perf_counter()
    e.evaluate()
    e.accumulate()
    seconds = time.perf_counter() - start
    e.summarize()
    return seconds, e.stats


def main():
    build = sys.argv[1]
    if len(sys.argv) == 4 and sys.argv[2].endswith(".json"):
        data = list(load(sys.argv[2], sys.argv[3]))
        images, classes = len(data), 1 + max(int(max(c, default=0)) for row in data for c in (row[2], row[6]))
    else:
        images, classes = (int(x) for x in (sys.argv[2:] + ["5000", "80"][len(sys.argv) - 2:])[:2])
        data = list(make(np.random.default_rng(1), images, classes))
    with contextlib.redirect_stdout(io.StringIO()):
        theirs, stats = pycocotools(data, classes)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "detections")
        write(path, data, classes)
        runs = [[float(x) for x in subprocess.run([os.path.join(build, "time_ap"), path], check=True,
                                                  capture_output=True, text=True).stdout.split()] for _ in range(3)]
    ours = sorted(r[0] for r in runs)[1]
    worst = max(abs(a - b) for a, b in zip(runs[0][1:], stats))
    print(f"{images} images, {classes} classes, {sum(len(row[4]) for row in data)} detections: pycocotools {theirs:.2f} s, "
          f"Thaw {ours:.3f} s (VOC's figures and kinds of errors too), {theirs / ours:.0f} times as fast; "
          f"the largest difference of the 12 figures is {worst:.1e}")
    return int(worst > 1e-6)


if __name__ == "__main__":
    sys.exit(main())
