/* SPDX-License-Identifier: Apache-2.0
 * Which image stands at which place of an epoch: a function of (seed, epoch) and of the
 * samples' labels, never of threads. An epoch has as many places as there are images.
 *
 *   listed    each image once, in the listing's order
 *   shuffled  each image once, in a new order each epoch
 *   balanced  classes as equally often as can be (shares differ by one at most), in a new
 *             order each epoch: an image of a small class comes again once all of its
 *             class have come, a large class shows another part of itself each epoch */
#ifndef TH_ORDER_H
#define TH_ORDER_H

#include "dataset.h"

enum th_order_kind { TH_ORDER_LISTED, TH_ORDER_SHUFFLED, TH_ORDER_BALANCED };

struct th_order {
    enum th_order_kind kind;
    int64_t n, n_classes;
    int64_t *sample; /* [n], by place: index in the split */
    int64_t *repeat; /* [n], by place: how often the image came before; NULL: 0 */

    int64_t *member;     /* [n], sample indices by class, in the listing's order */
    int64_t *class_from; /* [classes + 1], where a class begins in member */
    int64_t *place; /* [n], scratch: where the next draw goes; NULL unless balanced */
    int64_t *drawn; /* [n], scratch: an order of one class; NULL unless balanced */
};

/* Samples without a label count as class 0. THAW_E_MEMORY. */
thaw_status th_order_init(struct th_order *o, enum th_order_kind kind,
    const struct th_samples *samples, int64_t n_classes);
void th_order_release(struct th_order *o);

/* Draw an epoch's. */
void th_order_draw(struct th_order *o, uint64_t seed, int64_t epoch);

#endif
