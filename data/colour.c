/* SPDX-License-Identifier: Apache-2.0
 * Owns the pixel arithmetic of colour changes. Types and order of each operation are
 * Pillow's: float where it has float, double where it has double, cut where it cuts. */
#include "colour.h"

#include <math.h>
#include <string.h>

enum { CHANNELS = 3, LEVELS = 256 };

static size_t count(const struct th_image *image)
{
    return (size_t)image->w * (size_t)image->h;
}

static int within_byte(int v)
{
    return v < 0 ? 0 : v > 255 ? 255 : v;
}

/* ---- Blending: ImageEnhance ---- */

/* Pillow's Image.blend, one value: from + factor * (to - from), cut to 0..255. */
static uint8_t blend(float from, float to, float factor)
{
    float v = from + factor * (to - from);
    return (uint8_t)(v <= 0 ? 0 : v >= 255 ? 255 : v);
}

/* Pillow's convert("L"). */
static int luma(const uint8_t *p)
{
    return (p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16;
}

static float mean_luma(const struct th_image *image)
{
    int64_t sum = 0;
    for (size_t i = 0; i < count(image); i++)
        sum += luma(image->rgb + i * CHANNELS);
    return (float)floor((double)sum / (double)count(image) + 0.5);
}

static void blend_from(struct th_image *image, float gray, double factor)
{
    for (size_t i = 0; i < count(image) * CHANNELS; i++)
        image->rgb[i] = blend(gray, image->rgb[i], (float)factor);
}

void th_adjust_brightness(struct th_image *image, double factor)
{
    blend_from(image, 0, factor);
}

void th_adjust_contrast(struct th_image *image, double factor)
{
    blend_from(image, mean_luma(image), factor);
}

void th_adjust_saturation(struct th_image *image, double factor)
{
    uint8_t *p = image->rgb;
    for (size_t i = 0; i < count(image); i++, p += CHANNELS) {
        float gray = (float)luma(p);
        for (int c = 0; c < CHANNELS; c++)
            p[c] = blend(gray, p[c], (float)factor);
    }
}

/* A row of ImageFilter.SMOOTH's kernel around p, weights a b a. */
static float smooth_row(const uint8_t *p, float a, float b)
{
    return (float)p[-CHANNELS] * a + (float)p[0] * b + (float)p[CHANNELS] * a;
}

/* ImageFilter.SMOOTH, one value inside the border: (1 1 1, 1 5 1, 1 1 1) / 13, the row
 * below first. */
static float smooth(const uint8_t *p, size_t stride)
{
    const float one = 1.0F / 13.0F, five = 5.0F / 13.0F;
    float sum = 0.5F;
    sum += smooth_row(p + stride, one, one);
    sum += smooth_row(p, one, five);
    sum += smooth_row(p - stride, one, one);
    return truncf(sum > 255 ? 255 : sum);
}

/* Border pixels have no smoothed value: they stay. */
void th_adjust_sharpness(struct th_image *image, double factor, uint8_t *copy)
{
    size_t stride = (size_t)image->w * CHANNELS;
    memcpy(copy, image->rgb, stride * (size_t)image->h);
    for (size_t y = 1; y + 1 < (size_t)image->h; y++)
        for (size_t x = CHANNELS; x + CHANNELS < stride; x++) {
            const uint8_t *p = copy + y * stride + x;
            image->rgb[y * stride + x] = blend(smooth(p, stride), *p, (float)factor);
        }
}

/* ---- Hue ---- */

/* Pillow's convert("HSV"), which follows Python's colorsys. */
static void to_hsv(const uint8_t rgb[3], uint8_t hsv[3])
{
    int r = rgb[0], g = rgb[1], b = rgb[2];
    int most = r > g ? r : g, least = r < g ? r : g;
    most = most > b ? most : b;
    least = least < b ? least : b;
    hsv[0] = hsv[1] = 0;
    hsv[2] = (uint8_t)most;
    if (most == least)
        return;
    float range = (float)(most - least), h;
    float rc = (float)(most - r) / range, gc = (float)(most - g) / range,
          bc = (float)(most - b) / range;
    if (r == most)
        h = bc - gc;
    else if (g == most)
        h = (float)(2.0 + (double)rc - (double)bc);
    else
        h = (float)(4.0 + (double)gc - (double)rc);
    h = (float)fmod((double)h / 6.0 + 1.0, 1.0);
    hsv[0] = (uint8_t)within_byte((int)((double)h * 255.0));
    hsv[1] = (uint8_t)within_byte((int)((double)(range / (float)most) * 255.0));
}

static uint8_t rounded(double v)
{
    return (uint8_t)within_byte((int)round(v));
}

/* Pillow's convert("RGB") of HSV. */
static void to_rgb(const uint8_t hsv[3], uint8_t rgb[3])
{
    /* Which of v, p, q, t each channel is, by sixth of the circle. */
    static const uint8_t order[6][3] = {
        {0, 3, 1}, {2, 0, 1}, {1, 0, 3}, {1, 2, 0}, {3, 1, 0}, {0, 1, 2}};
    double place = (double)hsv[0] * 6.0 / 255.0, v = hsv[2];
    int sixth = (int)floor(place);
    double f = (double)(float)(place - sixth), s = (double)(float)(hsv[1] / 255.0);
    const uint8_t vpqt[4] = {hsv[2], rounded(v * (1.0 - s)),
        rounded(v * (1.0 - (double)(float)(s * f))),
        rounded(v * (1.0 - s * (1.0 - f)))};
    for (int c = 0; c < CHANNELS; c++)
        rgb[c] = hsv[1] ? vpqt[order[sixth % 6][c]] : hsv[2];
}

void th_adjust_hue(struct th_image *image, double turn)
{
    uint8_t *p = image->rgb, by = (uint8_t)(int)(turn * 255);
    for (size_t i = 0; i < count(image); i++, p += CHANNELS) {
        uint8_t hsv[3];
        to_hsv(p, hsv);
        hsv[0] = (uint8_t)(hsv[0] + by);
        to_rgb(hsv, p);
    }
}

/* ---- Tables: ImageOps ---- */

static void map_channel(struct th_image *image, int c, const uint8_t table[LEVELS])
{
    uint8_t *p = image->rgb + c;
    for (size_t i = 0; i < count(image); i++, p += CHANNELS)
        *p = table[*p];
}

static void map_all(struct th_image *image, const uint8_t table[LEVELS])
{
    for (size_t i = 0; i < count(image) * CHANNELS; i++)
        image->rgb[i] = table[image->rgb[i]];
}

void th_posterize(struct th_image *image, int bits)
{
    uint8_t table[LEVELS];
    for (int v = 0; v < LEVELS; v++)
        table[v] = (uint8_t)(v & ~((1 << (8 - bits)) - 1));
    map_all(image, table);
}

void th_solarize(struct th_image *image, double threshold)
{
    uint8_t table[LEVELS];
    for (int v = 0; v < LEVELS; v++)
        table[v] = (uint8_t)(v < threshold ? v : 255 - v);
    map_all(image, table);
}

static void histogram(const struct th_image *image, int c, int64_t n[LEVELS])
{
    memset(n, 0, LEVELS * sizeof *n);
    for (size_t i = 0; i < count(image); i++)
        n[image->rgb[i * CHANNELS + (size_t)c]]++;
}

static void autocontrast_channel(struct th_image *image, int c)
{
    int64_t n[LEVELS];
    uint8_t table[LEVELS];
    int low = 0, high = LEVELS - 1;
    histogram(image, c, n);
    while (low < high && !n[low])
        low++;
    while (low < high && !n[high])
        high--;
    if (high <= low)
        return;
    double scale = 255.0 / (high - low), offset = -low * scale;
    for (int v = 0; v < LEVELS; v++)
        table[v] = (uint8_t)within_byte((int)(v * scale + offset));
    map_channel(image, c, table);
}

/* The level that a value becomes is the count below it, in steps of 1/255 of the pixels
 * that are not of the highest value. */
static void equalize_channel(struct th_image *image, int c)
{
    int64_t n[LEVELS];
    uint8_t table[LEVELS];
    int high = LEVELS - 1;
    histogram(image, c, n);
    while (high > 0 && !n[high])
        high--;
    int64_t step = ((int64_t)count(image) - n[high]) / 255, below = step / 2;
    if (!step)
        return;
    for (int v = 0; v < LEVELS; v++) {
        int64_t level = below / step;
        table[v] = (uint8_t)(level > 255 ? 255 : level);
        below += n[v];
    }
    map_channel(image, c, table);
}

void th_autocontrast(struct th_image *image)
{
    for (int c = 0; c < CHANNELS; c++)
        autocontrast_channel(image, c);
}

void th_equalize(struct th_image *image)
{
    for (int c = 0; c < CHANNELS; c++)
        equalize_channel(image, c);
}
