# SPDX-License-Identifier: Apache-2.0
"""Makes ap.h: what pycocotools and TIDE say about random detections, which test_ap.c makes again
from the same numbers. Needs numpy, pycocotools and tidecv (pip install --no-deps tidecv will do).
Run by hand: python3 tests/golden/ap.py > tests/golden/ap.h

VOC's two are computed here, after VOCap.m and the 11 points of 2007, with IoU of continuous boxes.
"""
import contextlib
import os
import sys
import types

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

for absent in ("cv2", "tidecv.datasets", "matplotlib", "matplotlib.pyplot", "tidecv.plotting"):  # drawing, which nobody asks for
    sys.modules[absent] = types.ModuleType(absent)
    sys.modules[absent].FONT_HERSHEY_SIMPLEX = 0
    sys.modules[absent].Plotter = object

MASK = (1 << 64) - 1
# seed, images, classes (the last has no objects), most objects and detections an image, levels of
# scores, crowds in 100, whether TIDE is asked
CASES = [
    (1, 20, 4, 8, 20, 16, 10, 0), (2, 20, 4, 8, 20, 1 << 20, 0, 1), (3, 6, 2, 3, 260, 64, 20, 0),
    (4, 40, 6, 5, 12, 8, 0, 0), (5, 40, 6, 12, 40, 1 << 20, 0, 1), (6, 1, 2, 1, 1, 4, 0, 0),
    (7, 10, 3, 0, 6, 4, 0, 0), (8, 10, 3, 6, 0, 4, 30, 0), (9, 30, 3, 6, 30, 1 << 20, 0, 1),
    (10, 25, 5, 10, 50, 2, 40, 0), (11, 12, 2, 10, 60, 1 << 20, 0, 1), (12, 60, 3, 4, 10, 100, 15, 0),
]


class Numbers:
    def __init__(self, seed):
        self.state = seed

    def next(self, n):
        """splitmix64 (Steele et al., 2014), below n."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return ((z ^ (z >> 31)) >> 20) % n


def random_box(r):
    x, y = r.next(2000), r.next(1500)
    kind = r.next(4)
    w, h = ((128, 128) if kind == 0 else
            (4 + r.next(120), 4 + r.next(120)) if kind == 1 else
            (40 + r.next(400), 40 + r.next(400)) if kind == 2 else
            (300 + r.next(900), 300 + r.next(900)))
    return [x / 4, y / 4, (x + w) / 4, (y + h) / 4]


def image(r, case):
    _, _, classes, most_objects, most, levels, crowds, _ = case
    objects, found = [], []
    for _ in range(r.next(most_objects + 1)):
        c, box = r.next(classes - 1), random_box(r)
        part, crowd = r.next(12), r.next(100) < crowds
        area = (box[2] - box[0]) * (box[3] - box[1])
        objects.append((c, box, area if part < 6 else area * part / 16, crowd))
    for _ in range(r.next(most + 1)):
        if objects and r.next(10) < 7:
            c, box, _, _ = objects[r.next(len(objects))]
            c = c if r.next(20) < 17 else r.next(classes)
            k = int(min(box[2] - box[0], box[3] - box[1]) * 4) // (2 + r.next(6)) + 1
            moved = [v + (r.next(k) - k // 2) / 4 for v in box]
            box = [moved[0], moved[1], max(moved[0] + .25, moved[2]), max(moved[1] + .25, moved[3])]
        else:
            c, box = r.next(classes), random_box(r)
        found.append((c, box, float(np.float32((1 + r.next(levels)) / levels))))
    return objects, found


def xywh(b):
    return [b[0], b[1], b[2] - b[0], b[3] - b[1]]


def coco(images, classes):
    truth = {"images": [{"id": i} for i in range(len(images))],
             "categories": [{"id": c, "name": str(c)} for c in range(classes)], "annotations": []}
    results = []
    for i, (objects, found) in enumerate(images):
        for c, box, area, crowd in objects:
            truth["annotations"].append({"id": len(truth["annotations"]) + 1, "image_id": i, "category_id": c,
                                         "bbox": xywh(box), "area": area, "iscrowd": int(crowd)})
        for c, box, score in found:
            results.append({"image_id": i, "category_id": c, "bbox": xywh(box), "score": score})
    gt = COCO()
    gt.dataset = truth
    gt.createIndex()
    if not results:
        dt = COCO()
        dt.dataset = dict(truth, annotations=[])
        dt.createIndex()
    else:
        dt = gt.loadRes(results)
    e = COCOeval(gt, dt, "bbox")
    e.evaluate()
    e.accumulate()
    e.summarize()
    return e


def iou(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    area = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return w * h / (area[0] + area[1] - w * h)


def voc(images, c):
    """11 points, area."""
    positives = sum(o[0] == c and not o[3] for objects, _ in images for o in objects)
    if not positives:
        return np.nan, np.nan
    rows = [(s, i, b) for i, (_, found) in enumerate(images) for k, b, s in found if k == c]
    rows = [rows[i] for i in np.argsort([-s for s, _, _ in rows], kind="stable")]
    taken, hits, alarms = set(), [], []
    for s, i, b in rows:
        near = [(iou(b, o[1]), -j) for j, o in enumerate(images[i][0]) if o[0] == c]
        best, j = max(near, default=(-1, 0))
        crowd = best >= .5 and images[i][0][-j][3]
        hit = best >= .5 and (i, j) not in taken
        if best >= .5:
            taken.add((i, j))
        hits.append(hit and not crowd)
        alarms.append(not hit and not crowd)
    tp, fp = np.cumsum(hits), np.cumsum(alarms)
    recall = tp / positives
    precision = tp / np.maximum(tp + fp, np.finfo(float).eps)
    eleven = np.mean([max(precision[recall >= t], default=0) for t in np.linspace(0, 1, 11)])
    r, p = np.concatenate([[0], recall, [1]]), np.concatenate([[0], precision, [0]])
    p = np.maximum.accumulate(p[::-1])[::-1]
    i = np.where(r[1:] != r[:-1])[0]
    return eleven, np.sum((r[i + 1] - r[i]) * p[i + 1])


def tide(images, classes):
    """Counts and costs: confusion, localisation, both, duplicate, background, missed."""
    from tidecv import data, quantify
    gt, dt = data.Data("gt"), data.Data("dt")
    gt.max_dets = dt.max_dets = 100
    for d in (gt, dt):
        for c in range(classes):
            d.add_class(c, str(c))
        for i in range(len(images)):
            d.add_image(i, str(i))
    for i, (objects, found) in enumerate(images):
        for c, box, _, _ in objects:
            gt.add_ground_truth(i, c, box=xywh(box))
        for c, box, score in found:
            dt.add_detection(i, c, score, box=xywh(box))
    run = quantify.TIDERun(gt, dt, .5, .1, quantify.TIDE.BOX, 100)

    def mean(ap):
        aps = [x.get_ap() / 100 for x in ap.objs.values() if x.num_gt_positives > 0]
        return sum(aps) / len(aps)

    costs = [mean(run.fix_errors(lambda e, k=k: isinstance(e, k))) - mean(run.ap_data)
             for k in quantify.TIDE._error_types]
    return list(run.count_errors().values()), costs


def array(x):
    return "{" + ", ".join("-1" if np.isnan(v) else f"{v:.12g}" for v in np.asarray(x, float).reshape(-1)) + "}"


def main():
    print("/* Made by ap.py with pycocotools and TIDE; do not edit. -1: no class has objects. */")
    print("static const struct golden_ap golden_ap[] = {")
    for case in CASES:
        r = Numbers(case[0])
        images = [image(r, case) for _ in range(case[1])]
        with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
            e = coco(images, case[2])
        p = e.eval["precision"][:, :, :, 0, 2]
        ap = [p[:, :, k].mean() for k in range(case[2])]
        curve = [(p[0, :, k] * np.arange(1, 102)).sum() if ap[k] >= 0 else -1 for k in range(case[2])]
        v = np.array([voc(images, k) for k in range(case[2])])
        counts, costs = tide(images, case[2]) if case[7] else ([0] * 6, [0] * 6)
        print(f"    {{{', '.join(map(str, case))},")
        for row in (e.stats, ap, [p[0, :, k].mean() for k in range(case[2])], curve, v[:, 0], v[:, 1], counts, costs):
            print(f"        {array(row)},")
        print("    },")
    print("};")


if __name__ == "__main__":
    main()
