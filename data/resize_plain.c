/* SPDX-License-Identifier: Apache-2.0
 * The inner loops of a resize in plain C: Pillow's sums, term by term. */
#include "resize_pass.h"

static inline uint8_t rounded(int32_t sum)
{
    sum >>= TH_WEIGHT_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

static void line_across(
    const struct th_resize_taps *k, const uint8_t *src, uint8_t *dst)
{
    for (int i = 0; i < k->n; i++, dst += TH_RESIZE_CHANNELS) {
        const int32_t *w = k->weight + (size_t)i * (size_t)k->stride;
        const uint8_t *p = src + (size_t)k->first[i] * TH_RESIZE_CHANNELS;
        int32_t r = 1 << (TH_WEIGHT_BITS - 1), g = r, b = r;
        for (int j = 0, n = k->count[i]; j < n; j++, p += TH_RESIZE_CHANNELS) {
            r += p[0] * w[j];
            g += p[1] * w[j];
            b += p[2] * w[j];
        }
        dst[0] = rounded(r);
        dst[1] = rounded(g);
        dst[2] = rounded(b);
    }
}

static void across(
    const struct th_resize_taps *k, const uint8_t *const src[2], uint8_t *const dst[2])
{
    line_across(k, src[0], dst[0]);
    if (dst[1] != dst[0])
        line_across(k, src[1], dst[1]);
}

/* Sums of a strip of bytes stay in the first-level cache while the lines go by. */
static void down(const struct th_resize_taps *k, int i, const uint8_t *src, size_t step,
    uint8_t *dst, size_t n_bytes)
{
    enum { STRIP = 256 };
    const int32_t *w = k->weight + (size_t)i * (size_t)k->stride;
    for (size_t at = 0; at < n_bytes; at += STRIP) {
        size_t n = n_bytes - at < STRIP ? n_bytes - at : STRIP;
        int32_t sum[STRIP];
        for (size_t b = 0; b < n; b++)
            sum[b] = 1 << (TH_WEIGHT_BITS - 1);
        for (int j = 0; j < k->count[i]; j++) {
            const uint8_t *p = src + (size_t)j * step + at;
            for (size_t b = 0; b < n; b++)
                sum[b] += p[b] * w[j];
        }
        for (size_t b = 0; b < n; b++)
            dst[at + b] = rounded(sum[b]);
    }
}

const struct th_resize_pass th_resize_plain = {
    .name = "plain", .across = across, .down = down};
