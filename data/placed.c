/* SPDX-License-Identifier: Apache-2.0
 * Owns where a detector's training picture is on the input: resized, cropped around its
 * objects, or one of the four of a mosaic. */
#include "augment.h"
#include "draws.h"

#include <math.h>

static const double MIN_JITTER = 0.5, MAX_JITTER = 2; /* of the scale */

/* ---- IoU crop ---- */

/* torchvision's RandomIoUCrop: extents of the crop over the picture's, ratio of its sides,
 * the least IoU with some object (1: the whole picture), tries for each of these. */
enum { LEASTS = 7, TRIES = 40, ROUNDS = 64, DRAWS = 4 };
static const double LEAST_PART = 0.3, LEAST_RATIO = 0.5, MOST_RATIO = 2;
static const float LEAST_IOU[LEASTS] = {0, 0.1F, 0.3F, 0.5F, 0.7F, 0.9F, 1};

/* The largest IoU of the crop with an object whose centre it shows; -1: it shows none. */
static float most_iou(const struct th_example *e, const struct th_box *crop)
{
    const float edges[4] = {(float)crop->x, (float)crop->y, (float)(crop->x + crop->w),
        (float)(crop->y + crop->h)};
    float most = -1;
    for (int32_t i = 0; i < e->n_objects; i++)
        if (th_box_shows_centre(crop, e->objects[i].box))
            most = fmaxf(most, th_box_iou(edges, e->objects[i].box));
    return most;
}

/* Of Liu et al. 2016 (arXiv:1512.02325, section 2.2), as torchvision draws it. */
static struct th_box iou_crop(uint64_t key, const struct th_example *e, int w, int h)
{
    const struct th_box whole = {0, 0, w, h};
    key = th_rng_mix_name(key, "iou crop");
    for (int round = 0; round < ROUNDS && e->n_objects; round++) {
        uint64_t draw = th_rng_mix(key, (uint64_t)round);
        float least = LEAST_IOU[th_draw_offset(draw, 0, LEASTS - 1)];
        for (uint64_t i = 1; i <= TRIES && least < 1; i++) {
            struct th_box crop = {
                .w = (int)(w * th_draw_between(draw, i * DRAWS, LEAST_PART, 1)),
                .h = (int)(h * th_draw_between(draw, i * DRAWS + 1, LEAST_PART, 1))};
            double ratio = crop.h ? (double)crop.w / crop.h : 0;
            if (!(ratio >= LEAST_RATIO && ratio <= MOST_RATIO))
                continue;
            crop.x = th_draw_offset(draw, i * DRAWS + 2, w - crop.w);
            crop.y = th_draw_offset(draw, i * DRAWS + 3, h - crop.h);
            float most = most_iou(e, &crop);
            if (most >= 0 && most >= least)
                return crop;
        }
        if (least >= 1)
            return whole;
    }
    return whole;
}

/* ---- Mosaic ---- */

bool th_mosaic_draw(const struct th_augment *a, const struct th_view *v,
    struct th_size size, int64_t n, struct th_mosaic *m, int64_t other[TH_MOSAIC - 1])
{
    uint64_t key = th_view_key(v), draw = th_rng_mix_name(key, "mosaic");
    if (!(a->mosaic > 0) || !th_draw_happens(key, "mosaic?", a->mosaic))
        return false;
    *m = (struct th_mosaic){.on = true};
    m->x = size.w / 4 + th_draw_offset(draw, 0, size.w - size.w / 4 * 2);
    m->y = size.h / 4 + th_draw_offset(draw, 1, size.h - size.h / 4 * 2);
    draw = th_rng_mix_name(draw, "others");
    for (int i = 0; i < TH_MOSAIC - 1; i++)
        other[i] = (int64_t)th_rng_below(draw, (uint64_t)i, (uint64_t)n);
    return true;
}

/* In one axis: the picture, `shown` pixels on a whole input, ends at `at` or begins there, and
 * is cut at the input's edge. */
static void put_axis(int size, int shown, int at, int n, bool ends, int *from,
    int *from_size, int *to, int *to_size)
{
    int room = ends ? at : n - at;
    *to_size = shown < room ? shown : room;
    *from_size = (int)fmax(1, rint((double)size * *to_size / shown));
    *from = ends ? size - *from_size : 0;
    *to = ends ? at - *to_size : at;
}

static struct th_placement quadrant(const struct th_example *e, int w, int h)
{
    const struct th_mosaic *m = &e->mosaic;
    struct th_size n = e->preprocess->size;
    struct th_placement p = th_placement_whole(w, h, n), whole = p;
    put_axis(w, whole.to.w, m->x, n.w, m->quadrant % 2 == 0, &p.from.x, &p.from.w,
        &p.to.x, &p.to.w);
    put_axis(h, whole.to.h, m->y, n.h, m->quadrant / 2 == 0, &p.from.y, &p.from.h,
        &p.to.y, &p.to.h);
    return p;
}

/* ---- Placing ---- */

/* In one axis: `size` pixels of a picture as `wanted` pixels of n, cropped or anywhere. */
static void place_axis(uint64_t key, uint64_t counter, int size, int wanted, int n,
    int *from, int *from_size, int *to, int *to_size)
{
    bool larger = wanted > n;
    int shown = larger ? (int)fmax(1, rint((double)size * n / wanted)) : size;
    *from_size = shown;
    *to_size = larger ? n : wanted;
    *from = th_draw_offset(key, counter, size - shown);
    *to = th_draw_offset(key, counter + 1, n - *to_size);
}

static struct th_placement place_one(
    const struct th_example *e, uint64_t key, int w, int h)
{
    const struct th_augment *a = e->augment;
    struct th_size n = e->preprocess->size;
    uint64_t draw = th_rng_mix_name(key, "scale");
    struct th_box crop = {0, 0, w, h};
    if (a->iou_crop > 0 && th_draw_happens(key, "iou crop?", a->iou_crop))
        crop = iou_crop(key, e, w, h);
    struct th_placement p = th_placement_whole(crop.w, crop.h, n);
    p.by_centre = crop.w < w || crop.h < h;
    if (a->n_ops > 0) {
        double by = exp(th_draw_between(draw, 0, log(MIN_JITTER), log(MAX_JITTER)));
        int wide = (int)fmax(1, rint(p.to.w * by)),
            high = (int)fmax(1, rint(p.to.h * by));
        place_axis(draw, 1, crop.w, wide, n.w, &p.from.x, &p.from.w, &p.to.x, &p.to.w);
        place_axis(draw, 3, crop.h, high, n.h, &p.from.y, &p.from.h, &p.to.y, &p.to.h);
    }
    p.from.x += crop.x;
    p.from.y += crop.y;
    return p;
}

struct th_placement th_example_place(const struct th_example *example, int w, int h)
{
    const struct th_augment *a = example->augment;
    uint64_t key = th_view_key(&example->view);
    struct th_placement p =
        example->mosaic.on ? quadrant(example, w, h) : place_one(example, key, w, h);
    p.mirror = th_draw_happens(key, "mirror", a->mirror);
    p.flip = th_draw_happens(key, "flip", a->flip);
    return p;
}
