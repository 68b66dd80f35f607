/* SPDX-License-Identifier: Apache-2.0
 * What plans keep, and where: between forward and backward, and from run to run. */
#include "net.h"

#include "pass.h"

static void what_is_made_again_has_the_same_bits(void **state)
{
    (void)state;
    static const struct {
        const char *variant, *thaw, *bn;
        int size;
    } specs[] = {{"resnet20", "all", "train", 16}, {"resnet20", "all", "affine", 16},
        {"resnet20", "stem,stage2", "stats", 16},
        {"resnet20", "stage1,head", "auto", 16},
        {"vit_micro_patch4_32", "all", "auto", 12},
        {"vit_micro_patch4_32", "block2,head", "auto", 12},
        {"vit_micro_patch4_32", "bias,norm", "auto", 12}};
    for (size_t s = 0; s < sizeof specs / sizeof *specs; s++)
        for (size_t d = 0; d < NET_DEVICES; d++) {
            int64_t n = 0, m = 0;
            float loss = 0, other = 0;
            if (!net_has_device(net_devices[d]))
                continue;
            float *all = net_gradients_of(specs[s].variant, specs[s].size, TH_KEEP_ALL,
                net_devices[d], 0, specs[s].thaw, specs[s].bn, &n, &loss);
            for (int keep = TH_KEEP_NORMAL; keep <= TH_KEEP_LITTLE; keep++) {
                float *g = net_gradients_of(specs[s].variant, specs[s].size,
                    (enum th_keep)keep, net_devices[d], 0, specs[s].thaw, specs[s].bn,
                    &m, &other);
                assert_int_equal(n, m);
                assert_true(loss == other);
                assert_memory_equal(all, g, (size_t)n * sizeof *g);
                th_free(g);
            }
            th_free(all);
        }
}

/* Of a training step of `variant`. */
static size_t saved_bytes(const char *variant, const char *thaw, enum th_keep keep)
{
    struct net n;
    net_open(&n, "ref", variant, 64, 5, 7);
    net_plan(&n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 16, .keep = keep},
        thaw, "auto");
    size_t bytes = n.plan->stats.saved_bytes;
    assert_true(n.plan->stats.arena_bytes <= n.plan->stats.live_bytes * 105 / 100);
    net_close(&n);
    return bytes;
}

/* A bottleneck of width w has six values a position and channel of w: x1, y1, x2, y2, and
 * x3, y3 of 4w each. Normally y1 and y2 go, 2 of 12; with --memory low y3 too. */
static void less_is_kept_for_backward_where_asked(void **state)
{
    (void)state;
    size_t high = saved_bytes("resnet50", "all", TH_KEEP_ALL);
    size_t normal = saved_bytes("resnet50", "all", TH_KEEP_NORMAL);
    size_t low = saved_bytes("resnet50", "all", TH_KEEP_LITTLE);
    assert_in_range(normal * 100 / high, 80, 86);
    assert_in_range(low * 100 / high, 50, 60);
    /* biases alone: a bit a ReLU, a byte a pooled value, and the head's input */
    assert_true(saved_bytes("resnet50", "bias,head", TH_KEEP_NORMAL) * 40 < high);
}

/* See pass_recompute.c: 10 of 16 values of a block, beside the tokens' few. */
static void a_transformer_keeps_what_its_linear_layers_made(void **state)
{
    (void)state;
    const char *variant = "vit_micro_patch4_32";
    size_t high = saved_bytes(variant, "all", TH_KEEP_ALL);
    size_t normal = saved_bytes(variant, "all", TH_KEEP_NORMAL);
    assert_in_range(normal * 1000 / high, 610, 650);
    /* a frozen block below the trained one keeps nothing */
    assert_true(saved_bytes(variant, "block5,head", TH_KEEP_NORMAL) * 5 < normal);
}

/* What plans other than training's keep of the weights lies in the arena: whoever uses
 * the arena between two runs, the results are the same. */
static void plans_that_share_an_arena_do_not_disturb_each_other(void **state)
{
    (void)state;
    struct net n;
    net_open(&n, "cpu", "resnet20", 16, 10, 7);
    struct th_plan *plans[2] = {NULL};
    float logits[2][3][40];
    for (int i = 0; i < 2; i++) {
        struct th_plan_spec spec = {
            .model = &n.model, .mode = TH_EVAL, .batch = i ? 4 : 3};
        must(th_plan_new(&spec, &n.store, &n.arena, &plans[i]));
    }
    for (int turn = 0; turn < 6; turn++) {
        int i = turn % 2;
        n.plan = plans[i];
        net_upload_random(&n, "image", 3, "images");
        n.plan = plans[!i]; /* an upload uses the arena, too */
        if (turn == 3)
            net_upload_random(&n, "image", 4, "images");
        if (turn == 4)
            th_arena_discard(&n.arena);
        n.plan = plans[i];
        net_upload_random(&n, "image", 3, "images");
        must(th_plan_run(plans[i]));
        must(th_plan_verify(plans[i]));
        must(th_plan_get(plans[i], "logits", logits[i][turn / 2]));
    }
    for (int i = 0; i < 2; i++)
        for (int k = 1; k < 3; k++)
            assert_memory_equal(
                logits[i][0], logits[i][k], (size_t)(i ? 40 : 30) * sizeof(float));
    th_plan_free(plans[0]);
    n.plan = plans[1];
    net_close(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_made_again_has_the_same_bits),
        cmocka_unit_test(less_is_kept_for_backward_where_asked),
        cmocka_unit_test(a_transformer_keeps_what_its_linear_layers_made),
        cmocka_unit_test(plans_that_share_an_arena_do_not_disturb_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
