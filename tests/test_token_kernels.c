/* SPDX-License-Identifier: Apache-2.0
 * The plain C kernels of Vision Transformers against values known from elsewhere. */
#include "values.h"

/* torch.nn.functional.gelu(x), with approximate="tanh", x*sigmoid(1.702*x); at 1 and -2. */
static void kinds_of_gelu_are_pytorchs(void **state)
{
    (void)state;
    static const float expected[3][2] = {{0.84134475f, -0.04550026f},
        {0.84119199f, -0.04540231f}, {0.84579577f, -0.06434138f}};
    struct value v[2] = {
        numbers(TH_SHAPE(2), (float[]){1, -2}), empty(TH_F32, TH_SHAPE(2))};
    for (int kind = TH_GELU_ERF; kind <= TH_GELU_QUICK; kind++) {
        union th_attr attr = {.act = {.kind = (enum th_gelu)kind}};
        run(TH_OP_gelu, &attr, (struct value *[]){&v[0], &v[1]});
        assert_numbers(&v[1], expected[kind]);
    }
    release(v, 2);
}

static void drop_path_keeps_or_drops_whole_samples(void **state)
{
    (void)state;
    enum { N = 2000, D = 3 };
    union th_attr attr = {.dropout = {.p = 0.25f, .layer = 9}};
    struct value v[3] = {empty(TH_F32, TH_SHAPE(N, D)), empty(TH_I32, TH_SHAPE(N, 2)),
        empty(TH_F32, TH_SHAPE(N, D))};
    for (uint64_t i = 0; i < N; i++) {
        uint64_t key = th_rng_mix(1, i);
        memcpy((char *)v[1].data + 8 * i, &key, sizeof key);
    }
    for (int64_t i = 0; i < N * D; i++)
        ((float *)v[0].data)[i] = 3;
    run(TH_OP_drop_path, &attr, (struct value *[]){&v[0], &v[1], &v[2]});
    int kept = 0;
    for (int64_t i = 0; i < N; i++) {
        float y = at(&v[2], i * D);
        assert_true(y == 0.0f || y == 4.0f);
        assert_true(at(&v[2], i * D + 1) == y && at(&v[2], i * D + 2) == y);
        kept += y != 0;
    }
    assert_in_range(kept, 1420, 1580); /* 1500, give or take 4 deviations of 19 */
    release(v, 3);
}

/* Class token, one more, then patches row by row; positions for all, or for patches. */
static void tokens_are_in_timms_order(void **state)
{
    (void)state;
    union th_attr attr = {.token = {.first = 1}};
    struct value v[6] = {numbers(TH_SHAPE(1, 2, 1, 2), (float[]){1, 2, 10, 20}),
        numbers(TH_SHAPE(1, 1, 2), (float[]){5, 50}),
        numbers(TH_SHAPE(1, 1, 2), (float[]){7, 70}),
        numbers(TH_SHAPE(1, 4, 2), (float[]){.1f, .2f, .3f, .4f, .5f, .6f, .7f, .8f}),
        numbers(TH_SHAPE(1, 2, 2), (float[]){.1f, .2f, .3f, .4f}),
        empty(TH_F32, TH_SHAPE(1, 4, 2))};
    run(TH_OP_tokens, &attr, (struct value *[]){&v[0], &v[1], &v[2], &v[3], &v[5]});
    assert_numbers(
        &v[5], (float[]){5.1f, 50.2f, 7.3f, 70.4f, 1.5f, 10.6f, 2.7f, 20.8f});
    run(TH_OP_tokens, &attr, (struct value *[]){&v[0], &v[1], &v[2], &v[4], &v[5]});
    assert_numbers(&v[5], (float[]){5, 50, 7, 70, 1.1f, 10.2f, 2.3f, 20.4f});
    release(v, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_of_gelu_are_pytorchs),
        cmocka_unit_test(drop_path_keeps_or_drops_whole_samples),
        cmocka_unit_test(tokens_are_in_timms_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
