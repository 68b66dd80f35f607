/* SPDX-License-Identifier: Apache-2.0
 * The plain C kernels against definitions written a second time, known values, and each
 * other: they are the referee of all other kernels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mem.h"
#include "rng.h"
#include "values.h"

#include <math.h>
#include <string.h>

/* One output of the convolution, straight from kernels/conv.c's head. */
static double conv_at(const struct th_attr_conv *t, const struct value *x,
    const struct value *w, const int64_t at_y[4])
{
    const int64_t *X = x->o.shape.dim, *W = w->o.shape.dim;
    double sum = 0;
    for (int64_t i = 0; i < W[1]; i++)
        for (int64_t r = 0; r < W[2]; r++)
            for (int64_t s = 0; s < W[3]; s++) {
                int64_t c = at_y[1] / (W[0] / t->groups) * W[1] + i;
                int64_t u = at_y[2] * t->stride[0] + r * t->dilation[0] - t->pad[0];
                int64_t v = at_y[3] * t->stride[1] + s * t->dilation[1] - t->pad[1];
                if (u < 0 || u >= X[2] || v < 0 || v >= X[3])
                    continue;
                double weight = at(w, ((at_y[1] * W[1] + i) * W[2] + r) * W[3] + s);
                sum += weight *
                       (double)at(x, ((at_y[0] * X[1] + c) * X[2] + u) * X[3] + v);
            }
    return sum;
}

static void conv_is_its_definition(void **state)
{
    (void)state;
    union th_attr attr = {
        .conv = {
            .stride = {2, 1}, .dilation = {1, 2}, .pad = {1, 0, 2, 3}, .groups = 2}};
    struct value v[5] = {normal(1, TH_SHAPE(2, 6, 7, 67)),
        normal(2, TH_SHAPE(4, 3, 3, 2)), normal(3, TH_SHAPE(4))};
    struct th_op_fn rule = *th_op_rule(TH_OP_conv)->fn;
    struct th_operand in[TH_MAX_IN] = {v[0].o, v[1].o, v[2].o}, out[TH_MAX_OUT] = {0};
    ok(rule.shape(&attr, in, out), "conv");
    struct th_shape expected = TH_SHAPE(2, 4, 4, 68);
    assert_true(th_shape_equal(&out[0].shape, &expected));
    assert_int_equal(rule.macs(&attr, in, out), 2 * 4 * 4 * 68 * 3 * 3 * 2);
    v[3] = empty(TH_F32, out[0].shape);
    v[4] = empty(TH_F32, out[0].shape);
    run(TH_OP_conv, &attr, (struct value *[]){&v[0], &v[1], &v[2], NULL, &v[3]});
    const int64_t *d = out[0].shape.dim;
    for (int64_t i = 0; i < count(&v[4]); i++) {
        int64_t place[4] = {i / (d[1] * d[2] * d[3]), i / (d[2] * d[3]) % d[1],
            i / d[3] % d[2], i % d[3]};
        ((float *)v[4].data)[i] = (float)(conv_at(&attr.conv, &v[0], &v[1], place) +
                                          (double)at(&v[2], place[1]));
    }
    assert_close(&v[3], &v[4]);
    release(v, 5);
}

static const union th_attr CONV_3X3 = {
    .conv = {.stride = {1, 1}, .dilation = {1, 1}, .pad = {1, 1, 1, 1}, .groups = 1}};

static void a_fused_conv_is_conv_then_add_then_relu(void **state)
{
    (void)state;
    struct th_shape s = TH_SHAPE(2, 5, 4, 3);
    struct value v[6] = {normal(1, s), normal(2, TH_SHAPE(5, 5, 3, 3)), normal(3, s),
        empty(TH_F32, s), empty(TH_F32, s), empty(TH_BIT, s)};
    union th_attr fused = CONV_3X3;
    fused.conv.relu = true;
    run(TH_OP_conv, &fused, (struct value *[]){&v[0], &v[1], NULL, &v[2], &v[3]});
    run(TH_OP_conv, &CONV_3X3, (struct value *[]){&v[0], &v[1], NULL, NULL, &v[4]});
    run(TH_OP_add, &CONV_3X3, (struct value *[]){&v[4], &v[2], &v[4]});
    run(TH_OP_relu, &CONV_3X3, (struct value *[]){&v[4], &v[4], &v[5]});
    assert_close(&v[3], &v[4]);
    release(v, 6);
}

static void a_folded_conv_is_conv_then_batchnorm(void **state)
{
    (void)state;
    struct th_shape s = TH_SHAPE(2, 4, 4, 3), w = TH_SHAPE(4, 4, 3, 3), c = TH_SHAPE(4);
    union th_attr norm = {.norm = {.eps = 1e-3f}};
    struct value v[11] = {normal(1, s), normal(2, w), normal(3, c), normal(4, c),
        normal(5, c), normal(6, c), above_zero(7, c), empty(TH_F32, w),
        empty(TH_F32, c), empty(TH_F32, s), empty(TH_F32, s)};
    struct value *gamma = &v[3], *beta = &v[4], *mean = &v[5], *var = &v[6];
    run(TH_OP_bn_fold, &norm,
        (struct value *[]){&v[1], &v[2], gamma, beta, mean, var, &v[7], &v[8]});
    run(TH_OP_conv, &CONV_3X3, (struct value *[]){&v[0], &v[7], &v[8], NULL, &v[9]});
    run(TH_OP_conv, &CONV_3X3, (struct value *[]){&v[0], &v[1], &v[2], NULL, &v[10]});
    run(TH_OP_bn_apply, &norm,
        (struct value *[]){&v[10], mean, var, gamma, beta, NULL, &v[10], NULL});
    assert_close(&v[9], &v[10]);
    release(v, 11);
}

static void batchnorm_has_mean_beta_and_deviation_gamma(void **state)
{
    (void)state;
    struct th_shape s = TH_SHAPE(1, 1, 2, 2), c = TH_SHAPE(1);
    union th_attr norm = {.norm = {.eps = 0.75f}};
    struct value v[6] = {numbers(s, (float[]){1, 2, 3, 4}), empty(TH_F32, c),
        empty(TH_F32, c), numbers(c, (float[]){2}), numbers(c, (float[]){10}),
        empty(TH_F32, s)};
    run(TH_OP_bn_stats, &norm, (struct value *[]){&v[0], &v[1], &v[2]});
    assert_numbers(&v[1], (float[]){2.5f});
    assert_numbers(&v[2], (float[]){1.25f});
    float r = 2 / sqrtf(2);
    run(TH_OP_bn_apply, &norm,
        (struct value *[]){&v[0], &v[1], &v[2], &v[3], &v[4], NULL, &v[5], NULL});
    assert_numbers(
        &v[5], (float[]){10 - 1.5f * r, 10 - 0.5f * r, 10 + 0.5f * r, 10 + 1.5f * r});
    release(v, 6);
}

/* relu fused into bn_apply, and its mask fused into the gradients. */
static void a_masked_gradient_is_the_gradient_of_the_masked(void **state)
{
    (void)state;
    struct th_shape s = TH_SHAPE(2, 3, 3, 3), c = TH_SHAPE(3);
    union th_attr norm = {.norm = {.eps = 1e-5f}}, fused = norm;
    struct value v[14] = {normal(1, s), normal(2, c), above_zero(3, c), normal(4, c),
        normal(5, c), normal(6, s), empty(TH_F32, s), empty(TH_BIT, s),
        empty(TH_F32, s), empty(TH_BIT, s), empty(TH_F32, c), empty(TH_F32, c),
        empty(TH_F32, c), empty(TH_F32, c)};
    struct value *x = &v[0], *mean = &v[1], *var = &v[2], *gamma = &v[3], *beta = &v[4];
    struct value *dy = &v[5], *mask = &v[7], *masked = &v[8];
    fused.norm.relu = true;
    run(TH_OP_bn_apply, &fused,
        (struct value *[]){x, mean, var, gamma, beta, dy, &v[6], mask});
    run(TH_OP_bn_apply, &norm,
        (struct value *[]){x, mean, var, gamma, beta, dy, &v[8], NULL});
    run(TH_OP_relu, &norm, (struct value *[]){&v[8], &v[8], &v[9]});
    assert_memory_equal(v[6].data, v[8].data, th_operand_bytes(&v[6].o));
    assert_memory_equal(mask->data, v[9].data, th_operand_bytes(&mask->o));
    run(TH_OP_relu_dx, &norm, (struct value *[]){dy, mask, NULL, masked});
    run(TH_OP_bn_reduce, &norm,
        (struct value *[]){dy, x, mean, var, mask, &v[10], &v[11]});
    run(TH_OP_bn_reduce, &norm,
        (struct value *[]){masked, x, mean, var, NULL, &v[12], &v[13]});
    assert_memory_equal(v[10].data, v[12].data, 12);
    assert_memory_equal(v[11].data, v[13].data, 12);
    struct value other = empty(TH_F32, s);
    run(TH_OP_bn_dx_batch, &norm,
        (struct value *[]){dy, x, mean, var, gamma, &v[10], &v[11], mask, &v[6]});
    run(TH_OP_bn_dx_batch, &norm,
        (struct value *[]){masked, x, mean, var, gamma, &v[10], &v[11], NULL, &other});
    assert_memory_equal(v[6].data, other.data, th_operand_bytes(&other.o));
    run(TH_OP_bn_dx_running, &norm, (struct value *[]){dy, var, gamma, mask, &v[6]});
    run(TH_OP_bn_dx_running, &norm,
        (struct value *[]){masked, var, gamma, NULL, &other});
    assert_close(&v[6], &other); /* but for the sign of 0 */
    release(&other, 1);
    release(v, 14);
}

static void bn_update_takes_the_unbiased_variance(void **state)
{
    (void)state;
    union th_attr norm = {.norm = {.momentum = 0.1f, .count = 5}};
    struct th_shape c = TH_SHAPE(1);
    struct value v[5] = {numbers(c, (float[]){2}), numbers(c, (float[]){4}),
        numbers(c, (float[]){1}), numbers(c, (float[]){3}), empty(TH_F32, TH_SHAPE(7))};
    run(TH_OP_bn_update, &norm, (struct value *[]){&v[0], &v[1], &v[2], &v[3], &v[4]});
    assert_numbers(&v[2], (float[]){1.1f});
    assert_numbers(&v[3], (float[]){3.2f});
    release(v, 5);
}

static void layernorm_of_known_values(void **state)
{
    (void)state;
    struct th_shape s = TH_SHAPE(2, 2), c = TH_SHAPE(2);
    union th_attr norm = {.norm = {.eps = 0}};
    struct value v[6] = {numbers(s, (float[]){1, 3, -5, 5}),
        numbers(c, (float[]){1, 2}), numbers(c, (float[]){0, 10}), empty(TH_F32, s),
        empty(TH_F32, c), empty(TH_F32, c)};
    run(TH_OP_layernorm, &norm,
        (struct value *[]){&v[0], &v[1], &v[2], &v[3], &v[4], &v[5]});
    assert_numbers(&v[3], (float[]){-1, 12, -1, 12});
    assert_numbers(&v[4], (float[]){2, 0});
    assert_numbers(&v[5], (float[]){1, 0.2f});
    release(v, 6);
}

/* timm's packing: channel (part*heads + head)*e + value of a token. */
static void attention_is_its_definition(void **state)
{
    (void)state;
    enum { N = 2, T = 3, HEADS = 2, E = 4, D = HEADS * E };
    union th_attr attr = {.attention = {.heads = HEADS}};
    struct value v[4] = {normal(1, TH_SHAPE(N, T, 3, HEADS, E)),
        empty(TH_F32, TH_SHAPE(N, T, D)), empty(TH_F32, TH_SHAPE(N, HEADS, T)),
        empty(TH_F32, TH_SHAPE(N, T, D))};
    v[0].o.shape = TH_SHAPE(N, T, 3 * D);
    run(TH_OP_attention, &attr, (struct value *[]){&v[0], &v[1], &v[2]});
#define QKV(part, token)                                                               \
    (double)at(&v[0], (((n * T + (token)) * 3 + (part)) * HEADS + h) * E + e)
    for (int n = 0; n < N; n++)
        for (int h = 0; h < HEADS; h++)
            for (int i = 0; i < T; i++) {
                double p[T] = {0}, sum = 0;
                for (int j = 0; j < T; j++) {
                    for (int e = 0; e < E; e++)
                        p[j] += QKV(0, i) * QKV(1, j);
                    p[j] = exp(p[j] / 2); /* sqrt(E) */
                    sum += p[j];
                }
                assert_true(
                    fabs(log(sum) - (double)at(&v[2], (n * HEADS + h) * T + i)) < 1e-6);
                for (int e = 0; e < E; e++) {
                    double y = 0;
                    for (int j = 0; j < T; j++)
                        y += p[j] / sum * QKV(2, j);
                    ((float *)v[3].data)[(n * T + i) * D + h * E + e] = (float)y;
                }
            }
#undef QKV
    assert_close(&v[1], &v[3]);
    release(v, 4);
}

static void losses_of_known_values(void **state)
{
    (void)state;
    union th_attr none = {0};
    struct th_shape s = TH_SHAPE(2, 3);
    struct value v[4] = {numbers(s, (float[]){1, 2, 3, 1000, 0, 0}),
        numbers(s, (float[]){0, 0, 1, 0, 2, 0}), empty(TH_F32, TH_SHAPE(1)),
        empty(TH_F32, s)};
    run(TH_OP_softmax_ce, &none, (struct value *[]){&v[0], &v[1], &v[2], &v[3]});
    assert_numbers(&v[2], (float[]){(0.40760596f + 2 * 1000) / 2});
    assert_numbers(&v[3], (float[]){0.090030573f, 0.24472847f, 0.66524096f, 1, 0, 0});
    release(v, 4);
}

static void activations_of_known_values(void **state)
{
    (void)state;
    union th_attr none = {0};
    struct th_shape s = TH_SHAPE(4);
    struct value v[3] = {
        numbers(s, (float[]){1, -2, 0, -INFINITY}), empty(TH_F32, s), empty(TH_BIT, s)};
    run(TH_OP_relu, &none, (struct value *[]){&v[0], &v[1], &v[2]});
    assert_numbers(&v[1], (float[]){1, 0, 0, 0});
    assert_int_equal(*(uint8_t *)v[2].data, 1);
    ((float *)v[0].data)[3] = NAN;
    run(TH_OP_relu, &none, (struct value *[]){&v[0], &v[1], &v[2]});
    assert_true(isnan(at(&v[1], 3)));
    ((float *)v[0].data)[3] = 10;
    run(TH_OP_gelu, &none, (struct value *[]){&v[0], &v[1]});
    assert_numbers(&v[1], (float[]){0.84134475f, -0.045500264f, 0, 10});
    release(v, 3);
}

static void pooling_of_known_values(void **state)
{
    (void)state;
    struct th_shape s = TH_SHAPE(1, 1, 3, 3), half = TH_SHAPE(1, 1, 2, 2);
    union th_attr attr = {
        .pool = {.kernel = {3, 3}, .stride = {2, 2}, .pad = {1, 1, 1, 1}}};
    struct value v[4] = {numbers(s, (float[]){-1, -1, -3, -2, -1, -3, -5, -6, -4}),
        empty(TH_F32, half), empty(TH_U8, half), empty(TH_F32, half)};
    run(TH_OP_maxpool, &attr, (struct value *[]){&v[0], &v[1], &v[2]});
    assert_numbers(&v[1], (float[]){-1, -1, -1, -1}); /* padding is never the largest */
    assert_memory_equal(v[2].data, ((uint8_t[]){4, 3, 2, 0}), 4); /* first of equals */
    run(TH_OP_avgpool, &attr, (struct value *[]){&v[0], &v[3]});
    assert_numbers(&v[3], (float[]){-5.f / 9, -8.f / 9, -14.f / 9, -14.f / 9});
    release(v, 4);
}

static void dropout_draws_by_sample_key_and_place(void **state)
{
    (void)state;
    enum { N = 2000 };
    union th_attr attr = {.dropout = {.p = 0.25f, .layer = 9}};
    struct value v[3] = {empty(TH_F32, TH_SHAPE(2, N)), empty(TH_I32, TH_SHAPE(2, 2)),
        empty(TH_F32, TH_SHAPE(2, N))};
    const uint64_t keys[2] = {0xfedcba9876543210, 5};
    memcpy(v[1].data, keys, sizeof keys); /* low word first */
    for (int64_t i = 0; i < 2 * N; i++)
        ((float *)v[0].data)[i] = 3;
    run(TH_OP_dropout, &attr, (struct value *[]){&v[0], &v[1], &v[2]});
    int kept = 0;
    for (uint64_t i = 0; i < 2 * N; i++) {
        float r = th_rng_uniform(th_rng_mix(keys[i / N], 9), i % N);
        float y = at(&v[2], (int64_t)i);
        assert_true(y == (r >= 0.25f ? 4.0f : 0.0f));
        kept += y != 0;
    }
    assert_in_range(kept, 2880, 3120); /* 3000, give or take 4 deviations of 27 */
    release(v, 3);
}

static struct value scalars_of(struct th_scalars s)
{
    struct value v = empty(TH_F32, TH_SHAPE((int64_t)(sizeof s / sizeof(float))));
    memcpy(v.data, &s, sizeof s);
    return v;
}

/* torch.optim.SGD(lr=0.1, momentum=0.9) by hand: buf 0.5, 0.95; nesterov: 0.95, 1.355. */
static void sgd_takes_pytorchs_steps(void **state)
{
    (void)state;
    union th_attr attr = {.update = {.lr_scale = 0.1f, .momentum = 0.9f}};
    struct th_shape s = TH_SHAPE(1);
    struct value v[4] = {numbers(s, (float[]){1}), numbers(s, (float[]){1}),
        empty(TH_F32, s), scalars_of((struct th_scalars){.lr = 1, .clip = 0.5f})};
    run(TH_OP_sgd, &attr, (struct value *[]){&v[0], &v[1], &v[2], NULL, &v[3]});
    assert_numbers(&v[0], (float[]){0.95f});
    run(TH_OP_sgd, &attr, (struct value *[]){&v[0], &v[1], &v[2], NULL, &v[3]});
    assert_numbers(&v[0], (float[]){0.855f});
    assert_numbers(&v[2], (float[]){0.95f});
    attr.update.nesterov = true;
    *(float *)v[0].data = 1;
    *(float *)v[2].data = 0;
    run(TH_OP_sgd, &attr, (struct value *[]){&v[0], &v[1], &v[2], NULL, &v[3]});
    assert_numbers(&v[0], (float[]){1 - 0.095f});
    attr.update = (struct th_attr_update){.lr_scale = 0.1f, .weight_decay = 0.2f};
    *(float *)v[0].data = 1;
    run(TH_OP_sgd, &attr, (struct value *[]){&v[0], &v[1], NULL, NULL, &v[3]});
    assert_numbers(&v[0], (float[]){1 - 0.1f * (0.5f + 0.2f)});
    release(v, 4);
}

/* With a constant gradient both bias-corrected moments are exact, so that every step is
 * p = p*(1 - lr*decay) - lr*g/(|g| + eps). */
static void adamw_corrects_its_bias_and_decays_apart(void **state)
{
    (void)state;
    union th_attr attr = {.update = {.lr_scale = 1,
                              .weight_decay = 0.5f,
                              .beta1 = 0.9f,
                              .beta2 = 0.999f,
                              .eps = 1}};
    struct th_shape s = TH_SHAPE(1);
    struct value v[6] = {numbers(s, (float[]){2}), numbers(s, (float[]){-3}),
        empty(TH_F32, s), empty(TH_F32, s), empty(TH_F32, s),
        scalars_of((struct th_scalars){.lr = 0.1f, .clip = 1})};
    float p = 2;
    for (int step = 1; step <= 3; step++) {
        run(TH_OP_adamw, &attr,
            (struct value *[]){&v[0], &v[1], &v[2], &v[3], &v[4], NULL, &v[5]});
        p = p * 0.95f + 0.1f * 3 / 4;
        assert_true(fabsf(at(&v[0], 0) - p) < 1e-5f); /* 1 - 0.999f keeps 4 digits */
        assert_true(at(&v[4], 0) == (float)step);
    }
    release(v, 6);
}

static void guard_skips_what_is_not_finite_and_clips(void **state)
{
    (void)state;
    union th_attr attr = {.update = {.clip = 2}};
    struct th_shape one = TH_SHAPE(1);
    struct value v[3] = {numbers(one, (float[]){1}), numbers(one, (float[]){16}),
        scalars_of((struct th_scalars){.lr = 3, .clip = 1, .n_skipped = 5})};
    struct th_scalars *s = v[2].data;
    struct value *all[] = {&v[0], &v[1], &v[2]}, *loss[] = {&v[0], NULL, &v[2]};
    run(TH_OP_guard, &attr, all);
    assert_true(s->skip == 0 && s->n_skipped == 5 && s->norm == 4 && s->lr == 3);
    assert_true(fabsf(s->clip - 0.5f) < 1e-6f);
    s->clip = 0.25f; /* of a group: 4 images, whose mean gradient has the norm 1 */
    run(TH_OP_guard, &attr, all);
    assert_true(s->clip == 0.25f && s->norm == 1);
    *(float *)v[1].data = 144; /* its norm is 3, the limit 2 */
    run(TH_OP_guard, &attr, all);
    assert_true(s->norm == 3 && fabsf(s->clip - 0.25f * 2 / 3) < 1e-6f);
    run(TH_OP_guard, &attr, loss);
    assert_true(s->skip == 0);
    *(float *)v[1].data = INFINITY;
    run(TH_OP_guard, &attr, (struct value *[]){NULL, &v[1], &v[2]});
    assert_true(s->skip == 1 && s->n_skipped == 6);
    run(TH_OP_guard, &attr, loss); /* a later batch of the group */
    assert_true(s->skip == 1 && s->n_skipped == 7);
    s->skip = 0;
    *(float *)v[0].data = NAN;
    run(TH_OP_guard, &attr, loss);
    assert_true(s->skip == 1 && s->n_skipped == 8);
    release(v, 3);
}

static void sums_and_averages_of_known_values(void **state)
{
    (void)state;
    union th_attr none = {0};
    struct th_shape two = TH_SHAPE(2), one = TH_SHAPE(1);
    struct value v[5] = {numbers(two, (float[]){3, 4}), numbers(one, (float[]){10}),
        empty(TH_F32, one), numbers(two, (float[]){1, 2}),
        scalars_of((struct th_scalars){.ema_decay = 0.75f})};
    run(TH_OP_sum_squares, &none, (struct value *[]){&v[0], &v[1], &v[2]});
    assert_numbers(&v[2], (float[]){35});
    struct th_scalars *s = v[4].data;
    run(TH_OP_accumulate, &none, (struct value *[]){&v[3], &v[0], &v[4]});
    assert_numbers(&v[3], (float[]){3, 4}); /* a group's first */
    s->gathered = 1;
    ((float *)v[3].data)[1] = 5;
    run(TH_OP_accumulate, &none, (struct value *[]){&v[3], &v[0], &v[4]});
    assert_numbers(&v[3], (float[]){6, 9});
    run(TH_OP_ema, &none, (struct value *[]){&v[3], &v[0], &v[4]});
    assert_numbers(&v[3], (float[]){5.25f, 7.75f});
    release(v, 5);
}

/* g = 0.5*1 + 0.2*(1 - 3) = 0.1; with momentum 0.5 of the step. AdamW's own: -0.1*0.2*(p - 3)
 * beside the step that a first gradient of 1 makes, lr * 1/(1 + eps). */
static void decay_goes_towards_the_start_and_momentum_may_be_the_steps(void **state)
{
    (void)state;
    union th_attr attr = {.update = {.lr_scale = 1,
                              .momentum = 0.9f,
                              .weight_decay = 0.2f,
                              .beta1 = 0.9f,
                              .beta2 = 0.999f,
                              .eps = 1}};
    struct th_shape s = TH_SHAPE(1);
    struct value v[7] = {numbers(s, (float[]){1}), numbers(s, (float[]){1}),
        numbers(s, (float[]){1}), numbers(s, (float[]){3}),
        scalars_of((struct th_scalars){.lr = 0.1f, .clip = 0.5f, .momentum = 0.5f}),
        empty(TH_F32, s), empty(TH_F32, s)};
    run(TH_OP_sgd, &attr, (struct value *[]){&v[0], &v[1], &v[2], &v[3], &v[4]});
    assert_numbers(&v[2], (float[]){0.6f});
    assert_numbers(&v[0], (float[]){0.94f});
    ((struct th_scalars *)v[4].data)->clip = 1;
    *(float *)v[0].data = 1;
    *(float *)v[2].data = 0;
    run(TH_OP_adamw, &attr,
        (struct value *[]){&v[0], &v[1], &v[2], &v[5], &v[6], &v[3], &v[4]});
    assert_numbers(&v[2], (float[]){0.5f}); /* beta1 0.5 */
    assert_true(fabsf(at(&v[0], 0) - (1 + 0.04f - 0.05f)) < 1e-5f);
    release(v, 7);
}

static void what_a_group_held_comes_back(void **state)
{
    (void)state;
    union th_attr none = {0};
    struct th_shape two = TH_SHAPE(2);
    struct value v[3] = {numbers(two, (float[]){1, 2}), empty(TH_F32, two),
        scalars_of((struct th_scalars){.skip = 0})};
    struct value *all[] = {&v[0], &v[1], &v[2]};
    struct th_scalars *s = v[2].data;
    run(TH_OP_hold, &none, all);
    assert_numbers(&v[1], (float[]){1, 2});
    s->gathered = 1;
    *(float *)v[0].data = 7;
    run(TH_OP_hold, &none, all);
    assert_numbers(&v[0], (float[]){7, 2});
    s->skip = 1;
    run(TH_OP_hold, &none, all);
    assert_numbers(&v[0], (float[]){1, 2});
    release(v, 3);
}

static void shortcut_a_takes_every_second_and_pads_channels(void **state)
{
    (void)state;
    union th_attr attr = {.shortcut = {.stride = 2, .front = 1, .back = 2}};
    struct value v[2] = {
        numbers(TH_SHAPE(1, 1, 3, 3), (float[]){1, 2, 3, 4, 5, 6, 7, 8, 9}),
        empty(TH_F32, TH_SHAPE(1, 4, 2, 2))};
    run(TH_OP_shortcut_a, &attr, (struct value *[]){&v[0], &v[1]});
    assert_numbers(&v[1], (float[]){0, 0, 0, 0, 1, 3, 7, 9, 0, 0, 0, 0, 0, 0, 0, 0});
    release(v, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv_is_its_definition),
        cmocka_unit_test(a_fused_conv_is_conv_then_add_then_relu),
        cmocka_unit_test(a_folded_conv_is_conv_then_batchnorm),
        cmocka_unit_test(batchnorm_has_mean_beta_and_deviation_gamma),
        cmocka_unit_test(a_masked_gradient_is_the_gradient_of_the_masked),
        cmocka_unit_test(bn_update_takes_the_unbiased_variance),
        cmocka_unit_test(layernorm_of_known_values),
        cmocka_unit_test(attention_is_its_definition),
        cmocka_unit_test(losses_of_known_values),
        cmocka_unit_test(activations_of_known_values),
        cmocka_unit_test(pooling_of_known_values),
        cmocka_unit_test(dropout_draws_by_sample_key_and_place),
        cmocka_unit_test(sgd_takes_pytorchs_steps),
        cmocka_unit_test(adamw_corrects_its_bias_and_decays_apart),
        cmocka_unit_test(guard_skips_what_is_not_finite_and_clips),
        cmocka_unit_test(decay_goes_towards_the_start_and_momentum_may_be_the_steps),
        cmocka_unit_test(what_a_group_held_comes_back),
        cmocka_unit_test(sums_and_averages_of_known_values),
        cmocka_unit_test(shortcut_a_takes_every_second_and_pads_channels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
