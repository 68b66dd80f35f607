/* SPDX-License-Identifier: Apache-2.0
 * Owns spectra: Gram matrices, and eigenvalues of symmetric ones by Householder's
 * tridiagonal form and implicit QL (Golub and Van Loan, Matrix Computations, sections 8.3.1
 * and 8.3.3; Wilkinson and Reinsch 1971, contributions II/2 and II/4).
 *
 * Eigenvectors are never formed: every reflection and rotation is applied to the few right
 * sides at once, which leaves 2 n^3 for the tridiagonal form and n^2 m for the rest. Sums
 * have one order whatever the number of threads. All in double. */
#include "spectrum.h"

#include "error.h"
#include "mem.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Tridiagonal form ---- */

struct matrix {
    double *a; /* [n][n], symmetric */
    int64_t n;
    double *b; /* [n][m] */
    int64_t m;
    int threads;
};

/* v with (1 - 2 v v' / v'v) x = (alpha, 0, ...), in place of x [n]; returns 2 / v'v, 0 where
 * there is nothing to do. Scaled by the largest, so that nothing under- or overflows. */
static double reflector(double *x, int64_t n, double *alpha)
{
    double most = 0, norm = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs(x[i]));
    *alpha = most;
    if (!(most > 0))
        return 0;
    for (int64_t i = 0; i < n; i++) {
        x[i] /= most;
        norm += x[i] * x[i];
    }
    norm = sqrt(norm);
    double first = x[0], s = first > 0 ? -norm : norm;
    x[0] -= s; /* no cancellation: the signs differ */
    *alpha = s * most;
    return 1 / (norm * (norm + fabs(first)));
}

/* a <- H a H on rows and columns from `from`, H = 1 - beta v v': with p = beta a v and
 * w = p - (beta/2 p'v) v it is a - v w' - w v'. */
static void reflect_both(
    struct matrix *x, int64_t from, const double *v, double beta, double *w)
{
    int64_t n = x->n - from;
    double *a = x->a + from * x->n + from;
#pragma omp parallel for num_threads(th_threads_for(x->threads, n *n))
    for (int64_t i = 0; i < n; i++)
        w[i] = beta * th_dot(a + i * x->n, v, n);
    double pv = th_dot(w, v, n);
    for (int64_t i = 0; i < n; i++)
        w[i] -= beta / 2 * pv * v[i];
#pragma omp parallel for num_threads(th_threads_for(x->threads, n *n))
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            a[i * x->n + j] -= v[i] * w[j] + w[i] * v[j];
}

/* b <- H b on rows from `from`. */
static void reflect_sides(
    struct matrix *x, int64_t from, const double *v, double beta, double *sum)
{
    double *b = x->b + from * x->m;
    memset(sum, 0, (size_t)x->m * sizeof *sum);
    for (int64_t i = 0; i < x->n - from; i++)
        for (int64_t j = 0; j < x->m; j++)
            sum[j] += v[i] * b[i * x->m + j];
    for (int64_t i = 0; i < x->n - from; i++)
        for (int64_t j = 0; j < x->m; j++)
            b[i * x->m + j] -= beta * v[i] * sum[j];
}

/* d [n] the diagonal, e [n] what is below it (e[n-1] = 0); room for v, w [n], sum [m]. */
static void tridiagonalise(
    struct matrix *x, double *d, double *e, double *v, double *w, double *sum)
{
    int64_t n = x->n;
    for (int64_t k = 0; k + 1 < n; k++) {
        int64_t from = k + 1;
        for (int64_t i = from; i < n; i++)
            v[i - from] = x->a[i * n + k];
        double beta = from + 1 < n ? reflector(v, n - from, &e[k]) : 0;
        if (from + 1 == n)
            e[k] = v[0];
        if (beta > 0) {
            reflect_both(x, from, v, beta, w);
            reflect_sides(x, from, v, beta, sum);
        }
        d[k] = x->a[k * n + k];
    }
    d[n - 1] = x->a[n * n - 1];
    e[n - 1] = 0;
}

/* ---- Implicit QL ---- */

static void rotate(double *upper, double *lower, int64_t m, double c, double s)
{
    for (int64_t j = 0; j < m; j++) {
        double u = upper[j], l = lower[j];
        lower[j] = s * u + c * l;
        upper[j] = c * u - s * l;
    }
}

/* One sweep on rows low ... high with Wilkinson's shift; the rotations go to b's rows. */
static void sweep(struct matrix *x, double *d, double *e, int64_t low, int64_t high)
{
    double g = (d[low + 1] - d[low]) / (2 * e[low]);
    double s = 1, c = 1, p = 0;
    g = d[high] - d[low] + e[low] / (g + copysign(hypot(g, 1), g));
    for (int64_t i = high - 1; i >= low; i--) {
        double f = s * e[i], h = c * e[i], r = hypot(f, g);
        e[i + 1] = r;
        if (!(r > 0)) { /* it fell apart: go on above */
            d[i + 1] -= p;
            e[high] = 0;
            return;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - p;
        r = (d[i] - g) * s + 2 * c * h;
        p = s * r;
        d[i + 1] = g + p;
        g = c * r - h;
        rotate(x->b + i * x->m, x->b + (i + 1) * x->m, x->m, c, s);
    }
    d[low] -= p;
    e[low] = g;
    e[high] = 0;
}

/* What is below eps of the largest entry is zero: eigenvalues keep that absolute error,
 * which the tridiagonal form had already. */
static thaw_status diagonalise(struct matrix *x, double *d, double *e)
{
    enum { MOST_SWEEPS = 60 }; /* an eigenvalue takes 2 on average */
    double most = 0;
    for (int64_t i = 0; i < x->n; i++)
        most = fmax(most, fabs(d[i]) + fabs(e[i]));
    for (int64_t low = 0; low < x->n; low++) {
        for (int n_sweeps = 0;; n_sweeps++) {
            int64_t high = low;
            while (high + 1 < x->n && fabs(e[high]) > DBL_EPSILON * most)
                high++;
            if (high == low)
                break;
            if (n_sweeps == MOST_SWEEPS)
                return th_fail(THAW_E_FAIL, "eigenvalues did not converge");
            sweep(x, d, e, low, high);
        }
    }
    return THAW_OK;
}

struct place {
    double value;
    int64_t row;
};

static int descending(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->value < y->value || x->value > y->value)
        return x->value > y->value ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static thaw_status sort_rows(struct matrix *x, const double *d, double *value)
{
    struct place *place = th_alloc((size_t)x->n, sizeof *place);
    double *b = th_alloc((size_t)x->n, (size_t)x->m * sizeof *b);
    thaw_status status = place && b ? THAW_OK : THAW_E_MEMORY;
    if (status == THAW_OK) {
        size_t row = (size_t)x->m * sizeof *b;
        memcpy(b, x->b, (size_t)x->n * row);
        for (int64_t i = 0; i < x->n; i++)
            place[i] = (struct place){d[i], i};
        qsort(place, (size_t)x->n, sizeof *place, descending);
        for (int64_t i = 0; i < x->n; i++) {
            value[i] = place[i].value;
            memcpy(x->b + i * x->m, b + place[i].row * x->m, row);
        }
    }
    th_free(place);
    th_free(b);
    return status;
}

thaw_status th_symmetric_eigen(
    double *a, int64_t n, double *value, double *b, int64_t m, int threads)
{
    struct matrix x = {.a = a, .n = n, .b = b, .m = m, .threads = threads};
    double *room = th_alloc(4 * (size_t)n + (size_t)m, sizeof *room);
    if (!room)
        return THAW_E_MEMORY;
    double *d = room, *e = d + n, *v = e + n, *w = v + n;
    tridiagonalise(&x, d, e, v, w, w + n);
    thaw_status status = diagonalise(&x, d, e);
    if (status == THAW_OK)
        status = sort_rows(&x, d, value);
    th_free(room);
    return status;
}

/* ---- Gram matrices ---- */

enum { BLOCK = 16 }; /* rows of the result that one thread makes at a time */

/* g [values][values] = x'x: rows of x are read in order, a block of g stays in cache. */
static void gram_of_columns(
    const double *x, int64_t n, int64_t values, double *g, int threads)
{
    (void)threads; /* not read where there is no OpenMP */
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t from = 0; from < values; from += BLOCK) {
        int64_t to = from + BLOCK < values ? from + BLOCK : values;
        for (int64_t r = 0; r < n; r++) {
            const double *row = x + r * values;
            for (int64_t i = from; i < to; i++)
                for (int64_t j = 0; j <= i; j++)
                    g[i * values + j] += row[i] * row[j];
        }
    }
}

/* g [n][n] = x x' */
static void gram_of_rows(
    const double *x, int64_t n, int64_t values, double *g, int threads)
{
    (void)threads; /* not read where there is no OpenMP */
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++)
            g[i * n + j] = th_dot(x + i * values, x + j * values, values);
}

static void mirror(double *g, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i + 1; j < n; j++)
            g[i * n + j] = g[j * n + i];
}

/* Right sides: x'Y [values][classes], or Y itself [n][classes]. */
static void fill_sides(const double *x, int64_t n, int64_t values, const int32_t *label,
    int n_classes, bool columns, double *b)
{
    for (int64_t i = 0; i < n; i++)
        if (columns)
            for (int64_t j = 0; j < values; j++)
                b[j * n_classes + label[i]] += x[i * values + j];
        else
            b[i * n_classes + label[i]] = 1;
}

/* Of x'x = V S^2 V' came V'x'y = S U'y; of xx' = U S^2 U' it is U'y itself. */
static void take(struct th_spectrum *s, int64_t order, const double *b, bool columns)
{
    double wide = (double)(s->n > s->values ? s->n : s->values);
    double least = order > 0 ? s->lambda[0] * DBL_EPSILON * wide : 0;
    while (s->rank < order && s->lambda[s->rank] > least)
        s->rank++;
    for (int64_t k = 0; k < s->rank; k++)
        for (int64_t c = 0; c < s->n_classes; c++) {
            double along = b[k * s->n_classes + c];
            s->share[k * s->n_classes + c] =
                along * along / (columns ? s->lambda[k] : 1);
        }
}

static bool all_finite(const double *x, int64_t n)
{
    bool finite = true;
    for (int64_t i = 0; i < n; i++)
        finite = finite && isfinite(x[i]);
    return finite;
}

thaw_status th_spectrum_init(struct th_spectrum *s, const double *x, int64_t n,
    int64_t values, const int32_t *label, int n_classes, int threads)
{
    bool columns = values <= n;
    int64_t order = columns ? values : n;
    *s = (struct th_spectrum){.n = n, .values = values, .n_classes = n_classes};
    if (!all_finite(x, n * values))
        return th_fail(THAW_E_FAIL, "spectrum of values that are not finite");
    double *g = th_alloc((size_t)order, (size_t)order * sizeof *g);
    double *b = th_alloc((size_t)order, (size_t)n_classes * sizeof *b);
    s->lambda = th_alloc((size_t)order, sizeof *s->lambda);
    s->share = th_alloc((size_t)order, (size_t)n_classes * sizeof *s->share);
    bool room = g && b && s->lambda && s->share;
    thaw_status status = room ? THAW_OK : THAW_E_MEMORY;
    if (status == THAW_OK) {
        (columns ? gram_of_columns : gram_of_rows)(x, n, values, g, threads);
        mirror(g, order);
        fill_sides(x, n, values, label, n_classes, columns, b);
        status = th_symmetric_eigen(g, order, s->lambda, b, n_classes, threads);
    }
    if (status == THAW_OK)
        take(s, order, b, columns);
    th_free(g);
    th_free(b);
    return status;
}

void th_spectrum_release(struct th_spectrum *s)
{
    th_free(s->lambda);
    th_free(s->share);
    *s = (struct th_spectrum){0};
}
