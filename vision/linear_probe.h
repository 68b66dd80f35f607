/* SPDX-License-Identifier: Apache-2.0
 * The linear probe: how often a linear classifier on features is right about images that it
 * was not fitted to. */
#ifndef TH_LINEAR_PROBE_H
#define TH_LINEAR_PROBE_H

#include "transfer.h"

struct th_linear_probe {
    double accuracy, error; /* its standard error, binomial: sqrt(p (1 - p) / n) */
};

/* x->x is standardised in place. */
thaw_status th_linear_probe(struct th_labelled *x, struct th_linear_probe *out);

/* Multinomial logistic regression on the rows with use[i] (n_use of them): the minimum over
 * w [n_classes][values + 1] (the last is the bias) of
 *     mean cross-entropy + l2/2 |w without biases|^2,
 * from the w that is given. *loss: that minimum. */
thaw_status th_logistic_fit(
    const struct th_labelled *x, const bool *use, double l2, double *w, double *loss);

#endif
