/* SPDX-License-Identifier: Apache-2.0
 * Vision Transformers: whole passes against timm in fp64 (golden/vit.h) on every device;
 * whose tensors a file has; positions of another grid; what --thaw's words mean; decay,
 * stochastic depth and random values. */
#include "golden/vit.h"
#include "net.h"

#include "dialect.h"
#include "positions.h"
#include "pretrained.h"

static const double TOLERANCE = 1e-4; /* DESIGN section 10; of a tensor's norm */

enum { CLASSES = 10 };

static const struct th_backbone *vit(void)
{
    const struct th_backbone *b = NULL;
    const struct th_variant *v = NULL;
    must(th_variant_find("vit_tiny_patch16_224", &b, &v));
    return b;
}

static void open_model(struct th_model *m, const char *variant, int size)
{
    const struct th_backbone *b = NULL;
    const struct th_variant *v = NULL;
    const char *classes[] = {"a", "b"};
    must(th_variant_find(variant, &b, &v));
    struct th_input input = v->input;
    if (size)
        input.size = (struct th_size){size, size};
    must(th_model_init(m, b, v, &th_head_classify, 0, &input, classes, 2));
}

/* ---- Against timm ---- */

/* As golden/vit.h says. */
static float golden_value(const struct th_param *p, uint64_t key, int64_t i)
{
    float z = th_rng_normal(key, (uint64_t)i);
    const int64_t *d = p->shape.dim;
    switch (p->role) {
    case TH_ROLE_CONV:
        return (float)sqrt(2.0 / (double)(d[0] * d[2] * d[3])) * z;
    case TH_ROLE_LINEAR:
        return (float)(1 / sqrt((double)d[1])) * z;
    case TH_ROLE_SCALE:
        return 0.5F + 0.1F * z;
    case TH_ROLE_LN_GAMMA:
        return 1.0F + 0.1F * z;
    default:
        return 0.1F * z;
    }
}

static void golden_fill(struct net *n)
{
    for (int i = 0; i < n->model.n_params; i++) {
        const struct th_param *p = &n->model.params[i];
        int64_t count = th_shape_count(&p->shape);
        float *v = th_alloc((size_t)count, sizeof *v);
        for (int64_t k = 0; k < count; k++)
            v[k] = golden_value(p, th_rng_mix_name(GOLDEN_KEY, p->name), k);
        must(th_store_put(&n->store, th_store_find(&n->store, p->name), v));
        th_free(v);
    }
}

static void compare_gradient(struct net *n, const struct golden_tensor *want)
{
    char name[160];
    int p = th_model_param(&n->model, want->name);
    if (p < 0)
        fail_msg("%s has no %s", n->model.variant->name, want->name);
    int64_t count = th_shape_count(&n->model.params[p].shape);
    float *x = th_alloc((size_t)count, sizeof *x);
    snprintf(name, sizeof name, "grad/%s", want->name);
    must(th_plan_get(n->plan, name, x));
    double e = net_from_golden(x, count, want->norm, want->sample);
    if (!(e <= TOLERANCE))
        fail_msg("%s, %s: %s is %g from timm's", n->device->backend->name,
            n->model.variant->name, name, e);
    th_free(x);
}

static void compare(const char *device, const struct golden_vit *g)
{
    struct net n;
    float loss = 0, logits[64];
    net_open(&n, device, g->backbone, g->size, CLASSES, GOLDEN_KEY);
    golden_fill(&n);
    net_plan(&n,
        (struct th_plan_spec){.mode = TH_TRAIN,
            .batch = g->n_images,
            .keep_gradients = true,
            .no_update = true},
        "all", "auto");
    net_run(&n, GOLDEN_KEY, 0.0F);
    must(th_plan_get(n.plan, "loss", &loss));
    must(th_plan_get(n.plan, "logits", logits));
    assert_float_equal(loss, g->loss, TOLERANCE);
    for (int i = 0; i < g->n_images * CLASSES; i++)
        assert_float_equal(logits[i], g->logits[i], TOLERANCE);
    for (int i = 0; i < g->n_grad; i++)
        compare_gradient(&n, &g->grad[i]);
    net_close(&n);
}

static void passes_equal_timms(void **state)
{
    const char *device = *state;
    bool slow = strcmp(device, "ref") == 0 || strcmp(device, "cpu:base") == 0;
    size_t n = slow ? 2 : sizeof golden_vits / sizeof *golden_vits;
    if (!net_has_device(device))
        skip();
    for (size_t i = 0; i < n; i++)
        compare(device, &golden_vits[i]);
}

/* ---- Positions ---- */

static void refit(const struct golden_positions *g, int index)
{
    enum { MOST = 1024 };
    float rows[MOST], out[MOST];
    char stream[32];
    snprintf(stream, sizeof stream, "positions%d", index);
    struct th_tensor t = {.dtype = TH_F32,
        .shape = TH_SHAPE(1, g->before + g->from.w * g->from.h, g->d),
        .data = rows};
    struct th_shape want = TH_SHAPE(1, g->before + g->to.w * g->to.h, g->d);
    int64_t n = th_shape_count(&t.shape), m = th_shape_count(&want);
    assert_true(n <= MOST && m <= MOST);
    for (int64_t i = 0; i < n; i++)
        rows[i] = th_rng_normal(th_rng_mix_name(GOLDEN_KEY, stream), (uint64_t)i);
    const struct th_positions from = {
        &t.shape, {4 * g->from.w, 4 * g->from.h}, g->before};
    const struct th_positions to = {&want, {g->to.w, g->to.h}, g->before};
    assert_true(th_positions_refit(&from, rows, &to, NULL));
    assert_true(th_positions_refit(&from, rows, &to, out));
    for (int64_t i = 0; i < m; i++)
        if (!(fabs((double)out[i] - g->value[i]) <= 1e-5)) /* six digits are written */
            fail_msg("case %d: value %d is %g, timm's %g", index, (int)i,
                (double)out[i], g->value[i]);
    want.dim[1]++; /* no grid of that shape */
    assert_false(th_positions_refit(&from, rows, &to, NULL));
}

static void positions_are_resampled_as_timm_does(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof golden_positions / sizeof *golden_positions; i++)
        refit(&golden_positions[i], (int)i);
}

/* The parameters of m, zero, as if from a file. */
static void as_file(const struct th_model *m, struct th_weights *w)
{
    th_weights_init(w);
    for (int i = 0; i < m->n_params; i++)
        must(th_weights_add(w, m->params[i].name, m->params[i].shape, NULL, NULL));
}

static void load_report_says_what_was_resampled(void **state)
{
    (void)state;
    struct th_network n;
    struct th_model other;
    struct th_weights w;
    char report[300];
    const char *classes[] = {"a", "b"};
    open_model(&other, "vit_micro_patch4_32", 24);
    as_file(&other, &w);
    struct th_network_spec spec = {.head = &th_head_classify,
        0,
        .classes = classes,
        .n_classes = 2,
        .device = "ref"};
    must(th_variant_find("vit_micro_patch4_32", &spec.backbone, &spec.variant));
    spec.input = spec.variant->input;
    must(th_network_init(&n, &spec));
    const struct th_load_spec load = {.where = "test", .head = true};
    must(th_pretrained_load(&w, &n, &load, report, sizeof report));
    assert_string_equal(report,
        "loaded 80 of 80, head loaded, resampled: pos_embed from "
        "[1,37,128] to [1,65,128]");
    th_weights_release(&w);
    other.params[th_model_param(&other, "pos_embed")].shape.dim[1] = 38;
    as_file(&other, &w);
    assert_int_equal(
        th_pretrained_load(&w, &n, &load, report, sizeof report), THAW_E_DATA);
    assert_non_null(
        strstr(thaw_error(), "file has [1,38,128], model wants [1,65,128]"));
    th_weights_release(&w);
    th_model_release(&other);
    th_network_release(&n);
}

/* ---- Whose tensors ---- */

/* What recognition may look at, without the bulk of it. */
static void sketch(const struct th_variant *v, struct th_weights *w)
{
    struct th_model m;
    open_model(&m, v->name, 0);
    th_weights_init(w);
    for (int i = 0; i < m.n_params; i++) {
        const struct th_param *p = &m.params[i];
        bool inner = p->shape.rank == 2 && strncmp(p->name, "blocks.0.", 9) != 0;
        bool head = strncmp(p->name, "head", 4) == 0;
        if (!(inner && !head) && !(head && v->n_classes == 0))
            must(th_weights_add(w, p->name, p->shape, NULL, NULL));
    }
    if (strstr(v->name, "quickgelu"))
        must(th_weights_set_string(w, "activation", "quick_gelu"));
    th_model_release(&m);
}

static bool same_tensors(const struct th_variant *a, const struct th_variant *b)
{
    struct th_model m, n;
    open_model(&m, a->name, 0);
    open_model(&n, b->name, 0);
    bool same = m.n_params == n.n_params;
    for (int i = 0; same && i < m.n_params; i++)
        same = strcmp(m.params[i].name, n.params[i].name) == 0 &&
               th_shape_equal(&m.params[i].shape, &n.params[i].shape);
    th_model_release(&m);
    th_model_release(&n);
    return same;
}

static void every_variant_is_recognised_by_its_tensors(void **state)
{
    (void)state;
    int exact = 0;
    for (int i = 0; i < vit()->n_variants; i++) {
        const struct th_variant *v = &vit()->variants[i];
        const struct th_backbone *b = NULL;
        struct th_weights w;
        sketch(v, &w);
        const struct th_variant *found = th_variant_recognise(&w, &b);
        th_weights_release(&w);
        if (!found || b != vit())
            fail_msg("%s is not recognised", v->name);
        exact += found == v;
        /* another row only where it says so, and where nothing tells them apart */
        if (found != v && (!found->unsure || !same_tensors(found, v)))
            fail_msg("%s is taken for %s", v->name, found->name);
    }
    assert_true(exact >= vit()->n_variants - 4); /* four DeiTs look like AugReg's */
}

static void metas_deit3_is_recognised_under_its_own_names(void **state)
{
    (void)state;
    const struct th_backbone *b = NULL;
    struct th_weights w, theirs;
    const struct th_variant *v = NULL;
    must(th_variant_find("deit3_small_patch16_384", &b, &v));
    sketch(v, &w);
    th_weights_init(&theirs);
    for (size_t i = 0; i < w.n; i++) {
        char name[128];
        int block = 0, ls = 0;
        if (sscanf(w.weight[i].name, "blocks.%d.ls%d.gamma", &block, &ls) == 2)
            snprintf(name, sizeof name, "blocks.%d.gamma_%d", block, ls);
        else
            snprintf(name, sizeof name, "%s", w.weight[i].name);
        must(th_weights_add(&theirs, name, w.weight[i].tensor.shape, NULL, NULL));
    }
    assert_true(th_variant_recognise(&theirs, &b) != v);
    must(th_dialect_apply(&theirs, "test"));
    assert_ptr_equal(th_variant_recognise(&theirs, &b), v);
    th_weights_release(&theirs);
    th_weights_release(&w);
}

static void a_size_that_is_no_multiple_of_the_patch_is_refused(void **state)
{
    (void)state;
    struct th_model m;
    const struct th_variant *v = &vit()->variants[0];
    struct th_input input = v->input;
    const char *classes[] = {"a"};
    input.size = (struct th_size){225, 225};
    assert_int_equal(
        th_model_init(&m, vit(), v, &th_head_classify, 0, &input, classes, 1),
        THAW_E_USAGE);
    assert_non_null(strstr(thaw_error(), "--image-size 224 or 240"));
}

/* ---- The activation ---- */

static int count_gelu(const char *variant, enum th_gelu kind)
{
    struct th_model m;
    struct th_graph g;
    int out = -1, n = 0;
    open_model(&m, variant, 32);
    th_graph_init(&g);
    must(th_model_build(&m, &g, 1, false, false, &out));
    for (int i = 0; i < g.n_nodes; i++)
        n += g.nodes[i].op == TH_OP_gelu && g.nodes[i].attr.act.kind == kind;
    th_graph_release(&g);
    th_model_release(&m);
    return n;
}

/* Their tensors are the same: a wrong one shows in nothing but the numbers. */
static void quick_gelu_is_openais_alone(void **state)
{
    (void)state;
    static const char quick[] = "vit_base_patch32_clip_quickgelu_224";
    assert_int_equal(count_gelu(quick, TH_GELU_QUICK), 12);
    assert_int_equal(count_gelu("vit_base_patch32_clip_224", TH_GELU_ERF), 12);
    assert_int_equal(count_gelu("vit_micro_patch4_32", TH_GELU_ERF), 6);
}

/* ---- What trains, what decays ---- */

static bool trains(const struct th_model *m, const char *thaw, const char *param)
{
    struct th_freeze f;
    must(th_freeze_init(&f, m, thaw, "auto", 8));
    int i = th_model_param(m, param);
    assert_true(i >= 0);
    bool answer = f.trainable[i];
    th_freeze_release(&f);
    return answer;
}

static void norm_is_every_layernorm_or_the_last_one_beside_a_block(void **state)
{
    (void)state;
    struct th_model m;
    open_model(&m, "vit_micro_patch4_32", 0);
    static const struct {
        const char *thaw, *param;
        bool trains;
    } rows[] = {{"norm", "blocks.0.norm1.weight", true}, {"norm", "norm.bias", true},
        {"norm", "blocks.0.attn.qkv.bias", false},
        {"norm,head", "blocks.3.norm2.bias", true}, {"norm,head", "head.weight", true},
        {"block5,norm,head", "blocks.5.norm1.weight", true},
        {"block5,norm,head", "norm.weight", true},
        {"block5,norm,head", "blocks.4.norm1.weight", false},
        {"norm,block5", "blocks.0.norm1.bias", false}, {"patch", "cls_token", true},
        {"patch", "pos_embed", true}, {"patch", "patch_embed.proj.bias", true},
        {"patch", "blocks.0.norm1.weight", false},
        {"bias", "blocks.2.norm1.bias", true}, {"bias", "blocks.2.mlp.fc1.bias", true},
        {"bias", "cls_token", false},
        {"blocks.*.attn.qkv.weight", "blocks.4.attn.qkv.weight", true},
        {"block1", "blocks.1.mlp.fc2.weight", true},
        {"block1", "blocks.0.mlp.fc2.weight", false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (trains(&m, rows[i].thaw, rows[i].param) != rows[i].trains)
            fail_msg("--thaw %s: %s is %s", rows[i].thaw, rows[i].param,
                rows[i].trains ? "frozen" : "trained");
    th_model_release(&m);
}

static float decay_of(const struct net *n, const char *param)
{
    const struct th_graph *g = th_plan_graph(n->plan);
    int v = th_graph_find(g, param);
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op == TH_OP_sgd && g->nodes[i].in[0] == v)
            return g->nodes[i].attr.update.weight_decay;
    fail_msg("%s is not updated", param);
    return -1;
}

static void tokens_positions_and_scales_do_not_decay(void **state)
{
    (void)state;
    static const char *const still[] = {"cls_token", "dist_token", "pos_embed",
        "norm.weight", "blocks.0.norm1.bias", "head.bias"};
    struct net n;
    net_open(&n, "ref", "deit_tiny_distilled_patch16_224", 16, 3, 5);
    net_plan(&n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 2}, "all", "auto");
    for (size_t i = 0; i < sizeof still / sizeof *still; i++)
        assert_true(decay_of(&n, still[i]) == 0.0F);
    assert_true(decay_of(&n, "blocks.0.attn.qkv.weight") > 0.0F);
    assert_true(decay_of(&n, "patch_embed.proj.weight") > 0.0F);
    assert_true(decay_of(&n, "head_dist.weight") > 0.0F);
    net_close(&n);
}

static uint64_t hash_of(const struct net *n, bool frozen)
{
    uint64_t hash = 1;
    for (int i = 0; i < n->model.n_params; i++) {
        const struct th_param *p = &n->model.params[i];
        if (n->freeze.trainable[i] == frozen)
            continue;
        int64_t count = th_shape_count(&p->shape);
        float *v = th_alloc((size_t)count, sizeof *v);
        must(th_store_get(&n->store, th_store_find(&n->store, p->name), v));
        hash = th_hash(v, (size_t)count * sizeof *v, hash);
        th_free(v);
    }
    return hash;
}

static void check_frozen(
    const char *device, const char *variant, int size, const char *thaw)
{
    struct net n;
    net_open(&n, device, variant, size, 4, 3);
    net_plan(&n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 2}, thaw, "auto");
    uint64_t before = hash_of(&n, true), trained = hash_of(&n, false);
    net_run(&n, 4, 0.1F);
    net_run(&n, 5, 0.1F);
    must(th_plan_verify(n.plan));
    assert_true(hash_of(&n, true) == before);
    assert_true(hash_of(&n, false) != trained);
    net_close(&n);
}

static void frozen_tensors_are_bitwise_unchanged(void **state)
{
    static const char *const thaws[] = {
        "head", "block5,norm,head", "bias", "norm", "patch", "block2"};
    if (!net_has_device(*state))
        skip();
    for (size_t i = 0; i < sizeof thaws / sizeof *thaws; i++)
        check_frozen(*state, "vit_micro_patch4_32", 12, thaws[i]);
    check_frozen(*state, "deit3_small_patch16_224", 32, "*.ls1.gamma,block11");
}

/* ---- Folding ---- */

/* Twelve blocks with two LayerScales each: those of frozen blocks become part of frozen
 * linear layers, above a trained one too, and nothing changes but rounding. */
static void frozen_layerscales_are_folded(void **state)
{
    (void)state;
    static const struct {
        const char *thaw;
        int folded;
    } rows[] = {
        {"head", 24}, {"block0", 22}, {"*.ls1.gamma,blocks.3.mlp.fc2.bias", 11}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct net n;
        float loss[2];
        net_open(&n, "cpu", "deit3_small_patch16_224", 32, 4, 3);
        for (unsigned k = 0; k < 2; k++) {
            net_plan(&n,
                (struct th_plan_spec){.mode = TH_TRAIN,
                    .batch = 2,
                    .no_update = true,
                    .keep_gradients = true,
                    .without = k ? TH_PASS_FOLD : 0},
                rows[i].thaw, "auto");
            assert_int_equal(
                net_count_op(&n, TH_OP_linear_fold), k ? 0 : rows[i].folded);
            assert_int_equal(
                net_count_op(&n, TH_OP_layerscale), k ? 24 : 24 - rows[i].folded);
            net_run(&n, 4, 0.0F);
            must(th_plan_get(n.plan, "loss", &loss[k]));
            must(th_plan_verify(n.plan));
        }
        assert_float_equal(loss[0], loss[1], 1e-5);
        net_close(&n);
    }
}

/* ---- Randomness ---- */

static void stochastic_depth_grows_with_the_blocks(void **state)
{
    (void)state;
    struct net n;
    net_open(&n, "ref", "vit_micro_patch4_32", 8, 3, 5);
    n.model.drop_path = 0.5F;
    struct th_plan_spec spec = {.mode = TH_TRAIN, .batch = 2, .no_update = true};
    net_plan(&n, spec, "all", "auto");
    const struct th_graph *g = th_plan_graph(n.plan);
    int seen = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct th_node *node = &g->nodes[i];
        if (node->op != TH_OP_drop_path)
            continue;
        int block = node->name[strlen("blocks.")] - '0';
        assert_float_equal(node->attr.dropout.p, 0.1F * (float)block, 1e-6);
        seen++;
    }
    assert_int_equal(seen, 10); /* two a block, none in block 0 */
    net_plan(&n, spec, "head", "auto");
    g = th_plan_graph(n.plan);
    for (int i = 0; i < g->n_nodes; i++)
        assert_int_not_equal(g->nodes[i].op, TH_OP_drop_path);
    spec = (struct th_plan_spec){.mode = TH_EVAL, .batch = 2};
    net_plan(&n, spec, "all", "auto");
    assert_false(th_plan_has(n.plan, "keys"));
    net_close(&n);
}

/* Mean of squares of a random parameter. */
static double power_of(const struct th_model *m, const char *name)
{
    int i = th_model_param(m, name);
    assert_true(i >= 0);
    int64_t n = th_shape_count(&m->params[i].shape);
    float *v = th_alloc((size_t)n, sizeof *v);
    th_param_random(&m->params[i], 11, v);
    double sum = 0;
    for (int64_t k = 0; k < n; k++)
        sum += (double)v[k] * (double)v[k];
    th_free(v);
    return sum / (double)n;
}

static void random_values_are_timms(void **state)
{
    (void)state;
    struct th_model m;
    open_model(&m, "deit3_small_patch16_224", 32);
    assert_float_equal(sqrt(power_of(&m, "blocks.0.mlp.fc1.weight")), 0.02, 2e-4);
    assert_float_equal(sqrt(power_of(&m, "pos_embed")), 0.02, 2e-3);
    assert_float_equal(sqrt(power_of(&m, "head.weight")), 0.02, 2e-3);
    assert_float_equal(sqrt(power_of(&m, "cls_token")), 1e-6, 2e-7);
    assert_float_equal(sqrt(power_of(&m, "blocks.3.ls2.gamma")), 1e-6, 1e-9);
    assert_true(power_of(&m, "blocks.0.attn.proj.bias") == 0);
    assert_true(power_of(&m, "head.bias") == 0);
    assert_true(power_of(&m, "norm.weight") == 1);
    /* Conv2d's own: uniform within 1/sqrt(3 * 16 * 16), its square a third of that */
    assert_float_equal(power_of(&m, "patch_embed.proj.weight") * 768, 1.0 / 3, 5e-3);
    assert_true(power_of(&m, "patch_embed.proj.bias") > 0);
    th_model_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(passes_equal_timms, "ref"),
        cmocka_unit_test_prestate(passes_equal_timms, "cpu:base"),
        cmocka_unit_test_prestate(passes_equal_timms, "cpu:avx2"),
        cmocka_unit_test_prestate(passes_equal_timms, "cpu:avx512"),
        cmocka_unit_test(positions_are_resampled_as_timm_does),
        cmocka_unit_test(load_report_says_what_was_resampled),
        cmocka_unit_test(every_variant_is_recognised_by_its_tensors),
        cmocka_unit_test(metas_deit3_is_recognised_under_its_own_names),
        cmocka_unit_test(a_size_that_is_no_multiple_of_the_patch_is_refused),
        cmocka_unit_test(quick_gelu_is_openais_alone),
        cmocka_unit_test(norm_is_every_layernorm_or_the_last_one_beside_a_block),
        cmocka_unit_test(tokens_positions_and_scales_do_not_decay),
        cmocka_unit_test_prestate(frozen_tensors_are_bitwise_unchanged, "far"),
        cmocka_unit_test_prestate(frozen_tensors_are_bitwise_unchanged, "cpu"),
        cmocka_unit_test(frozen_layerscales_are_folded),
        cmocka_unit_test(stochastic_depth_grows_with_the_blocks),
        cmocka_unit_test(random_values_are_timms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
