/* SPDX-License-Identifier: Apache-2.0
 * Owns the random variants: torchvision's RandomResizedCrop, RandomHorizontalFlip,
 * ColorJitter (on 8-bit pixels, Pillow's arithmetic) and RandomErasing, drawn from our
 * own streams. Each purpose has its own stream, so that adding one changes no other. */
#include "augment.h"

#include "error.h"
#include "rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHANNELS = 3, CROP_TRIES = 10, ADJUSTMENTS = 3 };

/* torchvision's defaults. */
static const double SCALE = 0.08, MIN_RATIO = 3.0 / 4.0, MAX_RATIO = 4.0 / 3.0;
static const double JITTER = 0.4;
static const double ERASE_CHANCE = 0.25, ERASE_MIN_AREA = 0.02, ERASE_MAX_AREA = 0.33,
                    ERASE_MIN_RATIO = 0.3, ERASE_MAX_RATIO = 3.3;

thaw_status th_augment_parse(const char *name, enum th_augment_kind *out)
{
    static const char *const names[] = {"none", "basic", "strong"};
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (enum th_augment_kind)i;
            return THAW_OK;
        }
    return th_fail(
        THAW_E_USAGE, "no augmentation \"%s\": give none, basic or strong", name);
}

uint64_t th_view_key(const struct th_view *v)
{
    uint64_t key = th_rng_mix_name(v->seed, "augment");
    key = th_rng_mix(key, (uint64_t)v->epoch);
    key = th_rng_mix(key, (uint64_t)v->sample);
    return th_rng_mix(key, (uint64_t)v->occurrence);
}

static double between(uint64_t key, uint64_t counter, double low, double high)
{
    return low + (high - low) * (double)th_rng_uniform(key, counter);
}

/* An offset in 0..room. */
static int place(uint64_t key, uint64_t counter, int room)
{
    return (int)((double)th_rng_uniform(key, counter) * (room + 1));
}

/* A rectangle of the given area and of a ratio w/h drawn evenly in its logarithm. */
static struct th_box rectangle(
    uint64_t key, uint64_t counter, double area, double min_ratio, double max_ratio)
{
    double ratio = exp(between(key, counter, log(min_ratio), log(max_ratio)));
    return (struct th_box){
        .w = (int)lrint(sqrt(area * ratio)), .h = (int)lrint(sqrt(area / ratio))};
}

/* The largest central part whose ratio is within the limits. */
static struct th_box central(int w, int h)
{
    struct th_box box = {.w = w, .h = h};
    double ratio = (double)w / h;
    if (ratio < MIN_RATIO)
        box.h = (int)lrint(w / MIN_RATIO);
    else if (ratio > MAX_RATIO)
        box.w = (int)lrint(h * MAX_RATIO);
    box.x = (w - box.w) / 2;
    box.y = (h - box.h) / 2;
    return box;
}

struct th_box th_augment_crop(uint64_t key, double scale, int w, int h)
{
    scale = scale > 0 ? scale : SCALE;
    key = th_rng_mix_name(key, "crop");
    for (uint64_t i = 0; i < CROP_TRIES; i++) {
        double area = (double)w * h * between(key, i * 4, scale, 1.0);
        struct th_box box = rectangle(key, i * 4 + 1, area, MIN_RATIO, MAX_RATIO);
        if (box.w < 1 || box.w > w || box.h < 1 || box.h > h)
            continue;
        box.y = place(key, i * 4 + 2, h - box.h);
        box.x = place(key, i * 4 + 3, w - box.w);
        return box;
    }
    return central(w, h);
}

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

static float mean_luma(const uint8_t *rgb, size_t n)
{
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += luma(rgb + i * CHANNELS);
    return (float)floor((double)sum / (double)n + 0.5);
}

/* kind 0: brightness (away from black), 1: contrast (from the mean gray), 2: saturation
 * (from each pixel's gray). */
static void adjust(uint8_t *rgb, size_t n, int kind, float factor)
{
    float gray = kind == 1 ? mean_luma(rgb, n) : 0;
    for (size_t i = 0; i < n; i++, rgb += CHANNELS) {
        if (kind == 2)
            gray = (float)luma(rgb);
        for (int c = 0; c < CHANNELS; c++)
            rgb[c] = blend(gray, rgb[c], factor);
    }
}

static void jitter(uint64_t key, uint8_t *rgb, size_t n)
{
    int64_t order[ADJUSTMENTS];
    key = th_rng_mix_name(key, "jitter");
    th_rng_permutation(th_rng_mix_name(key, "order"), ADJUSTMENTS, order);
    for (int i = 0; i < ADJUSTMENTS; i++) {
        double factor = between(key, (uint64_t)order[i], 1 - JITTER, 1 + JITTER);
        adjust(rgb, n, (int)order[i], (float)factor);
    }
}

/* Zero a rectangle of the normalised input (Zhong et al., "Random Erasing", 2017). */
static void erase(uint64_t key, size_t n, float *out)
{
    key = th_rng_mix_name(key, "erase");
    if (between(key, 0, 0, 1) >= ERASE_CHANCE)
        return;
    for (uint64_t i = 1; i <= CROP_TRIES; i++) {
        double area =
            (double)(n * n) * between(key, i * 4, ERASE_MIN_AREA, ERASE_MAX_AREA);
        struct th_box box =
            rectangle(key, i * 4 + 1, area, ERASE_MIN_RATIO, ERASE_MAX_RATIO);
        if ((size_t)box.w >= n || (size_t)box.h >= n)
            continue;
        box.y = place(key, i * 4 + 2, (int)n - box.h);
        box.x = place(key, i * 4 + 3, (int)n - box.w);
        for (size_t row = 0; row < CHANNELS * (size_t)box.h; row++) {
            size_t c = row / (size_t)box.h, y = (size_t)box.y + row % (size_t)box.h;
            memset(
                out + (c * n + y) * n + (size_t)box.x, 0, (size_t)box.w * sizeof *out);
        }
        return;
    }
}

/* torchvision's RandomResizedCrop to n x n. */
static thaw_status resized_crop(uint64_t key, double scale,
    const struct th_preprocess *p, const struct th_image *src, uint8_t *rgb)
{
    struct th_resize r = {.from = th_augment_crop(key, scale, src->w, src->h),
        .w = p->size,
        .h = p->size,
        .part = {0, 0, p->size, p->size},
        .filter = p->filter};
    return th_image_resize_part(src, &r, rgb, (size_t)p->size * CHANNELS);
}

static int within(int v, int least, int most)
{
    return v < least ? least : v > most ? most : v;
}

/* torchvision's RandomCrop(n, padding=pad), in place: moved by (dx, dy), black outside.
 * Rows are taken in the order in which none is read after it was written. */
static void shift(uint64_t key, int pad, int n, uint8_t *rgb)
{
    key = th_rng_mix_name(key, "shift");
    int dy = within(place(key, 0, 2 * pad) - pad, -n, n);
    int dx = within(place(key, 1, 2 * pad) - pad, -n, n);
    size_t row = (size_t)n * CHANNELS, gap = (size_t)abs(dx) * CHANNELS;
    for (int i = 0; i < n; i++) {
        int y = dy > 0 ? i : n - 1 - i;
        uint8_t *to = rgb + (size_t)y * row;
        if (y + dy < 0 || y + dy >= n) {
            memset(to, 0, row);
            continue;
        }
        const uint8_t *from = rgb + (size_t)(y + dy) * row;
        memmove(to + (dx < 0 ? gap : 0), from + (dx > 0 ? gap : 0), row - gap);
        memset(dx < 0 ? to : to + row - gap, 0, gap);
    }
}

thaw_status th_augment_input(const struct th_preprocess *p, const struct th_augment *a,
    const struct th_view *variant, const struct th_image *src, uint8_t *pixels,
    float *out)
{
    size_t n = (size_t)p->size;
    uint64_t key = th_view_key(variant);
    bool crops = a->kind != TH_AUGMENT_NONE && !a->pad;
    TRY(crops ? resized_crop(key, a->scale, p, src, pixels)
              : th_preprocess_pixels(p, src, pixels));
    if (a->kind == TH_AUGMENT_NONE) {
        th_preprocess_normalise(p, pixels, false, out);
        return THAW_OK;
    }
    if (a->pad)
        shift(key, a->pad, p->size, pixels);
    if (a->kind == TH_AUGMENT_STRONG)
        jitter(key, pixels, n * n);
    bool mirror = between(th_rng_mix_name(key, "mirror"), 0, 0, 1) < 0.5;
    th_preprocess_normalise(p, pixels, mirror, out);
    if (a->kind == TH_AUGMENT_STRONG)
        erase(key, n, out);
    return THAW_OK;
}
