/* SPDX-License-Identifier: Apache-2.0
 * The heads beside the linear classifier: loss, logits and gradients are PyTorch's
 * (golden/heads.h) on every device; what they need is in the model file. */
#include "golden/heads.h"
#include "layers.h"
#include "net.h"
#include "network.h"

#include <math.h>

/* ---- A small network ---- */

static void build(
    struct th_builder *b, const struct th_variant *v, int image, struct th_taps *taps)
{
    th_stage(b, "stem");
    int x = th_conv(
        b, "stem", image, (struct th_conv_spec){.out = GOLDEN_CHANNELS, .kernel = 1});
    if (!strcmp(v->name, "maps")) {
        taps->value[taps->n] = x;
        taps->stride[taps->n++] = 1;
        taps->pooled = th_gap(b, x);
        return;
    }
    int cls = th_token(b, "cls_token", 1, GOLDEN_CHANNELS, 1);
    taps->tokens = th_tokens(b, x, cls, -1, -1);
    taps->patches = 16;
    taps->pooled = th_token_mean(b, taps->tokens, 0, 1);
}

static const char *head_name(const struct th_variant *v)
{
    (void)v;
    return "fc";
}

static const struct th_variant variants[] = {
    {.name = "maps", .input = {.size = {4, 4}, .crop = 1.0F}},
    {.name = "tokens", .input = {.size = {4, 4}, .crop = 1.0F}}};
static const struct th_backbone backbone = {.name = "test",
    .variants = variants,
    .n_variants = 2,
    .build = build,
    .head_name = head_name};

/* heads.py's numbers of this name, for th_free. */
static float *numbers(const char *name, int64_t n)
{
    int64_t seed = 0;
    float *x = th_alloc((size_t)n, sizeof *x);
    for (const char *c = name; *c; c++)
        seed += *c;
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)((double)((i * 37 + seed * 101) % 1009) / 1009 - 0.5);
    return x;
}

static void open_head(
    struct net *n, const char *device, const char *network, const char *head)
{
    static const char *const classes[] = {"a", "b", "c", "d"};
    const struct th_head *found = NULL;
    const struct th_variant *v = &variants[!strcmp(network, "tokens")];
    *n = (struct net){.optim = {.kind = TH_SGD}};
    must(th_device_open(device, 2, &n->device));
    th_store_init(&n->store, n->device);
    th_arena_init(&n->arena, n->device);
    must(th_head_find(head, &found));
    must(th_model_init(&n->model, &backbone, v, found, GOLDEN_WIDTH, &v->input, classes,
        GOLDEN_CLASSES));
    for (int i = 0; i < n->model.n_params; i++) {
        const struct th_param *p = &n->model.params[i];
        float *x = numbers(p->name, th_shape_count(&p->shape));
        int id = -1;
        must(th_store_add(&n->store, p->name, p->shape, &id));
        must(th_store_put(&n->store, id, x));
        th_free(x);
    }
}

static void run_once(struct net *n)
{
    float *image = numbers("image", (int64_t)GOLDEN_N * 3 * 4 * 4);
    must(th_plan_set(n->plan, "image", image));
    if (th_plan_has(n->plan, "target"))
        net_upload_target(n);
    net_scalars(n, 0);
    must(th_plan_run(n->plan));
    th_free(image);
}

/* ---- Against PyTorch ---- */

static void expect(const char *what, int i, double got, double want)
{
    if (!(fabs(got - want) <= 2e-6 * (1 + fabs(want))))
        fail_msg("%s, value %d: %.9g, PyTorch has %.9g", what, i, got, want);
}

static int check_gradients(struct net *n, const char *head, const char *network)
{
    int found = 0;
    for (size_t i = 0; i < sizeof golden_gradients / sizeof *golden_gradients; i++) {
        char name[64];
        float got[64];
        if (strcmp(golden_gradients[i].head, head) ||
            strcmp(golden_gradients[i].network, network))
            continue;
        snprintf(name, sizeof name, "grad/%s", golden_gradients[i].name);
        must(th_plan_get(n->plan, name, got));
        for (int k = 0; k < golden_gradients[i].n; k++)
            expect(name, k, (double)got[k], golden_gradients[i].gradient[k]);
        found++;
    }
    return found;
}

static void check_run(const char *device, size_t i)
{
    struct net n;
    float loss, logits[GOLDEN_N * GOLDEN_CLASSES];
    open_head(&n, device, golden_runs[i].network, golden_runs[i].head);
    net_plan(&n,
        (struct th_plan_spec){.mode = TH_TRAIN,
            .batch = GOLDEN_N,
            .keep_gradients = true,
            .no_update = true},
        "all", "auto");
    run_once(&n);
    must(th_plan_get(n.plan, "loss", &loss));
    expect("loss", 0, (double)loss, golden_runs[i].loss);
    assert_int_equal(check_gradients(&n, golden_runs[i].head, golden_runs[i].network),
        n.model.n_params);
    net_plan(
        &n, (struct th_plan_spec){.mode = TH_EVAL, .batch = GOLDEN_N}, "all", "auto");
    run_once(&n);
    must(th_plan_get(n.plan, "logits", logits));
    for (int k = 0; k < GOLDEN_N * GOLDEN_CLASSES; k++)
        expect("logit", k, (double)logits[k], golden_runs[i].logits[k]);
    net_close(&n);
}

static void loss_logits_and_gradients_are_pytorchs(void **state)
{
    int devices = 0;
    (void)state;
    for (int d = 0; d < NET_DEVICES; d++) {
        if (!net_has_device(net_devices[d]))
            continue;
        devices++;
        for (size_t i = 0; i < sizeof golden_runs / sizeof *golden_runs; i++)
            check_run(net_devices[d], i);
    }
    assert_true(devices >= 2);
}

/* Derived values (unit weights) are made again when the weights move. */
static void evaluation_follows_training(void **state)
{
    (void)state;
    static const char *const heads[] = {"mlp", "concatpool", "cosine"};
    for (int d = 0; d < NET_DEVICES; d++)
        for (int h = 0; h < 3 && net_has_device(net_devices[d]); h++) {
            struct net n;
            open_head(&n, net_devices[d], "maps", heads[h]);
            net_evaluation_follows(&n, "head", "auto");
        }
}

static void frozen_unit_weights_are_made_once(void **state)
{
    struct net n;
    struct th_plan_stats stats;
    (void)state;
    open_head(&n, "ref", "maps", "cosine");
    net_plan(&n, (struct th_plan_spec){.mode = TH_EVAL, .batch = 2}, "all", "auto");
    th_plan_stats(n.plan, &stats);
    assert_int_equal(stats.n_derived, 1);
    assert_int_equal(net_count_op(&n, TH_OP_l2norm), 2);
    net_close(&n);
}

static void a_network_without_maps_or_patches_is_refused(void **state)
{
    struct th_model m;
    const struct th_backbone *b = NULL;
    const struct th_variant *v = NULL;
    const struct th_head *head = NULL;
    const char *classes[] = {"a", "b"};
    (void)state;
    must(th_variant_find("vit_medium_patch16_reg4_gap_256", &b, &v));
    must(th_head_find("concatpool", &head));
    assert_int_equal(
        th_model_init(&m, b, v, head, 0, &v->input, classes, 2), THAW_E_USAGE);
    assert_non_null(strstr(thaw_error(), "take another head"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loss_logits_and_gradients_are_pytorchs),
        cmocka_unit_test(evaluation_follows_training),
        cmocka_unit_test(frozen_unit_weights_are_made_once),
        cmocka_unit_test(a_network_without_maps_or_patches_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
