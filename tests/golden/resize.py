# SPDX-License-Identifier: Apache-2.0
# Makes resize.h: pixels as Pillow resizes them. Needs Pillow; run by hand.
from PIL import Image
W, H = 13, 9
img = Image.frombytes("RGB", (W, H), bytes((x*x*7 + y*31 + c*85 + x*y*13) % 256
                      for y in range(H) for x in range(W) for c in range(3)))
print("/* Made by resize.py with Pillow; do not edit. */")
rows = []
for i, (w, h, f) in enumerate([(5, 4, 0), (5, 4, 1), (17, 11, 0), (17, 11, 1), (13, 4, 0),
                               (6, 9, 1), (1, 1, 0), (13, 9, 1)]):
    b = img.resize((w, h), [Image.BILINEAR, Image.BICUBIC][f]).tobytes()
    print(f"static const unsigned char golden_{i}[] = {{{','.join(map(str, b))}}};")
    rows.append(f"{{{w}, {h}, {f}, golden_{i}}}")
print("static const struct { int w, h, filter; const unsigned char *rgb; } golden[] = {%s};" % ", ".join(rows))
