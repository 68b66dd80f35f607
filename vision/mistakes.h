/* SPDX-License-Identifier: Apache-2.0
 * The images that a model is most wrong about, as few as a person will look at. */
#ifndef TH_MISTAKES_H
#define TH_MISTAKES_H

#include "error.h"

#include <stdint.h>

enum { TH_MOST_MISTAKES = 24 };

struct th_mistake {
    int64_t id; /* of the sample */
    int label, predicted;
    double loss; /* -log of the probability of the right class */
};

/* The worst first; of equal losses the lower id. Which ones stay does not depend on the
 * order in which they come. All zero is empty. */
struct th_mistakes {
    int n;
    struct th_mistake worst[TH_MOST_MISTAKES];
};

/* An image's logits [n_classes]; one that was classified right is no mistake. */
void th_mistakes_add(
    struct th_mistakes *m, const float *logits, int n_classes, int label, int64_t id);

#endif
