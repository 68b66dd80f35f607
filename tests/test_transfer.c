/* SPDX-License-Identifier: Apache-2.0
 * Scores of transferability against NumPy, SciPy and scikit-learn (golden/score.h), and the
 * eigenvalues below them against what has to hold of any. */
#include "golden/score.h"

#include "linear_probe.h"
#include "mem.h"
#include "rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { N_CASES = sizeof golden_cases / sizeof golden_cases[0] };

static const double TOLERANCE = 1e-9; /* all in double; the golden has 12 digits */

static void near(const char *of, const char *what, double got, double want, double by)
{
    if (!(fabs(got - want) <= by * fmax(1, fabs(want))))
        fail_msg("%s: %s is %.12g, not %.12g", of, what, got, want);
}

static struct th_labelled open_case(const struct golden_case *g)
{
    struct th_labelled x = {.n = g->n,
        .values = g->values,
        .label = g->y,
        .n_classes = g->classes,
        .threads = 2};
    size_t bytes = (size_t)(g->n * g->values) * sizeof *x.x;
    int64_t *count = th_alloc((size_t)g->classes, sizeof *count);
    x.x = th_alloc(bytes, 1);
    assert_non_null(x.x);
    assert_non_null(count);
    memcpy(x.x, g->x, bytes);
    for (int i = 0; i < g->n; i++)
        count[g->y[i]]++;
    x.count = count;
    return x;
}

static void close_case(struct th_labelled *x)
{
    th_free(x->x);
    th_free((void *)x->count);
}

static void centre(struct th_labelled *x)
{
    for (int64_t j = 0; j < x->values; j++) {
        double mean = 0;
        for (int64_t i = 0; i < x->n; i++)
            mean += x->x[i * x->values + j] / (double)x->n;
        for (int64_t i = 0; i < x->n; i++)
            x->x[i * x->values + j] -= mean;
    }
}

static void open_spectrum(const struct th_labelled *x, struct th_spectrum *s)
{
    assert_int_equal(
        th_spectrum_init(s, x->x, x->n, x->values, x->label, x->n_classes, x->threads),
        THAW_OK);
}

static void logme_is_the_evidence_of_the_determinant(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        const struct golden_case *g = &golden_cases[i];
        struct th_labelled x = open_case(g);
        struct th_spectrum s;
        open_spectrum(&x, &s);
        assert_int_equal(s.rank, g->rank);
        near(g->name, "LogME", th_logme(&s, x.count), g->logme, TOLERANCE);
        th_spectrum_release(&s);
        close_case(&x);
    }
}

static void h_scores_are_traces_of_covariances(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        const struct golden_case *g = &golden_cases[i];
        struct th_labelled x = open_case(g);
        struct th_spectrum s;
        centre(&x);
        open_spectrum(&x, &s);
        assert_int_equal(s.rank, g->centred_rank);
        near(g->name, "H", th_h_score(&s, x.count), g->h, TOLERANCE);
        near(g->name, "H shrunk", th_h_score_shrunk(&s, &x), g->h_shrunk, TOLERANCE);
        th_spectrum_release(&s);
        close_case(&x);
    }
}

static void leep_and_neighbours_equal_numpys(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        const struct golden_case *g = &golden_cases[i];
        struct th_labelled x = open_case(g);
        double leep, knn;
        assert_int_equal(th_leep(&x, g->p, GOLDEN_SOURCE, &leep), THAW_OK);
        near(g->name, "LEEP", leep, g->leep, TOLERANCE);
        assert_int_equal(th_nearest_accuracy(&x, GOLDEN_NEIGHBOURS, &knn), THAW_OK);
        near(g->name, "neighbours", knn, g->knn, TOLERANCE);
        close_case(&x);
    }
}

/* A source class that nobody is gives 0/0, and a label that no answer speaks for log 0. */
static void leep_of_what_never_occurs_is_finite(void **state)
{
    static const float p[] = {1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0};
    static const int32_t label[] = {0, 0, 1, 1};
    static const int64_t count[] = {2, 2};
    const struct th_labelled x = {
        .n = 4, .label = label, .n_classes = 2, .count = count};
    double leep;
    (void)state;
    assert_int_equal(th_leep(&x, p, 3, &leep), THAW_OK);
    near("perfect", "LEEP", leep, 0, TOLERANCE);
}

static void the_fit_reaches_scipys_minimum(void **state)
{
    static const double l2[] = {0.1, 0.01};
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        const struct golden_case *g = &golden_cases[i];
        struct th_labelled x = open_case(g);
        struct th_linear_probe probe;
        bool use[64];
        double w[512] = {0}, loss;
        memset(use, true, sizeof use);
        assert_int_equal(th_linear_probe(&x, &probe), THAW_OK); /* standardises x */
        if (g->probe >= 0) {
            near(g->name, "probe", probe.accuracy, g->probe, TOLERANCE);
            near(g->name, "error", probe.error * probe.error * g->n,
                g->probe * (1 - g->probe), TOLERANCE);
        }
        for (int k = 0; k < 2; k++) {
            assert_int_equal(th_logistic_fit(&x, use, l2[k], w, &loss), THAW_OK);
            near(g->name, "loss", loss, g->loss[k], 1e-6);
        }
        close_case(&x);
    }
}

/* sum_k lambda_k^p (v_k' b)^2 = b' a^p b for p = 0 ... 3. */
static void check_eigen(const double *a, int n)
{
    double copy[32 * 32], b[32], value[32], power[32], next[32];
    memcpy(copy, a, (size_t)(n * n) * sizeof *a);
    for (int i = 0; i < n; i++)
        power[i] = b[i] = 1 + i % 3;
    assert_int_equal(th_symmetric_eigen(copy, n, value, b, 1, 2), THAW_OK);
    for (int p = 0; p < 4; p++) {
        double left = 0, right = 0, size = 1;
        for (int k = 0; k < n; k++) {
            left += pow(value[k], p) * b[k] * b[k];
            right += (1 + k % 3) * power[k];
            size = fmax(size, pow(fabs(value[k]), p) * n * n);
            assert_true(k == 0 || value[k] <= value[k - 1]);
        }
        near("eigen", "a moment", left / size, right / size, 1e-13);
        for (int i = 0; i < n; i++) {
            next[i] = 0;
            for (int j = 0; j < n; j++)
                next[i] += a[i * n + j] * power[j];
        }
        memcpy(power, next, sizeof next);
    }
}

static void eigenvalues_have_the_moments_of_the_matrix(void **state)
{
    static const int sizes[] = {1, 2, 3, 5, 17, 32};
    double a[32 * 32];
    (void)state;
    for (int s = 0; s < 6; s++)
        for (int kind = 0; kind < 5; kind++) {
            int n = sizes[s];
            for (int i = 0; i < n; i++)
                for (int j = 0; j <= i; j++) {
                    double r = (double)th_rng_normal(7, (uint64_t)(i * 32 + j));
                    double v[] = {r, i == j, 0, i == j ? i % 2 : 0, /* twofold */
                        r * pow(10, -(i + j) / 3.0)};               /* graded */
                    a[i * n + j] = a[j * n + i] = v[kind];
                }
            check_eigen(a, n);
        }
}

static void threads_do_not_change_a_bit(void **state)
{
    enum { N = 410, VALUES = 370, CLASSES = 3 };
    struct th_spectrum s[2];
    struct th_linear_probe probe[2];
    double knn[2];
    int32_t label[N];
    int64_t count[CLASSES] = {0};
    (void)state;
    for (int i = 0; i < N; i++)
        count[label[i] = i % CLASSES]++;
    for (int k = 0; k < 2; k++) {
        struct th_labelled x = {N, VALUES, NULL, label, CLASSES, count, k ? 3 : 1};
        x.x = th_alloc((size_t)N * VALUES, sizeof *x.x);
        assert_non_null(x.x);
        for (int i = 0; i < N * VALUES; i++)
            x.x[i] = (double)th_rng_normal(3, (uint64_t)i) +
                     (i % VALUES % CLASSES == label[i / VALUES] ? 0.3 : 0);
        open_spectrum(&x, &s[k]);
        assert_int_equal(th_nearest_accuracy(&x, 5, &knn[k]), THAW_OK);
        assert_int_equal(th_linear_probe(&x, &probe[k]), THAW_OK);
        th_free(x.x);
    }
    assert_int_equal(s[0].rank, VALUES);
    assert_memory_equal(s[0].lambda, s[1].lambda, VALUES * sizeof(double));
    assert_memory_equal(s[0].share, s[1].share, VALUES * CLASSES * sizeof(double));
    assert_memory_equal(knn, knn + 1, sizeof *knn);
    assert_memory_equal(probe, probe + 1, sizeof *probe);
    assert_true(probe[0].accuracy > 0.5); /* and something was learnt */
    th_spectrum_release(&s[0]);
    th_spectrum_release(&s[1]);
}

/* A network whose features are all zero, or all the same, tells nothing apart. */
static void constant_features_have_finite_scores(void **state)
{
    static const int32_t label[] = {0, 1, 0, 1, 1, 1, 1};
    static const int64_t count[] = {2, 5};
    static const double constants[] = {0, 12345.678};
    (void)state;
    for (int k = 0; k < 2; k++) {
        double values[7 * 3], knn;
        struct th_labelled x = {7, 3, values, label, 2, count, 1};
        struct th_linear_probe probe;
        struct th_spectrum s;
        for (int i = 0; i < 7 * 3; i++)
            values[i] = (double)(float)constants[k];
        open_spectrum(&x, &s);
        assert_int_equal(s.rank, k);
        assert_true(isfinite(th_logme(&s, count)));
        th_spectrum_release(&s);
        assert_int_equal(th_nearest_accuracy(&x, 5, &knn), THAW_OK);
        assert_int_equal(th_linear_probe(&x, &probe), THAW_OK);
        near("constant", "probe", probe.accuracy, 5.0 / 7, TOLERANCE);
        for (int i = 0; i < 7 * 3; i++)
            assert_true(values[i] >= 0 && values[i] <= 0); /* standardised */
        open_spectrum(&x, &s);
        assert_int_equal(s.rank, 0);
        near("constant", "H", th_h_score(&s, count), 0, TOLERANCE);
        near("constant", "H shrunk", th_h_score_shrunk(&s, &x), 0, TOLERANCE);
        th_spectrum_release(&s);
    }
}

static void what_is_not_finite_is_refused(void **state)
{
    double values[] = {1, 2, (double)NAN, 4};
    static const int32_t label[] = {0, 1};
    struct th_spectrum s;
    (void)state;
    assert_int_equal(th_spectrum_init(&s, values, 2, 2, label, 2, 1), THAW_E_FAIL);
    th_spectrum_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logme_is_the_evidence_of_the_determinant),
        cmocka_unit_test(h_scores_are_traces_of_covariances),
        cmocka_unit_test(leep_and_neighbours_equal_numpys),
        cmocka_unit_test(leep_of_what_never_occurs_is_finite),
        cmocka_unit_test(the_fit_reaches_scipys_minimum),
        cmocka_unit_test(eigenvalues_have_the_moments_of_the_matrix),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(constant_features_have_finite_scores),
        cmocka_unit_test(what_is_not_finite_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
