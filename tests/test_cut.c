/* SPDX-License-Identifier: Apache-2.0
 * The cut: the part below and the part above it together do what the whole plan does, bit
 * for bit (P7), and the frontier between them is what a cache has to keep. */
#include "net.h"

#include "pass.h"

#include <stdio.h>

static const char *const devices[] = {
    "ref", "far", "cpu:avx512", "cpu:avx2", "cpu:base"};
enum { N_DEVICES = sizeof devices / sizeof *devices, BATCH = 6, SIDE = 8 };

/* One network and the two parts of its plan. */
struct halves {
    struct net n; /* its plan: the whole */
    bool *moving;
    struct th_plan *below, *above;
    struct th_frontier f;
    float *rows[TH_MAX_FRONTIER]; /* [BATCH][values] */
    int side;                     /* pixels */
};

static struct th_plan *side(
    struct halves *h, struct th_plan_spec spec, enum th_side which)
{
    struct th_plan *p = NULL;
    spec.model = &h->n.model;
    spec.freeze = &h->n.freeze;
    spec.optim = &h->n.optim;
    spec.side = which;
    spec.moving = h->moving;
    must(th_plan_new(&spec, &h->n.store, &h->n.arena, &p));
    return p;
}

static void halves_open_at(struct halves *h, int pixels, const char *device,
    struct th_plan_spec spec, const char *thaw, const char *bn)
{
    *h = (struct halves){.side = pixels};
    net_open(&h->n, device, "resnet20", pixels, 5, 7);
    net_plan(&h->n, spec, thaw, bn);
    h->moving = th_alloc((size_t)h->n.model.n_params, sizeof *h->moving);
    for (int i = 0; i < h->n.model.n_params; i++)
        h->moving[i] = !th_freeze_is_frozen(&h->n.freeze, &h->n.model, i);
    h->below = side(h, spec, TH_BELOW);
    h->above = side(h, spec, TH_ABOVE);
    assert_int_equal(h->below == NULL, h->above == NULL);
    if (h->below)
        th_plan_frontier(h->below, &h->f);
    for (int i = 0; i < h->f.n; i++)
        h->rows[i] = th_alloc((size_t)h->f.values[i] * BATCH, sizeof(float));
}

static void halves_open(struct halves *h, const char *device, struct th_plan_spec spec,
    const char *thaw, const char *bn)
{
    halves_open_at(h, SIDE, device, spec, thaw, bn);
}

static void halves_close(struct halves *h)
{
    for (int i = 0; i < h->f.n; i++)
        th_free(h->rows[i]);
    th_plan_free(h->below);
    th_plan_free(h->above);
    th_free(h->moving);
    net_close(&h->n);
}

/* Image of place i of the batch: number `order[i]` of those drawn from the seed. */
static void run_below(struct halves *h, uint64_t seed, const int order[BATCH])
{
    size_t pixels = (size_t)3 * (size_t)h->side * (size_t)h->side;
    float *x = th_alloc(pixels * BATCH, sizeof *x);
    uint64_t key = th_rng_mix_name(seed, "images");
    for (int i = 0; i < BATCH; i++)
        for (size_t k = 0; k < pixels; k++)
            x[(size_t)i * pixels + k] =
                th_rng_normal(key, (uint64_t)order[i] * pixels + k);
    must(th_plan_set(h->below, "image", x));
    must(th_plan_run(h->below));
    for (int i = 0; i < h->f.n; i++)
        must(th_plan_get(h->below, h->f.name[i], h->rows[i]));
    th_free(x);
}

static void run_above(struct halves *h)
{
    struct th_plan *whole = h->n.plan;
    for (int i = 0; i < h->f.n; i++)
        must(th_plan_set(h->above, h->f.name[i], h->rows[i]));
    h->n.plan = h->above;
    if (th_plan_has(h->above, "target"))
        net_upload_target(&h->n);
    net_scalars(&h->n, 0.1F);
    h->n.plan = whole;
    must(th_plan_run(h->above));
}

/* All that the plan gives, one after the other; fresh. */
static float *outputs(struct halves *h, struct th_plan *p, size_t *n)
{
    char name[160];
    *n = 0;
    float *all = th_alloc((size_t)2 << 20, sizeof *all);
    if (th_plan_has(p, "loss"))
        must(th_plan_get(p, "loss", all + (*n)++));
    else
        must(th_plan_get(p, "logits", all));
    if (*n == 0)
        *n = BATCH * 5;
    for (int i = 0; i < h->n.model.n_params; i++) {
        snprintf(name, sizeof name, "grad/%s", h->n.model.params[i].name);
        if (!th_plan_has(p, name))
            continue;
        must(th_plan_get(p, name, all + *n));
        *n += (size_t)th_shape_count(&h->n.model.params[i].shape);
    }
    return all;
}

static const int in_order[BATCH] = {0, 1, 2, 3, 4, 5};

/* The loss and every gradient, or the logits. */
static void compare(
    const char *device, enum th_mode mode, const char *thaw, const char *bn)
{
    struct halves h;
    size_t n = 0, n_parts = 0;
    bool training = mode == TH_TRAIN;
    halves_open(&h, device,
        (struct th_plan_spec){.mode = mode,
            .batch = BATCH,
            .keep_gradients = training,
            .no_update = training},
        thaw, bn);
    assert_non_null(h.below);
    net_run(&h.n, 3, 0.1F);
    float *whole = outputs(&h, h.n.plan, &n);
    run_below(&h, 3, in_order);
    run_above(&h);
    float *parts = outputs(&h, h.above, &n_parts);
    assert_int_equal(n, n_parts);
    if (memcmp(whole, parts, n * sizeof *whole))
        fail_msg(
            "%s --thaw %s --bn %s: the parts differ from the whole", device, thaw, bn);
    th_free(whole);
    th_free(parts);
    halves_close(&h);
}

static const char *const cuts[][2] = {{"head", "auto"}, {"stage3,head", "frozen"},
    {"stage3,head", "stem-stage2:frozen stage3:train"}, {"stage3,head", "affine"},
    {"layer2.*.conv2.weight,head", "frozen"}, {"stage1,head", "frozen"},
    {"bias", "frozen"}, {"stage2,head", "stem-stage1:frozen stage2-stage3:stats"}};

static void both_parts_give_the_whole_plans_loss_and_gradients(void **state)
{
    (void)state;
    for (size_t d = 0; d < N_DEVICES; d++)
        for (size_t c = 0; net_has_device(devices[d]) && c < 3; c++)
            compare(devices[d], TH_TRAIN, cuts[c][0], cuts[c][1]);
    for (size_t c = 3; c < sizeof cuts / sizeof *cuts; c++)
        compare("cpu", TH_TRAIN, cuts[c][0], cuts[c][1]);
}

static void both_parts_give_the_whole_plans_logits(void **state)
{
    (void)state;
    for (size_t d = 0; d < N_DEVICES; d++)
        for (size_t c = 0; net_has_device(devices[d]) && c < 3; c++)
            compare(devices[d], TH_EVAL, cuts[c][0], cuts[c][1]);
}

/* P7: what a sample's features are does not depend on where in the batch it stands, nor
 * on what stands beside it. */
static void move_images(
    const char *device, int pixels, const char *thaw, const char *bn)
{
    static const int orders[][BATCH] = {
        {5, 4, 3, 2, 1, 0}, {2, 2, 2, 2, 2, 2}, {1, 0, 1, 0, 1, 0}, {4, 5, 0, 1, 2, 3}};
    struct halves h;
    halves_open_at(&h, pixels, device,
        (struct th_plan_spec){.mode = TH_TRAIN, .batch = BATCH}, thaw, bn);
    size_t n = (size_t)h.f.values[0], bytes = n * sizeof(float);
    float *want = th_alloc(BATCH, bytes);
    run_below(&h, 3, in_order);
    memcpy(want, h.rows[0], BATCH * bytes);
    for (size_t o = 0; o < sizeof orders / sizeof *orders; o++) {
        run_below(&h, 3, orders[o]);
        for (int i = 0; i < BATCH; i++)
            if (memcmp(
                    h.rows[0] + (size_t)i * n, want + (size_t)orders[o][i] * n, bytes))
                fail_msg("%s --thaw %s, %d pixels: image %d at place %d differs",
                    device, thaw, pixels, orders[o][i], i);
    }
    th_free(want);
    halves_close(&h);
}

static void features_do_not_depend_on_the_neighbours(void **state)
{
    (void)state;
    for (size_t d = 0; d < N_DEVICES; d++)
        for (size_t c = 0; net_has_device(devices[d]) && c < 3; c++)
            move_images(devices[d], SIDE, cuts[c][0], cuts[c][1]);
    for (size_t d = 2; d < N_DEVICES; d++) /* where Winograd's kernels begin, and odd */
        for (int pixels = 32; net_has_device(devices[d]) && pixels <= 37; pixels += 5)
            move_images(devices[d], pixels, "head", "auto");
}

static void the_frontier_is_what_costs_the_fewest_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *thaw, *bn;
        int64_t values;
    } cases[] = {{"head", "auto", 64}, {"stage3,head", "frozen", 32 * 4 * 4},
        {"stage2,head", "frozen", 16 * 8 * 8}, {"layer3.2.conv2.weight", "frozen", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct halves h;
        halves_open(&h, "cpu", (struct th_plan_spec){.mode = TH_TRAIN, .batch = BATCH},
            cases[i].thaw, cases[i].bn);
        if (cases[i].values) {
            assert_int_equal(h.f.n, 1);
            assert_int_equal(h.f.values[0], cases[i].values);
        } else { /* the middle of the block, and its residual */
            assert_int_equal(h.f.n, 2);
            assert_int_equal(h.f.values[0] + h.f.values[1], 2 * 64 * 2 * 2);
        }
        assert_false(th_plan_has(h.above, "image"));
        assert_false(th_plan_has(h.below, "target"));
        halves_close(&h);
    }
}

static void nothing_is_cut_where_the_first_layer_moves(void **state)
{
    (void)state;
    static const char *const none[][2] = {{"all", "frozen"}, {"stem,head", "frozen"},
        {"head", "train"}, {"none", "frozen"}};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        struct halves h;
        halves_open(&h, "cpu", (struct th_plan_spec){.mode = TH_EVAL, .batch = BATCH},
            none[i][0], none[i][1]);
        assert_null(h.below);
        halves_close(&h);
    }
}

/* Running statistics that follow move, though no parameter is trained. */
static void running_statistics_that_follow_are_above(void **state)
{
    (void)state;
    struct halves h;
    halves_open(&h, "cpu", (struct th_plan_spec){.mode = TH_TRAIN, .batch = BATCH},
        "head", "stem-stage1:frozen stage2-stage3:stats-running");
    assert_int_equal(h.f.n, 2); /* the first convolution of stage2, and the shortcut */
    assert_int_equal(h.f.values[0] + h.f.values[1], 2 * 32 * 4 * 4);
    halves_close(&h);
}

/* Neither half has steps or memory for what the other does. */
static void work_is_split_and_nothing_is_done_twice(void **state)
{
    (void)state;
    struct th_plan_stats whole, below, above;
    struct halves h;
    halves_open(&h, "cpu", (struct th_plan_spec){.mode = TH_TRAIN, .batch = BATCH},
        "stage3,head", "frozen");
    th_plan_stats(h.n.plan, &whole);
    th_plan_stats(h.below, &below);
    th_plan_stats(h.above, &above);
    assert_int_equal(below.macs + above.macs, whole.macs);
    assert_int_equal(below.derived_bytes + above.derived_bytes, whole.derived_bytes);
    assert_int_equal(below.n_commit + below.n_backward, 0);
    assert_int_equal(above.n_backward, whole.n_backward);
    halves_close(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_parts_give_the_whole_plans_loss_and_gradients),
        cmocka_unit_test(both_parts_give_the_whole_plans_logits),
        cmocka_unit_test(features_do_not_depend_on_the_neighbours),
        cmocka_unit_test(the_frontier_is_what_costs_the_fewest_bytes),
        cmocka_unit_test(nothing_is_cut_where_the_first_layer_moves),
        cmocka_unit_test(running_statistics_that_follow_are_above),
        cmocka_unit_test(work_is_split_and_nothing_is_done_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
