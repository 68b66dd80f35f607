/* SPDX-License-Identifier: Apache-2.0
 * Order and chance among rows: the first so many of an order, and a balanced draw of what a
 * detector learns from. Allocates nothing; the same for any number of threads. */
#ifndef TH_BALANCE_H
#define TH_BALANCE_H

#include <stdint.h>

/* A row in an order: smaller ones come first, of equal ones the lower row. */
struct th_rank {
    uint64_t order;
    int64_t row;
};

/* Larger values first; -0 is 0, a NaN the last. */
uint64_t th_rank_of(float value);

/* The `most` first ones that were offered, in no order; *n of them so far, from 0 on. */
void th_rank_offer(struct th_rank *kept, int64_t *n, int64_t most, struct th_rank r);
void th_rank_sort(struct th_rank *r, int64_t n);

/* Of n rows with a class (0 and more) or of the background (-1) there remain up to `positive`
 * with a class, and background to make `count`, at most TH_MAX_DRAWN; others become -2. Which
 * ones is a function of (key, row); of key 0 the first. torchvision's
 * BalancedPositiveNegativeSampler. */
enum { TH_MAX_DRAWN = 512 };
void th_draw_balanced(
    uint64_t key, int64_t n, int32_t *target, int64_t count, int64_t positive);
/* The same with another order of rows than that: smaller ones are drawn first, of equal ones
 * (64 bits of chance can be) the lower row. */
void th_draw_ordered(uint64_t (*order)(uint64_t key, int64_t row), uint64_t key,
    int64_t n, int32_t *target, int64_t count, int64_t positive);

/* What sample_rois folds into a sample's key. */
#define TH_ROIS_DRAW "rois"

#endif
