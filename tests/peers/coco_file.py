# SPDX-License-Identifier: Apache-2.0
"""How long a file like COCO's instances_train2017.json takes, and how much memory.

    python3 tests/peers/coco_file.py BUILD [FOLDER]

Writes FOLDER (a temporary one): 118,287 images (empty files: none is opened), 860,001 annotations with
polygons, 450 MB, in COCO's order (annotations before categories). Then BUILD/time_boxes reads it three times.
"""
import os
import random
import subprocess
import sys
import tempfile

IMAGES, ANNOTATIONS, CLASSES, BYTES = 118287, 860001, 80, 450_000_000


def write(folder):
    r = random.Random(1)
    os.makedirs(f"{folder}/annotations")
    os.makedirs(f"{folder}/train2017")
    polygons = [", ".join(f"{r.uniform(0, 640):.2f}" for _ in range(n)) for n in range(4, 400)]
    with open(f"{folder}/annotations/instances_train2017.json", "w") as f:
        f.write('{"info": {"year": 2017}, "licenses": [{"id": 1}], "images": [')
        for i in range(IMAGES):
            name = f"{i * 7:012d}.jpg"
            open(f"{folder}/train2017/{name}", "w").close()
            f.write(f'{", " if i else ""}{{"license": {i % 8}, "file_name": "{name}", "coco_url": '
                    f'"http://images.cocodataset.org/train2017/{name}", "height": 480, "width": 640, '
                    f'"date_captured": "2013-11-14 16:28:13", "id": {i * 7}}}')
        f.write('], "annotations": [')
        used = f.tell()
        each = (BYTES - used) // ANNOTATIONS - 133
        for i in range(ANNOTATIONS):
            n = min(max(int(r.expovariate(1) * each / 8), 4), 399)
            x, y, w, h = r.uniform(0, 500), r.uniform(0, 400), r.uniform(1, 140), r.uniform(1, 80)
            f.write(f'{", " if i else ""}{{"segmentation": [[{polygons[n - 4]}]], "area": {w * h * .7:.4f}, '
                    f'"iscrowd": {int(i % 100 == 0)}, "image_id": {r.randrange(IMAGES) * 7}, "bbox": [{x:.2f}, {y:.2f}, '
                    f'{w:.2f}, {h:.2f}], "category_id": {1 + r.randrange(CLASSES)}, "id": {900000 + i}}}')
        f.write('], "categories": [')
        f.write(", ".join(f'{{"supercategory": "x", "id": {1 + c}, "name": "class {c}"}}' for c in range(CLASSES)))
        f.write("]}")
    return os.path.getsize(f"{folder}/annotations/instances_train2017.json")


def main():
    build = sys.argv[1]
    with tempfile.TemporaryDirectory() as temporary:
        folder = sys.argv[2] if len(sys.argv) > 2 else f"{temporary}/coco"
        path = f"{folder}/annotations/instances_train2017.json"
        size = os.path.getsize(path) if os.path.exists(path) else write(folder)
        rows = []
        for _ in range(3):
            out = subprocess.run([f"{build}/time_boxes", f"coco:{folder}"], check=True, capture_output=True, text=True)
            rows.append([float(x) for x in out.stdout.split()])
        seconds, images, objects, index, peak = sorted(rows)[1]
        print(f"{size / 1e6:.0f} MB, {images:.0f} images, {objects:.0f} objects: {seconds:.2f} s "
              f"({size / 1e6 / seconds:.0f} MB/s); index {index / 1e6:.0f} MB, process {peak / 1e6:.0f} MB, "
              f"beyond the index {(peak - index) / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
