/* SPDX-License-Identifier: Apache-2.0
 * Owns the geometry of random variants. Where a pixel comes from is computed in Pillow's
 * 16.16 fixed point (libImaging/Geometry.c, affine_fixed), so that pixels are equal. */
#include "affine.h"

#include <math.h>
#include <string.h>

enum { CHANNELS = 3, FIXED_BITS = 16 };

/* Exactly what Python's math.radians and math.degrees multiply with. */
static const double PI = 3.14159265358979323846;

static int64_t fixed(double v)
{
    return (int64_t)floor(v * (1 << FIXED_BITS) + 0.5);
}

/* out(x, y) = in(m0 x + m1 y + m2, m3 x + m4 y + m5), pixel centres at halves. */
static void transform(struct th_image *image, const double m[6], uint8_t *copy)
{
    int64_t dx = fixed(m[0]), dy = fixed(m[3]);
    int64_t from_x = fixed(m[2] + m[0] * 0.5 + m[1] * 0.5);
    int64_t from_y = fixed(m[5] + m[3] * 0.5 + m[4] * 0.5);
    size_t bytes = (size_t)image->w * (size_t)image->h * CHANNELS;
    memcpy(copy, image->rgb, bytes);
    memset(image->rgb, 0, bytes);
    uint8_t *out = image->rgb;
    for (int y = 0; y < image->h; y++) {
        int64_t at_x = from_x, at_y = from_y;
        for (int x = 0; x < image->w; x++, out += CHANNELS, at_x += dx, at_y += dy) {
            int64_t in_x = at_x >> FIXED_BITS, in_y = at_y >> FIXED_BITS;
            if (in_x >= 0 && in_x < image->w && in_y >= 0 && in_y < image->h)
                memcpy(out, copy + (in_y * image->w + in_x) * CHANNELS, CHANNELS);
        }
        from_x += fixed(m[1]);
        from_y += fixed(m[4]);
    }
}

/* torchvision's matrix has tan of an angle that went through degrees. */
static double through_degrees(double shear)
{
    return tan(atan(shear) * (180.0 / PI) * (PI / 180.0));
}

void th_shear_x(struct th_image *image, double shear, uint8_t *copy)
{
    transform(image, (const double[]){1, through_degrees(shear), 0, 0, 1, 0}, copy);
}

void th_shear_y(struct th_image *image, double shear, uint8_t *copy)
{
    transform(image, (const double[]){1, 0, 0, through_degrees(shear), 1, 0}, copy);
}

void th_translate(struct th_image *image, int dx, int dy, uint8_t *copy)
{
    transform(image, (const double[]){1, 0, -dx, 0, 1, -dy}, copy);
}

/* Python's round(x, 15), of |x| <= 1. */
static double round15(double x)
{
    return rint(x * 1e15) / 1e15;
}

/* Pillow's Image.rotate: the matrix back from the result to the image. */
void th_rotate(struct th_image *image, double degrees, uint8_t *copy)
{
    double turn = fmod(degrees, 360.0);
    turn = -(turn < 0 ? turn + 360.0 : turn) * (PI / 180.0);
    double c = round15(cos(turn)), s = round15(sin(turn));
    double x = image->w / 2.0, y = image->h / 2.0;
    const double m[6] = {c, s, c * -x + s * -y + 0.0 + x, -s, c, -s * -x + c * -y + y};
    transform(image, m, copy);
}

void th_mirror(struct th_image *image)
{
    size_t w = (size_t)image->w;
    for (size_t y = 0; y < (size_t)image->h; y++) {
        uint8_t *row = image->rgb + y * w * CHANNELS;
        for (size_t x = 0; x < w / 2; x++)
            for (size_t c = 0; c < CHANNELS; c++) {
                uint8_t *a = row + x * CHANNELS + c;
                uint8_t *b = row + (w - 1 - x) * CHANNELS + c, swap = *a;
                *a = *b;
                *b = swap;
            }
    }
}

void th_flip(struct th_image *image)
{
    size_t stride = (size_t)image->w * CHANNELS, h = (size_t)image->h;
    for (size_t y = 0; y < h / 2; y++) {
        uint8_t *a = image->rgb + y * stride, *b = image->rgb + (h - 1 - y) * stride;
        for (size_t i = 0; i < stride; i++) {
            uint8_t swap = a[i];
            a[i] = b[i];
            b[i] = swap;
        }
    }
}
