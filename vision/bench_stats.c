/* SPDX-License-Identifier: Apache-2.0
 * Owns the formulas of the intervals. Allocates nothing. */
#include "bench_stats.h"

#include <math.h>

static const double Z = 1.959963984540054; /* 0.975 quantile of the normal */

/* Agresti and Min, "Simple improved confidence intervals for comparing matched
 * proportions", Statistics in Medicine 24 (2005): 0.5 to each of the four counts. */
static const double ADDED_IMAGES = 2, ADDED_SQUARES = 1;

double th_bench_accuracy(th_marks marks)
{
    int64_t right = 0, n = 0;
    for (; *marks; marks++) {
        right += *marks == '1';
        n += *marks != '-';
    }
    return n ? (double)right / (double)n : (double)NAN;
}

/* ---- Student's t ---- */

/* Coefficient m of the continued fraction of the incomplete beta function: Abramowitz and
 * Stegun 26.5.8. */
static double coefficient(int m, double a, double b, double x)
{
    int k = m / 2;
    if (m % 2)
        return -(a + k) * (a + b + k) * x / ((a + m - 1) * (a + m));
    return k * (b - k) * x / ((a + m - 1) * (a + m));
}

/* I_x(a, b) for x < (a + 1) / (a + b + 2), by the modified method of Lentz. */
static double small_beta(double a, double b, double x)
{
    enum { MOST_TERMS = 500 };
    const double tiny = 1e-300, enough = 1e-15;
    double front =
        exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a;
    double c = (double)INFINITY, d = 1, f = 1, step = 0;
    for (int m = 1; m < MOST_TERMS && fabs(step - 1) >= enough; m++) {
        double term = coefficient(m, a, b, x);
        d = 1 + term * d;
        d = 1 / (fabs(d) < tiny ? tiny : d);
        c = 1 + term / (fabs(c) < tiny ? tiny : c);
        step = c * d;
        f *= step;
    }
    return front * f;
}

static double incomplete_beta(double a, double b, double x)
{
    if (x <= 0 || x >= 1)
        return x <= 0 ? 0 : 1;
    if (x < (a + 1) / (a + b + 2))
        return small_beta(a, b, x);
    return 1 - small_beta(b, a, 1 - x);
}

/* P(|T| > t) = I_x(df/2, 1/2) at x = df / (df + t^2): it falls as t grows. */
double th_student(double df)
{
    double low = 0, high = 1e6;
    for (int i = 0; i < 200 && high - low > 1e-12 * high; i++) {
        double t = (low + high) / 2;
        if (incomplete_beta(df / 2, 0.5, df / (df + t * t)) > 0.05)
            low = t;
        else
            high = t;
    }
    return (low + high) / 2;
}

/* ---- Intervals ---- */

thaw_interval th_wilson(double p, double n)
{
    if (!(n > 0))
        return (thaw_interval){(double)NAN, (double)NAN};
    double all = 1 + Z * Z / n, centre = (p + Z * Z / (2 * n)) / all;
    double half = Z / all * sqrt(p * (1 - p) / n + Z * Z / (4 * n * n));
    return (thaw_interval){fmax(0, centre - half), fmin(1, centre + half)};
}

static double variance(const double *values, int k)
{
    double mean = 0, sum = 0;
    for (int i = 0; i < k; i++)
        mean += values[i] / k;
    for (int i = 0; i < k; i++)
        sum += (values[i] - mean) * (values[i] - mean);
    return sum / (k - 1);
}

double th_spread(const double *values, int k)
{
    if (k < 2)
        return (double)NAN;
    return th_student(k - 1) * sqrt(variance(values, k) / k);
}

/* Of image i: the mean over seeds of 1 where only a is right, -1 where only b is. false:
 * one of them could not read it. */
static bool image_mean(
    const th_marks *a, const th_marks *b, int k, size_t i, double *mean)
{
    *mean = 0;
    for (int s = 0; s < k; s++) {
        if (a[s][i] == '-' || b[s][i] == '-')
            return false;
        *mean += (double)(a[s][i] - b[s][i]) / k;
    }
    return true;
}

/* Of the mean, as far as images vary; *n with those added. */
static double image_variance(
    const th_marks *a, const th_marks *b, int k, double *mean, double *n)
{
    double sum = 0, squares = ADDED_SQUARES, one = 0;
    *n = ADDED_IMAGES;
    for (size_t i = 0; a[0][i]; i++) {
        if (!image_mean(a, b, k, i, &one))
            continue;
        sum += one;
        squares += one * one;
        ++*n;
    }
    *mean = *n > ADDED_IMAGES ? sum / (*n - ADDED_IMAGES) : (double)NAN;
    return (squares - sum * sum / *n) / *n / *n;
}

struct th_difference th_paired(const th_marks *a, const th_marks *b, int k)
{
    enum { MOST_SEEDS = 64 };
    double by_seed[MOST_SEEDS], n = 0, ignored = 0;
    struct th_difference d = {0};
    k = k < MOST_SEEDS ? k : MOST_SEEDS;
    double images = image_variance(a, b, k, &d.mean, &n), seeds = 0, df = n - 1;
    for (int s = 0; s < k; s++)
        image_variance(a + s, b + s, 1, &by_seed[s], &ignored);
    if (k > 1)
        seeds = variance(by_seed, k) / k;
    if (seeds > 0)
        df = (images + seeds) * (images + seeds) /
             (images * images / (n - 1) + seeds * seeds / (k - 1));
    double centre = d.mean * (n - ADDED_IMAGES) / n;
    double half = th_student(df) * sqrt(images + seeds);
    d.interval = (thaw_interval){fmax(-1, centre - half), fmin(1, centre + half)};
    return d;
}

struct th_difference th_paired_scores(const double *a, const double *b, int k)
{
    enum { MOST_SEEDS = 64 };
    double by_seed[MOST_SEEDS];
    struct th_difference d = {0};
    k = k < MOST_SEEDS ? k : MOST_SEEDS;
    for (int s = 0; s < k; s++) {
        by_seed[s] = a[s] - b[s];
        d.mean += by_seed[s] / k;
    }
    double half = th_spread(by_seed, k);
    d.interval = (thaw_interval){fmax(-1, d.mean - half), fmin(1, d.mean + half)};
    if (!isfinite(half))
        d.interval = (thaw_interval){(double)NAN, (double)NAN};
    return d;
}
