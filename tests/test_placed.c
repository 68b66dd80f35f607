/* SPDX-License-Identifier: Apache-2.0
 * Where a detector's training pictures are: boxes move with the pixels through IoU crops and
 * mosaics, whatever is drawn, and the draws are the same for any number of workers. */
#include "loader.h"
#include "must.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { W = 64, H = 48, SAMPLES = 7, MOST = 64, BACKGROUND = 40, VALUES = 3 * W * H };
static const uint8_t gray[2] = {120, 240}; /* of the classes' objects */

struct shown {
    int32_t n;
    struct th_object object[MOST];
};

/* A flat picture with one rectangle or two; the sizes are all different. */
static void make_sample(struct th_sample *s, uint8_t *pixels, int i)
{
    *s = (struct th_sample){
        .pixels = pixels, .w = 50 + 13 * i, .h = 110 - 9 * i, .id = i};
    memset(pixels, BACKGROUND, (size_t)s->w * (size_t)s->h);
    s->objects = th_alloc(2, sizeof *s->objects);
    assert_non_null(s->objects);
    for (int k = 0; k < 1 + i % 2; k++) {
        struct th_object *o = &s->objects[s->n_objects++];
        int x = 4 + 20 * k + i, y = 6 + 24 * k, w = 16 + i, h = 20 + 2 * i;
        *o = (struct th_object){
            .box = {(float)x, (float)y, (float)(x + w), (float)(y + h)},
            .class = (i + k) % 2};
        for (int row = y; row < y + h; row++)
            memset(pixels + row * s->w + x, gray[o->class], (size_t)w);
    }
}

static void open_data(struct th_dataset *d)
{
    enum { ROOM = 200 * 200 };
    struct th_samples *all = &d->split[TH_SPLIT_TRAIN];
    *d = (struct th_dataset){.n_classes = 2, .has_objects = true, .many = true};
    all->sample = th_alloc(SAMPLES, sizeof *all->sample);
    uint8_t *pixels = d->memory[TH_SPLIT_TRAIN] = th_alloc(SAMPLES, ROOM);
    assert_true(all->sample && pixels);
    for (all->n = 0; all->n < SAMPLES; all->n++)
        make_sample(&all->sample[all->n], pixels + all->n * ROOM, (int)all->n);
}

static void keep(void *context, const struct th_object *objects, int32_t n,
    uint64_t key, void *const *part)
{
    struct shown *to = part[0];
    (void)context, (void)key;
    assert_true(n <= MOST);
    to->n = n;
    memcpy(to->object, objects, (size_t)n * sizeof *objects);
}

/* Inputs of 8-bit grays as they are, and their objects, of some epochs. */
static void run_loader(const struct th_augment *a, int workers, int epochs,
    void (*each)(void *context, const float *image, const struct shown *shown),
    void *context)
{
    struct th_dataset d;
    struct th_loader *loader;
    struct th_batch b;
    struct th_loader_options o = {.batch = 3,
        .seed = 5,
        .shuffle = true,
        .augment = *a,
        .workers = workers,
        .preprocess = {.size = {W, H}, .crop = 1, .fit = true, .std = {1, 1, 1}},
        .n_parts = 1,
        .bucket = {{.part_bytes = {sizeof(struct shown)}}},
        .targets = keep};
    open_data(&d);
    must(th_loader_open(&d, &o, &loader));
    for (int64_t epoch = 0; epoch < epochs; epoch++) {
        must(th_loader_start(loader, epoch, 0));
        for (b.n = 1; b.n;) {
            must(th_loader_next(loader, &b));
            for (int64_t i = 0; i < b.n; i++)
                each(context, b.images + i * VALUES,
                    (const struct shown *)b.part[0] + i);
        }
    }
    th_loader_close(loader);
    th_dataset_close(&d);
}

struct sums {
    double painted[2], boxes[2]; /* pixels of each class's gray; areas of its boxes */
    int inputs, objects;
};

static int class_at(const float *image, int i)
{
    for (int c = 0; c < 2; c++)
        if (fabsf(image[i] - (float)gray[c] / 255) < 0.1F)
            return c;
    return -1;
}

/* In the middle of a box is its class; how much is painted is summed. */
static void look(void *context, const float *image, const struct shown *shown)
{
    struct sums *s = context;
    s->inputs++;
    for (int i = 0; i < W * H; i++) {
        int c = class_at(image, i);
        if (c >= 0)
            s->painted[c]++;
    }
    for (int32_t k = 0; k < shown->n; k++) {
        const struct th_object *o = &shown->object[k];
        int x = (int)((o->box[0] + o->box[2]) / 2),
            y = (int)((o->box[1] + o->box[3]) / 2);
        s->objects++;
        s->boxes[o->class] += (double)th_box_area(o->box);
        if (o->box[2] - o->box[0] < 4 || o->box[3] - o->box[1] < 4)
            continue;
        if (class_at(image, y * W + x) != o->class)
            fail_msg(
                "input %d: no object of class %d at %d,%d", s->inputs, o->class, x, y);
    }
}

/* least: of what is painted, so much is in boxes at least; what shows a tenth, or whose centre
 * is not shown, is painted and no target; the blur around an object is in its box only. */
static void boxes_are_where_pixels_are(
    const struct th_augment *a, double least, struct sums *s)
{
    *s = (struct sums){0};
    run_loader(a, 2, 30, look, s);
    for (int c = 0; c < 2; c++) {
        double share = s->boxes[c] / s->painted[c];
        if (!(share > least && share < 1.3))
            fail_msg("class %d: boxes are %.3f of what is painted", c, share);
    }
}

static void a_mosaic_has_the_objects_of_four_pictures(void **state)
{
    const struct th_augment a = {.mirror = 0.5, .flip = 0.3, .mosaic = 1};
    struct sums s;
    (void)state;
    boxes_are_where_pixels_are(&a, 0.95, &s);
    assert_true(s.objects > 2 * s.inputs);
}

static void an_iou_crop_takes_boxes_along(void **state)
{
    const struct th_augment a = {.mirror = 0.5, .iou_crop = 1};
    struct sums s;
    (void)state;
    boxes_are_where_pixels_are(&a, 0.85, &s);
    assert_true(s.objects > s.inputs && s.objects < 2 * s.inputs);
}

static void both_go_with_jittered_scales(void **state)
{
    struct th_augment a = {.mirror = 0.5, .iou_crop = 0.5, .mosaic = 0.5, .n_ops = 2};
    struct th_placement p;
    (void)state;
    const struct th_preprocess fit = {
        .size = {W, H}, .crop = 1, .fit = true, .std = {1, 1, 1}};
    const struct th_object o = {.box = {10, 10, 60, 40}};
    for (int i = 0; i < 500; i++) {
        const struct th_example e = {.preprocess = &fit,
            .augment = &a,
            .view = {.seed = 1, .sample = i},
            .objects = &o,
            .n_objects = 1};
        p = th_example_place(&e, 90, 70);
        assert_true(p.from.x >= 0 && p.from.w >= 1 && p.from.x + p.from.w <= 90);
        assert_true(p.from.y >= 0 && p.from.h >= 1 && p.from.y + p.from.h <= 70);
        assert_true(p.to.x >= 0 && p.to.w >= 1 && p.to.x + p.to.w <= W);
        assert_true(p.to.y >= 0 && p.to.h >= 1 && p.to.y + p.to.h <= H);
    }
}

/* torchvision's bounds: parts from 0.3 on, ratios within 1/2 and 2, a centre in it; in one of
 * seven rounds the whole picture. */
static void an_iou_crop_is_within_its_bounds(void **state)
{
    const struct th_augment a = {.iou_crop = 1};
    const struct th_preprocess fit = {
        .size = {W, H}, .crop = 1, .fit = true, .std = {1, 1, 1}};
    const struct th_object two[] = {
        {.box = {10, 10, 60, 40}}, {.box = {70, 60, 99, 79}}};
    int whole = 0, left_out = 0;
    (void)state;
    for (int i = 0; i < 400; i++) {
        const struct th_example e = {.preprocess = &fit,
            .augment = &a,
            .view = {.seed = 1, .sample = i},
            .objects = two,
            .n_objects = 2};
        struct th_object out[2];
        struct th_placement p = th_example_place(&e, 100, 80);
        double ratio = (double)p.from.w / p.from.h;
        int32_t n = th_placement_objects(&p, two, 2, out);
        assert_true(p.from.w >= 30 && p.from.h >= 24 && ratio >= 0.5 && ratio <= 2);
        assert_true(n >= 1);
        whole += p.from.w == 100 && p.from.h == 80;
        left_out += n == 1;
    }
    assert_in_range(whole, 400 / 14, 400 / 2);
    assert_in_range(left_out, 400 / 10, 400);
}

struct hash {
    uint64_t of;
};

static void add(void *context, const float *image, const struct shown *shown)
{
    uint64_t *hash = &((struct hash *)context)->of;
    for (int i = 0; i < VALUES; i++)
        *hash = *hash * 31 + (uint64_t)lrintf(image[i] * 255);
    for (int32_t k = 0; k < shown->n; k++)
        *hash = th_object_hash(&shown->object[k], *hash);
}

static void workers_change_nothing(void **state)
{
    const struct th_augment a = {.mirror = 0.5, .iou_crop = 0.5, .mosaic = 0.5};
    struct hash one = {1}, four = {1};
    (void)state;
    run_loader(&a, 1, 3, add, &one);
    run_loader(&a, 4, 3, add, &four);
    assert_true(one.of == four.of && one.of != 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mosaic_has_the_objects_of_four_pictures),
        cmocka_unit_test(an_iou_crop_takes_boxes_along),
        cmocka_unit_test(both_go_with_jittered_scales),
        cmocka_unit_test(an_iou_crop_is_within_its_bounds),
        cmocka_unit_test(workers_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
