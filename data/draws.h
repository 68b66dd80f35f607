/* SPDX-License-Identifier: Apache-2.0
 * What variants of images are drawn with, from a key and a counter. */
#ifndef TH_DRAWS_H
#define TH_DRAWS_H

#include "rng.h"

#include <stdbool.h>

static inline double th_draw_between(
    uint64_t key, uint64_t counter, double low, double high)
{
    return low + (high - low) * (double)th_rng_uniform(key, counter);
}

/* An offset in 0..room. */
static inline int th_draw_offset(uint64_t key, uint64_t counter, int room)
{
    return (int)((double)th_rng_uniform(key, counter) * (room + 1));
}

/* Whether something of probability p happens. */
static inline bool th_draw_happens(uint64_t key, const char *what, double p)
{
    return th_draw_between(th_rng_mix_name(key, what), 0, 0, 1) < p;
}

#endif
