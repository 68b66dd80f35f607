/* SPDX-License-Identifier: Apache-2.0
 * The spectrum of labelled rows: X = U S V' (X [n][values]), squares of its singular values,
 * and how much of each class's indicator lies along each column of U. LogME and H-scores
 * are functions of these numbers alone (transfer.h).
 *
 * Computed from the smaller of X'X and XX', so that there may be more values than rows. */
#ifndef TH_SPECTRUM_H
#define TH_SPECTRUM_H

#include "thaw.h"

struct th_spectrum {
    int64_t n, values;
    int n_classes;
    int64_t rank;   /* directions above rounding: more than max(n, values) eps of the
                       largest; those below count as zero */
    double *lambda; /* [rank], descending: s_k^2 */
    double
        *share; /* [rank][n_classes]: (u_k' y_c)^2, y_c [n] 1 where the row is of c */
};

/* THAW_E_MEMORY; THAW_E_FAIL for x that is not finite. Release after failure, too. */
thaw_status th_spectrum_init(struct th_spectrum *s, const double *x, int64_t n,
    int64_t values, const int32_t *label, int n_classes, int threads);
void th_spectrum_release(struct th_spectrum *s);

/* Scalar product, summed in eight parts: four times as fast as one sum, and one order. */
static inline double th_dot(const double *a, const double *b, int64_t n)
{
    double part[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++)
            part[k] += a[i + k] * b[i + k];
    for (; i < n; i++)
        part[0] += a[i] * b[i];
    return ((part[0] + part[4]) + (part[1] + part[5])) +
           ((part[2] + part[6]) + (part[3] + part[7]));
}

/* Threads worth waking for so many multiply-adds: on a busy machine a second one costs more
 * than it saves below some tens of microseconds. */
static inline int th_threads_for(int threads, int64_t work)
{
    enum { LEAST = 1 << 17 };
    return work < LEAST ? 1 : threads;
}

/* Eigenvalues of a symmetric matrix a [n][n] = V diag(value) V', descending, and V' b in
 * place of b [n][m]. `a` is destroyed, V never made. */
thaw_status th_symmetric_eigen(
    double *a, int64_t n, double *value, double *b, int64_t m, int threads);

#endif
