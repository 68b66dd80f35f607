/* SPDX-License-Identifier: Apache-2.0
 * The planner's invariants P1-P6 on every device. */
#include "net.h"

#include "inspect_time.h"
#include "pass.h"

#include <stdio.h>

/* Every tensor of the model, one after the other. */
static float *snapshot(struct net *n, int64_t *count)
{
    *count = 0;
    for (int i = 0; i < n->model.n_params; i++)
        *count += th_shape_count(&n->model.params[i].shape);
    float *all = th_alloc((size_t)*count, sizeof *all), *at = all;
    for (int i = 0; i < n->model.n_params; i++) {
        must(th_store_get(
            &n->store, th_store_find(&n->store, n->model.params[i].name), at));
        at += th_shape_count(&n->model.params[i].shape);
    }
    return all;
}

static void a_frozen_tensor_is_bitwise_unchanged(void **state)
{
    (void)state;
    static const struct {
        const char *thaw, *bn;
    } cases[] = {{"head", "auto"}, {"stage3,head", "auto"}, {"all", "frozen"},
        {"bn", "auto"}, {"bias", "auto"}, {"stem,stage2", "auto"}, {"head", "stats"},
        {"all", "train"}, {"none", "stats-running"},
        {"layer2.*.conv2.weight", "affine"}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct net n;
        int64_t count = 0;
        net_open(&n, "cpu", "resnet20", 16, 5, 7);
        net_plan(&n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 4}, cases[c].thaw,
            cases[c].bn);
        float *before = snapshot(&n, &count);
        for (int step = 0; step < 3; step++)
            net_run(&n, (uint64_t)step, 0.1F);
        float *after = snapshot(&n, &count);
        const float *x = before, *y = after;
        for (int i = 0; i < n.model.n_params; i++) {
            const struct th_param *p = &n.model.params[i];
            int64_t k = th_shape_count(&p->shape);
            bool same = memcmp(x, y, (size_t)k * sizeof *x) == 0;
            if (th_freeze_is_frozen(&n.freeze, &n.model, i) != same)
                fail_msg("--thaw %s --bn %s: %s %s", cases[c].thaw, cases[c].bn,
                    p->name, same ? "should have moved" : "moved");
            x += k;
            y += k;
        }
        th_free(before);
        th_free(after);
        net_close(&n);
    }
}

static void timing_a_plan_changes_no_tensor(void **state)
{
    (void)state;
    struct net n;
    int64_t count = 0;
    double seconds[512];
    net_open(&n, "cpu", "resnet20", 16, 5, 7);
    net_plan(&n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 4}, "all", "train");
    float *before = snapshot(&n, &count);
    must(th_inspect_time(n.plan, &n.store, 2, seconds));
    float *after = snapshot(&n, &count);
    assert_memory_equal(before, after, (size_t)count * sizeof *after);
    for (int i = 0; i < n.plan->n_steps; i++)
        assert_true(n.plan->steps[i].derived ? seconds[i] == 0 : seconds[i] < 10);
    th_free(before);
    th_free(after);
    net_close(&n);
}

static bool flushes(void)
{
    volatile float tiny = 0x1p-140F;
    return tiny + tiny == 0;
}

static void expect_flush(void *wanted, int step)
{
    (void)step;
    assert_int_equal(flushes(), *(const bool *)wanted);
}

/* Else saturated logits, whose gradients are denormals, make a step many times slower. */
static void a_run_computes_without_denormals_and_leaves_the_thread_as_it_was(
    void **state)
{
    (void)state;
    struct net n;
    net_open(&n, "cpu", "resnet20", 16, 5, 7);
    net_plan(&n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 4}, "head", "auto");
    net_upload(&n, 0, 0.1F);
#ifdef __x86_64__
    bool wanted = n.device->backend->begin != NULL;
#else
    bool wanted = false;
#endif
    must(th_plan_run_watched(n.plan, expect_flush, &wanted));
    assert_false(flushes());
    must(th_plan_verify(n.plan));
    assert_false(flushes());
    net_close(&n);
}

static float *gradients(const char *device, unsigned without, const char *thaw,
    const char *bn, int64_t *count, float *loss)
{
    return net_gradients(TH_KEEP_NORMAL, device, without, thaw, bn, count, loss);
}

static void expect_close(const char *device, unsigned without, const char *thaw,
    const char *bn, const float *want, int64_t n_want, float want_loss)
{
    int64_t n = 0;
    float loss = 0;
    float *got = gradients(device, without, thaw, bn, &n, &loss);
    assert_int_equal(n, n_want);
    double e = net_distance(got, want, n);
    th_free(got);
    if (!(e < 1e-4) || !(fabs(loss - want_loss) < 1e-5))
        fail_msg(
            "%s without %u, --thaw %s --bn %s: gradients differ by %g, loss %g, %g",
            device, without, thaw, bn, e, loss, want_loss);
}

static void each_pass_alone_and_each_device_keep_the_gradients(void **state)
{
    (void)state;
    static const char *const specs[][2] = {{"all", "train"}, {"all", "frozen"},
        {"all", "affine"}, {"stem,stage3", "stats"}, {"stage1", "frozen"},
        {"stage3,head", "stats-running"}, {"bias", "affine"}};
    const unsigned none = 15; /* every th_pass bit */
    const unsigned sets[] = {none - TH_PASS_FOLD, none - TH_PASS_FUSE,
        none - TH_PASS_LAYOUT, none - TH_PASS_REUSE, none, 0};
    for (size_t s = 0; s < sizeof specs / sizeof *specs; s++) {
        int64_t n = 0;
        float loss = 0;
        float *want = gradients("ref", none, specs[s][0], specs[s][1], &n, &loss);
        for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
            expect_close("cpu", sets[i], specs[s][0], specs[s][1], want, n, loss);
        for (size_t d = 0; d < NET_DEVICES; d++)
            if (net_has_device(net_devices[d]))
                expect_close(
                    net_devices[d], 0, specs[s][0], specs[s][1], want, n, loss);
        th_free(want);
    }
}

static const char *const thaws[] = {"all", "head", "stage3,head", "stem", "none", "bn"};

static void no_step_has_all_its_outputs_unread(void **state)
{
    (void)state;
    for (size_t t = 0; t < sizeof thaws / sizeof *thaws; t++) {
        struct net n;
        net_open(&n, "ref", "resnet20", 16, 5, 7);
        net_plan(
            &n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 2}, thaws[t], "auto");
        const struct th_graph *g = th_plan_graph(n.plan);
        for (int i = 0; i < g->n_nodes; i++) {
            bool read = th_op_rule(g->nodes[i].op)->writes != 0;
            for (int k = 0; k < TH_MAX_OUT; k++)
                if (g->nodes[i].out[k] >= 0)
                    read = read || g->values[g->nodes[i].out[k]].wanted ||
                           th_graph_readers(g, g->nodes[i].out[k]) > 0;
            assert_true(read);
        }
        net_close(&n);
    }
}

/* Recomputed here from the steps alone: who is alive when. */
static void two_storages_alive_together_share_no_byte(void **state)
{
    (void)state;
    for (size_t t = 0; t < sizeof thaws / sizeof *thaws; t++) {
        struct net n;
        net_open(&n, "cpu", "resnet20", 16, 5, 7);
        net_plan(
            &n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 2}, thaws[t], "auto");
        const struct th_plan *p = n.plan;
        for (int i = 0; i < p->n_steps; i++)
            for (int k = 0; k < TH_MAX_OUT; k++) {
                int out = p->steps[i].out[k];
                if (out < 0 || p->graph.values[out].kind != TH_VALUE_TEMP)
                    continue;
                int root = out;
                while (p->places[root].root != root)
                    root = p->places[root].root;
                /* no later step may read a value, written before i, that overlaps */
                for (int v = 0; v < p->graph.n_values; v++) {
                    int other = v;
                    while (p->places[other].root != other)
                        other = p->places[other].root;
                    enum th_value_kind kind = p->graph.values[other].kind;
                    if (other == root ||
                        (kind != TH_VALUE_TEMP && kind != TH_VALUE_INPUT) ||
                        p->places[other].offset >=
                            p->places[root].offset + p->places[root].bytes ||
                        p->places[root].offset >=
                            p->places[other].offset + p->places[other].bytes)
                        continue;
                    bool written_before = kind == TH_VALUE_INPUT, read_after = false;
                    for (int s = 0; s < p->n_steps; s++) {
                        for (int q = 0; q < TH_MAX_OUT; q++)
                            written_before =
                                written_before || (s < i && p->steps[s].out[q] == v);
                        for (int q = 0; q < TH_MAX_IN; q++)
                            read_after =
                                read_after || (s >= i && p->steps[s].in[q] == v);
                    }
                    if (written_before && read_after)
                        fail_msg("--thaw %s: step %d (%s) overwrites value %d",
                            thaws[t], i, p->steps[i].name, v);
                }
            }
        assert_true(p->stats.arena_bytes <= p->stats.live_bytes * 105 / 100);
        net_close(&n);
    }
}

static void frozen_prefix_is_folded_and_keeps_nothing_for_backward(void **state)
{
    (void)state;
    struct net n;
    struct th_plan_stats head, all;
    net_open(&n, "cpu", "resnet20", 32, 5, 7);
    net_plan(&n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 4}, "head", "auto");
    th_plan_stats(n.plan, &head);
    const struct th_graph *g = th_plan_graph(n.plan);
    for (int i = 0; i < g->n_nodes; i++)
        assert_true(g->nodes[i].op != TH_OP_bn_apply && g->nodes[i].op != TH_OP_relu);
    net_plan(&n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 4}, "all", "train");
    th_plan_stats(n.plan, &all);
    assert_true(head.saved_bytes < 4096);
    assert_int_equal(
        head.n_cut, head.n_forward - 2); /* all but the head and its loss */
    assert_int_equal(all.n_cut, 0);
    assert_true(all.saved_bytes > 100 * head.saved_bytes);
    net_close(&n);
}

static void a_step_that_is_not_finite_changes_nothing_at_all(void **state)
{
    (void)state;
    for (size_t d = 0; d < NET_DEVICES; d++) {
        struct net n;
        int64_t count = 0;
        if (!net_has_device(net_devices[d]))
            continue;
        net_open(&n, net_devices[d], "resnet20", 16, 5, 7);
        net_plan(
            &n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 2}, "all", "train");
        float *before = snapshot(&n, &count);
        float *image = th_alloc(2 * 3 * 16 * 16, sizeof *image);
        image[5] = NAN;
        must(th_plan_set(n.plan, "image", image));
        net_upload_target(&n);
        net_scalars(&n, 0.1F);
        must(th_plan_run(n.plan));
        float *after = snapshot(&n, &count);
        assert_memory_equal(before, after, (size_t)count * sizeof *before);
        th_free(image);
        th_free(before);
        th_free(after);
        net_close(&n);
    }
}

static void group_scalars(struct net *n, float gathered, bool skip)
{
    struct th_scalars s = {.lr = 0.1F,
        .skip = skip,
        .loss_scale = 2,
        .clip = 1.0F / 6,
        .gathered = gathered,
        .ema_decay = 0.9F};
    must(th_store_put(
        &n->store, th_store_find(&n->store, "scalars"), (const float *)&s));
}

/* Three batches of two, of which `bad` is not finite (3: none), and the update. */
static void run_group(struct net *n, struct th_plan *update, int bad)
{
    struct th_scalars s = {0};
    float *image = th_alloc(2 * 3 * 16 * 16, sizeof *image);
    for (int b = 0; b < 3; b++) {
        for (int i = 0; i < 2 * 3 * 16 * 16; i++)
            image[i] = th_rng_normal((uint64_t)b, (uint64_t)i);
        image[5] = b == bad ? NAN : image[5];
        must(th_plan_set(n->plan, "image", image));
        net_upload_target(n);
        group_scalars(n, (float)b, s.skip > 0);
        must(th_plan_run(n->plan));
        must(th_store_get(&n->store, th_store_find(&n->store, "scalars"), (float *)&s));
        assert_true((s.skip > 0) == (b >= bad));
    }
    th_free(image);
    group_scalars(n, 3, s.skip > 0);
    must(th_plan_run(update));
}

static void check_group(const char *device, float clip)
{
    struct net n;
    struct th_plan *update = NULL;
    int64_t count = 0;
    net_open(&n, device, "resnet20", 16, 5, 7);
    n.optim.clip = clip;
    net_plan(&n,
        (struct th_plan_spec){.mode = TH_TRAIN, .part = TH_PART_GATHER, .batch = 2},
        "all", "train");
    const struct th_plan_spec spec = {.model = &n.model,
        .freeze = &n.freeze,
        .mode = TH_TRAIN,
        .part = TH_PART_UPDATE,
        .optim = &n.optim};
    must(th_plan_new(&spec, &n.store, &n.arena, &update));
    run_group(&n, update, 3); /* totals of a group before are no matter */
    float *before = snapshot(&n, &count);
    for (int bad = 0; bad < 3; bad++) {
        run_group(&n, update, bad);
        float *after = snapshot(&n, &count);
        assert_memory_equal(before, after, (size_t)count * sizeof *before);
        th_free(after);
    }
    run_group(&n, update, 3);
    float *moved = snapshot(&n, &count), *at = moved, *was = before;
    for (int i = 0; i < n.model.n_params; i++) {
        int64_t k = th_shape_count(&n.model.params[i].shape);
        assert_memory_not_equal(was, at, (size_t)k * sizeof *at);
        at += k;
        was += k;
    }
    th_free(before);
    th_free(moved);
    th_plan_free(update);
    net_close(&n);
}

static void a_group_with_a_batch_that_is_not_finite_changes_nothing_at_all(void **state)
{
    (void)state;
    for (size_t d = 0; d < NET_DEVICES; d++)
        for (int clip = 0; net_has_device(net_devices[d]) && clip < 2; clip++)
            check_group(net_devices[d], (float)clip);
}

static float *state_of(struct net *n, const char *name, int64_t *count)
{
    int id = th_store_find(&n->store, name);
    assert_true(id >= 0);
    *count = th_shape_count(&n->store.states[id].shape);
    float *x = th_alloc((size_t)*count, sizeof *x);
    must(th_store_get(&n->store, id, x));
    return x;
}

static void the_average_of_what_is_frozen_again_goes_on_to_its_value(void **state)
{
    (void)state;
    struct net n;
    int64_t count = 0;
    const struct th_plan_spec spec = {.mode = TH_TRAIN, .batch = 2};
    net_open(&n, "cpu", "resnet20", 16, 5, 7);
    n.optim.ema = true;
    net_plan(&n, spec, "head", "frozen");
    assert_int_equal(th_store_find(&n.store, "ema/conv1.weight"), -1);
    net_plan(&n, spec, "all", "frozen");
    net_run(&n, 1, 0.01F);
    net_plan(&n, spec, "head", "frozen");
    float *then = state_of(&n, "ema/conv1.weight", &count);
    float *w = state_of(&n, "conv1.weight", &count);
    net_run(&n, 2, 0.01F);
    float *now = state_of(&n, "ema/conv1.weight", &count);
    float *same = state_of(&n, "conv1.weight", &count);
    assert_memory_equal(w, same, (size_t)count * sizeof *w);
    for (int64_t i = 0; i < count; i++)
        assert_true(fabsf(now[i] - (0.9F * then[i] + 0.1F * w[i])) < 1e-6F);
    assert_memory_not_equal(now, then, (size_t)count * sizeof *w);
    th_free(then);
    th_free(now);
    th_free(w);
    th_free(same);
    net_close(&n);
}

/* "momentum/a" is not "momentum/ab". */
static void dropping_a_tensor_leaves_longer_names(void **state)
{
    (void)state;
    struct net n;
    int a = -1, ab = -1;
    net_open(&n, "ref", "resnet20", 8, 5, 7);
    must(th_store_add(&n.store, "momentum/a", TH_SHAPE(2), &a));
    must(th_store_add(&n.store, "momentum/ab", TH_SHAPE(2), &ab));
    th_store_drop(&n.store, a);
    assert_int_equal(th_store_find(&n.store, "momentum/a"), -1);
    assert_int_equal(th_store_find(&n.store, "momentum/ab"), ab);
    net_close(&n);
}

static void evaluation_follows_training_through_the_derived_weights(void **state)
{
    (void)state;
    struct net n;
    net_open(&n, "cpu", "resnet20", 16, 5, 7);
    net_evaluation_follows(&n, "all", "train");
}

/* One value changes behind the plan's back. */
static void overwrite(struct net *n, void *at, size_t bytes)
{
    const struct th_backend *backend = n->device->backend;
    float *value = th_alloc(bytes, 1);
    must(backend->download(n->device, value, at, bytes));
    value[0] += 1.0F;
    must(backend->upload(n->device, at, value, bytes));
    th_free(value);
}

static void folded_net_open(struct net *n, const char *device)
{
    net_open(n, device, "resnet20", 16, 5, 7);
    net_plan(n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 2}, "head", "frozen");
    net_run(n, 1, 0.1F);
    must(th_plan_verify(n->plan));
}

static void every_derived_tensor_that_was_overwritten_is_found(void **state)
{
    (void)state;
    for (size_t d = 0; d < NET_DEVICES; d++) {
        struct net n;
        if (!net_has_device(net_devices[d]))
            continue;
        folded_net_open(&n, net_devices[d]);
        for (int v = 0; v < n.plan->graph.n_values; v++) {
            const struct th_place *place = &n.plan->places[v];
            if (!place->derived)
                continue;
            overwrite(&n, place->derived, place->bytes);
            assert_int_equal(th_plan_verify(n.plan), THAW_E_FAIL);
        }
        must(th_plan_verify(n.plan)); /* derived again each time */
        net_close(&n);
    }
}

/* Of a run; before it is verified, which may take the arena. */
static float loss_of_run(struct net *n)
{
    float loss = 0;
    net_run(n, 1, 0.0F);
    must(th_plan_get(n->plan, "loss", &loss));
    must(th_plan_verify(n->plan));
    return loss;
}

/* Folded weights that a convolution packs have no other copy; if one was overwritten, that
 * is found, and when a parameter changes the packed ones follow. */
static void packed_weights_are_the_only_copy_and_are_verified(void **state)
{
    (void)state;
    struct net n;
    int packed = 0;
    folded_net_open(&n, "cpu");
    struct th_plan *p = n.plan;
    float loss = loss_of_run(&n);
    for (int i = 0; i < p->n_steps; i++) {
        struct th_step *s = &p->steps[i];
        if (s->fed_by < 0)
            continue;
        assert_true(s->lasting && s->call.packs);
        assert_null(p->places[s->in[1]].derived);
        overwrite(&n, s->lasting, s->call.kept_bytes);
        assert_int_equal(th_plan_verify(p), THAW_E_FAIL);
        s->seen = 0; /* packed again in the next run, and so derived again */
        assert_true(loss_of_run(&n) == loss);
        packed++;
    }
    assert_true(packed > 0 || p->stats.kept_bytes == 0);
    int id = th_store_find(&n.store, "layer1.0.bn1.weight");
    float scale[64];
    must(th_store_get(&n.store, id, scale));
    scale[0] += 0.5F;
    must(th_store_put(&n.store, id, scale));
    must(th_plan_verify(p)); /* not derived yet: nothing to compare */
    assert_true(loss_of_run(&n) != loss);
    net_close(&n);
}

static void batch_statistics_of_a_single_value_are_an_error(void **state)
{
    (void)state;
    struct net n;
    net_open(&n, "ref", "resnet18", 32, 5, 7); /* 1x1 in stage 4 */
    must(th_freeze_init(&n.freeze, &n.model, "all", "train", 1));
    struct th_plan_spec spec = {.model = &n.model,
        .freeze = &n.freeze,
        .mode = TH_TRAIN,
        .batch = 1,
        .optim = &n.optim};
    assert_int_equal(th_plan_new(&spec, &n.store, &n.arena, &n.plan), THAW_E_USAGE);
    assert_non_null(strstr(thaw_error(), "single value per channel"));
    net_close(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frozen_tensor_is_bitwise_unchanged),
        cmocka_unit_test(timing_a_plan_changes_no_tensor),
        cmocka_unit_test(
            a_run_computes_without_denormals_and_leaves_the_thread_as_it_was),
        cmocka_unit_test(each_pass_alone_and_each_device_keep_the_gradients),
        cmocka_unit_test(no_step_has_all_its_outputs_unread),
        cmocka_unit_test(two_storages_alive_together_share_no_byte),
        cmocka_unit_test(frozen_prefix_is_folded_and_keeps_nothing_for_backward),
        cmocka_unit_test(a_step_that_is_not_finite_changes_nothing_at_all),
        cmocka_unit_test(
            a_group_with_a_batch_that_is_not_finite_changes_nothing_at_all),
        cmocka_unit_test(the_average_of_what_is_frozen_again_goes_on_to_its_value),
        cmocka_unit_test(dropping_a_tensor_leaves_longer_names),
        cmocka_unit_test(evaluation_follows_training_through_the_derived_weights),
        cmocka_unit_test(every_derived_tensor_that_was_overwritten_is_found),
        cmocka_unit_test(packed_weights_are_the_only_copy_and_are_verified),
        cmocka_unit_test(batch_statistics_of_a_single_value_are_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
