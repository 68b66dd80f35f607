# SPDX-License-Identifier: Apache-2.0
"""What `thaw predict --coco-results` writes, read by pycocotools, against what `thaw eval` says.

    python3 tests/peers/coco_results.py --thaw BIN --run RUN --voc FOLDER [--split val]

The split of a VOC folder is written as a file of COCO's, with image numbers from 1000 on and category
numbers that are not in the order of names; loadRes has to take the results, and the twelve figures to be
those of `thaw eval --json` to 1e-6.
"""
import argparse
import contextlib
import io
import json
import os
import subprocess
import tempfile
import xml.etree.ElementTree as ET

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

FIGURES = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100", "ar_small",
           "ar_medium", "ar_large"]


def coco_of(folder: str, split: str) -> dict:
    with open(os.path.join(folder, "ImageSets", "Main", split + ".txt")) as f:
        names = f.read().split()
    images, annotations, numbers = [], [], {}
    for i, name in enumerate(names):
        root = ET.parse(os.path.join(folder, "Annotations", name + ".xml")).getroot()
        size = [int(root.find("size").find(k).text) for k in ("width", "height")]
        images.append({"id": 1000 + i, "file_name": name + ".jpg", "width": size[0], "height": size[1]})
        for thing in root.iter("object"):
            box = [float(thing.find("bndbox").find(k).text) for k in ("xmin", "ymin", "xmax", "ymax")]
            box = [min(max(v, 0), size[k % 2]) for k, v in enumerate(box)]
            x, y, w, h = box[0], box[1], box[2] - box[0], box[3] - box[1]
            if w <= 0 or h <= 0:
                continue
            number = numbers.setdefault(thing.find("name").text, 90 - 7 * len(numbers))
            annotations.append({"id": len(annotations) + 1, "image_id": 1000 + i, "category_id": number,
                                "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0})
    return {"images": images, "annotations": annotations,
            "categories": [{"id": n, "name": name} for name, n in numbers.items()]}


def run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr[-600:]}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--thaw", required=True, metavar="BIN")
    parser.add_argument("--run", required=True)
    parser.add_argument("--voc", required=True)
    parser.add_argument("--split", default="val")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thaw-coco-") as folder:
        truth, found = os.path.join(folder, "truth.json"), os.path.join(folder, "found.json")
        with open(truth, "w") as f:
            json.dump(coco_of(args.voc, args.split), f)
        os.symlink(os.path.abspath(os.path.join(args.voc, "JPEGImages")), os.path.join(folder, "images"))
        # 0.05 is the score from which on `thaw eval` counts
        run(args.thaw, "predict", args.run, "coco:" + truth, "--threshold", "0.05", "--coco-results", found)
        said = json.loads(run(args.thaw, "eval", args.run, "coco:" + truth, "--json"))
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(truth)
            judge = COCOeval(coco, coco.loadRes(found), "bbox")
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
    theirs = [float(v) for v in judge.stats]
    ours = [said[name] for name in FIGURES]
    most = max(abs(a - (-1 if b is None else b)) for a, b in zip(theirs, ours))
    print("pycocotools", [round(v, 6) for v in theirs])
    print("thaw eval  ", ours)
    print(f"{'ok' if most <= 1e-6 else 'WRONG'}: the largest difference is {most:.1e}")
    raise SystemExit(most > 1e-6)


if __name__ == "__main__":
    main()
