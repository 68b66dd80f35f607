/* SPDX-License-Identifier: Apache-2.0
 * Owns the mixing of batches: what is drawn, and the arithmetic on rows of values. Knows
 * nothing of labels, epochs or plans. */
#include "mix.h"

#include "mem.h"
#include "rng.h"

#include <math.h>
#include <string.h>

enum { CHANNELS = 3 };

static int within(int v, int most)
{
    return v < 0 ? 0 : v > most ? most : v;
}

void th_mix_box(struct th_mix_draw *d, int x, int y, struct th_size size)
{
    double share = sqrt(1 - d->lambda);
    int w = (int)(size.w * share), h = (int)(size.h * share);
    d->left = within(x - w / 2, size.w);
    d->right = within(x + w - w / 2, size.w);
    d->top = within(y - h / 2, size.h);
    d->bottom = within(y + h - h / 2, size.h);
    double area = (double)(d->right - d->left) * (d->bottom - d->top);
    d->lambda = 1 - area / ((double)size.w * size.h);
}

/* The partner is a rotation by a drawn number of places: no image meets itself, and in a
 * fixed order (--no-shuffle) pairs still change. */
struct th_mix_draw th_mix_draw(
    const struct th_mix *m, uint64_t key, int64_t n, struct th_size size)
{
    struct th_mix_draw d = {.lambda = 1};
    if (n < 2 || (m->mixup <= 0 && m->cutmix <= 0))
        return d;
    bool both = m->mixup > 0 && m->cutmix > 0;
    d.cuts = both ? th_rng_below(th_rng_mix_name(key, "which"), 0, 2) : m->cutmix > 0;
    double a = d.cuts ? m->cutmix : m->mixup;
    d.lambda = th_rng_beta(th_rng_mix_name(key, "lambda"), a, a);
    d.partner = 1 + (int64_t)th_rng_below(
                        th_rng_mix_name(key, "partner"), 0, (uint64_t)(n - 1));
    if (!d.cuts)
        return d;
    key = th_rng_mix_name(key, "box");
    int x = (int)th_rng_below(key, 0, (uint64_t)size.w);
    th_mix_box(&d, x, (int)th_rng_below(key, 1, (uint64_t)size.h), size);
    return d;
}

/* Rows of `count` values: each with that of its partner. */
static void mix_rows(
    const struct th_mix_draw *d, int64_t n, size_t count, const float *in, float *out)
{
    float own = (float)d->lambda, other = (float)(1 - d->lambda);
    for (int64_t i = 0; i < n; i++) {
        const float *a = in + (size_t)i * count;
        const float *b = in + (size_t)((i + d->partner) % n) * count;
        for (size_t k = 0; k < count; k++)
            *out++ = a[k] * own + b[k] * other;
    }
}

static void cut_images(const struct th_mix_draw *d, int64_t n, struct th_size size,
    const float *in, float *out)
{
    size_t w = (size_t)size.w, h = (size_t)size.h, count = CHANNELS * w * h;
    size_t bytes = (size_t)(d->right - d->left) * sizeof *out;
    memcpy(out, in, (size_t)n * count * sizeof *out);
    for (int64_t i = 0; i < n; i++)
        for (size_t c = 0; c < CHANNELS; c++)
            for (size_t y = (size_t)d->top; y < (size_t)d->bottom; y++) {
                size_t at = (c * h + y) * w + (size_t)d->left;
                size_t other = (size_t)((i + d->partner) % n);
                memcpy(out + (size_t)i * count + at, in + other * count + at, bytes);
            }
}

void th_mix_images(const struct th_mix_draw *d, int64_t n, struct th_size size,
    const float *in, float *out)
{
    if (d->cuts)
        cut_images(d, n, size, in, out);
    else
        mix_rows(d, n, th_size_pixels(size) * CHANNELS, in, out);
}

void th_mix_targets(
    const struct th_mix_draw *d, int64_t n, int classes, const float *in, float *out)
{
    mix_rows(d, n, (size_t)classes, in, out);
}

/* ---- The buffers ---- */

thaw_status th_mixer_init(struct th_mixer *m, const struct th_mix *mix, int64_t batch,
    struct th_size size, int classes)
{
    size_t image = th_size_pixels(size) * CHANNELS;
    *m = (struct th_mixer){.mix = *mix, .size = size, .classes = classes};
    if (mix->mixup <= 0 && mix->cutmix <= 0)
        return THAW_OK;
    m->images = th_alloc((size_t)batch, image * sizeof *m->images);
    m->target = th_alloc((size_t)batch, (size_t)classes * sizeof *m->target);
    return m->images && m->target ? THAW_OK : THAW_E_MEMORY;
}

void th_mixer_release(struct th_mixer *m)
{
    th_free(m->images);
    th_free(m->target);
    *m = (struct th_mixer){0};
}

void th_mixer_apply(const struct th_mixer *m, uint64_t key, int64_t n,
    const float **images, const float **target)
{
    struct th_mix_draw d = th_mix_draw(&m->mix, key, n, m->size);
    if (!d.partner)
        return;
    th_mix_images(&d, n, m->size, *images, m->images);
    th_mix_targets(&d, n, m->classes, *target, m->target);
    *images = m->images;
    *target = m->target;
}
