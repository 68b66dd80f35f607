/* SPDX-License-Identifier: Apache-2.0
 * Made by webp.py: Pillow's pixels of images/. */
static const struct {
    const char *name;
    int w, h;
    unsigned crc;
} golden[] = {
    {"lossy.webp", 37, 29, 0xee536d24u},
    {"lossless.webp", 37, 29, 0x7dde2b12u},
    {"one.webp", 1, 1, 0xd243369fu},
    {"alpha.webp", 37, 29, 0x145a86d7u},
    {"lossy_alpha.webp", 37, 29, 0xb53770efu},
    {"exif1.webp", 17, 11, 0x510df4f7u},
    {"exif2.webp", 17, 11, 0xaefcb999u},
    {"exif3.webp", 17, 11, 0xa622cf9bu},
    {"exif4.webp", 17, 11, 0x0f1bace1u},
    {"exif5.webp", 11, 17, 0xb1b9302fu},
    {"exif6.webp", 11, 17, 0x694d4824u},
    {"exif7.webp", 11, 17, 0xf9554f36u},
    {"exif8.webp", 11, 17, 0x356290bfu},
};
