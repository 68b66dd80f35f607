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

/* linear_dw and bias_grad of one dy, as a plan has them. */
struct both {
    struct value v[4]; /* x, dy, dw, db */
    struct th_call calls[2];
};

static struct both both_of(struct th_device *device, int64_t rows, int64_t o, int64_t i)
{
    struct both b = {.v = {normal(1, TH_SHAPE(rows, i)), normal(2, TH_SHAPE(rows, o)),
                         empty(TH_F32, TH_SHAPE(o, i)), empty(TH_F32, TH_SHAPE(o))}};
    b.calls[0] = (struct th_call){.op = TH_OP_linear_dw,
        .device = device,
        .in = {b.v[0].o, b.v[1].o},
        .out = {b.v[2].o},
        .args = {b.v[0].data, b.v[1].data, b.v[2].data}};
    b.calls[1] = (struct th_call){.op = TH_OP_bias_grad,
        .device = device,
        .in = {b.v[1].o},
        .out = {b.v[3].o},
        .args = {b.v[1].data, b.v[3].data}};
    return b;
}

static void run_pair(struct both *b)
{
    const struct th_kernel *kernel = b->calls[0].device->backend->pair_kernel;
    struct th_call *call = &b->calls[0];
    call->second = &b->calls[1];
    assert_int_equal(kernel->prepare(call), THAW_OK);
    assert_non_null(call->second);
    struct value scratch =
        empty(TH_F32, TH_SHAPE((int64_t)(call->scratch_bytes / sizeof(float))));
    for (int64_t i = 0; i < count(&scratch); i++)
        ((float *)scratch.data)[i] = NAN;
    call->scratch = scratch.data;
    assert_int_equal(kernel->run(call), THAW_OK);
    kernel->release(call);
    release(&scratch, 1);
}

/* Sums by columns of dy; the same bits with any number of threads. */
static void check_pair(int64_t rows, int64_t o, int64_t i)
{
    static const int threads[] = {1, 2, 3, 8};
    float *first = th_alloc((size_t)o, sizeof *first);
    assert_non_null(first);
    for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
        struct th_device *device;
        assert_int_equal(th_device_open("cpu:avx512", threads[t], &device), THAW_OK);
        struct both b = both_of(device, rows, o, i);
        run_pair(&b);
        for (int64_t c = 0; t == 0 && c < o; c++) {
            double sum = 0, size = 0;
            for (int64_t r = 0; r < rows; r++) {
                sum += (double)at(&b.v[1], r * o + c);
                size += fabs((double)at(&b.v[1], r * o + c));
            }
            assert_true(fabs((double)at(&b.v[3], c) - sum) <= 1e-7 * size);
        }
        if (t == 0)
            memcpy(first, b.v[3].data, sizeof *first * (size_t)o);
        assert_memory_equal(first, b.v[3].data, sizeof *first * (size_t)o);
        release(b.v, 4);
        th_device_close(device);
    }
    th_free(first);
}

static void a_bias_is_summed_while_dy_is_copied(void **state)
{
    (void)state;
    struct th_device *device = NULL;
    if (th_device_open("cpu:avx512", 1, &device) != THAW_OK)
        skip();
    th_device_close(device);
    check_pair(1201, 70, 100);
    check_pair(83, 257, 33);
    check_pair(515, 64, 1100);
}

/* Which steps are a pair: those of one dy, wherever the second stands. */
static void dw_and_bias_grad_of_one_dy_are_a_pair(void **state)
{
    (void)state;
    struct th_device *device;
    assert_int_equal(th_device_open("cpu", 1, &device), THAW_OK);
    struct both b = both_of(device, 8, 8, 8);
    struct th_pair_step steps[3] = {
        {.call = &b.calls[0], .in = {0, 1}, .out = {2}, .partner = -1},
        {.call = &b.calls[1], .in = {3}, .out = {4}, .partner = -1},
        {.call = &b.calls[1], .in = {1}, .out = {5}, .partner = -1}};
    device->backend->pair(steps, 3);
    assert_int_equal(steps[0].partner, 2);
    assert_int_equal(steps[2].partner, 0);
    assert_true(steps[2].second && steps[0].early && steps[2].early);
    assert_int_equal(steps[1].partner, -1);
    b.calls[0].second = &b.calls[1]; /* too small: they run apart */
    assert_int_equal(device->backend->pair_kernel->prepare(&b.calls[0]), THAW_OK);
    assert_null(b.calls[0].second);
    release(b.v, 4);
    th_device_close(device);
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
        cmocka_unit_test(a_bias_is_summed_while_dy_is_copied),
        cmocka_unit_test(dw_and_bias_grad_of_one_dy_are_a_pair),
        cmocka_unit_test(small_products_are_left_to_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
