/* SPDX-License-Identifier: Apache-2.0
 * Owns the random variants: what is drawn, and in which order it is applied: torchvision's
 * RandomResizedCrop, RandomCrop with padding, flips, RandAugment, ColorJitter and
 * RandomErasing, from our own streams. Each purpose has its own stream, so that adding
 * one changes no other. Pixel arithmetic is colour.c's and affine.c's. */
#include "augment.h"

#include "affine.h"
#include "colour.h"
#include "draws.h"
#include "error.h"
#include "randaugment.h"
#include "rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHANNELS = 3, TRIES = 10, ADJUSTMENTS = 4 };

/* torchvision's defaults. */
static const double SCALE = 0.08, MIN_RATIO = 3.0 / 4.0, MAX_RATIO = 4.0 / 3.0;
static const double COLOUR_JITTER = 0.2; /* a detector's */
static const double ERASE_MIN_AREA = 0.02, ERASE_MAX_AREA = 0.33, ERASE_MIN_RATIO = 0.3,
                    ERASE_MAX_RATIO = 3.3;

static const struct {
    const char *name;
    struct th_augment augment;
} rows[] = {
    {"none", {0}},
    {"basic", {.crop = true, .mirror = 0.5}},
    {"strong", {.crop = true, .mirror = 0.5, .n_ops = 2, .bin = 9, .erase = 0.25}},
};

thaw_status th_augment_named(const char *name, struct th_augment *out)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(name, rows[i].name) == 0) {
            *out = rows[i].augment;
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

/* A rectangle of the given area and of a ratio w/h drawn evenly in its logarithm. */
static struct th_box rectangle(
    uint64_t key, uint64_t counter, double area, double min_ratio, double max_ratio)
{
    double ratio = exp(th_draw_between(key, counter, log(min_ratio), log(max_ratio)));
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
    for (uint64_t i = 0; i < TRIES; i++) {
        double area = (double)w * h * th_draw_between(key, i * 4, scale, 1.0);
        struct th_box box = rectangle(key, i * 4 + 1, area, MIN_RATIO, MAX_RATIO);
        if (box.w < 1 || box.w > w || box.h < 1 || box.h > h)
            continue;
        box.y = th_draw_offset(key, i * 4 + 2, h - box.h);
        box.x = th_draw_offset(key, i * 4 + 3, w - box.w);
        return box;
    }
    return central(w, h);
}

/* torchvision's ColorJitter. */
static void jitter(uint64_t key, const struct th_augment *a, struct th_image *image)
{
    int64_t order[ADJUSTMENTS];
    key = th_rng_mix_name(key, "jitter");
    th_rng_permutation(th_rng_mix_name(key, "order"), ADJUSTMENTS, order);
    for (int i = 0; i < ADJUSTMENTS; i++) {
        bool hue = order[i] == 3;
        double by = hue ? a->hue : a->jitter, least = hue || by < 1 ? -by : -1;
        double change = th_draw_between(key, (uint64_t)order[i], least, by);
        if (by <= 0)
            continue;
        if (order[i] == 0)
            th_adjust_brightness(image, 1 + change);
        else if (order[i] == 1)
            th_adjust_contrast(image, 1 + change);
        else if (order[i] == 2)
            th_adjust_saturation(image, 1 + change);
        else
            th_adjust_hue(image, change);
    }
}

/* Zero a rectangle of the normalised input. torchvision draws its ratio as h / w. */
static void erase(uint64_t key, struct th_size size, float *out)
{
    for (uint64_t i = 1; i <= TRIES; i++) {
        double area = (double)th_size_pixels(size) *
                      th_draw_between(key, i * 4, ERASE_MIN_AREA, ERASE_MAX_AREA);
        struct th_box box =
            rectangle(key, i * 4 + 1, area, 1 / ERASE_MAX_RATIO, 1 / ERASE_MIN_RATIO);
        if (box.w >= size.w || box.h >= size.h)
            continue;
        box.y = th_draw_offset(key, i * 4 + 2, size.h - box.h);
        box.x = th_draw_offset(key, i * 4 + 3, size.w - box.w);
        for (size_t row = 0; row < CHANNELS * (size_t)box.h; row++) {
            size_t c = row / (size_t)box.h, y = (size_t)box.y + row % (size_t)box.h;
            size_t at = (c * (size_t)size.h + y) * (size_t)size.w + (size_t)box.x;
            memset(out + at, 0, (size_t)box.w * sizeof *out);
        }
        return;
    }
}

/* The resize that the input's pixels are: torchvision's RandomResizedCrop, or what
 * evaluation does. */
static thaw_status resize_of(
    const struct th_example *example, int w, int h, struct th_resize *r)
{
    const struct th_preprocess *p = example->preprocess;
    const struct th_augment *a = example->augment;
    if (p->fit) {
        struct th_placement place = th_example_place(example, w, h);
        *r = th_placement_resize(p, &place);
        return THAW_OK;
    }
    if (!a->crop || a->pad)
        return th_preprocess_resize(p, w, h, r);
    *r = (struct th_resize){
        .from = th_augment_crop(th_view_key(&example->view), a->scale, w, h),
        .w = p->size.w,
        .h = p->size.h,
        .part = {0, 0, p->size.w, p->size.h},
        .filter = p->filter};
    return THAW_OK;
}

/* Where nothing can be made of the picture, all of it: making it will say why. */
static struct th_box part_wanted(const void *context, int w, int h)
{
    struct th_resize r;
    struct th_box box;
    if (resize_of(context, w, h, &r) != THAW_OK ||
        th_resize_reads(&r, w, h, &box) != THAW_OK)
        return (struct th_box){0, 0, w, h};
    return box;
}

struct th_wanted th_example_wants(const struct th_example *example)
{
    return (struct th_wanted){.part = part_wanted, .context = example};
}

void th_example_maker_release(struct th_example_maker *maker)
{
    th_block_release(&maker->pixels);
    th_block_release(&maker->resizer.memory);
}

static int within(int v, int least, int most)
{
    return v < least ? least : v > most ? most : v;
}

/* torchvision's RandomCrop(size, padding=pad), in place: moved by (dx, dy), black outside.
 * Rows are taken in the order in which none is read after it was written. */
static void shift(uint64_t key, int pad, struct th_size size, uint8_t *rgb)
{
    key = th_rng_mix_name(key, "shift");
    int dy = within(th_draw_offset(key, 0, 2 * pad) - pad, -size.h, size.h);
    int dx = within(th_draw_offset(key, 1, 2 * pad) - pad, -size.w, size.w);
    size_t row = (size_t)size.w * CHANNELS, gap = (size_t)abs(dx) * CHANNELS;
    for (int i = 0; i < size.h; i++) {
        int y = dy > 0 ? i : size.h - 1 - i;
        uint8_t *to = rgb + (size_t)y * row;
        if (y + dy < 0 || y + dy >= size.h) {
            memset(to, 0, row);
            continue;
        }
        const uint8_t *from = rgb + (size_t)(y + dy) * row;
        memmove(to + (dx < 0 ? gap : 0), from + (dx > 0 ? gap : 0), row - gap);
        memset(dx < 0 ? to : to + row - gap, 0, gap);
    }
}

/* Everything that is done to 8-bit pixels, but for a mirroring that may wait. */
static void change(uint64_t key, const struct th_augment *a, struct th_image *image,
    uint8_t *copy, bool mirror)
{
    if (mirror)
        th_mirror(image);
    if (a->flip > 0 && th_draw_happens(key, "flip", a->flip))
        th_flip(image);
    if (a->n_ops > 0)
        th_randaugment(
            image, th_rng_mix_name(key, "randaugment"), a->n_ops, a->bin, copy);
    if (a->jitter > 0 || a->hue > 0)
        jitter(key, a, image);
}

/* A detector's: the picture where it is placed, the rest 0. */
static thaw_status make_placed(struct th_example_maker *maker,
    const struct th_example *example, const struct th_picture *src, float *out)
{
    const struct th_preprocess *p = example->preprocess;
    struct th_augment a = *example->augment;
    struct th_placement place = th_example_place(example, src->w, src->h);
    struct th_resize r = th_placement_resize(p, &place);
    size_t whole = th_size_pixels(p->size) * CHANNELS;
    size_t pixels = (size_t)place.to.w * (size_t)place.to.h;
    uint8_t *rgb = th_block_take(&maker->pixels, whole + pixels * CHANNELS);
    if (!rgb)
        return THAW_E_MEMORY;
    struct th_image image = {.w = place.to.w, .h = place.to.h, .rgb = rgb + whole};
    size_t row = (size_t)image.w * CHANNELS, w = (size_t)p->size.w;
    TRY(th_picture_resize(&maker->resizer, src, &r, image.rgb, row));
    if (place.mirror)
        th_mirror(&image);
    if (place.flip)
        th_flip(&image);
    if (a.n_ops > 0)
        a.jitter = fmax(a.jitter, COLOUR_JITTER);
    if (a.jitter > 0 || a.hue > 0)
        jitter(th_view_key(&example->view), &a, &image);
    memset(rgb, 0, whole);
    for (size_t y = 0; y < (size_t)place.to.h; y++)
        memcpy(rgb + ((y + (size_t)place.to.y) * w + (size_t)place.to.x) * CHANNELS,
            image.rgb + y * row, row);
    th_preprocess_normalise(p, rgb, false, out);
    th_preprocess_clear(p->size, place.to, out);
    return THAW_OK;
}

thaw_status th_example_make(struct th_example_maker *maker,
    const struct th_example *example, const struct th_picture *src, float *out)
{
    const struct th_preprocess *p = example->preprocess;
    const struct th_augment *a = example->augment;
    size_t row = (size_t)p->size.w * CHANNELS, bytes = row * (size_t)p->size.h;
    uint64_t key = th_view_key(&example->view);
    struct th_resize r;
    if (p->fit)
        return make_placed(maker, example, src, out);
    TRY(resize_of(example, src->w, src->h, &r));
    /* The pixels, and a copy of them for RandAugment. */
    uint8_t *rgb = th_block_take(&maker->pixels, 2 * bytes);
    if (!rgb)
        return THAW_E_MEMORY;
    struct th_image image = {.w = p->size.w, .h = p->size.h, .rgb = rgb};
    TRY(th_picture_resize(&maker->resizer, src, &r, rgb, row));
    if (a->pad)
        shift(key, a->pad, p->size, rgb);
    /* Only RandAugment sees left and right; otherwise normalising mirrors for nothing. */
    bool mirror = th_draw_happens(key, "mirror", a->mirror), waits = a->n_ops == 0;
    change(key, a, &image, rgb + bytes, mirror && !waits);
    th_preprocess_normalise(p, rgb, mirror && waits, out);
    if (a->erase > 0 && th_draw_happens(key, "erase?", a->erase))
        erase(th_rng_mix_name(key, "erase"), p->size, out);
    return THAW_OK;
}
