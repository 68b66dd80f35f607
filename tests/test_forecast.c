/* SPDX-License-Identifier: Apache-2.0
 * Forecasts: their exact parts against what plans and stores hold, and that more work is
 * never said to take less. No test looks at a clock. */
#include "forecast.h"
#include "net.h"
#include "report.h"

static const struct th_rates rates = {
    .macs = 1e11, .bytes = 2e10, .image = 1e-4, .threads = 2, .workers = 2, .cores = 2};

/* The costs of one phase of resnet20 at `size` pixels. */
static void cost_of(const char *thaw, const char *bn, int size, int batch,
    struct th_phase_cost *c, int64_t *params)
{
    struct net n;
    net_open(&n, "ref", "resnet20", size, 5, 1);
    net_plan(&n, (struct th_plan_spec){.mode = TH_EVAL, .batch = batch}, "head", bn);
    *c = (struct th_phase_cost){.epochs = 3,
        .images = 1000,
        .val_images = 100,
        .batch = batch,
        .val_batch = batch};
    th_plan_stats(n.plan, &c->eval);
    net_plan(&n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = batch}, thaw, bn);
    th_plan_stats(n.plan, &c->train);
    *params = 0;
    for (int i = 0; i < n.store.n; i++) {
        bool param = th_model_param(&n.model, n.store.states[i].name) >= 0;
        int64_t bytes = (int64_t)n.store.states[i].bytes;
        *(param ? params : &c->slot_bytes) += bytes;
    }
    net_close(&n);
}

static int64_t peak_of(const struct th_phase_cost *c, int64_t params)
{
    const struct th_memory m = {.base = 1000, .params = params, .loading = 100};
    return th_forecast_peak(c, 1, &m);
}

static void the_arena_of_a_plan_is_what_is_allocated_for_it(void **state)
{
    (void)state;
    struct net n;
    struct th_plan_stats stats;
    net_open(&n, "ref", "resnet20", 16, 5, 1);
    net_plan(&n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 4}, "all", "train");
    th_plan_stats(n.plan, &stats);
    assert_true(stats.arena_bytes > 0);
    assert_int_equal(stats.arena_bytes, n.arena.bytes);
    net_close(&n);
}

static void a_frozen_network_keeps_its_folded_weights_and_no_slots(void **state)
{
    (void)state;
    struct th_phase_cost head, all;
    int64_t params;
    cost_of("head", "auto", 16, 4, &head, &params);
    cost_of("all", "train", 16, 4, &all, &params);
    /* Momentum of the 64 x 5 weights and 5 biases, and the scalars. */
    assert_int_equal(
        head.slot_bytes, 4 * (64 * 5 + 5) + (int64_t)sizeof(struct th_scalars));
    assert_int_equal(all.train.derived_bytes, 0);
    /* Weights of 19 convolutions and a bias a channel, folded. */
    int64_t convs =
        9 * (3 * 16 + 6 * 16 * 16 + 16 * 32 + 5 * 32 * 32 + 32 * 64 + 5 * 64 * 64);
    assert_int_equal(head.train.derived_bytes, 4 * (convs + 7 * 16 + 6 * 32 + 6 * 64));
}

static void the_peak_is_the_sum_of_its_parts(void **state)
{
    (void)state;
    struct th_phase_cost c[2];
    int64_t params;
    cost_of("head", "auto", 16, 4, &c[0], &params);
    cost_of("all", "train", 16, 4, &c[1], &params);
    const struct th_memory none = {0};
    struct th_memory m = {.base = 5000000, .loading = 700};
    int64_t zero = th_forecast_peak(NULL, 0, &none);
    const struct th_plan_stats *t = &c[0].train, *e = &c[0].eval;
    size_t arena = t->arena_bytes > e->arena_bytes ? t->arena_bytes : e->arena_bytes;
    size_t beside = t->kept_bytes + t->derived_bytes + e->kept_bytes + e->derived_bytes;
    m.params = params;
    int64_t saving = params + c[0].slot_bytes;
    arena = arena > (size_t)saving ? arena : (size_t)saving;
    c[0].train.arena_bytes = ++arena;
    assert_int_equal(th_forecast_peak(c, 1, &m) - zero,
        5000700 + (int64_t)(arena + beside) + c[0].slot_bytes);
    c[0].train.arena_bytes = c[0].eval.arena_bytes = (size_t)saving - 1;
    assert_int_equal(th_forecast_peak(c, 1, &m) - zero,
        5000700 + (int64_t)beside + saving + c[0].slot_bytes);
    /* Of two phases the higher one counts, and averages have a copy of the parameters. */
    int64_t higher = th_forecast_peak(&c[1], 1, &m);
    assert_int_equal(th_forecast_peak(c, 2, &m), higher);
    m.shadow = true;
    assert_int_equal(th_forecast_peak(c, 2, &m), higher + params);
    assert_int_equal(th_forecast_disk(c, 2, &m), 5 * params + 3 * c[1].slot_bytes);
}

static void larger_batches_and_images_take_more(void **state)
{
    (void)state;
    struct th_phase_cost small, large, wide;
    int64_t params;
    cost_of("all", "train", 32, 16, &small, &params);
    cost_of("all", "train", 32, 32, &large, &params);
    cost_of("all", "train", 48, 16, &wide, &params);
    assert_true(peak_of(&large, params) > peak_of(&small, params));
    assert_true(peak_of(&wide, params) > peak_of(&small, params));
    assert_true(large.train.work_macs > small.train.work_macs);
    assert_true(large.train.work_bytes > small.train.work_bytes);
    assert_true(th_forecast_train(&wide, &rates) > th_forecast_train(&small, &rates));
}

static void more_frozen_never_takes_more(void **state)
{
    (void)state;
    static const char *const thaw[] = {
        "head", "stage3,head", "stage2,stage3,head", "all"};
    struct th_phase_cost c[4];
    int64_t params;
    for (int i = 0; i < 4; i++)
        cost_of(thaw[i], "auto", 16, 16, &c[i], &params);
    for (int i = 1; i < 4; i++) {
        assert_true(
            th_forecast_train(&c[i], &rates) > th_forecast_train(&c[i - 1], &rates));
        assert_true(c[i].train.arena_bytes >= c[i - 1].train.arena_bytes);
        assert_true(c[i].slot_bytes > c[i - 1].slot_bytes);
        assert_true(peak_of(&c[i], params) >= peak_of(&c[i - 1], params));
    }
}

static void slow_images_make_an_epoch_as_slow_as_they_are(void **state)
{
    (void)state;
    struct th_phase_cost c;
    struct th_rates slow = rates;
    int64_t params;
    cost_of("head", "auto", 16, 4, &c, &params);
    slow.image = 10; /* 1,000 of them by two workers */
    double took = th_forecast_train(&c, &slow);
    assert_true(took >= 5000 && took < 5001);
    assert_true(th_forecast_eval(&c, 0, &slow) == 0);
    assert_true(th_forecast_eval(&c, 100, &slow) >= 500);
}

static void rates_are_measured_on_every_device(void **state)
{
    (void)state;
    static const char *const names[] = {"ref", "far", "cpu"};
    for (int i = 0; i < 3; i++) {
        struct th_device *device = NULL;
        struct th_rates r = {0};
        if (!net_has_device(names[i]))
            continue;
        must(th_device_open(names[i], 2, &device));
        must(th_rates_measure(device, &r));
        assert_true(r.macs > 0 && isfinite(r.macs));
        assert_true(r.bytes > 0 && isfinite(r.bytes));
        assert_int_equal(r.threads, 2);
        th_device_close(device);
    }
}

static void the_system_tells_of_memory(void **state)
{
    (void)state;
    assert_true(th_resident_bytes() > 1 << 20);
    assert_true(th_resident_bytes() <= th_peak_bytes());
    assert_true(th_available_bytes() > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_arena_of_a_plan_is_what_is_allocated_for_it),
        cmocka_unit_test(a_frozen_network_keeps_its_folded_weights_and_no_slots),
        cmocka_unit_test(the_peak_is_the_sum_of_its_parts),
        cmocka_unit_test(larger_batches_and_images_take_more),
        cmocka_unit_test(more_frozen_never_takes_more),
        cmocka_unit_test(slow_images_make_an_epoch_as_slow_as_they_are),
        cmocka_unit_test(rates_are_measured_on_every_device),
        cmocka_unit_test(the_system_tells_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
