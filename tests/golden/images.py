# SPDX-License-Identifier: Apache-2.0
# Makes images/ and images.h: small files of each kind, and the CRC-32 of their pixels as
# Pillow decodes them (EXIF orientation applied, transparency pasted on white). Where we
# differ from Pillow on purpose (16-bit gray) the expected pixels are computed here.
# Also the CRC-32 of torchvision's
# evaluation preprocessing. Needs Pillow, NumPy and torchvision; run by hand in this folder.
import io, math, os, struct, zlib
import numpy as np
import torchvision.transforms as T
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode as Mode

W, H = 37, 29
y, x = np.mgrid[0:H, 0:W]
RGB = np.stack([(x * 7 + y) % 256, (x * x // 5 + y * 9) % 256, (255 - x * 3 + y * y) % 256], -1)
RGB = RGB.astype(np.uint8)
GRAY = RGB[..., 1]
ALPHA = ((x * 11 + y * 5) % 256).astype(np.uint8)
rows = []
os.makedirs("images", exist_ok=True)


def white(im):
    if im.mode == "P" and "transparency" in im.info or im.mode in ("LA", "RGBA", "PA") or (
            im.mode in ("L", "RGB", "1") and "transparency" in im.info):
        im = im.convert("RGBA")
        out = Image.new("RGB", im.size, "white")
        out.paste(im, mask=im.getchannel("A"))
        return out
    return im.convert("RGB")


def put(name, data, pixels=None):
    open("images/" + name, "wb").write(data)
    if pixels is None:
        pixels = np.asarray(white(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))
    h, w, _ = pixels.shape
    rows.append(f'{{"{name}", {w}, {h}, 0x{zlib.crc32(pixels.tobytes()):08x}u}}')


def saved(array, kind, mode=None, **options):
    out = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    (image.convert(mode) if mode else image).save(out, kind, **options)
    return out.getvalue()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(samples, depth, colour, extra=b"", interlaced=False):
    """samples [h][w][c] of `depth` bits; no row filters."""
    def packed(part):
        raw = b""
        for row in part.reshape(part.shape[0], -1):
            if depth == 16:
                raw += b"\0" + row.astype(">u2").tobytes()
            else:
                bits = ((row[:, None].astype(int) >> np.arange(depth - 1, -1, -1)) & 1).ravel()
                raw += b"\0" + np.packbits(bits.astype(np.uint8)).tobytes()
        return raw
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
              (0, 1, 1, 2)] if interlaced else [(0, 0, 1, 1)]
    raw = b"".join(packed(samples[y0::dy, x0::dx]) for x0, y0, dx, dy in passes
                   if samples[y0::dy, x0::dx].size)
    h, w = samples.shape[:2]
    head = struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, int(interlaced))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra +
            chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b""))


def orientation(n, big):
    o, e = (">", b"MM") if big else ("<", b"II")
    return (b"Exif\0\0" + e + struct.pack(o + "HI", 42, 8) + struct.pack(o + "H", 2) +
            struct.pack(o + "HHII", 0x0100, 4, 1, 7) + struct.pack(o + "HHIHH", 0x0112, 3, 1, n, 0) +
            struct.pack(o + "I", 0))


# JPEG
put("rgb420.jpg", saved(RGB, "JPEG", quality=80, subsampling=2))
put("rgb422.jpg", saved(RGB, "JPEG", quality=80, subsampling=1))
put("rgb444.jpg", saved(RGB, "JPEG", quality=95, subsampling=0))
put("gray.jpg", saved(GRAY, "JPEG"))
put("cmyk.jpg", saved(RGB, "JPEG", mode="CMYK", quality=90))
put("progressive.jpg", saved(RGB, "JPEG", progressive=True, quality=75))
for n in range(1, 9):
    put(f"exif{n}.jpg", saved(RGB[:11, :17].copy(), "JPEG", exif=orientation(n, n % 2)))
put("text.png", saved(RGB, "JPEG"))  # the name says PNG, the bytes say JPEG
# PNG
put("rgb8.png", png(RGB, 8, 2))
put("rgb16.png", png(RGB.astype(np.uint16) * 256 + 200, 16, 2))
put("gray1.png", png(GRAY[..., None] >> 7, 1, 0))
put("gray4.png", png(GRAY[..., None] >> 4, 4, 0))
put("gray8.png", png(GRAY[..., None], 8, 0))
put("gray16.png", png(GRAY[..., None].astype(np.uint16) * 256 + 77, 16, 0), np.repeat(GRAY[..., None], 3, 2))
palette = chunk(b"PLTE", RGB.reshape(-1, 3)[:16].tobytes())
put("palette.png", png(GRAY[..., None] >> 4, 4, 3, palette))
put("palette_alpha.png", png(GRAY[..., None] >> 4, 4, 3, palette + chunk(b"tRNS", bytes(range(0, 160, 16)))))
put("gray_alpha.png", png(np.stack([GRAY, ALPHA], -1), 8, 4))
put("rgba.png", png(np.concatenate([RGB, ALPHA[..., None]], -1), 8, 6))
put("rgb_key.png", png(RGB, 8, 2, chunk(b"tRNS", struct.pack(">3H", *map(int, RGB[3, 4])))))
put("interlaced.png", png(RGB, 8, 2, interlaced=True), RGB)
put("gamma.png", png(RGB, 8, 2, chunk(b"gAMA", struct.pack(">I", 45455))))
# The others
index = Image.fromarray(RGB).quantize(16)
put("plain.gif", saved(index, "GIF"))
put("clear.gif", saved(index, "GIF", transparency=3))
put("rgb.bmp", saved(RGB, "BMP"))
put("rgb.tga", saved(RGB, "TGA", compression="tga_rle"))
put("rgb.ppm", saved(RGB, "PPM"))
put("gray.pgm", saved(GRAY, "PPM"))
put("deep.ppm", b"P6 # sixteen bits\n37 29 40000\n" + (RGB.astype(int) * 156 + 77).astype(">u2").tobytes())
put("shallow.ppm", b"P6\n37\n29\n15\n" + (RGB >> 4).tobytes())

# Broken ones: no golden pixels.
def raw(name, data):
    open("images/" + name, "wb").write(data)


jpeg = saved(np.tile(RGB, (14, 1, 1)), "JPEG", quality=60, subsampling=0)
raw("half.jpg", jpeg[:len(jpeg) // 2])
raw("late.jpg", jpeg[:len(jpeg) * 985 // 1000])
raw("no_end.jpg", jpeg[:-2])
progressive = saved(np.tile(RGB, (4, 1, 1)), "JPEG", progressive=True)
raw("half_progressive.jpg", progressive[:len(progressive) // 2])
raw("words.jpg", b"This is a text file, whatever its name says.\n")
raw("empty.png", b"")
raw("huge.png", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)) +
    chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b""))
raw("short.png", png(RGB, 8, 2)[:-700])
raw("checksum.png", png(RGB, 8, 2).replace(b"IEND", b"IENE")[:-1] + b"\1")
raw("webp.jpg", b"RIFF\x20\0\0\0WEBPVP8 " + b"\0" * 20)
raw("huge.bmp", b"BM" + struct.pack("<IHHIIiiHHIIiiII", 1000, 0, 0, 54, 40, 40000, 40000, 1, 24, 0, 0, 0, 0, 0, 0))

inputs = []
for name, n, crop in [("rgb420.jpg", 24, 0.875), ("rgb420.jpg", 29, 1.0), ("exif6.jpg", 31, 0.9), ("exif1.jpg", 8, 0.8),
                      ("rgb8.png", 7, 0.5), ("rgb8.png", 64, 0.95), ("gray.pgm", 50, 0.875)]:
    for bicubic, mode in enumerate([Mode.BILINEAR, Mode.BICUBIC]):
        image = ImageOps.exif_transpose(Image.open("images/" + name)).convert("RGB")
        t = T.Compose([T.Resize(math.floor(n / crop), mode), T.CenterCrop(n), T.ToTensor(),
                       T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
        inputs.append(f'{{"{name}", {n}, {crop}, {bicubic}, 0x{zlib.crc32(t(image).numpy().tobytes()):08x}u}}')

with open("images.h", "w") as f:
    print("/* Made by images.py with Pillow and torchvision; do not edit. */", file=f)
    print("static const struct {\n    const char *name;\n    int w, h;\n    unsigned crc;\n} golden[] = {", file=f)
    print(",\n".join("    " + r for r in rows) + "};", file=f)
    print("static const struct {\n    const char *name;\n    int size;\n    double crop;\n    int filter;\n"
          "    unsigned crc; /* of fp32 [3][size][size] */\n} golden_input[] = {", file=f)
    print(",\n".join("    " + r for r in inputs) + "};", file=f)
