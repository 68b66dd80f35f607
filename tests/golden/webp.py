# SPDX-License-Identifier: Apache-2.0
# Makes images/*.webp and webp.h: small files of each kind and the CRC-32 of their pixels as
# Pillow decodes them (EXIF orientation applied, transparency pasted on white). Needs
# Pillow and NumPy; run by hand in this folder.
import io, struct, zlib
import numpy as np
from PIL import Image, ImageOps

W, H = 37, 29
y, x = np.mgrid[0:H, 0:W]
RGB = np.stack([(x * 7 + y) % 256, (x * x // 5 + y * 9) % 256, (255 - x * 3 + y * y) % 256], -1).astype(np.uint8)
RGBA = np.dstack([RGB, ((x * 11 + y * 5) % 256).astype(np.uint8)])
rows = []


def put(name, data):
    open("images/" + name, "wb").write(data)
    im = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if im.mode == "RGBA":
        out = Image.new("RGB", im.size, "white")
        out.paste(im, mask=im.getchannel("A"))
        im = out
    pixels = np.asarray(im.convert("RGB"))
    rows.append(f'    {{"{name}", {pixels.shape[1]}, {pixels.shape[0]}, 0x{zlib.crc32(pixels.tobytes()):08x}u}},')


def saved(array, **options):
    out = io.BytesIO()
    Image.fromarray(array).save(out, "WEBP", **options)
    return out.getvalue()


def orientation(n):
    exif = Image.Exif()
    exif[0x0112] = n
    return exif


put("lossy.webp", saved(RGB, quality=70))
put("lossless.webp", saved(RGB, lossless=True))
put("one.webp", saved(RGB[:1, :1].copy(), lossless=True))
put("alpha.webp", saved(RGBA, lossless=True, exact=True))
put("lossy_alpha.webp", saved(RGBA, quality=60))
for n in range(1, 9):
    put(f"exif{n}.webp", saved(RGB[:11, :17].copy(), quality=90, exif=orientation(n)))
frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
frames[0].save("images/animated.webp", save_all=True, append_images=frames[1:])
# A file that says 16383 x 16383: 268 million pixels, beyond the limit, in 30 bytes.
vp8l = b"\x2f" + struct.pack("<I", 16382 | 16382 << 14)
chunk = b"VP8L" + struct.pack("<I", len(vp8l) + 11) + vp8l + bytes(11)
open("images/huge.webp", "wb").write(b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk)
open("webp.h", "w").write("""/* SPDX-License-Identifier: Apache-2.0
 * Made by webp.py: Pillow's pixels of images/. */
static const struct {
    const char *name;
    int w, h;
    unsigned crc;
} golden[] = {
""" + "\n".join(rows) + "\n};\n")
