/* Made by images.py with Pillow and torchvision; do not edit. */
static const struct {
    const char *name;
    int w, h;
    unsigned crc;
} golden[] = {
    {"rgb420.jpg", 37, 29, 0x626d6867u},
    {"rgb422.jpg", 37, 29, 0xbd7d3d25u},
    {"rgb444.jpg", 37, 29, 0xe4d64949u},
    {"gray.jpg", 37, 29, 0xffea9388u},
    {"cmyk.jpg", 37, 29, 0xfd41fb08u},
    {"progressive.jpg", 37, 29, 0x4c2a303cu},
    {"exif1.jpg", 17, 11, 0x48bb7cabu},
    {"exif2.jpg", 17, 11, 0x0d057cebu},
    {"exif3.jpg", 17, 11, 0xbc65a957u},
    {"exif4.jpg", 17, 11, 0xcaa0ac49u},
    {"exif5.jpg", 11, 17, 0x7b0a4886u},
    {"exif6.jpg", 11, 17, 0x02461873u},
    {"exif7.jpg", 11, 17, 0x8b46e248u},
    {"exif8.jpg", 11, 17, 0xe841dedeu},
    {"text.png", 37, 29, 0x4c2a303cu},
    {"rgb8.png", 37, 29, 0x7dde2b12u},
    {"rgb16.png", 37, 29, 0x7dde2b12u},
    {"gray1.png", 37, 29, 0x94f02aa0u},
    {"gray4.png", 37, 29, 0x033878a1u},
    {"gray8.png", 37, 29, 0x2b178bdeu},
    {"gray16.png", 37, 29, 0x2b178bdeu},
    {"palette.png", 37, 29, 0xc8304f85u},
    {"palette_alpha.png", 37, 29, 0xab1a1a12u},
    {"gray_alpha.png", 37, 29, 0x2fb7eeb0u},
    {"rgba.png", 37, 29, 0x145a86d7u},
    {"rgb_key.png", 37, 29, 0x4078ef8du},
    {"interlaced.png", 37, 29, 0x7dde2b12u},
    {"gamma.png", 37, 29, 0x7dde2b12u},
    {"plain.gif", 37, 29, 0x40ac1a97u},
    {"clear.gif", 37, 29, 0xdfb5b691u},
    {"rgb.bmp", 37, 29, 0x7dde2b12u},
    {"rgb.tga", 37, 29, 0x7dde2b12u},
    {"rgb.ppm", 37, 29, 0x7dde2b12u},
    {"gray.pgm", 37, 29, 0x2b178bdeu},
    {"deep.ppm", 37, 29, 0xd4328014u},
    {"shallow.ppm", 37, 29, 0x9f5490f7u}};
static const struct {
    const char *name;
    int size;
    double crop;
    int filter;
    unsigned crc; /* of fp32 [3][size][size] */
} golden_input[] = {
    {"rgb420.jpg", 24, 0.875, 0, 0x673736e2u},
    {"rgb420.jpg", 24, 0.875, 1, 0x0acf54ddu},
    {"rgb420.jpg", 29, 1.0, 0, 0x1a2f5154u},
    {"rgb420.jpg", 29, 1.0, 1, 0x1a2f5154u},
    {"exif6.jpg", 31, 0.9, 0, 0x667bd823u},
    {"exif6.jpg", 31, 0.9, 1, 0xce84cfe4u},
    {"exif1.jpg", 8, 0.8, 0, 0x829a85f6u},
    {"exif1.jpg", 8, 0.8, 1, 0xaa19e635u},
    {"rgb8.png", 7, 0.5, 0, 0xc49e4887u},
    {"rgb8.png", 7, 0.5, 1, 0xb39fa107u},
    {"rgb8.png", 64, 0.95, 0, 0x2d91176fu},
    {"rgb8.png", 64, 0.95, 1, 0x71542b19u},
    {"gray.pgm", 50, 0.875, 0, 0xba442cc2u},
    {"gray.pgm", 50, 0.875, 1, 0xb347bfffu}};
