/* SPDX-License-Identifier: Apache-2.0
 * Kernels of ours that are no op of their own: packing, and the softmax of attention. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "balance.h"
#include "mem.h"
#include "params.h"
#include "rng.h"
#include "test_launch.h"

#include <math.h>
#include <string.h>

/* Runs a kernel in every order and grid; bytes of `out` are the same each time. */
static void launch_all(enum th_cuda_kernel k, struct th_cuda_grid grid, void *params,
    bool bf16, const float *in, float *out, int64_t n)
{
    float first[4096];
    assert_true(n <= 4096);
    for (int i = 0; i < 9; i++) {
        test_launch_how((struct test_how){
            .order = (uint64_t)i, .grid = i % TEST_GRIDS, .bf16 = bf16});
        memcpy(out, in, (size_t)n * sizeof *out); /* what is in place starts anew */
        assert_int_equal(th_cuda_launch(NULL, k, &grid, &params), THAW_OK);
        if (i == 0)
            memcpy(first, out, (size_t)n * sizeof *out);
        assert_memory_equal(first, out, (size_t)n * sizeof *out);
    }
}

static void fill_normal(float *v, int64_t n, uint64_t key)
{
    for (int64_t i = 0; i < n; i++) /* exact in bf16 */
        v[i] = 0.125F * roundf(8 * th_rng_normal(key, (uint64_t)i));
}

static struct th_cuda_grid blocks_of(unsigned x, unsigned y)
{
    return (struct th_cuda_grid){.blocks = {x, y, 1}, .threads = {256, 1, 1}};
}

void weights_are_packed_and_unpacked(void **state)
{
    (void)state;
    enum { O = 5, I = 7, P = 9, N = O * I * P };
    float *w = th_alloc(N, sizeof *w), *packed = th_alloc(N, sizeof *packed),
          *back = th_alloc(N, sizeof *back);
    fill_normal(w, N, 3);
    for (int form = 0; form < 2; form++) {
        test_launch_block(w, N * sizeof *w, true);
        test_launch_block(packed, N * sizeof *packed, true);
        test_launch_block(back, N * sizeof *back, true);
        struct th_k_pack p = {packed, w, O, I * P, I, P};
        launch_all(TH_K_pack_f32, blocks_of(1, O), &p, form == 1, w, packed, N);
        for (int i = 0; i < N; i++)
            assert_true(packed[i / (I * P) * I * P + i % P * I + i / P % I] == w[i]);
        struct th_k_pack u = {packed, back, O, I * P, I, P};
        launch_all(TH_K_unpack_f32, blocks_of(1, O), &u, form == 1, w, back, N);
        assert_memory_equal(back, w, N * sizeof *w);
        test_launch_forget();
    }
    th_free(w);
    th_free(packed);
    th_free(back);
}

/* Of rows of scores, and back: the formulas of kernels/ref/attention.c. */
static void check_softmax(int64_t heads, int64_t tokens, int64_t features)
{
    enum { SAMPLES = 2 };
    int64_t rows = SAMPLES * heads * tokens, n = rows * tokens, m = rows * features;
    float *s = th_alloc((size_t)n, 4), *p = th_alloc((size_t)n, 4),
          *lse = th_alloc((size_t)rows, 4), *dp = th_alloc((size_t)n, 4),
          *ds = th_alloc((size_t)n, 4), *dy = th_alloc((size_t)m, 4),
          *y = th_alloc((size_t)m, 4), *again = th_alloc((size_t)n, 4);
    float *const all[] = {s, p, lse, dp, ds, dy, y, again};
    const int64_t sizes[] = {n, n, rows, n, n, m, m, n};
    for (int i = 0; i < 8; i++) {
        fill_normal(all[i], sizes[i], (uint64_t)i);
        test_launch_block(all[i], (size_t)sizes[i] * 4, true);
    }
    for (int kept = 0; kept < 2; kept++) {
        struct th_k_softmax_rows f = {p, kept ? lse : NULL, rows, tokens};
        launch_all(TH_K_softmax_rows, blocks_of((unsigned)rows / 8 + 1, 1), &f, false,
            s, p, n);
    }
    struct th_k_softmax_rows_dx b = {
        again, ds, dy, y, lse, SAMPLES, heads, tokens, features, 0.25F};
    double error = 0, error_dx = 0;
    for (int64_t r = 0; r < rows;
         r++) { /* the scores are overwritten, too: row by row */
        double sum = 0, product = 0;
        int64_t t = r % tokens, h = r / tokens % heads, k = r / tokens / heads;
        int64_t at = ((k * tokens + t) * heads + h) * features;
        for (int64_t j = 0; j < tokens; j++)
            sum += exp((double)s[r * tokens + j]);
        for (int64_t c = 0; c < features; c++)
            product += (double)dy[at + c] * (double)y[at + c];
        error = fmax(error, fabs((double)lse[r] - log(sum)));
        for (int64_t j = r * tokens; j < (r + 1) * tokens; j++)
            error = fmax(error, fabs((double)p[j] - exp((double)s[j]) / sum));
        memcpy(again, s, (size_t)n * 4);
        if (r == 0)
            for (int i = 0; i < TEST_GRIDS; i++) {
                memcpy(again, s, (size_t)n * 4);
                memcpy(ds, dp, (size_t)n * 4);
                struct th_cuda_grid grid = blocks_of((unsigned)rows / 8 + 1, 1);
                test_launch_how((struct test_how){.order = (uint64_t)i, .grid = i});
                void *params = &b;
                assert_int_equal(
                    th_cuda_launch(NULL, TH_K_softmax_rows_dx, &grid, &params),
                    THAW_OK);
            }
        for (int64_t j = r * tokens; j < (r + 1) * tokens; j++) {
            double q = exp((double)s[j]) / sum;
            error_dx = fmax(
                error_dx, fabs((double)ds[j] - 0.25 * q * ((double)dp[j] - product)));
        }
    }
    assert_true(error < 2e-6);
    assert_true(error_dx < 4e-6);
    test_launch_forget();
    for (int i = 0; i < 8; i++)
        th_free(all[i]);
}

void the_softmax_of_attention_and_its_gradient(void **state)
{
    (void)state;
    check_softmax(3, 5, 8);
    check_softmax(1, 33, 7);
    check_softmax(2, 7, 264);
}

static uint64_t order_of_few(uint64_t key, int64_t row)
{
    return (uint64_t)row * key % 3;
}

/* 64 bits of chance that are the same for several rows, which no key makes: th_draw_ordered's
 * rule. Of the second image all are. */
void of_boxes_drawn_alike_the_lower_row_comes_first(void **state)
{
    (void)state;
    enum { IMAGES = 2, BOXES = 37, OBJECTS = 3, ROWS = BOXES + OBJECTS };
    enum { N = IMAGES * ROWS, COUNT = 16, POSITIVE = 5 };
    struct th_k_drawn row[N];
    float is[N / sizeof(float)], none[N / sizeof(float)] = {0};
    int32_t want[N];
    for (int i = 0; i < N; i++) {
        want[i] = i % 7 == 0 ? -2 : i % 4 == 0 ? i % 3 : -1;
        row[i] =
            (struct th_k_drawn){order_of_few(i < ROWS ? 5 : 0, i % ROWS), want[i], 0};
    }
    for (int k = 0; k < IMAGES; k++)
        th_draw_ordered(
            order_of_few, k ? 0 : 5, ROWS, want + k * ROWS, COUNT, POSITIVE);
    test_launch_block(row, sizeof row, true);
    test_launch_block(is, sizeof is, false);
    struct th_k_rois_draw p = {
        {.row = row, .images = IMAGES, .n_rois = BOXES, .n_box = OBJECTS},
        (uint8_t *)is, COUNT, POSITIVE};
    launch_all(
        TH_K_rois_draw, blocks_of(1, IMAGES), &p, false, none, is, N / sizeof *is);
    for (int i = 0; i < N; i++)
        assert_int_equal(((const uint8_t *)is)[i], want[i] != -2);
    test_launch_forget();
}
