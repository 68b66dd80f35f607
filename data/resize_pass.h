/* SPDX-License-Identifier: Apache-2.0
 * The two inner loops of a resize, which exist in plain C (the referee, and the only one
 * where there is no other) and in vectors, with the same results bit for bit. Only
 * resize.c and its tests look here. */
#ifndef TH_RESIZE_PASS_H
#define TH_RESIZE_PASS_H

#include <stddef.h>
#include <stdint.h>

/* Pillow's PRECISION_BITS: weights are in units of 2^-22. A weight w is also kept as
 * high * 2^15 + low, 0 <= low < 2^15, so that products fit pairs of 16-bit factors:
 * |w| < 2^22 * 1.2 leaves |high| < 154. */
enum { TH_WEIGHT_BITS = 22, TH_LOW_BITS = 15, TH_RESIZE_CHANNELS = 3 };

/* For each of n outputs: its first source index, how many, and their weights. */
struct th_resize_taps {
    int n, stride;       /* outputs; most taps of one */
    int padded, n_pairs; /* n to a multiple of 4; pairs of taps, the same for all */
    int *first, *count;  /* [padded]; from n on as output n - 1 */
    int32_t *weight;     /* [padded][stride] */
    int32_t
        *pair; /* [padded][n_pairs][2]: the low parts of two weights, the first in the
                      lower half, then their high parts; 0 beyond count */
};

struct th_resize_pass {
    const char *name;
    /* Two lines of pixels across: dst[i][k->n][3] from src[i]. Of src[i] may be read, but
     * not used, what lies up to th_resize_taps_reach bytes from its start; of dst[i] th_resize_taps_room
     * bytes are written. Both lines may be the same one. */
    void (*across)(const struct th_resize_taps *k, const uint8_t *const src[2],
        uint8_t *const dst[2]);
    /* Output line i of n_bytes bytes down: tap j is at src + j * step. */
    void (*down)(const struct th_resize_taps *k, int i, const uint8_t *src, size_t step,
        uint8_t *dst, size_t n_bytes);
};
extern const struct th_resize_pass th_resize_plain;

/* The fastest that this machine has. In resize_x86.c or resize_other.c. */
const struct th_resize_pass *th_resize_fastest(void);

/* Bytes from a line's start that `across` may read: the last pair of the last output, as
 * eight bytes. */
static inline size_t th_resize_taps_reach(const struct th_resize_taps *k)
{
    size_t last = (size_t)k->first[k->n - 1] + 2 * (size_t)(k->n_pairs - 1);
    return last * TH_RESIZE_CHANNELS + 8;
}

/* Bytes that `across` may write: whole groups of four pixels, as sixteen bytes. */
static inline size_t th_resize_taps_room(const struct th_resize_taps *k)
{
    return (size_t)k->padded * TH_RESIZE_CHANNELS + 4;
}

#endif
