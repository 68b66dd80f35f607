/* SPDX-License-Identifier: Apache-2.0
 * The CUDA engine's graphs: what the builder refuses and how it says so, which steps pair,
 * and that the filters of engines exclude what they are for. With the real cuDNN, on a
 * description of a device. */
#include "../must.h"
#include "calls.h"
#include "dnn_nodes.h"
#include "dnn_plan.h"
#include "file.h"
#include "mem.h"
#include "prepare.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void says(const char *part)
{
    if (!strstr(thaw_error(), part))
        fail_msg("'%s' does not say '%s'", thaw_error(), part);
}

/* ---- calls ---- */

static struct th_operand nhwc(int64_t n, int64_t c, int64_t h, int64_t w)
{
    return (struct th_operand){.shape = TH_SHAPE(n, c, h, w),
        .dtype = TH_F32,
        .block = (int)c,
        .present = true};
}

static struct th_operand plain(struct th_shape s)
{
    return (struct th_operand){
        .shape = s, .dtype = TH_F32, .block = 1, .present = true};
}

static const union th_attr conv3x3 = {
    .conv = {.stride = {1, 1}, .dilation = {1, 1}, .pad = {1, 1, 1, 1}, .groups = 1}};

static struct th_call conv(int64_t c_of_w)
{
    struct th_call call = {.op = TH_OP_conv, .attr = conv3x3};
    call.in[0] = nhwc(2, 64, 14, 14);
    call.in[1] = plain(TH_SHAPE(32, c_of_w, 3, 3));
    call.out[0] = nhwc(2, 32, 14, 14);
    return call;
}

static struct th_call conv_dw(void)
{
    struct th_call call = {.op = TH_OP_conv_dw, .attr = conv3x3};
    call.in[0] = nhwc(32, 64, 56, 56);
    call.in[1] = nhwc(32, 64, 56, 56);
    call.out[0] = plain(TH_SHAPE(64, 64, 3, 3));
    return call;
}

static struct th_call attention_dx(int heads)
{
    struct th_call call = {.op = TH_OP_attention_dx, .attr.attention.heads = heads};
    call.in[0] = plain(TH_SHAPE(2, 50, 192));
    call.in[1] = plain(TH_SHAPE(2, 50, 576));
    call.in[2] = plain(TH_SHAPE(2, 50, 192));
    call.in[3] = plain(TH_SHAPE(2, 3, 50));
    call.out[0] = plain(TH_SHAPE(2, 50, 576));
    return call;
}

static thaw_status graph_of(const struct th_call *call, struct th_cudnn_graph **g)
{
    *g = NULL;
    return th_cuda_graph(
        &(struct th_cuda_group){.calls = {call}, .n = 1}, CUDNN_DATA_BFLOAT16, g);
}

static void refuses(const struct th_call *call, const char *part, const char *other)
{
    struct th_cudnn_graph *g;
    assert_int_equal(graph_of(call, &g), THAW_E_USAGE);
    assert_null(g);
    says(th_op_rule(call->op)->name);
    says(part);
    says(other);
}

static void calls_that_do_not_fit_are_refused_with_op_and_shapes(void **state)
{
    (void)state;
    struct th_call c = conv(32);
    refuses(&c, "[2,64,14,14]", "[32,32,3,3]");
    c = conv(64);
    c.attr.conv.stride[1] = 0;
    refuses(&c, "stride 0", "at least 1");
    c = conv(64);
    c.out[0] = nhwc(2, 32, 13, 14);
    refuses(&c, "[2,32,13,14]", "[2,32,14,14]");
    c = conv(64);
    c.in[0].block = 8;
    refuses(&c, "blocks of 8", "64");
    c = (struct th_call){.op = TH_OP_sgd};
    refuses(&c, "no cuDNN graph", "sgd");
    c = (struct th_call){.op = TH_OP_gelu, .attr.act.kind = TH_GELU_QUICK};
    c.in[0] = c.out[0] = plain(TH_SHAPE(2, 5, 8));
    refuses(&c, "quick", "no cuDNN graph");
}

static void gradients_that_do_not_fit_are_refused_by_the_builder(void **state)
{
    (void)state; /* gradient ops have no shape rule: the graph's own checks */
    struct th_call c = conv_dw();
    c.in[1] = nhwc(32, 64, 55, 56);
    refuses(&c, "x bf16[32,64,56,56]", "dy bf16[32,64,55,56]");
    c = conv_dw();
    c.out[0] = plain(TH_SHAPE(64, 63, 3, 3));
    refuses(&c, "dw bf16[64,63,3,3]", "channels of x / groups");
    c = attention_dx(3);
    c.in[3] = plain(TH_SHAPE(2, 3, 49));
    refuses(&c, "[2,3,49,1]", "each axis");
    c = (struct th_call){.op = TH_OP_linear_dx};
    c.in[0] = plain(TH_SHAPE(4, 7));
    c.in[1] = plain(TH_SHAPE(6, 5));
    c.out[0] = plain(TH_SHAPE(4, 5));
    refuses(&c, "dy bf16[1,4,7]", "w bf16[1,6,5]");
}

static void a_missing_operand_is_refused(void **state)
{
    (void)state;
    struct th_cudnn_graph *g;
    struct th_call c = conv_dw();
    c.in[0].present = false;
    assert_int_equal(graph_of(&c, &g), THAW_E_USAGE);
    says("conv_dw");
    says("missing");
    says("dy bf16[32,64,56,56]");
}

/* ---- the builder alone ---- */

static int real(
    struct th_cudnn_graph *g, const char *name, cudnnDataType_t type, int64_t c)
{
    return th_cudnn_tensor(g, &(struct th_cudnn_tensor){.name = name,
                                  .type = type,
                                  .rank = 4,
                                  .dim = {2, c, 5, 5},
                                  .stride = {25 * c, 1, 5 * c, c}});
}

static void what_cudnn_accepts_and_cannot_mean_is_refused(void **state)
{
    (void)state;
    const struct th_cudnn_window one = {
        .stride = {1, 1}, .dilation = {1, 1}, .groups = 1};
    struct th_cudnn_graph *g = th_cudnn_graph_new("mixed");
    int w = th_cudnn_tensor(g, &(struct th_cudnn_tensor){.name = "w",
                                   .type = CUDNN_DATA_HALF,
                                   .rank = 4,
                                   .dim = {8, 8, 1, 1},
                                   .stride = {8, 1, 8, 8}});
    int x = real(g, "x", CUDNN_DATA_BFLOAT16, 8);
    assert_int_equal(
        th_cudnn_conv(g, &one, x, w, real(g, "y", CUDNN_DATA_BFLOAT16, 8)), -1);
    says("w f16[8,8,1,1]");
    says("different types");
    /* sticky: nothing more is added, and the first sentence stays */
    int before = g->n_tensors;
    assert_int_equal(real(g, "z", CUDNN_DATA_FLOAT, 8), -1);
    assert_int_equal(g->n_tensors, before);
    assert_int_equal(th_cudnn_graph_check(g), THAW_E_USAGE);
    th_cudnn_graph_free(g);

    g = th_cudnn_graph_new("add");
    x = real(g, "x", CUDNN_DATA_FLOAT, 8);
    int b = real(g, "b", CUDNN_DATA_FLOAT, 4), y = real(g, "y", CUDNN_DATA_FLOAT, 8);
    assert_int_equal(th_cudnn_pointwise(g, CUDNN_POINTWISE_ADD, x, b, y), -1);
    says("b f32[2,4,5,5]");
    says("broadcast");
    th_cudnn_graph_free(g);

    g = th_cudnn_graph_new("nowhere");
    x = real(g, "x", CUDNN_DATA_FLOAT, 8);
    assert_true(th_cudnn_pointwise(g, CUDNN_POINTWISE_EXP, x, -1, -1) >= 0);
    assert_int_equal(th_cudnn_graph_check(g), THAW_E_USAGE);
    says("no output in memory");
    th_cudnn_graph_free(g);
}

static void every_op_has_one_row(void **state)
{
    (void)state;
    for (int i = 0; i < TH_OP_COUNT; i++) {
        const char *why;
        bool graph = th_cuda_has_graph((enum th_op)i, &why);
        if (graph == (why != NULL))
            fail_msg("%s: %s in lower.def", th_op_rule((enum th_op)i)->name,
                graph ? "two rows" : "no row");
    }
}

static void a_graph_s_text_tells_graphs_apart(void **state)
{
    (void)state;
    struct th_call a = conv(64), b = conv(64), c = conv(64);
    b.attr.conv.relu = true;
    c.attr.conv.pad[0] = 2; /* and one row less below: the same output */
    c.attr.conv.pad[2] = 0;
    struct th_cudnn_graph *g[4];
    char *text[4];
    must(graph_of(&a, &g[0]));
    must(graph_of(&b, &g[1]));
    must(graph_of(&c, &g[2]));
    must(graph_of(&a, &g[3]));
    for (int i = 0; i < 4; i++)
        text[i] = th_cudnn_graph_text(g[i]);
    assert_string_equal(text[0], text[3]);
    assert_string_not_equal(text[0], text[1]);
    assert_string_not_equal(text[0], text[2]);
    for (int i = 0; i < 4; i++) {
        th_free(text[i]);
        th_cudnn_graph_free(g[i]);
    }
}

/* ---- pairs ---- */

static struct th_pair_step step(const struct th_call *c, int in0, int in1, int out0)
{
    struct th_pair_step s = {.call = c};
    for (int k = 0; k < TH_MAX_IN; k++)
        s.in[k] = -1;
    for (int k = 0; k < TH_MAX_OUT; k++)
        s.out[k] = -1;
    s.in[0] = in0;
    s.in[1] = in1;
    s.out[0] = out0;
    return s;
}

static void a_pair_waits_for_nobody(void **state)
{
    (void)state;
    const struct th_call linear = {.op = TH_OP_linear}, gelu = {.op = TH_OP_gelu},
                         other = {.op = TH_OP_add}, dx = {.op = TH_OP_linear_dx},
                         gelu_dx = {.op = TH_OP_gelu_dx}, sgd = {.op = TH_OP_sgd};
    /* 2 = linear(0, 1); 3 = gelu(2): one graph, nothing kept */
    struct th_pair_step s[4] = {step(&linear, 0, 1, 2), step(&gelu, 2, -1, 3)};
    th_cuda_group_steps(s, 2);
    assert_int_equal(s[0].partner, 1);
    assert_false(s[0].keep);
    assert_false(s[0].early);
    struct th_cuda_group g;
    assert_true(th_cuda_group_of(s, 0, &g));
    assert_int_equal(g.n, 2);
    assert_false(th_cuda_group_of(s, 1, &g));

    /* read later, too: kept; read between: the pair has to run early */
    s[2] = step(&other, 2, 3, 4);
    th_cuda_group_steps(s, 3);
    assert_true(s[0].keep && !s[0].early);
    s[1] = step(&other, 2, 0, 4);
    s[2] = step(&gelu, 2, -1, 3);
    th_cuda_group_steps(s, 3);
    assert_int_equal(s[0].partner, 2);
    assert_true(s[0].keep && s[0].early);

    /* what the host reads is kept */
    s[1] = step(&gelu, 2, -1, 3);
    s[0].wanted = true;
    th_cuda_group_steps(s, 2);
    assert_true(s[0].keep);
    s[0].wanted = false;

    /* the sole reader: another one, and there is no pair */
    s[0] = step(&dx, 0, 1, 2);
    s[1] = step(&gelu_dx, 2, 5, 3);
    s[2] = step(&other, 3, 0, 4);
    th_cuda_group_steps(s, 3);
    assert_int_equal(s[0].partner, 1);
    s[2] = step(&other, 3, 2, 4);
    th_cuda_group_steps(s, 3);
    assert_int_equal(s[0].partner, -1);

    /* sgd writes w (1), which the first reads: early; but then x of gelu_dx, made between,
     * is not there yet: apart */
    s[0] = step(&dx, 0, 1, 2);
    s[1] = step(&sgd, 1, 7, -1);
    s[2] = step(&gelu_dx, 2, 5, 3);
    th_cuda_group_steps(s, 3);
    assert_true(s[0].partner == 2 && s[0].early);
    s[2] = step(&other, 0, 0, 5);
    s[3] = step(&gelu_dx, 2, 5, 3);
    th_cuda_group_steps(s, 4);
    assert_int_equal(s[0].partner, -1);
}

/* ---- whole plans ---- */

/* Kinds of graph of a plan whose label holds `part`, and not `but`. */
static int kinds(const struct distinct_list *l, const char *part, const char *but)
{
    int n = 0;
    for (int i = 0; i < l->n; i++)
        n += strstr(l->all[i].label, part) && !(but && strstr(l->all[i].label, but));
    return n;
}

static void plan_of(struct distinct_list *l, const char *variant, const char *thaw,
    const char *bn, enum th_mode mode)
{
    distinct_release(l);
    must(distinct_collect(l, &(struct plan_case){variant, thaw, bn, mode}, 4));
}

static void each_mode_builds_the_graphs_of_its_own(void **state)
{
    (void)state;
    struct distinct_list l = {0};
    plan_of(&l, "resnet18", "all", "train", TH_TRAIN);
    assert_true(kinds(&l, "bn_stats & bn_apply", NULL) > 0);
    assert_true(kinds(&l, "bn_reduce +mask & bn_dx_batch", NULL) > 0);
    assert_int_equal(kinds(&l, "bn_dx_running", NULL), 0);
    assert_int_equal(kinds(&l, "& bn_apply", "bn_stats"), 0);
    assert_false(l.own[TH_OP_bn_stats]);

    plan_of(&l, "resnet18", "all", "frozen", TH_TRAIN);
    assert_true(kinds(&l, "conv 3x3/1 & bn_apply +add +mask relu", NULL) > 0);
    assert_true(kinds(&l, "bn_dx_running", NULL) > 0);
    assert_int_equal(kinds(&l, "bn_stats", NULL), 0);

    plan_of(&l, "resnet18", "all", "stats-running", TH_TRAIN);
    assert_true(l.own[TH_OP_bn_stats]); /* after the fact, of x alone */
    assert_int_equal(kinds(&l, "bn_stats", NULL), 0);

    /* what is frozen is folded, and has no backward step */
    plan_of(&l, "resnet18", "head", "auto", TH_TRAIN);
    assert_true(kinds(&l, "conv 3x3/1 +b +add relu", NULL) > 0);
    assert_int_equal(kinds(&l, "conv_d", NULL) + kinds(&l, "bn_", NULL), 0);
    assert_int_equal(kinds(&l, "linear_dw", NULL), 1);

    plan_of(&l, "vit_small_patch16_224", "all", "auto", TH_TRAIN);
    assert_true(kinds(&l, "gelu (keeps x)", NULL) > 0); /* gelu_dx reads it */
    assert_int_equal(kinds(&l, "attention +lse", NULL), 1);
    assert_int_equal(kinds(&l, "attention_dx", NULL), 1);
    plan_of(&l, "vit_small_patch16_224", "none", "auto", TH_EVAL);
    assert_int_equal(kinds(&l, "keeps", NULL), 0);
    assert_int_equal(kinds(&l, "_d", NULL), 0);
    distinct_release(&l);
}

/* ---- the library ---- */

static struct th_cudnn_target h100;

static int describe(void **state)
{
    (void)state;
    unsigned char *json = NULL;
    size_t n = 0;
    must(th_file_read(
        THAW_SOURCE_DIR "/tests/plancheck/h100.json", 1U << 16, &json, &n));
    must(th_cudnn_described((const char *)json, n, &h100));
    th_free(json);
    return 0;
}

static int forget(void **state)
{
    (void)state;
    th_cudnn_forget(&h100);
    return 0;
}

static void a_device_that_is_no_device_is_refused(void **state)
{
    (void)state;
    struct th_cudnn_target t;
    assert_int_equal(th_cudnn_described("{\"deviceVer\":", 13, &t), THAW_E_FAIL);
    assert_null(t.description);
    says("cuDNN refuses its description");
}

static bool has(unsigned notes, int note)
{
    return notes >> note & 1;
}

/* Engines offered for the call in this type. */
static int offered(const struct th_call *call, cudnnDataType_t type,
    struct th_cudnn_engine *engines, int room, struct th_cudnn_graph **g)
{
    int n = 0;
    must(th_cuda_graph(&(struct th_cuda_group){.calls = {call}, .n = 1}, type, g));
    must(th_cudnn_engines(*g, &h100, engines, room, &n));
    return n;
}

static struct th_cudnn_engine chosen(
    const struct th_cudnn_graph *g, const struct th_cudnn_policy *policy)
{
    struct th_cudnn_plan *plan = NULL;
    must(th_cudnn_plan_new(g, &h100, policy, &plan));
    struct th_cudnn_engine e = *th_cudnn_plan_engine(plan);
    th_cudnn_plan_free(plan);
    return e;
}

static void strict_fp32_is_without_tensor_cores(void **state)
{
    (void)state;
    struct th_cudnn_engine engines[64];
    struct th_cudnn_graph *g;
    struct th_call c = conv(64);
    int n = offered(&c, CUDNN_DATA_FLOAT, engines, 64, &g), with = 0;
    for (int i = 0; i < n; i++)
        with += has(engines[i].numerical, CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
    assert_true(with > 0 && with < n); /* there is something to exclude, and to take */
    struct th_cudnn_engine free_choice = chosen(g, &(struct th_cudnn_policy){0});
    assert_true(has(free_choice.numerical, CUDNN_NUMERICAL_NOTE_TENSOR_CORE));
    struct th_cudnn_engine e = chosen(g, &(struct th_cudnn_policy){.strict = true});
    assert_false(has(e.numerical, CUDNN_NUMERICAL_NOTE_TENSOR_CORE));
    assert_false(has(e.numerical, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS));
    th_cudnn_graph_free(g);
}

static void deterministic_is_without_nondeterministic_engines(void **state)
{
    (void)state;
    const struct th_cudnn_policy policy = {.deterministic = true};
    struct th_cudnn_engine engines[64];
    struct th_cudnn_graph *g;
    struct th_call c = conv_dw();
    int n = offered(&c, CUDNN_DATA_FLOAT, engines, 64, &g), loose = 0;
    for (int i = 0; i < n; i++) {
        bool nd = has(engines[i].numerical, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
        loose += nd;
        assert_int_equal(th_cudnn_allowed(&policy, true, engines[i].numerical), !nd);
    }
    assert_true(loose > 0 && loose < n);
    struct th_cudnn_engine e = chosen(g, &policy);
    assert_false(has(e.numerical, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC));
    th_cudnn_graph_free(g);
}

static void notes_of_what_multiplies_nothing_do_not_count(void **state)
{
    (void)state;
    const struct th_cudnn_policy strict = {.strict = true};
    const unsigned tensor_core = 1U << CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
    assert_true(th_cudnn_allowed(&strict, false, tensor_core));
    assert_false(th_cudnn_allowed(&strict, true, tensor_core));
    assert_true(th_cudnn_allowed(&(struct th_cudnn_policy){0}, true, tensor_core));
}

static void what_the_library_refuses_is_said_in_its_words(void **state)
{
    (void)state;
    const struct th_call c = attention_dx(3); /* cuDNN's has fp16 and bf16 only */
    const struct th_cuda_group g = {.calls = {&c}, .n = 1};
    struct th_plan_cache none = {.folder = NULL};
    struct th_cuda_prepared p;
    must(th_cuda_prepare(
        &g, CUDNN_DATA_FLOAT, &h100, &(struct th_cudnn_policy){0}, &none, &p));
    assert_int_equal(p.way, TH_CUDA_NO_GRAPH);
    assert_non_null(strstr(p.reason, "attention_dx: cuDNN"));
    th_cuda_prepared_release(&p);
}

static void a_plan_runs_only_with_all_its_memory_and_a_device(void **state)
{
    (void)state;
    struct th_call c = conv(64);
    struct th_cudnn_graph *g;
    struct th_cudnn_plan *plan = NULL;
    must(graph_of(&c, &g));
    must(th_cudnn_plan_new(g, &h100, &(struct th_cudnn_policy){0}, &plan));
    static char memory[4096]; /* never looked at: there is no device */
    void *pointers[3] = {memory, memory + 1024, NULL};
    assert_int_equal(th_cudnn_plan_run(plan, NULL, pointers, 3, memory), THAW_E_FAIL);
    says("no memory for its tensor 2");
    pointers[2] = memory + 2048;
    assert_int_equal(th_cudnn_plan_run(plan, NULL, pointers, 3, memory), THAW_E_FAIL);
    says("refuses to run");
    th_cudnn_plan_free(plan);
    th_cudnn_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_that_do_not_fit_are_refused_with_op_and_shapes),
        cmocka_unit_test(gradients_that_do_not_fit_are_refused_by_the_builder),
        cmocka_unit_test(a_missing_operand_is_refused),
        cmocka_unit_test(what_cudnn_accepts_and_cannot_mean_is_refused),
        cmocka_unit_test(every_op_has_one_row),
        cmocka_unit_test(a_graph_s_text_tells_graphs_apart),
        cmocka_unit_test(a_pair_waits_for_nobody),
        cmocka_unit_test(each_mode_builds_the_graphs_of_its_own),
        cmocka_unit_test(a_device_that_is_no_device_is_refused),
        cmocka_unit_test(strict_fp32_is_without_tensor_cores),
        cmocka_unit_test(deterministic_is_without_nondeterministic_engines),
        cmocka_unit_test(notes_of_what_multiplies_nothing_do_not_count),
        cmocka_unit_test(what_the_library_refuses_is_said_in_its_words),
        cmocka_unit_test(a_plan_runs_only_with_all_its_memory_and_a_device),
    };
    return cmocka_run_group_tests(tests, describe, forget);
}
