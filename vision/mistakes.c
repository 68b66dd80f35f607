/* SPDX-License-Identifier: Apache-2.0
 * Owns the choice of the worst mistakes: a sorted array that is short enough to shift. */
#include "mistakes.h"

#include "metrics.h"

#include <math.h>

static bool is_worse(const struct th_mistake *a, const struct th_mistake *b)
{
    return a->loss > b->loss || (a->loss == b->loss && a->id < b->id);
}

/* -log softmax of one class, shifted by the largest logit. */
static double loss_of(const float *logits, int n, int label)
{
    double largest = (double)logits[th_argmax(logits, n)], sum = 0;
    for (int i = 0; i < n; i++)
        sum += exp((double)logits[i] - largest);
    double loss = log(sum) + largest - (double)logits[label];
    return isnan(loss) ? INFINITY : loss;
}

void th_mistakes_add(
    struct th_mistakes *m, const float *logits, int n_classes, int label, int64_t id)
{
    int predicted = th_argmax(logits, n_classes);
    if (predicted == label)
        return;
    const struct th_mistake new = {.id = id,
        .label = label,
        .predicted = predicted,
        .loss = loss_of(logits, n_classes, label)};
    int at = m->n;
    if (m->n < TH_MOST_MISTAKES)
        m->n++;
    else if (!is_worse(&new, &m->worst[--at]))
        return;
    for (; at > 0 && is_worse(&new, &m->worst[at - 1]); at--)
        m->worst[at] = m->worst[at - 1];
    m->worst[at] = new;
}
