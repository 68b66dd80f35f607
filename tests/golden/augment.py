# SPDX-License-Identifier: Apache-2.0
# Makes augment.h: the CRC-32 of pixels as torchvision's transforms make them of Pillow
# images. Needs torchvision and Pillow; run by hand in this folder.
import zlib
import torchvision.transforms.functional as F
from PIL import Image
from torchvision.transforms import InterpolationMode, RandAugment
from torchvision.transforms.autoaugment import _apply_op

BINS = 31


def formula(w, h):  # what the test computes too
    return Image.frombytes("RGB", (w, h), bytes((x * x * 7 + y * 31 + c * 85 + x * y * 13) % 256 * (3 + c) // 5
                           for y in range(h) for x in range(w) for c in range(3)))


def cube():  # every third level of each channel
    n = range(0, 256, 3)
    return Image.frombytes("RGB", (86 * 86, 86), bytes(v for b in n for g in n for r in n for v in (r, g, b)))


def crc(image):
    return f"0x{zlib.crc32(image.tobytes()):08x}u"


IMAGES = {(w, h): formula(w, h) for w, h in [(24, 18), (17, 23), (224, 224), (2, 5)]}
space = RandAugment()._augmentation_space(BINS, (18, 24))
ops = []
for name, (magnitudes, signed) in space.items():
    for k in (0, 1, 9, 14, 15, 23, 30) if magnitudes.ndim else (0,):
        for sign in (1, -1) if signed else (1,):
            for size, image in IMAGES.items():
                here = RandAugment()._augmentation_space(BINS, size[::-1])[name][0]
                m = sign * (float(here[k].item()) if here.ndim else 0.0)
                out = _apply_op(image, name, m, interpolation=InterpolationMode.NEAREST, fill=None)
                ops.append(f'{{"{name}", {size[0]}, {size[1]}, {m:.17g}, {crc(out)}}}')

factors = []
for kind, adjust, values in [
        ("brightness", F.adjust_brightness, (0, 0.3, 0.61, 1, 1.37, 2.5)),
        ("contrast", F.adjust_contrast, (0, 0.3, 0.61, 1, 1.37, 2.5)),
        ("saturation", F.adjust_saturation, (0, 0.3, 0.61, 1, 1.37, 2.5)),
        ("hue", F.adjust_hue, (-0.5, -0.123, 0, 0.001, 0.07, 0.31, 0.5))]:
    for v in values:
        factors.append(f'{{"{kind}", {v}, {crc(adjust(cube(), v))}}}')

magnitudes = []
for name, (m, signed) in RandAugment()._augmentation_space(BINS, (18, 224)).items():
    row = [float(v) for v in m] if m.ndim else [0.0] * BINS
    magnitudes.append(f'{{"{name}", {int(signed)}, {{{", ".join(f"{v:.9g}" for v in row)}}}}}')



def lines(rows):  # four cases a line
    return ",\n".join("    " + ", ".join(rows[i:i + 4]) for i in range(0, len(rows), 4)) + "};"


with open("augment.h", "w") as f:
    print("/* Made by augment.py with torchvision and Pillow; do not edit. */", file=f)
    print("static const struct {\n    const char *name;\n    int w, h;\n    double magnitude;\n"
          "    unsigned crc;\n} golden_op[] = {", file=f)
    print(lines(ops), file=f)
    print("/* Of a cube of colours, every third level. */\nstatic const struct {\n    const char *kind;\n"
          "    double factor;\n    unsigned crc;\n} golden_adjust[] = {", file=f)
    print(lines(factors), file=f)
    print("/* By bin, of an image of 224 x 18. */\nstatic const struct {\n    const char *name;\n    int is_signed;\n"
          "    double magnitude[%d];\n} golden_magnitude[] = {" % BINS, file=f)
    print(lines(magnitudes), file=f)
