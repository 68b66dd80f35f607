/* SPDX-License-Identifier: Apache-2.0
 * The graph carries more than ResNets: a transformer block, views, random layers, several
 * taps; and its errors stick. Gradients are checked by finite differences of the loss
 * along the gradient, through the whole planner. */
#include "net.h"

#include "layers.h"

enum { TOKENS = 16, WIDTH = 16, HEADS = 2 };

static int mlp(struct th_builder *b, int x)
{
    int y = th_gelu(b, th_linear(b, "mlp.fc1", x, 2 * WIDTH, true), TH_GELU_ERF);
    return th_linear(b, "mlp.fc2", y, WIDTH, true);
}

/* A pre-norm block on 16 tokens of 16 numbers, made from 4x4 patches of 16x16 pixels. */
static void build_block(
    struct th_builder *b, const struct th_variant *v, int image, struct th_taps *taps)
{
    (void)v;
    th_stage(b, "patch");
    int x = th_conv(b, "patch_embed", image,
        (struct th_conv_spec){.out = TOKENS, .kernel = 4, .stride = 4, .bias = true});
    taps->value[taps->n] = x;
    taps->stride[taps->n++] = 4;
    int n = b->graph->status == THAW_OK ? (int)th_shape_at(b, image)->dim[0] : 1;
    x = th_graph_view(b->graph, x, TH_SHAPE(n, TOKENS, WIDTH));
    th_stage(b, "block0");
    int y = th_layernorm(b, "norm1", x, 1e-6F);
    y = th_attention(b, th_linear(b, "attn.qkv", y, 3 * WIDTH, true), HEADS);
    x = th_add(b, x, th_linear(b, "attn.proj", y, WIDTH, true));
    x = th_add(b, x, mlp(b, th_layernorm(b, "norm2", x, 1e-6F)));
    x = th_dropout(b, "drop", x, 0.25F);
    taps->pooled = th_graph_view(b->graph, x, TH_SHAPE(n, TOKENS * WIDTH));
}

static const char *head_name(const struct th_variant *v)
{
    (void)v;
    return "head";
}

static const struct th_variant variant = {
    .name = "tiny", .input = {.size = {16, 16}, .crop = 1.0F}, .n_classes = 5};
static const struct th_backbone transformer = {.name = "test",
    .variants = &variant,
    .n_variants = 1,
    .build = build_block,
    .head_name = head_name};

static void open_transformer(struct net *n, const char *device)
{
    const char *classes[] = {"a", "b", "c", "d", "e"};
    *n = (struct net){
        .optim = {.kind = TH_ADAMW, .beta1 = 0.9F, .beta2 = 0.999F, .eps = 1e-8F}};
    must(th_device_open(device, 2, &n->device));
    th_store_init(&n->store, n->device);
    th_arena_init(&n->arena, n->device);
    must(th_model_init(&n->model, &transformer, &variant, &th_head_classify, 0,
        &variant.input, classes, 5));
    net_fill(n, 11);
}

/* Inputs hold for one run only, so keys are set each time. */
static float step_of(struct net *n, uint64_t key, float lr)
{
    int32_t keys[8] = {0};
    for (int i = 0; i < 8; i++)
        keys[i] = (int32_t)(key * 977 + (uint64_t)i);
    if (th_plan_has(n->plan, "keys"))
        must(th_plan_set(n->plan, "keys", keys));
    net_run(n, 5, lr);
    float loss = 0;
    must(th_plan_get(n->plan, "loss", &loss));
    return loss;
}

static float loss_of(struct net *n, uint64_t key)
{
    return step_of(n, key, 0.0F);
}

/* Move every trained tensor by `amount` times its gradient. Returns sum g^2. */
static double move(struct net *n, const float *gradients, float amount)
{
    double squares = 0;
    const float *g = gradients;
    for (int i = 0; i < n->model.n_params; i++) {
        int64_t count = th_shape_count(&n->model.params[i].shape);
        if (!n->freeze.trainable[i])
            continue;
        int id = th_store_find(&n->store, n->model.params[i].name);
        float *x = th_alloc((size_t)count, sizeof *x);
        must(th_store_get(&n->store, id, x));
        for (int64_t k = 0; k < count; k++) {
            x[k] += amount * g[k];
            squares += (double)g[k] * g[k];
        }
        must(th_store_put(&n->store, id, x));
        th_free(x);
        g += count;
    }
    return squares;
}

static float *all_gradients(struct net *n)
{
    float *all = th_alloc((size_t)th_model_values(&n->model), sizeof *all), *at = all;
    for (int i = 0; i < n->model.n_params; i++) {
        if (!n->freeze.trainable[i])
            continue;
        char *name = th_format("grad/%s", n->model.params[i].name);
        must(th_plan_get(n->plan, name, at));
        th_free(name);
        at += th_shape_count(&n->model.params[i].shape);
    }
    return all;
}

static void a_transformer_block_has_the_gradient_of_its_loss(void **state)
{
    (void)state;
    static const char *const thaws[] = {"all", "patch", "block0,head", "norm", "bias"};
    static const char *const devices[] = {"ref", "far", "cpu"};
    for (int d = 0; d < 3; d++)
        for (int t = 0; t < 5; t++) {
            struct net n;
            open_transformer(&n, devices[d]);
            net_plan(&n,
                (struct th_plan_spec){.mode = TH_TRAIN,
                    .batch = 4,
                    .keep_gradients = true,
                    .no_update = true},
                thaws[t], "auto");
            loss_of(&n, 1);
            float *g = all_gradients(&n);
            const float step = 1e-3F;
            double squares = move(&n, g, step);
            double up = loss_of(&n, 1);
            move(&n, g, -2 * step);
            double slope = (up - loss_of(&n, 1)) / (2 * (double)step);
            if (!(fabs(slope - squares) < 0.01 * squares + 1e-4))
                fail_msg("%s --thaw %s: slope %g along the gradient, its square is %g",
                    devices[d], thaws[t], slope, squares);
            th_free(g);
            net_close(&n);
        }
}

static void dropout_draws_from_the_sample_and_is_absent_in_evaluation(void **state)
{
    (void)state;
    struct net n;
    open_transformer(&n, "cpu");
    struct th_plan_spec spec = {
        .mode = TH_TRAIN, .batch = 4, .no_update = true, .keep_gradients = true};
    net_plan(&n, spec, "block0,head", "auto");
    float a = loss_of(&n, 1), b = loss_of(&n, 2), again = loss_of(&n, 1);
    assert_true(a == again);
    assert_true(a != b);
    spec = (struct th_plan_spec){.mode = TH_EVAL, .batch = 4, .loss = true};
    net_plan(&n, spec, "head", "auto");
    assert_false(th_plan_has(n.plan, "keys"));
    net_close(&n);
}

/* The block's dropout acts while its stage or one below trains, the head's while the head
 * or anything below it does. */
static void dropout_with_nothing_trained_at_or_below_it_is_identity(void **state)
{
    (void)state;
    static const struct {
        const char *thaw;
        int forward, backward;
    } cases[] = {{"head", 1, 0}, {"patch,head", 2, 2}, {"block0", 2, 2},
        {"norm2.weight,head", 2, 2}, {"none", 0, 0}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct net n;
        open_transformer(&n, "ref");
        n.model.dropout = 0.5F;
        net_plan(&n,
            (struct th_plan_spec){.mode = TH_TRAIN,
                .batch = 4,
                .no_update = true,
                .keep_gradients = true},
            cases[c].thaw, "auto");
        assert_int_equal(net_count_op(&n, TH_OP_dropout), cases[c].forward);
        assert_int_equal(net_count_op(&n, TH_OP_dropout_dx), cases[c].backward);
        float a = loss_of(&n, 1), b = loss_of(&n, 2);
        assert_true((a != b) == (cases[c].forward > 0));
        net_close(&n);
    }
}

static void frozen_block_below_a_trained_head_keeps_nothing(void **state)
{
    (void)state;
    struct net n;
    struct th_plan_stats stats;
    open_transformer(&n, "ref");
    net_plan(&n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 4}, "head", "auto");
    const struct th_graph *g = th_plan_graph(n.plan);
    int backward = 0;
    for (int i = 0; i < g->n_nodes; i++)
        backward += g->nodes[i].phase == TH_BACKWARD;
    assert_int_equal(backward, 3); /* dlogits, dw, db */
    th_plan_stats(n.plan, &stats);
    assert_true(stats.n_dead > 0);
    net_close(&n);
}

static const struct th_kernel *hosted_kernel(enum th_op op)
{
    (void)op;
    return &th_hosted_kernel;
}

/* The block with its attention, its GELU and a residual add on the host. */
static void build_hosted(
    struct th_builder *b, const struct th_variant *v, int image, struct th_taps *taps)
{
    build_block(b, v, image, taps);
    for (int i = 0; i < b->graph->n_nodes; i++) {
        struct th_node *n = &b->graph->nodes[i];
        if (n->op == TH_OP_attention || n->op == TH_OP_gelu || n->op == TH_OP_add)
            th_graph_on_host(b->graph, n->out[0]);
    }
}

static void host_steps_give_what_the_device_gives(void **state)
{
    (void)state;
    static const char *const devices[] = {"far", "cpu"};
    struct th_backbone hosted = transformer;
    hosted.build = build_hosted;
    for (int d = 0; d < 2; d++) {
        float loss[2] = {0};
        for (int on_host = 0; on_host < 2; on_host++) {
            struct net n;
            int n_hosted = 0;
            open_transformer(&n, devices[d]);
            n.model.backbone = on_host ? &hosted : &transformer;
            net_plan(
                &n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 4}, "all", "auto");
            const struct th_graph *g = th_plan_graph(n.plan);
            for (int i = 0; i < g->n_nodes; i++)
                n_hosted += g->nodes[i].host;
            assert_int_equal(n_hosted, on_host ? 4 : 0);
            step_of(&n, 1, 1e-2F);
            loss[on_host] = loss_of(&n, 1);
            net_close(&n);
        }
        assert_float_equal(loss[0], loss[1], 1e-5);
    }
}

/* Every op of a plan on the host: scratch, in-place updates, masks, on memory that the
 * host cannot touch otherwise. */
static void a_whole_plan_can_run_on_the_host(void **state)
{
    (void)state;
    struct th_backend hosted = th_backend_far;
    hosted.kernel = hosted_kernel;
    float loss[2] = {0};
    for (int on_host = 0; on_host < 2; on_host++) {
        struct net n;
        open_transformer(&n, "far");
        if (on_host)
            n.device->backend = &hosted;
        net_plan(
            &n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 4}, "all", "auto");
        step_of(&n, 1, 1e-2F);
        loss[on_host] = loss_of(&n, 1);
        net_close(&n);
    }
    if (loss[0] != loss[1])
        fail_msg(
            "loss %g on the device, %g on the host", (double)loss[0], (double)loss[1]);
}

static void adamw_lowers_the_loss(void **state)
{
    (void)state;
    struct net n;
    open_transformer(&n, "cpu");
    net_plan(&n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 4}, "all", "auto");
    float first = loss_of(&n, 1), last = 0;
    for (int i = 0; i < 20; i++) {
        last = step_of(&n, 1, 1e-2F);
    }
    assert_true(last < 0.5F * first);
    net_close(&n);
}

static void the_first_error_of_a_graph_sticks(void **state)
{
    (void)state;
    struct th_graph g;
    th_graph_init(&g);
    int x = th_graph_input(&g, "x", TH_F32, TH_SHAPE(2, 3, 8, 8));
    int w = th_graph_state(&g, "w", TH_SHAPE(4, 5, 3, 3)); /* 5 channels, not 3 */
    union th_attr attr = {.conv = {.stride = {1, 1}, .dilation = {1, 1}, .groups = 1}};
    assert_int_equal(
        th_graph_node(&g, TH_OP_conv, &attr, (int[]){x, w, -1, -1}, "c1"), -1);
    assert_non_null(strstr(thaw_error(), "c1 (conv)"));
    char sentence[512];
    strncpy(sentence, thaw_error(), sizeof sentence - 1);
    sentence[sizeof sentence - 1] = '\0';
    assert_int_equal(th_graph_node(&g, TH_OP_relu, NULL, &x, "relu"), -1);
    assert_int_equal(g.status, THAW_E_USAGE);
    assert_string_equal(thaw_error(), sentence);
    th_graph_release(&g);
}

/* The array of values grows while the operand that is copied still stands in it. */
static void a_value_like_one_of_the_same_graph_survives_growth(void **state)
{
    (void)state;
    struct th_graph g;
    th_graph_init(&g);
    struct th_shape shape = TH_SHAPE(2, 3, 5, 7);
    int x = th_graph_input(&g, "x", TH_F32, shape);
    for (int i = 0; i < 2000; i++) {
        int y = th_graph_value(&g, &g.values[x].o);
        assert_true(th_shape_equal(&g.values[y].o.shape, &shape));
    }
    th_graph_release(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_like_one_of_the_same_graph_survives_growth),
        cmocka_unit_test(a_transformer_block_has_the_gradient_of_its_loss),
        cmocka_unit_test(dropout_draws_from_the_sample_and_is_absent_in_evaluation),
        cmocka_unit_test(dropout_with_nothing_trained_at_or_below_it_is_identity),
        cmocka_unit_test(frozen_block_below_a_trained_head_keeps_nothing),
        cmocka_unit_test(host_steps_give_what_the_device_gives),
        cmocka_unit_test(a_whole_plan_can_run_on_the_host),
        cmocka_unit_test(adamw_lowers_the_loss),
        cmocka_unit_test(the_first_error_of_a_graph_sticks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
