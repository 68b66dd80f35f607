/* SPDX-License-Identifier: Apache-2.0
 * Owns scores of transferability, a function each. Formulas in terms of a spectrum: s_k^2
 * is lambda[k], (u_k' y_c)^2 is share[k][c], n_c the rows of class c. */
#include "transfer.h"

#include "mem.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* ---- LogME ---- */

/* Maximum over alpha and beta of log p(y_c | X) / n, y_c = X w + noise, w ~ N(0, 1/alpha),
 * noise ~ N(0, 1/beta): You et al. 2021 (arXiv:2102.11005), equation 2, by the fixed point
 * of You et al. 2022 (arXiv:2110.10545), algorithm 3, with its 11 steps, stop at 1e-3 and
 * 1e-5 in denominators (github.com/thuml/LogME).
 *
 *   t = alpha / beta        gamma = sum_k s_k^2 / (s_k^2 + t)
 *   |m|^2     = sum_k s_k^2 z_k / (s_k^2 + t)^2                   z_k = (u_k' y)^2
 *   |Xm-y|^2  = sum_k z_k / (1 + s_k^2/t)^2 + y'y - sum_k z_k
 *   alpha = gamma / |m|^2   beta = (n - gamma) / |Xm-y|^2
 *
 * log det(alpha + beta X'X) has alpha once for each direction without spread. It cancels
 * there against d/2 log alpha, so that k = rank remains of d; that code counts these
 * directions in d alone, and is off by (d - k)/2n log alpha where d exceeds the rank. */
static double evidence_of(const struct th_spectrum *s, int c, double count)
{
    enum { MOST_STEPS = 11 };
    static const double close = 1e-3, tiny = 1e-5;
    double n = (double)s->n, k = (double)s->rank, alpha = 1, beta = 1, pi = acos(-1);
    double outside = count, m2 = 0, residual = 0; /* y'y = n_c */
    for (int64_t i = 0; i < s->rank; i++)
        outside -= s->share[i * s->n_classes + c];
    outside = fmax(outside, 0);
    for (int step = 0; step < MOST_STEPS; step++) {
        double t = alpha / beta, gamma = 0;
        m2 = 0;
        residual = outside;
        for (int64_t i = 0; i < s->rank; i++) {
            double l = s->lambda[i], z = s->share[i * s->n_classes + c];
            gamma += l / (l + t);
            m2 += l * z / ((l + t) * (l + t));
            residual += z * (t / (l + t)) * (t / (l + t));
        }
        alpha = gamma / (m2 + tiny);
        beta = (n - gamma) / (residual + tiny);
        if (fabs(alpha / beta - t) <= close * t)
            break;
    }
    double log_det = 0;
    for (int64_t i = 0; i < s->rank; i++)
        log_det += log(alpha + beta * s->lambda[i]);
    double evidence = n / 2 * log(beta) - log_det / 2 - beta / 2 * residual -
                      alpha / 2 * m2 - n / 2 * log(2 * pi);
    return (evidence + (s->rank ? k / 2 * log(alpha) : 0)) / n;
}

double th_logme(const struct th_spectrum *s, const int64_t *count)
{
    double sum = 0;
    for (int c = 0; c < s->n_classes; c++)
        sum += evidence_of(s, c, (double)count[c]);
    return sum / s->n_classes;
}

/* ---- H-score ---- */

/* Of direction k, between classes: n v_k' cov(E[x|y]) v_k / s_k^2 = sum_c share / n_c. */
static double between(const struct th_spectrum *s, int64_t k, const int64_t *count)
{
    double sum = 0;
    for (int c = 0; c < s->n_classes; c++)
        sum += s->share[k * s->n_classes + c] / (double)count[c];
    return sum;
}

/* tr(cov(x)^+ cov(E[x|y])): Bao et al. 2019 (ICIP, "An information-theoretic approach to
 * transferability in task transfer learning"), definition 2. */
double th_h_score(const struct th_spectrum *s, const int64_t *count)
{
    double sum = 0;
    for (int64_t k = 0; k < s->rank; k++)
        sum += between(s, k, count);
    return sum;
}

/* Share of the identity that Ledoit and Wolf 2004 (J. Multivariate Analysis 88, lemma 3.3)
 * mix into a covariance S of d values, mu = tr S / d:
 * min(b, |S - mu|^2) / |S - mu|^2, b = (sum_i |x_i|^4 / n - |S|^2) / n. */
static double shrinkage(const struct th_spectrum *s, const struct th_labelled *x)
{
    double n = (double)s->n, d = (double)s->values, trace = 0, square = 0, fourth = 0;
    for (int64_t k = 0; k < s->rank; k++) {
        trace += s->lambda[k] / n;
        square += s->lambda[k] * s->lambda[k] / (n * n);
    }
    for (int64_t i = 0; i < x->n; i++) {
        const double *row = x->x + i * x->values;
        double length = th_dot(row, row, x->values);
        fourth += length * length / n;
    }
    double b = (fourth - square) / n, off = square - trace * trace / d;
    return off > 0 ? fmin(b, off) / off : 0;
}

/* tr(S_a^-1 (1 - a) cov(E[x|y])), S_a = (1 - a) cov(x) + a tr(cov(x))/d: Ibrahim et al. 2021
 * (arXiv:2110.06893), section 3. Directions without spread add nothing. */
double th_h_score_shrunk(const struct th_spectrum *s, const struct th_labelled *x)
{
    double a = shrinkage(s, x), n = (double)s->n, mu = 0, sum = 0;
    for (int64_t k = 0; k < s->rank; k++)
        mu += s->lambda[k] / n / (double)s->values;
    for (int64_t k = 0; k < s->rank; k++) {
        double own = (1 - a) * s->lambda[k] / n;
        sum += own / (own + a * mu) * between(s, k, x->count);
    }
    return sum;
}

/* ---- LEEP ---- */

/* 1/n sum_i log sum_z P(y_i|z) theta(x_i)_z with P(y,z) = 1/n sum over y_i = y of
 * theta(x_i)_z: Nguyen et al. 2020 (arXiv:2002.12462), equations 1 and 2. */
thaw_status th_leep(const struct th_labelled *x, const float *probability,
    int64_t n_source, double *out)
{
    size_t source = (size_t)n_source;
    double *joint = th_alloc((size_t)x->n_classes, source * sizeof *joint);
    double *total = th_alloc(source, sizeof *total); /* of each z */
    double sum = 0;
    *out = 0;
    if (!joint || !total) {
        th_free(joint);
        th_free(total);
        return THAW_E_MEMORY;
    }
    for (int64_t i = 0; i < x->n; i++)
        for (int64_t z = 0; z < n_source; z++) {
            double p = (double)probability[i * n_source + z];
            joint[x->label[i] * n_source + z] += p;
            total[z] += p;
        }
    for (int64_t i = 0; i < x->n; i++) {
        double expected = 0;
        for (int64_t z = 0; z < n_source; z++)
            if (total[z] > 0) /* else nobody is z, this image neither */
                expected += joint[x->label[i] * n_source + z] / total[z] *
                            (double)probability[i * n_source + z];
        sum += log(fmax(expected, DBL_MIN));
    }
    *out = sum / (double)x->n;
    th_free(joint);
    th_free(total);
    return THAW_OK;
}

/* ---- Nearest neighbours ---- */

enum { MOST_NEIGHBOURS = 32 };

struct neighbours {
    int n;
    double cosine[MOST_NEIGHBOURS]; /* descending */
    int64_t row[MOST_NEIGHBOURS];
};

/* Rows come in order, so that of equal cosines the first row stays. */
static void offer(struct neighbours *near, int k, double cosine, int64_t row)
{
    int at = near->n;
    if (at == k && !(cosine > near->cosine[k - 1]))
        return;
    at = at < k ? at : k - 1;
    for (; at > 0 && cosine > near->cosine[at - 1]; at--) {
        near->cosine[at] = near->cosine[at - 1];
        near->row[at] = near->row[at - 1];
    }
    near->cosine[at] = cosine;
    near->row[at] = row;
    near->n += near->n < k;
}

/* The class of most of them; of as many, that with the larger sum of cosines. */
static int32_t elect(const struct neighbours *near, const int32_t *label)
{
    int32_t best = -1;
    int most = 0;
    double best_sum = 0;
    for (int i = 0; i < near->n; i++) {
        int votes = 0;
        double sum = 0;
        for (int j = 0; j < near->n; j++)
            if (label[near->row[j]] == label[near->row[i]]) {
                votes++;
                sum += near->cosine[j];
            }
        if (votes > most || (votes == most && sum > best_sum)) {
            best = label[near->row[i]];
            most = votes;
            best_sum = sum;
        }
    }
    return best;
}

/* Rows of length one; one without length stays zero, its cosines are 0. */
static double *unit_rows(const struct th_labelled *x)
{
    double *unit = th_alloc((size_t)x->n, (size_t)x->values * sizeof *unit);
    for (int64_t i = 0; unit && i < x->n; i++) {
        const double *row = x->x + i * x->values;
        double length = sqrt(th_dot(row, row, x->values));
        for (int64_t j = 0; length > 0 && j < x->values; j++)
            unit[i * x->values + j] = row[j] / length;
    }
    return unit;
}

/* Rows are met in blocks that stay in cache while a block of neighbours passes. */
thaw_status th_nearest_accuracy(const struct th_labelled *x, int k, double *out)
{
    enum { BLOCK = 32 };
    int64_t right = 0;
    double *unit = unit_rows(x);
    *out = 0;
    k = k < MOST_NEIGHBOURS ? k : MOST_NEIGHBOURS;
    if (!unit)
        return THAW_E_MEMORY;
#pragma omp parallel for schedule(dynamic) reduction(+ : right) num_threads(x->threads)
    for (int64_t from = 0; from < x->n; from += BLOCK) {
        struct neighbours near[BLOCK] = {{.n = 0}};
        int64_t to = from + BLOCK < x->n ? from + BLOCK : x->n;
        for (int64_t j = 0; j < x->n; j++)
            for (int64_t i = from; i < to; i++)
                if (i != j)
                    offer(&near[i - from], k,
                        th_dot(unit + i * x->values, unit + j * x->values, x->values),
                        j);
        for (int64_t i = from; i < to; i++)
            right += elect(&near[i - from], x->label) == x->label[i];
    }
    th_free(unit);
    *out = (double)right / (double)x->n;
    return THAW_OK;
}
