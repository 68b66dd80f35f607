/* SPDX-License-Identifier: Apache-2.0
 * Inputs of several sizes: how a list of them is written, which is a picture's, and that plans for
 * different sizes of one model share its values and an arena. Whole runs: test_sizes_run.c. */
#include "batches.h"
#include "net.h"

static const struct th_size WIDE = {64, 48}, HIGH = {48, 64};

/* ---- Text ---- */

static void lists_are_written_and_read(void **state)
{
    (void)state;
    struct th_sizes s = {0};
    assert_true(th_sizes_parse("64x48,48x64,56", &s));
    assert_int_equal(s.n, 3);
    assert_true(th_size_same(s.at[1], HIGH));
    assert_string_equal(th_sizes_text(&s).text, "64x48,48x64,56");
    assert_true(th_sizes_parse("9,10,11,12,13,14,15,16", &s));
    static const char *const bad[] = {"", ",", "64,", ",64", "64,,48", "64,64x64",
        "9,10,11,12,13,14,15,16,17", "64;48", "64, 48", "64,000000000000000000000048"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(th_sizes_parse(bad[i], &s));
    assert_int_equal(s.n, 8);
    for (int i = 0; i < s.n; i++)
        s.at[i] = (struct th_size){9999990 + i, 1111111};
    assert_true(th_sizes_parse(th_sizes_text(&s).text, &s) && s.n == 8);
}

/* ---- Which is a picture's ---- */

static void chosen(const char *list, int w, int h, int want)
{
    struct th_sizes s;
    assert_true(th_sizes_parse(list, &s));
    if (th_sizes_choose(&s, w, h) != want)
        fail_msg("%dx%d of %s: %d", w, h, list, th_sizes_choose(&s, w, h));
}

static void a_picture_goes_where_it_is_largest(void **state)
{
    (void)state;
    chosen("320x256,256x320", 640, 480, 0);
    chosen("320x256,256x320", 480, 640, 1);
    chosen("320x256,256x320,288", 500, 500, 2);
    chosen("256x320,320x256", 10, 10, 0);   /* as large, as many pixels: the first */
    chosen("320x256,320x240", 640, 480, 1); /* as large on fewer pixels */
    chosen("320x240,320x256", 640, 480, 0);
    chosen("320x240,320x256", 500, 376, 1); /* a little larger */
    chosen("64,96x16", 96, 1, 1);
    chosen("64x48,48x64", 0, 0, 0);
    chosen("64x48,48x64", 1, 65536, 1);
}

/* ---- Batches ---- */

enum { IMAGES = 41 };

/* Each image once, in a batch of its bucket whose images are in the order's order; batches of a
 * bucket are full but for the last; one bucket has the order itself. */
static void check_batches(int64_t n, int64_t batch, bool join, int share, uint64_t seed)
{
    static const struct th_sizes sizes = {.n = 2, .at = {{64, 48}, {48, 64}}};
    struct th_sample sample[IMAGES] = {{.path = NULL}};
    struct th_samples all = {.n = n, .sample = sample};
    struct th_order order, before;
    struct th_batches b;
    int64_t seen[IMAGES] = {0}, images[2], place[IMAGES], count = 0, told[2] = {0};
    for (int64_t i = 0; i < n; i++) {
        bool high = (int)th_rng_below(seed, (uint64_t)i, 4) < share;
        sample[i] = (struct th_sample){.w = high ? 3 : 4, .h = high ? 4 : 3};
    }
    must(th_order_init(&order, TH_ORDER_SHUFFLED, &all, 1));
    must(th_order_init(&before, TH_ORDER_SHUFFLED, &all, 1));
    must(th_batches_init(&b, &all, &sizes, batch, join));
    th_bucket_count(&all, &sizes, images);
    th_order_draw(&order, seed, 1);
    th_order_draw(&before, seed, 1);
    th_batches_draw(&b, &order);
    for (int64_t i = 0; i < n; i++)
        place[before.sample[i]] = i;
    for (int64_t k = 0; k < b.n; k++) {
        int bucket = b.at[k].bucket;
        int64_t left = images[bucket] - told[bucket];
        bool last = left == b.at[k].n;
        assert_true(b.at[k].n == batch || last);
        assert_true(b.at[k].n <= batch + join && b.at[k].n <= b.most);
        assert_true(!join || b.at[k].n > 1 || images[bucket] == 1 || batch == 1);
        for (int64_t i = 0; i < b.at[k].n; i++, count++) {
            int64_t own = order.sample[b.at[k].from + i];
            assert_int_equal(b.bucket[own], bucket);
            assert_true(
                i == 0 || place[own] > place[order.sample[b.at[k].from + i - 1]]);
            assert_int_equal(seen[own]++, 0);
            if (share == 0)
                assert_int_equal(own, before.sample[count]);
        }
        told[bucket] += b.at[k].n;
    }
    assert_int_equal(count, n);
    th_order_release(&order);
    th_order_release(&before);
    th_batches_release(&b);
}

static void an_order_is_cut_into_batches_of_one_size_each(void **state)
{
    (void)state;
    for (int64_t n = 1; n <= IMAGES; n++)
        for (int64_t batch = 1; batch <= 8; batch++)
            for (int share = 0; share <= 2; share++)
                for (int join = 0; join < 2; join++)
                    check_batches(n, batch, join, share, (uint64_t)(n * 9 + batch));
}

/* ---- Views ---- */

static void a_view_has_its_own_pyramid_and_the_models_parameters(void **state)
{
    (void)state;
    struct net n;
    struct th_model view;
    net_open_as(&n, "ref", (struct net_shape){"resnet20_s4", "fcos", 32, WIDE, 3}, 5);
    int before = n.model.n_params;
    must(th_model_view(&n.model, HIGH, &view));
    assert_int_equal(n.model.n_params, before);
    assert_ptr_equal(view.params, n.model.params);
    assert_int_equal(view.pyramid.level[0].w, n.model.pyramid.level[0].h);
    assert_int_equal(view.pyramid.level[0].h, n.model.pyramid.level[0].w);
    assert_true(view.pyramid.level[0].w != view.pyramid.level[0].h);
    net_close(&n);
    net_open_as(&n, "ref",
        (struct net_shape){"vit_micro_patch4_32", "fcos", 32, {32, 32}, 3}, 5);
    assert_int_equal(th_model_view(&n.model, WIDE, &view), THAW_E_USAGE);
    assert_non_null(strstr(thaw_error(), "for inputs of 32, none for 64x48"));
    net_close(&n);
}

/* ---- Plans ---- */

enum { BATCH = 2, STEPS = 4 };

static const struct th_object OBJECTS[] = {{.box = {5, 8, 34, 40}, .class = 1},
    {.box = {4, 30, 30, 45}, .class = 0}, {.box = {20, 3, 44, 20}, .class = 2}};

/* The loss's inputs: of each image the same objects. */
static void set_targets(struct th_plan *plan, const struct th_model *m)
{
    struct th_reader r;
    float weight[BATCH];
    must(th_model_reader(m, &r));
    for (int k = 0; k < r.detector->n_targets; k++) {
        size_t bytes = th_target_bytes(r.pyramid, &r.detector->target[k]);
        char *all = th_alloc(BATCH, bytes);
        for (size_t i = 0; i < BATCH; i++) {
            void *target[TH_MAX_TARGETS] = {0};
            for (int j = 0; j < r.detector->n_targets; j++)
                target[j] =
                    th_alloc(1, th_target_bytes(r.pyramid, &r.detector->target[j]));
            th_reader_targets(&r, OBJECTS, 3, i, target);
            memcpy(all + i * bytes, target[k], bytes);
            for (int j = 0; j < r.detector->n_targets; j++)
                th_free(target[j]);
        }
        must(th_plan_set(plan, r.detector->target[k].name, all));
        if (k == 0)
            th_reader_weights(&r, (const int32_t *)(void *)all, BATCH, weight);
        th_free(all);
    }
    must(th_plan_set(plan, "weight", weight));
    th_reader_release(&r);
}

static void step(struct net *n, struct th_plan *plan, const struct th_model *m, int i)
{
    struct th_plan *own = n->plan;
    n->plan = plan;
    net_upload_random(n, "image", (uint64_t)i + 1, "images");
    net_scalars(n, 0.05F);
    set_targets(plan, m);
    must(th_plan_run(plan));
    must(th_plan_verify(plan));
    n->plan = own;
}

struct recipe {
    const char *device, *thaw, *bn;
};

static struct th_plan *plan_of(struct net *n, const struct th_model *m)
{
    struct th_plan *plan = NULL;
    const struct th_plan_spec spec = {.model = m,
        .freeze = &n->freeze,
        .mode = TH_TRAIN,
        .batch = BATCH,
        .optim = &n->optim};
    must(th_plan_new(&spec, &n->store, &n->arena, &plan));
    return plan;
}

static void open_net(struct net *n, const struct recipe *r, struct th_size size)
{
    net_open_as(
        n, r->device, (struct net_shape){"resnet20_s4", "fcos", 32, size, 3}, 5);
    n->optim = (struct th_optim){.kind = TH_ADAMW,
        .weight_decay = 1e-4F,
        .beta1 = 0.9F,
        .beta2 = 0.999F,
        .eps = 1e-8F,
        .ema = true};
    must(th_freeze_init(&n->freeze, &n->model, r->thaw, r->bn, BATCH));
}

static void copy_states(const struct th_store *from, struct th_store *to)
{
    for (int i = 0; i < from->n; i++) {
        int id = -1;
        float *x = th_alloc(from->states[i].bytes, 1);
        must(th_store_get(from, i, x));
        must(th_store_add(to, from->states[i].name, from->states[i].shape, &id));
        must(th_store_put(to, id, x));
        th_free(x);
    }
}

static void same_states(const struct th_store *a, const struct th_store *b)
{
    assert_int_equal(a->n, b->n);
    for (int i = 0; i < a->n; i++) {
        uint64_t x, y;
        int other = th_store_find(b, a->states[i].name);
        assert_true(other >= 0);
        must(th_store_hash(a, i, &x));
        must(th_store_hash(b, other, &y));
        if (x != y)
            fail_msg("%s differs", a->states[i].name);
    }
}

/* Wide, high, wide, wide, by two plans on one store and arena: after each step every tensor has
 * the bits that a network of that size alone gives it. */
static void check_turns(const struct recipe *r)
{
    static const int turn[STEPS] = {0, 1, 0, 0};
    struct net n;
    struct th_model view[2];
    struct th_plan *plan[2];
    open_net(&n, r, WIDE);
    must(th_model_view(&n.model, WIDE, &view[0]));
    must(th_model_view(&n.model, HIGH, &view[1]));
    for (int k = 0; k < 2; k++)
        plan[k] = plan_of(&n, &view[k]);
    for (int i = 0; i < STEPS; i++) {
        struct net alone;
        open_net(&alone, r, turn[i] ? HIGH : WIDE);
        copy_states(&n.store, &alone.store);
        alone.plan = plan_of(&alone, &alone.model);
        step(&alone, alone.plan, &alone.model, i);
        step(&n, plan[turn[i]], &view[turn[i]], i);
        same_states(&n.store, &alone.store);
        net_close(&alone);
    }
    th_plan_free(plan[0]);
    th_plan_free(plan[1]);
    net_close(&n);
}

static void sizes_take_turns_as_if_each_were_alone(void **state)
{
    (void)state;
    static const struct recipe recipes[] = {
        {"cpu", "all", "train"}, {"cpu", "stage3,head", "frozen"}};
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++)
        check_turns(&recipes[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_written_and_read),
        cmocka_unit_test(a_picture_goes_where_it_is_largest),
        cmocka_unit_test(an_order_is_cut_into_batches_of_one_size_each),
        cmocka_unit_test(a_view_has_its_own_pyramid_and_the_models_parameters),
        cmocka_unit_test(sizes_take_turns_as_if_each_were_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
