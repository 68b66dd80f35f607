/* SPDX-License-Identifier: Apache-2.0
 * Low-rank adapters in plans: gradients, what stays frozen, what is derived, on every
 * device; and the reading of --lora. */
#include "net.h"

#include "lora.h"
#include "pass.h"

static void open_size(struct net *n, const char *device, const char *text, int size)
{
    struct th_lora lora;
    net_open(n, device, "resnet20", size, 5, 7);
    must(th_lora_parse(&lora, text));
    must(th_model_adapt(&n->model, &lora));
    th_lora_release(&lora);
    net_fill(n, 7);
}

static void open_with(struct net *n, const char *device, const char *text)
{
    open_size(n, device, text, 16);
}

static float loss_of(struct net *n)
{
    float loss = 0;
    net_run(n, 1, 0.0F);
    must(th_plan_get(n->plan, "loss", &loss));
    return loss;
}

static const struct th_plan_spec with_gradients = {
    .mode = TH_TRAIN, .batch = 3, .keep_gradients = true, .no_update = true};

/* Gradients of everything that trains, one after the other. */
static float *gradients(const char *device, unsigned without, const char *lora,
    const char *thaw, const char *bn, int64_t *count)
{
    struct net n;
    struct th_plan_spec spec = with_gradients;
    spec.without = without;
    open_with(&n, device, lora);
    net_plan(&n, spec, thaw, bn);
    loss_of(&n);
    return net_take_gradients(&n, count);
}

/* r=8 goes by convolutions of rank 8, r=5 by the weight's gradient; targets above and below
 * trained layers, with their BatchNorms folded or affine. */
static const char *const loras[][3] = {
    {"r=8,targets=conv", "head", "auto"},
    {"r=5,alpha=3,targets=conv", "head", "auto"},
    {"r=8,targets=layer2.*.conv2,layer3.0.conv1,rslora=1", "head", "auto"},
    {"r=8,alpha=8,targets=conv1", "bn", "affine"},
    {"r=16,targets=conv2", "bias", "frozen"},
    {"r=8,targets=conv2", "layer2.*.conv2.weight,head", "frozen"},
    {"r=8,targets=conv2", "head", "stats"},
};
enum { N_LORAS = sizeof loras / sizeof *loras };

static void each_pass_alone_and_each_device_keep_the_gradients(void **state)
{
    (void)state;
    const unsigned none = 15;
    const unsigned sets[] = {none - TH_PASS_FOLD, none - TH_PASS_FUSE,
        none - TH_PASS_LAYOUT, none - TH_PASS_REUSE, 0};
    for (int c = 0; c < N_LORAS; c++) {
        const char *const *s = loras[c];
        int64_t n_want = 0, n = 0;
        float *want = gradients("ref", none, s[0], s[1], s[2], &n_want);
        for (size_t i = 0; i < NET_DEVICES + sizeof sets / sizeof *sets; i++) {
            const char *device = i < NET_DEVICES ? net_devices[i] : "cpu";
            if (!net_has_device(device))
                continue;
            float *got = gradients(device, i < NET_DEVICES ? 0 : sets[i - NET_DEVICES],
                s[0], s[1], s[2], &n);
            assert_int_equal(n, n_want);
            double e = net_distance(got, want, n);
            th_free(got);
            if (!(e < 1e-4))
                fail_msg("%s, %d: %s --thaw %s: gradients differ by %g", device, (int)i,
                    s[0], s[1], e);
        }
        th_free(want);
    }
}

/* (loss(a + d) - loss(a - d)) / 2 against the gradient, along random directions of each
 * tensor that trains. */
static void gradients_are_finite_differences(void **state)
{
    (void)state;
    for (int c = 0; c < N_LORAS; c++) {
        struct net n;
        open_size(&n, "ref", loras[c][0], 8);
        net_plan(&n, with_gradients, loras[c][1], loras[c][2]);
        for (int i = 0; i < n.model.n_params; i += 5) {
            const struct th_param *p = &n.model.params[i];
            int64_t k = th_shape_count(&p->shape);
            char name[160];
            int id = th_store_find(&n.store, p->name);
            if (!n.freeze.trainable[i] || !th_param_is_lora(p))
                continue;
            float *x = th_alloc((size_t)k, sizeof *x),
                  *y = th_alloc((size_t)k, sizeof *y);
            float *d = th_alloc((size_t)k, sizeof *d);
            must(th_store_get(&n.store, id, x));
            loss_of(&n);
            snprintf(name, sizeof name, "grad/%s", p->name);
            must(th_plan_get(n.plan, name, d));
            double norm = 0, loss[2];
            for (int64_t j = 0; j < k; j++)
                norm += (double)d[j] * (double)d[j];
            norm = sqrt(norm);
            double step = 2e-3 / (norm + 1e-9); /* along the gradient itself */
            for (int side = 0; side < 2; side++) {
                for (int64_t j = 0; j < k; j++)
                    y[j] = (float)((double)x[j] + (side ? -1 : 1) * step *
                                                      (double)d[j] / (norm + 1e-30));
                must(th_store_put(&n.store, id, y));
                loss[side] = (double)loss_of(&n);
            }
            must(th_store_put(&n.store, id, x));
            double slope = (loss[0] - loss[1]) / (2 * step);
            if (fabs(slope - norm) > 0.05 * norm + 1e-4)
                fail_msg(
                    "%s: %s: slope %g, gradient %g", loras[c][0], p->name, slope, norm);
            th_free(x);
            th_free(y);
            th_free(d);
        }
        net_close(&n);
    }
}

static float *values(struct net *n, int i)
{
    const struct th_param *p = &n->model.params[i];
    float *x = th_alloc((size_t)th_shape_count(&p->shape), sizeof *x);
    must(th_store_get(&n->store, th_store_find(&n->store, p->name), x));
    return x;
}

static void the_base_is_bitwise_unchanged_and_adapters_move(void **state)
{
    (void)state;
    for (int c = 0; c < N_LORAS; c++) {
        struct net n;
        float *before[512];
        open_with(&n, "cpu", loras[c][0]);
        net_plan(&n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 4}, loras[c][1],
            loras[c][2]);
        for (int i = 0; i < n.model.n_params; i++)
            before[i] = values(&n, i);
        for (int step = 0; step < 3; step++)
            net_run(&n, (uint64_t)step, 0.1F);
        must(th_plan_verify(n.plan));
        for (int i = 0; i < n.model.n_params; i++) {
            const struct th_param *p = &n.model.params[i];
            float *after = values(&n, i);
            size_t bytes = sizeof(float) * (size_t)th_shape_count(&p->shape);
            bool same = memcmp(before[i], after, bytes) == 0;
            if (th_freeze_is_frozen(&n.freeze, &n.model, i) != same)
                fail_msg("%s --thaw %s: %s %s", loras[c][0], loras[c][1], p->name,
                    same ? "should have moved" : "moved");
            if (th_param_is_lora(p))
                assert_true(n.freeze.trainable[i]);
            th_free(before[i]);
            th_free(after);
        }
        net_close(&n);
    }
}

/* A dropout that drops nothing keeps the paths apart: same loss, same gradients. */
static void merged_and_apart_are_the_same(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"r=8,alpha=4,targets=conv", "r=8,alpha=4,targets=conv,dropout=1e-30"},
        {"r=3,targets=conv2", "r=3,targets=conv2,dropout=1e-30"}};
    for (int c = 0; c < 2; c++) {
        int64_t n[2] = {0};
        float *g[2];
        for (int k = 0; k < 2; k++)
            g[k] = gradients("cpu", 0, pairs[c][k], "head", "auto", &n[k]);
        assert_int_equal(n[0], n[1]);
        assert_true(net_distance(g[0], g[1], n[0]) < 1e-4);
        th_free(g[0]);
        th_free(g[1]);
    }
}

static void dropout_acts_on_the_path_of_the_adapter_alone(void **state)
{
    (void)state;
    struct net n;
    float loss[3];
    open_with(&n, "cpu", "r=8,targets=conv,dropout=0.5");
    for (int k = 0; k < 3; k++) {
        if (k == 2) /* B = 0: nothing is left of it */
            for (int i = 0; i < n.model.n_params; i++)
                if (n.model.params[i].role == TH_ROLE_LORA_B) {
                    float *zero = th_alloc(
                        (size_t)th_shape_count(&n.model.params[i].shape), sizeof *zero);
                    must(th_store_put(&n.store,
                        th_store_find(&n.store, n.model.params[i].name), zero));
                    th_free(zero);
                }
        net_plan(&n, with_gradients, "head", "auto");
        int32_t keys[6] = {1 + k, 2, 3, 4, 5, 6};
        must(th_plan_set(n.plan, "keys", keys));
        net_upload_random(&n, "image", 1, "images");
        net_upload_target(&n);
        net_scalars(&n, 0);
        must(th_plan_run(n.plan));
        must(th_plan_get(n.plan, "loss", &loss[k]));
    }
    assert_true(fabsf(loss[0] - loss[1]) > 1e-6F);
    net_close(&n);
    struct net plain;
    net_open(&plain, "cpu", "resnet20", 16, 5, 7);
    net_plan(&plain, with_gradients, "head", "auto");
    assert_true(fabsf(loss_of(&plain) - loss[2]) < 1e-5F);
    net_close(&plain);
}

/* The forward half and dx cost what the frozen network costs. */
static void no_weight_gradient_is_made_and_batchnorms_stay_folded(void **state)
{
    (void)state;
    struct net n;
    open_with(&n, "cpu:base", "r=8,targets=layer3.*");
    net_plan(&n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 4}, "head", "auto");
    assert_int_equal(net_count_op(&n, TH_OP_bn_apply), 0);
    assert_int_equal(net_count_op(&n, TH_OP_lora_merge), 6);
    assert_int_equal(net_count_op(&n, TH_OP_conv_dw), 12); /* of A and B */
    assert_int_equal(net_count_op(&n, TH_OP_lora_da), 0);
    for (int i = 0; i < n.plan->n_steps; i++) {
        const struct th_step *s = &n.plan->steps[i];
        if (s->call.op == TH_OP_conv_dw)
            assert_true(
                s->call.out[0].shape.dim[0] == 8 || s->call.out[0].shape.dim[1] == 8);
    }
    net_plan(&n, (struct th_plan_spec){.mode = TH_EVAL, .batch = 4}, "head", "auto");
    struct th_plan_stats with, plain;
    th_plan_stats(n.plan, &with);
    struct net bare;
    net_open(&bare, "cpu:base", "resnet20", 16, 5, 7);
    net_plan(&bare, (struct th_plan_spec){.mode = TH_EVAL, .batch = 4}, "head", "auto");
    th_plan_stats(bare.plan, &plain);
    assert_int_equal(with.macs, plain.macs);
    assert_int_equal(with.n_forward, plain.n_forward);
    net_close(&bare);
    net_close(&n);
}

static void no_step_has_all_its_outputs_unread(void **state)
{
    (void)state;
    for (int c = 0; c < N_LORAS; c++) {
        struct net n;
        open_with(&n, "ref", loras[c][0]);
        net_plan(&n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 2}, loras[c][1],
            loras[c][2]);
        const struct th_graph *g = th_plan_graph(n.plan);
        for (int i = 0; i < g->n_nodes; i++) {
            bool read = th_op_rule(g->nodes[i].op)->writes != 0;
            for (int k = 0; k < TH_MAX_OUT; k++)
                if (g->nodes[i].out[k] >= 0)
                    read = read || g->values[g->nodes[i].out[k]].wanted ||
                           th_graph_readers(g, g->nodes[i].out[k]) > 0;
            if (!read)
                fail_msg("%s: %s of %s", loras[c][0], th_op_rule(g->nodes[i].op)->name,
                    g->nodes[i].name);
        }
        net_close(&n);
    }
}

static void less_is_saved_for_backward_than_for_all(void **state)
{
    (void)state;
    struct net n;
    struct th_plan_stats lora, all, top;
    const struct th_plan_spec spec = {.mode = TH_TRAIN, .batch = 8};
    open_with(&n, "cpu", "r=8,targets=conv");
    net_plan(&n, spec, "head", "auto");
    th_plan_stats(n.plan, &lora);
    net_plan(&n, spec, "all", "train");
    th_plan_stats(n.plan, &all);
    net_close(&n);
    open_with(&n, "cpu", "r=8,targets=layer3.*");
    net_plan(&n, spec, "head", "auto");
    th_plan_stats(n.plan, &top);
    net_close(&n);
    assert_true(lora.saved_bytes < all.saved_bytes);
    assert_true(top.saved_bytes < all.saved_bytes / 4);
    assert_true(top.n_cut > lora.n_cut);
}

static void evaluation_follows_training_through_the_merged_weights(void **state)
{
    (void)state;
    struct net n;
    open_with(&n, "cpu", "r=8,targets=conv");
    net_evaluation_follows(&n, "lora", "auto");
}

static void adapters_train_where_a_timetable_names_them(void **state)
{
    (void)state;
    struct net n;
    open_with(&n, "ref", "r=4,targets=conv");
    int a = th_model_param(&n.model, "layer3.0.conv1.lora_A.weight");
    assert_true(a >= 0);
    const struct {
        const char *thaw;
        bool by_word, trains;
    } cases[] = {{"head", false, true}, {"none", false, false}, {"bn", false, true},
        {"head", true, false}, {"lora", true, true}, {"head,lora", true, true},
        {"stage2,head", true, false}, {"stage3", true, true}, {"all", true, true},
        {"layer3.*.lora_*", true, true}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct th_freeze f;
        n.model.lora.by_word = cases[c].by_word;
        must(th_freeze_init(&f, &n.model, cases[c].thaw, "auto", 4));
        if (f.trainable[a] != cases[c].trains)
            fail_msg("--thaw %s", cases[c].thaw);
        th_freeze_release(&f);
    }
    assert_true(th_freeze_says_lora("head,lora"));
    assert_true(th_freeze_says_lora("*.lora_B.weight"));
    assert_true(th_freeze_says_lora("0:head 1:lora,head"));
    assert_false(th_freeze_says_lora("head,stage4"));
    net_close(&n);
}

/* ---- --lora ---- */

static void a_list_of_targets_goes_on_without_an_equals_sign(void **state)
{
    (void)state;
    struct th_lora l;
    must(th_lora_parse(&l, "r=4,targets=qkv,proj,alpha=2"));
    assert_int_equal(l.rank, 4);
    assert_string_equal(l.targets, "qkv,proj");
    assert_true(fabsf(th_lora_scale(&l) - 0.5F) < 1e-7F);
    char *text = th_lora_text(&l);
    struct th_lora again;
    must(th_lora_parse(&again, text));
    assert_string_equal(again.targets, l.targets);
    assert_true(again.rank == l.rank && !(again.alpha < l.alpha));
    th_free(text);
    th_lora_release(&again);
    th_lora_release(&l);
    must(th_lora_parse(&l, "r=16"));
    assert_true(fabsf(th_lora_scale(&l) - 2.0F) < 1e-7F);
    th_lora_release(&l);
    assert_true(th_lora_word_names("proj", "blocks.0.attn.proj", false));
    assert_false(th_lora_word_names("roj", "blocks.0.attn.proj", false));
    assert_true(th_lora_word_names("*.attn.*", "blocks.0.attn.proj", false));
    assert_true(th_lora_word_names("conv", "layer1.0.conv2", true));
    assert_false(th_lora_word_names("all-linear", "layer1.0.conv2", true));
}

static void what_is_wrong_with_a_lora_is_said(void **state)
{
    (void)state;
    static const char *const bad[][2] = {{"r=0", "rank"}, {"r=2.5", "rank"},
        {"r=99999", "rank"}, {"alpha=-1", "alpha"}, {"dropout=1", "dropout"},
        {"rank=8", "want r=8"}, {"8", "want r=8"}, {"r=x", "not a number"},
        {"alfa=8", "did you mean alpha"}, {"rslora=2", "0 or 1"}, {"", "want r=8"},
        {"targets=", "empty"}, {"r=8,,", "want r=8"}, {"r=nan", "not a number"}};
    struct th_lora l;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(th_lora_parse(&l, bad[i][0]), THAW_E_USAGE);
        if (!strstr(thaw_error(), bad[i][1]))
            fail_msg("%s: %s", bad[i][0], thaw_error());
    }
    struct net n;
    net_open(&n, "ref", "resnet20", 16, 5, 7);
    must(th_lora_parse(&l, "targets=conv1,qkv"));
    assert_int_equal(th_model_adapt(&n.model, &l), THAW_E_USAGE);
    assert_non_null(strstr(thaw_error(), "'qkv' names no layer"));
    th_lora_release(&l);
    assert_int_equal(th_freeze_init(&n.freeze, &n.model, "lora", "auto", 4), THAW_OK);
    net_close(&n);
    net_open(&n, "ref", "resnet20", 16, 5, 7);
    assert_int_equal(
        th_freeze_init(&n.freeze, &n.model, "lora", "auto", 4), THAW_E_USAGE);
    assert_non_null(strstr(thaw_error(), "--lora"));
    net_close(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_pass_alone_and_each_device_keep_the_gradients),
        cmocka_unit_test(gradients_are_finite_differences),
        cmocka_unit_test(the_base_is_bitwise_unchanged_and_adapters_move),
        cmocka_unit_test(merged_and_apart_are_the_same),
        cmocka_unit_test(dropout_acts_on_the_path_of_the_adapter_alone),
        cmocka_unit_test(no_weight_gradient_is_made_and_batchnorms_stay_folded),
        cmocka_unit_test(no_step_has_all_its_outputs_unread),
        cmocka_unit_test(less_is_saved_for_backward_than_for_all),
        cmocka_unit_test(evaluation_follows_training_through_the_merged_weights),
        cmocka_unit_test(adapters_train_where_a_timetable_names_them),
        cmocka_unit_test(a_list_of_targets_goes_on_without_an_equals_sign),
        cmocka_unit_test(what_is_wrong_with_a_lora_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
