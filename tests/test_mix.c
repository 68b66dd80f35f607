/* SPDX-License-Identifier: Apache-2.0
 * Mixup and CutMix: boxes and pairs against timm's (golden/mix.py), lambda against the
 * Beta distribution, and that a mixed batch is the combination it says it is. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "golden/mix.h"
#include "metrics.h"
#include "mix.h"
#include "rng.h"

enum { GOLDEN_SIZE = 5, GOLDEN_CLASSES = 4 };

static void assert_near(double is, double want, double tolerance)
{
    if (!(fabs(is - want) <= tolerance))
        fail_msg("%.17g, not %.17g", is, want);
}

static void boxes_and_the_share_left_are_timms(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof golden_box / sizeof golden_box[0]; i++) {
        struct th_mix_draw d = {.lambda = golden_box[i].lambda};
        const int n = golden_box[i].size;
        th_mix_box(&d, golden_box[i].x, golden_box[i].y, (struct th_size){n, n});
        assert_int_equal(d.left, golden_box[i].left);
        assert_int_equal(d.top, golden_box[i].top);
        assert_int_equal(d.right, golden_box[i].right);
        assert_int_equal(d.bottom, golden_box[i].bottom);
        assert_near(d.lambda, golden_box[i].kept, 1e-15);
    }
}

/* Images to the bit; targets to a rounding, since timm smooths in another order. */
static void check_pair(const struct mixed *want, struct th_mix_draw d)
{
    float in[2 * 3 * GOLDEN_SIZE * GOLDEN_SIZE], out[sizeof in / sizeof *in];
    float smooth[2 * GOLDEN_CLASSES], target[2 * GOLDEN_CLASSES];
    static const int32_t labels[2] = {2, 0};
    for (int i = 0; i < (int)(sizeof in / sizeof *in); i++)
        in[i] = (float)(i * 37 % 101) / 10 - 5;
    th_targets(labels, 2, GOLDEN_CLASSES, want->smoothing, smooth);
    th_mix_images(&d, 2, (struct th_size){GOLDEN_SIZE, GOLDEN_SIZE}, in, out);
    th_mix_targets(&d, 2, GOLDEN_CLASSES, smooth, target);
    assert_memory_equal(out, want->images, sizeof out);
    for (int i = 0; i < 2 * GOLDEN_CLASSES; i++)
        assert_near((double)target[i], (double)want->target[i], 2e-7);
}

static void mixed_pairs_are_timms(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof golden_mixup / sizeof golden_mixup[0]; i++) {
        struct th_mix_draw d = {.partner = 1, .lambda = golden_mixup[i].lambda};
        check_pair(&golden_mixup[i], d);
        d = (struct th_mix_draw){
            .partner = 1, .cuts = true, .lambda = golden_cutmix[i].lambda};
        th_mix_box(&d, 3, 1, (struct th_size){GOLDEN_SIZE, GOLDEN_SIZE});
        check_pair(&golden_cutmix[i], d);
    }
}

/* ---- The Beta distribution ---- */

enum { DRAWS = 20000 };

/* Kolmogorov and Smirnov's bound at 1 in 1000: 1.95 / sqrt(n), at SciPy's quantiles; mean
 * 1/2 and variance 1 / (4 (2a + 1)) within 4 deviations of their estimates. */
static void lambda_is_beta_distributed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof golden_beta / sizeof golden_beta[0]; i++) {
        double a = golden_beta[i].a, sum = 0, squares = 0, n = DRAWS;
        int below[19] = {0};
        for (uint64_t k = 0; k < DRAWS; k++) {
            double x = th_rng_beta(th_rng_mix(11, k), a, a);
            assert_true(x >= 0 && x <= 1);
            sum += x;
            squares += (x - 0.5) * (x - 0.5);
            for (int q = 0; q < 19; q++)
                below[q] += x <= golden_beta[i].quantile[q];
        }
        for (int q = 0; q < 19; q++)
            assert_near(below[q] / n, (q + 1) / 20.0, 1.95 / sqrt(n));
        double variance = 1 / (4 * (2 * a + 1));
        assert_near(sum / n, 0.5, 4 * sqrt(variance / n));
        assert_near(squares / n, variance, 4 * variance * sqrt(2 / n));
    }
}

/* Unequal shapes, and shapes so small that only logarithms hold the gammas. */
static void beta_numbers_have_their_mean_for_any_shapes(void **state)
{
    (void)state;
    static const double shapes[][2] = {{2, 5}, {0.3, 1.7}, {1e-3, 3e-3}, {40, 1}};
    for (int i = 0; i < 4; i++) {
        double a = shapes[i][0], b = shapes[i][1], sum = 0;
        double variance = a * b / ((a + b) * (a + b) * (a + b + 1));
        for (uint64_t k = 0; k < DRAWS; k++)
            sum += th_rng_beta(th_rng_mix(12, k), a, b);
        assert_near(sum / DRAWS, a / (a + b), 4 * sqrt(variance / DRAWS));
    }
    double tiny = th_rng_beta(13, 1e-320, 1e-320);
    assert_true(tiny >= 0 && tiny <= 1);
}

/* ---- Batches ---- */

enum { N = 6, W = 7, H = 5, CLASSES = 3, PIXELS = 3 * W * H };
static const struct th_size INPUT = {W, H};

static void fill_batch(float *images, float *target)
{
    for (int i = 0; i < N * PIXELS; i++)
        images[i] = th_rng_uniform(5, (uint64_t)i) - 0.5F;
    for (int i = 0; i < N * CLASSES; i++)
        target[i] = th_rng_uniform(6, (uint64_t)i);
}

static bool in_box(const struct th_mix_draw *d, int pixel)
{
    int x = pixel % W, y = pixel / W % H;
    return x >= d->left && x < d->right && y >= d->top && y < d->bottom;
}

/* Every value of image and target, from the formulas in double. */
static void a_mixed_batch_is_the_stated_combination(void **state)
{
    (void)state;
    static const struct th_mix ways[] = {{0.4, 0}, {0, 1}, {0.8, 1}};
    static float images[N * PIXELS], target[N * CLASSES];
    int cuts = 0;
    fill_batch(images, target);
    for (int way = 0; way < 3; way++) {
        struct th_mixer m;
        assert_int_equal(th_mixer_init(&m, &ways[way], N, INPUT, CLASSES), THAW_OK);
        for (uint64_t key = 0; key < 60; key++) {
            struct th_mix_draw d = th_mix_draw(&ways[way], key, N, INPUT);
            const float *x = images, *y = target;
            th_mixer_apply(&m, key, N, &x, &y);
            assert_true(x == m.images && y == m.target);
            assert_in_range(d.partner, 1, N - 1);
            cuts += way == 2 && d.cuts;
            assert_true(way == 2 || d.cuts == (way == 1));
            for (int i = 0; i < N * PIXELS; i++) {
                int other = (i + (int)d.partner * PIXELS) % (N * PIXELS);
                double a = (double)images[i], b = (double)images[other];
                double want = !d.cuts ? d.lambda * a + (1 - d.lambda) * b
                              : in_box(&d, i % PIXELS) ? b
                                                       : a;
                assert_near((double)x[i], want, d.cuts ? 0 : 1e-7);
            }
            for (int i = 0; i < N * CLASSES; i++) {
                int other = (i + (int)d.partner * CLASSES) % (N * CLASSES);
                assert_near((double)y[i],
                    d.lambda * (double)target[i] +
                        (1 - d.lambda) * (double)target[other],
                    1e-7);
            }
        }
        th_mixer_release(&m);
    }
    assert_in_range(cuts, 12, 48); /* 30 of 60, 4.6 deviations */
}

/* The mean of a batch's images and of its targets stays: no weight is won or lost. */
static void mixing_keeps_the_sum_of_the_targets(void **state)
{
    (void)state;
    const struct th_mix mix = {1, 1};
    static float images[N * PIXELS], target[N * CLASSES], mixed[N * CLASSES];
    fill_batch(images, target);
    for (uint64_t key = 0; key < 40; key++) {
        struct th_mix_draw d = th_mix_draw(&mix, key, N, INPUT);
        double before = 0, after = 0;
        th_mix_targets(&d, N, CLASSES, target, mixed);
        for (int i = 0; i < N * CLASSES; i++) {
            before += (double)target[i];
            after += (double)mixed[i];
        }
        assert_near(before, after, 1e-5);
    }
}

static void one_image_and_no_mixing_leave_a_batch_where_it_is(void **state)
{
    (void)state;
    const struct th_mix both = {1, 1}, none = {0, 0};
    static float images[N * PIXELS], target[N * CLASSES];
    struct th_mixer m;
    const float *x = images, *y = target;
    assert_int_equal(th_mixer_init(&m, &both, N, INPUT, CLASSES), THAW_OK);
    th_mixer_apply(&m, 1, 1, &x, &y);
    assert_true(x == images && y == target);
    th_mixer_release(&m);
    assert_int_equal(th_mixer_init(&m, &none, N, INPUT, CLASSES), THAW_OK);
    assert_null(m.images);
    th_mixer_apply(&m, 1, N, &x, &y);
    assert_true(x == images && y == target);
    th_mixer_release(&m);
}

/* Each partner, and each pixel as a centre's neighbourhood, is met. */
static void partners_and_places_are_drawn_evenly(void **state)
{
    (void)state;
    const struct th_mix cut = {0, 1};
    int partner[N] = {0}, covered[W * H] = {0};
    for (uint64_t key = 0; key < 2000; key++) {
        struct th_mix_draw d = th_mix_draw(&cut, key, N, INPUT);
        partner[d.partner]++;
        for (int p = 0; p < W * H; p++)
            covered[p] += in_box(&d, p);
    }
    assert_int_equal(partner[0], 0);
    for (int i = 1; i < N; i++)
        assert_in_range(partner[i], 310, 490); /* 400, 5 deviations */
    for (int p = 0; p < W * H; p++)
        assert_in_range(covered[p], 150, 1500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(boxes_and_the_share_left_are_timms),
        cmocka_unit_test(mixed_pairs_are_timms),
        cmocka_unit_test(lambda_is_beta_distributed),
        cmocka_unit_test(beta_numbers_have_their_mean_for_any_shapes),
        cmocka_unit_test(a_mixed_batch_is_the_stated_combination),
        cmocka_unit_test(mixing_keeps_the_sum_of_the_targets),
        cmocka_unit_test(one_image_and_no_mixing_leave_a_batch_where_it_is),
        cmocka_unit_test(partners_and_places_are_drawn_evenly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
