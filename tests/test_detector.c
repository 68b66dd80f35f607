/* SPDX-License-Identifier: Apache-2.0
 * Dense detectors: FCOS beside torchvision's in fp64 (golden/fcos.h), boxes between pictures
 * and inputs, codes of boxes, what is kept of an image's answers. */
#include "anchors.h"
#include "golden/fcos.h"
#include "net.h"
#include "network.h"
#include "placement.h"

enum { SAMPLES = 8, MOST_OBJECTS = 8 };
static const double TOLERANCE = 1e-4; /* DESIGN section 10 */

/* ---- FCOS ---- */

static bool ends(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

/* What golden/fcos.py does to the last convolutions. */
static void adjust(struct net *n)
{
    for (int i = 0; i < n->model.n_params; i++) {
        const struct th_param *p = &n->model.params[i];
        bool last = ends(p->name, "cls_logits.weight") ||
                    ends(p->name, "bbox_reg.weight") ||
                    ends(p->name, "bbox_ctrness.weight");
        bool bias = ends(p->name, "bbox_reg.bias");
        int64_t count = th_shape_count(&p->shape);
        float *v = th_alloc((size_t)count, sizeof *v);
        int id = th_store_find(&n->store, p->name);
        must(th_store_get(&n->store, id, v));
        for (int64_t k = 0; k < count; k++)
            v[k] = last ? v[k] / 16 : bias ? v[k] + 1 : v[k];
        must(th_store_put(&n->store, id, v));
        th_free(v);
    }
}

static void open_fcos(struct net *n, const char *device)
{
    const char *names[] = {"a", "b", "c"};
    const struct th_backbone *backbone = NULL;
    const struct th_variant *v = NULL;
    const struct th_head *head = NULL;
    *n = (struct net){.optim = {.kind = TH_SGD}};
    must(th_device_open(device, 2, &n->device));
    th_store_init(&n->store, n->device);
    th_arena_init(&n->arena, n->device);
    must(th_variant_find("resnet20_s4", &backbone, &v));
    must(th_head_find("fcos", &head));
    struct th_input input = v->input;
    input.size = GOLDEN_SIZE;
    must(th_model_init(
        &n->model, backbone, v, head, GOLDEN_WIDTH, &input, names, GOLDEN_CLASSES));
    net_fill(n, GOLDEN_KEY);
    adjust(n);
}

static struct th_reader reader_of(const struct net *n)
{
    struct th_reader r;
    must(th_reader_init(&r, n->model.head->detector, &n->model.pyramid,
        n->model.input.size, n->model.n_classes));
    return r;
}

/* The golden objects of an image. */
static int32_t objects_of(int image, struct th_object *out)
{
    int32_t n = 0;
    for (size_t i = 0; i < sizeof golden_objects / sizeof *golden_objects; i++) {
        const struct golden_box *g = &golden_objects[i];
        if (g->image != image)
            continue;
        out[n].class = g->class;
        for (int k = 0; k < 4; k++)
            out[n].box[k] = (float)g->box[k];
        n++;
    }
    return n;
}

static void set_targets(struct net *n)
{
    struct th_reader r = reader_of(n);
    const struct th_detector *d = r.detector;
    float *target[TH_MAX_TARGETS] = {0}, weight[GOLDEN_IMAGES];
    size_t rows = (size_t)r.pyramid->rows;
    for (int k = 0; k < d->n_targets; k++)
        target[k] =
            th_alloc(GOLDEN_IMAGES * rows * (size_t)d->target[k].n, sizeof(float));
    for (int i = 0; i < GOLDEN_IMAGES; i++) {
        struct th_object objects[MOST_OBJECTS] = {0};
        void *part[TH_MAX_TARGETS];
        for (int k = 0; k < d->n_targets; k++)
            part[k] = target[k] + (size_t)i * rows * (size_t)d->target[k].n;
        th_reader_targets(&r, objects, objects_of(i, objects), part);
    }
    th_reader_weights(&r, (const int32_t *)(void *)target[0], GOLDEN_IMAGES, weight);
    for (int k = 0; k < d->n_targets; k++) {
        must(th_plan_set(n->plan, d->target[k].name, target[k]));
        th_free(target[k]);
    }
    must(th_plan_set(n->plan, "weight", weight));
    th_reader_release(&r);
}

/* Of a tensor's norm, by norm and samples. */
static double distance(const float *x, int64_t n, const struct golden_gradient *want)
{
    double norm = 0, off = 0;
    for (int64_t i = 0; i < n; i++)
        norm += (double)x[i] * (double)x[i];
    for (int k = 0; k < SAMPLES; k++) {
        double d = (double)x[k * (n - 1) / (SAMPLES - 1)] - want->sample[k];
        off += d * d;
    }
    double by_norm = fabs(sqrt(norm) - want->norm) / want->norm;
    double by_sample = sqrt(off) / want->norm;
    return by_norm > by_sample ? by_norm : by_sample;
}

static void compare_gradients(struct net *n)
{
    for (size_t i = 0; i < sizeof golden_gradients / sizeof *golden_gradients; i++) {
        const struct golden_gradient *want = &golden_gradients[i];
        int p = th_model_param(&n->model, want->name);
        if (p < 0)
            fail_msg("no parameter is called %s", want->name);
        char name[160];
        snprintf(name, sizeof name, "grad/%s", want->name);
        int64_t count = th_shape_count(&n->model.params[p].shape);
        float *x = th_alloc((size_t)count, sizeof *x);
        must(th_plan_get(n->plan, name, x));
        double e = distance(x, count, want);
        if (!(e <= TOLERANCE))
            fail_msg(
                "%s: %s is %g from torchvision's", n->device->backend->name, name, e);
        th_free(x);
    }
}

static void check_step(const char *device)
{
    struct net n;
    float loss = 0;
    open_fcos(&n, device);
    net_plan(&n,
        (struct th_plan_spec){.mode = TH_TRAIN,
            .batch = GOLDEN_IMAGES,
            .keep_gradients = true,
            .no_update = true},
        "all", "affine");
    net_upload_random(&n, "image", GOLDEN_KEY, "images");
    set_targets(&n);
    net_scalars(&n, 0);
    must(th_plan_run(n.plan));
    must(th_plan_get(n.plan, "loss", &loss));
    double want = golden_loss[0] + golden_loss[1] + golden_loss[2];
    if (!(fabs((double)loss - want) <= TOLERANCE * want))
        fail_msg("%s: loss %g, not %g", device, (double)loss, want);
    compare_gradients(&n);
    net_close(&n);
}

/* Every golden box has been found, in its place. */
static void compare_found(const struct th_reader *r, int image)
{
    int k = 0;
    for (size_t i = 0; i < sizeof golden_found / sizeof *golden_found; i++) {
        const struct golden_box *g = &golden_found[i];
        if (g->image != image)
            continue;
        const struct th_detection *d = &r->found[k++];
        assert_int_equal(d->class, g->class);
        assert_true(fabs((double)d->score - g->score) <= TOLERANCE);
        for (int c = 0; c < 4; c++)
            assert_true(fabs((double)d->box[c] - g->box[c]) <= 1e-2);
    }
    assert_true(k > 10);
    assert_int_equal(r->n_found, r->detector->most);
}

static void check_found(const char *device)
{
    struct net n;
    open_fcos(&n, device);
    struct th_reader r = reader_of(&n);
    size_t rows = (size_t)r.pyramid->rows;
    float *value[3];
    static const char *const names[] = {"logits", "boxes", "centerness"};
    static const size_t width[] = {GOLDEN_CLASSES, 4, 1};
    net_plan(&n, (struct th_plan_spec){.mode = TH_EVAL, .batch = GOLDEN_IMAGES}, "all",
        "frozen");
    net_upload_random(&n, "image", GOLDEN_KEY, "images");
    must(th_plan_run(n.plan));
    for (int k = 0; k < 3; k++) {
        value[k] = th_alloc(GOLDEN_IMAGES * rows * width[k], sizeof(float));
        must(th_plan_get(n.plan, names[k], value[k]));
    }
    for (size_t i = 0; i < GOLDEN_IMAGES; i++) {
        const float *output[] = {value[1] + i * rows * 4, value[2] + i * rows};
        th_reader_read(&r, value[0] + i * rows * GOLDEN_CLASSES, output);
        compare_found(&r, (int)i);
    }
    for (int k = 0; k < 3; k++)
        th_free(value[k]);
    th_reader_release(&r);
    net_close(&n);
}

static void fcos_equals_torchvision(void **state)
{
    (void)state;
    for (int i = 0; i < NET_DEVICES; i++)
        if (net_has_device(net_devices[i]) && strcmp(net_devices[i], "far") != 0)
            check_step(net_devices[i]);
}

static void fcos_finds_what_torchvision_finds(void **state)
{
    (void)state;
    for (int i = 0; i < NET_DEVICES; i++)
        if (net_has_device(net_devices[i]))
            check_found(net_devices[i]);
}

/* ---- Boxes ---- */

static void codes_are_undone(void **state)
{
    (void)state;
    const float anchor[4] = {10, 20, 18, 36}, box[4] = {3, 25, 30, 31.5F};
    for (int code = TH_CODE_SIDES; code <= TH_CODE_DELTAS; code++) {
        float value[4], back[4];
        th_box_encode((enum th_box_code)code, anchor, box, value);
        th_box_decode((enum th_box_code)code, anchor, value, back);
        for (int k = 0; k < 4; k++)
            assert_true(fabsf(back[k] - box[k]) < 1e-4F);
    }
    float sides[4];
    th_box_encode(TH_CODE_SIDES, anchor, box, sides);
    assert_true(fabsf(sides[0] - (14.0F - 3) / 8) < 1e-6F);
    assert_true(fabsf(sides[3] - (31.5F - 28) / 16) < 1e-6F);
}

static void overlap_is_intersection_over_union(void **state)
{
    (void)state;
    const float a[4] = {0, 0, 2, 2}, b[4] = {1, 1, 3, 3}, far[4] = {5, 5, 6, 6};
    const float line[4] = {1, 1, 1, 4};
    assert_true(fabsf(th_box_iou(a, b) - 1.0F / 7) < 1e-6F);
    assert_true(th_box_iou(a, a) == 1);
    assert_true(th_box_iou(a, far) == 0);
    assert_true(th_box_iou(line, line) == 0);
}

static void the_whole_picture_is_shown(void **state)
{
    (void)state;
    struct th_placement p = th_placement_whole(640, 480, 320);
    assert_int_equal(p.to.w, 320);
    assert_int_equal(p.to.h, 240);
    p = th_placement_whole(3, 4000, 100);
    assert_int_equal(p.to.w, 1);
    assert_int_equal(p.to.h, 100);
}

/* A box goes to the input and comes back, mirrored, flipped and cropped or not. */
static void boxes_come_back(void **state)
{
    (void)state;
    const struct th_object o = {.box = {50, 40, 110, 90}, .class = 2};
    for (int bits = 0; bits < 4; bits++) {
        struct th_placement p = {.from = {20, 10, 200, 100},
            .to = {7, 3, 100, 50},
            .mirror = bits & 1,
            .flip = bits & 2};
        struct th_object on;
        float back[4];
        assert_int_equal(th_placement_objects(&p, &o, 1, &on), 1);
        float left = bits & 1 ? 7 + 100 - 45 : 7 + 15;
        assert_true(fabsf(on.box[0] - left) < 1e-4F);
        assert_true(fabsf(on.box[2] - on.box[0] - 30) < 1e-4F);
        th_placement_back(&p, 640, 480, on.box, back);
        for (int k = 0; k < 4; k++)
            assert_true(fabsf(back[k] - o.box[k]) < 1e-3F);
    }
}

/* Crowds and what is not shown are left out, what is cut is cut. */
static void what_is_not_shown_is_left_out(void **state)
{
    (void)state;
    const struct th_placement p = {.from = {100, 100, 50, 50}, .to = {0, 0, 100, 100}};
    const struct th_object o[] = {{.box = {110, 110, 120, 120}, .crowd = true},
        {.box = {0, 0, 99, 99}}, {.box = {90, 110, 110, 120}, .class = 1},
        {.box = {0, 110, 101, 120}}};
    struct th_object on[4];
    assert_int_equal(th_placement_objects(&p, o, 4, on), 1);
    assert_int_equal(on[0].class, 1);
    assert_true(on[0].box[0] == 0 && fabsf(on[0].box[2] - 20) < 1e-4F);
}

/* torchvision's, of its AnchorGenerator for RetinaNet. */
static void anchors_are_torchvisions(void **state)
{
    (void)state;
    static const float cell[9][2] = {{23, 11}, {28, 14}, {35, 18}, {16, 16}, {20, 20},
        {25, 25}, {11, 23}, {14, 28}, {18, 35}};
    const struct th_pyramid p = {
        .n = 1, .level = {{.h = 2, .w = 3, .stride = 8}}, .anchors = 9, .rows = 54};
    float anchor[54][4];
    th_anchors(&p, 24, &anchor[0][0]);
    for (int i = 0; i < 54; i++)
        for (int k = 0; k < 2; k++) {
            int place = i / 9, at = k ? place / 3 * 12 : place % 3 * 8;
            assert_true(anchor[i][k] == (float)at - cell[i % 9][k]);
            assert_true(anchor[i][2 + k] == (float)at + cell[i % 9][k]);
        }
}

/* From 0.5 on, or the best of all; between 0.4 and 0.5 a row counts nowhere. */
static void rows_are_matched_by_overlap(void **state)
{
    (void)state;
    const float anchor[6][4] = {{0, 0, 10, 10}, {0, 0, 10, 8}, {0, 0, 10, 4.5F},
        {0, 0, 10, 2}, {50, 50, 60, 60}, {50, 50, 60, 70}};
    const struct th_object objects[] = {
        {.box = {0, 0, 10, 10}, .class = 3}, {.box = {50, 50, 52, 52}, .class = 7}};
    int32_t match[6];
    th_anchors_match(&anchor[0][0], 6, objects, 2, 0.4F, 0.5F, match);
    const int32_t want[6] = {0, 0, -2, -1, 1, -1};
    for (int i = 0; i < 6; i++)
        assert_int_equal(match[i], want[i]);
    th_anchors_match(&anchor[0][0], 6, objects, 0, 0.4F, 0.5F, match);
    for (int i = 0; i < 6; i++)
        assert_int_equal(match[i], -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fcos_equals_torchvision),
        cmocka_unit_test(fcos_finds_what_torchvision_finds),
        cmocka_unit_test(codes_are_undone),
        cmocka_unit_test(overlap_is_intersection_over_union),
        cmocka_unit_test(the_whole_picture_is_shown),
        cmocka_unit_test(boxes_come_back),
        cmocka_unit_test(what_is_not_shown_is_left_out),
        cmocka_unit_test(anchors_are_torchvisions),
        cmocka_unit_test(rows_are_matched_by_overlap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
