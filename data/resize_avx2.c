/* SPDX-License-Identifier: Apache-2.0
 * The inner loops of a resize for AVX2, compiled for it and called only where it is.
 *
 * Two taps at a time: vpmaddwd multiplies pairs of 16-bit factors and adds each pair. A
 * pixel p and weights w = high * 2^15 + low give sum p*w = (sum p*high << 15) +
 * sum p*low, exactly, in the wrapping arithmetic of 32 bits, and the true sum fits. */
#include "resize_pass.h"

#include <immintrin.h>
#include <string.h>

enum { QUAD = 4, BLOCK = 16 };

static inline int32_t plain_rounded(int32_t sum)
{
    sum >>= TH_WEIGHT_BITS;
    return sum < 0 ? 0 : sum > 255 ? 255 : sum;
}

/* (high << 15) + low + a half, shifted down. */
static inline __m256i whole(__m256i low, __m256i high)
{
    __m256i half = _mm256_set1_epi32(1 << (TH_WEIGHT_BITS - 1));
    __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(high, TH_LOW_BITS), low);
    return _mm256_srai_epi32(_mm256_add_epi32(sum, half), TH_WEIGHT_BITS);
}

/* One output pixel of both lines: r g b and a lane of no meaning, as 32-bit numbers;
 * line 0 in the lower half. */
static inline __m256i pixel(
    const struct th_resize_taps *k, int i, const uint8_t *const src[2])
{
    /* Bytes r0 g0 b0 r1 g1 b1 as 16-bit r0 r1, g0 g1, b0 b1, 0 0. */
    const __m256i pairs = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const int32_t *w = k->pair + (size_t)i * (size_t)k->n_pairs * 2;
    size_t at = (size_t)k->first[i] * TH_RESIZE_CHANNELS;
    __m256i low = _mm256_setzero_si256(), high = low;
    for (int j = 0; j < k->n_pairs; j++, w += 2, at += 2 * TH_RESIZE_CHANNELS) {
        __m128i a = _mm_loadl_epi64((const __m128i *)(src[0] + at));
        __m128i b = _mm_loadl_epi64((const __m128i *)(src[1] + at));
        __m256i p = _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
        p = _mm256_shuffle_epi8(p, pairs);
        low = _mm256_add_epi32(low, _mm256_madd_epi16(p, _mm256_set1_epi32(w[0])));
        high = _mm256_add_epi32(high, _mm256_madd_epi16(p, _mm256_set1_epi32(w[1])));
    }
    return whole(low, high);
}

/* Four pixels of both lines at a time; the last four bytes of what is stored are written
 * again by the next group, or lie in the room behind the line. */
static void across(
    const struct th_resize_taps *k, const uint8_t *const src[2], uint8_t *const dst[2])
{
    const __m256i drop = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
    for (int i = 0; i < k->padded; i += QUAD) {
        __m256i a = _mm256_packs_epi32(pixel(k, i, src), pixel(k, i + 1, src));
        __m256i b = _mm256_packs_epi32(pixel(k, i + 2, src), pixel(k, i + 3, src));
        __m256i rgb = _mm256_shuffle_epi8(_mm256_packus_epi16(a, b), drop);
        size_t to = (size_t)i * TH_RESIZE_CHANNELS;
        _mm_storeu_si128((__m128i *)(dst[0] + to), _mm256_castsi256_si128(rgb));
        _mm_storeu_si128((__m128i *)(dst[1] + to), _mm256_extracti128_si256(rgb, 1));
    }
}

/* Sixteen bytes of an output line. */
static inline __m128i block_down(
    const int32_t *w, int count, const uint8_t *src, size_t step)
{
    __m256i low[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    __m256i high[2] = {low[0], low[0]};
    for (int j = 0; j < count; j += 2, w += 2) {
        const uint8_t *p = src + (size_t)j * step, *q = j + 1 < count ? p + step : p;
        __m128i a = _mm_loadu_si128((const __m128i *)p);
        __m128i b = _mm_loadu_si128((const __m128i *)q);
        __m256i x = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b));
        __m256i y = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b));
        __m256i wl = _mm256_set1_epi32(w[0]), wh = _mm256_set1_epi32(w[1]);
        low[0] = _mm256_add_epi32(low[0], _mm256_madd_epi16(x, wl));
        high[0] = _mm256_add_epi32(high[0], _mm256_madd_epi16(x, wh));
        low[1] = _mm256_add_epi32(low[1], _mm256_madd_epi16(y, wl));
        high[1] = _mm256_add_epi32(high[1], _mm256_madd_epi16(y, wh));
    }
    __m256i v = _mm256_packs_epi32(whole(low[0], high[0]), whole(low[1], high[1]));
    v = _mm256_permute4x64_epi64(v, 0xD8); /* packing is per half: 0 2 1 3 */
    return _mm_packus_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
}

static void bytes_down(const struct th_resize_taps *k, int i, const uint8_t *src,
    size_t step, uint8_t *dst, size_t n_bytes)
{
    const int32_t *w = k->weight + (size_t)i * (size_t)k->stride;
    for (size_t b = 0; b < n_bytes; b++) {
        int32_t sum = 1 << (TH_WEIGHT_BITS - 1);
        for (int j = 0; j < k->count[i]; j++)
            sum += src[(size_t)j * step + b] * w[j];
        dst[b] = (uint8_t)plain_rounded(sum);
    }
}

static void down(const struct th_resize_taps *k, int i, const uint8_t *src, size_t step,
    uint8_t *dst, size_t n_bytes)
{
    const int32_t *w = k->pair + (size_t)i * (size_t)k->n_pairs * 2;
    size_t at = 0;
    for (; at + BLOCK <= n_bytes; at += BLOCK)
        _mm_storeu_si128(
            (__m128i *)(dst + at), block_down(w, k->count[i], src + at, step));
    bytes_down(k, i, src + at, step, dst + at, n_bytes - at);
}

extern const struct th_resize_pass th_resize_avx2;
const struct th_resize_pass th_resize_avx2 = {
    .name = "avx2", .across = across, .down = down};
