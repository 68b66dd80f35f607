/* SPDX-License-Identifier: Apache-2.0
 * Own matrix products against sums in double, on every instruction set of this machine. */
#include "cpu/cpu.h"
#include "values.h"

struct sizes {
    int64_t m, n, k;
    bool a_across, b_across; /* in memory as [k][m], as [n][k] */
    bool bias;
};

/* Whole tiles and panels and what is left of them; parts of k, the last one smaller; strips. */
static const struct sizes cases[] = {{64, 64, 64, false, false, false},
    {67, 53, 37, false, true, true}, {131, 100, 77, true, false, false},
    {97, 33, 401, false, true, true}, {70, 48, 1201, true, false, false},
    {300, 17, 769, false, false, false}, {101, 65, 64, true, true, true},
    {72, 1100, 515, false, true, true}, {79, 600, 512, true, false, false}};

static const char *const devices[] = {"cpu:base", "cpu:avx2", "cpu:avx512"};

static struct th_matmul matmul_of(const struct sizes *s)
{
    return (struct th_matmul){.m = s->m,
        .n = s->n,
        .k = s->k,
        .a_row = s->a_across ? 1 : s->k,
        .a_k = s->a_across ? s->m : 1,
        .b_k = s->b_across ? 1 : s->n,
        .b_column = s->b_across ? s->k : 1};
}

/* c of a product with the first rows of a left out. */
static void multiply(struct th_device *device, const struct sizes *s, int64_t first,
    const float *a, const float *b, const float *bias, float *c)
{
    struct th_cpu *cpu = device->state;
    struct th_matmul p = matmul_of(s);
    p.m -= first;
    th_matmul_init(&p, cpu->isa->matmul, device->threads);
    struct value scratch = empty(TH_F32, TH_SHAPE(p.n_scratch));
    struct th_matmul_job job = {.isa = cpu->isa->matmul,
        .sizes = p,
        .args = {.a = a + first * p.a_row,
            .b = b,
            .bias = s->bias ? bias : NULL,
            .c = c,
            .scratch = scratch.data}};
    struct th_call call = {.device = device, .state = &job};
    for (int64_t i = 0; i < p.n_scratch; i++)
        ((float *)scratch.data)[i] = NAN; /* what is not written must not be read */
    th_matmul_run(&call, &job);
    release(&scratch, 1);
}

static void check_sums(const struct sizes *s, const float *a, const float *b,
    const float *bias, const float *c)
{
    struct th_matmul p = matmul_of(s);
    for (int64_t i = 0; i < s->m; i++)
        for (int64_t j = 0; j < s->n; j++) {
            double sum = s->bias ? (double)bias[j] : 0, size = fabs(sum);
            for (int64_t k = 0; k < s->k; k++) {
                double term = (double)a[i * p.a_row + k * p.a_k] *
                              (double)b[k * p.b_k + j * p.b_column];
                sum += term;
                size += fabs(term);
            }
            assert_true(fabs((double)c[i * s->n + j] - sum) <= 1e-6 * size);
        }
}

/* Sums are right; the same bits with any number of threads, and wherever a row lies. */
static void check(const char *name, const struct sizes *s)
{
    static const int threads[] = {1, 2, 3, 8};
    struct value v[5] = {normal(1, TH_SHAPE(s->m, s->k)),
        normal(2, TH_SHAPE(s->k, s->n)), normal(3, TH_SHAPE(s->n)),
        empty(TH_F32, TH_SHAPE(s->m, s->n)), empty(TH_F32, TH_SHAPE(s->m, s->n))};
    size_t bytes = sizeof(float) * (size_t)(s->m * s->n);
    for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
        struct th_device *device;
        assert_int_equal(th_device_open(name, threads[t], &device), THAW_OK);
        float *c = v[t ? 4 : 3].data;
        multiply(device, s, 0, v[0].data, v[1].data, v[2].data, c);
        if (t == 0)
            check_sums(s, v[0].data, v[1].data, v[2].data, c);
        assert_memory_equal(v[3].data, c, bytes);
        if (!s->a_across) {
            multiply(device, s, 5, v[0].data, v[1].data, v[2].data, v[4].data);
            size_t rest = sizeof(float) * (size_t)((s->m - 5) * s->n);
            assert_memory_equal((float *)v[3].data + 5 * s->n, v[4].data, rest);
        }
        th_device_close(device);
    }
    release(v, 5);
}

static void products_are_right_and_do_not_depend_on_threads(void **state)
{
    (void)state;
    for (size_t d = 0; d < sizeof devices / sizeof *devices; d++) {
        struct th_device *device = NULL;
        if (th_device_open(devices[d], 1, &device) != THAW_OK) {
            print_message("%s: not on this machine\n", devices[d]);
            continue;
        }
        th_device_close(device);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            check(devices[d], &cases[i]);
    }
}

static void small_products_are_left_to_others(void **state)
{
    (void)state;
    const struct th_matmul_isa *isa = &th_matmul_base;
    assert_true(th_matmul_can(&(struct th_matmul){.m = 64, .n = 64, .k = 64}, isa));
    assert_false(th_matmul_can(&(struct th_matmul){.m = 63, .n = 64, .k = 64}, isa));
    assert_false(th_matmul_can(&(struct th_matmul){.m = 64, .n = 2, .k = 64}, isa));
    assert_false(th_matmul_can(&(struct th_matmul){.m = 64, .n = 64, .k = 2}, isa));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_right_and_do_not_depend_on_threads),
        cmocka_unit_test(small_products_are_left_to_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
