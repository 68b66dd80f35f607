/* SPDX-License-Identifier: Apache-2.0
 * Counter-based random streams: every draw is a pure function of a key and a counter,
 * so no generator state exists, nothing has to be saved for a resume, and the number of
 * threads does not change what is drawn.
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3",
 * SC'11 (Philox4x32-10). Keys are mixed with splitmix64 (Steele et al., OOPSLA'14). */
#ifndef TH_RNG_H
#define TH_RNG_H

#include <stdint.h>

/* Fold one more coordinate (epoch, sample id, occurrence, ...) into a key. */
uint64_t th_rng_mix(uint64_t key, uint64_t coordinate);

/* A name (layer, purpose) as a coordinate; folded into a key. */
uint64_t th_rng_name(const char *name);
uint64_t th_rng_mix_name(uint64_t key, const char *name);

/* Four 32-bit words for (key, counter). */
void th_rng_block(uint64_t key, uint64_t counter, uint32_t out[4]);

/* One 64-bit word for (key, counter). */
uint64_t th_rng_u64(uint64_t key, uint64_t counter);

/* Uniform in [0,1), 24 bits, word `counter` of the stream. Consecutive counters share
 * Philox blocks: element i is word i%4 of block i/4. */
float th_rng_uniform(uint64_t key, uint64_t counter);

/* Uniform integer in [0,n), n > 0, without bias worth naming (64-bit multiply-shift). */
uint64_t th_rng_below(uint64_t key, uint64_t counter, uint64_t n);

/* Standard normal number (Box-Muller, one Philox block per number). */
float th_rng_normal(uint64_t key, uint64_t counter);

/* Beta(a, b) number in [0,1], a and b above 0; takes the key's whole stream. */
double th_rng_beta(uint64_t key, double a, double b);

/* order[0..n) = a permutation of 0..n-1 drawn from key (Fisher-Yates). */
void th_rng_permutation(uint64_t key, int64_t n, int64_t *order);

#endif
