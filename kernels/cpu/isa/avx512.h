/* SPDX-License-Identifier: Apache-2.0
 * Vectors of AVX-512; see lanes.h. */
#include <immintrin.h>

enum {
    TH_LANES = 16,
    TH_PRODUCT_ROWS = 12,
    TH_PRODUCT_COLUMNS = 2,
    TH_PRODUCT_DW_ROWS = 8,
    TH_TILE_ROWS = 14
};

typedef float th_vf __attribute__((vector_size(64)));
typedef int32_t th_vi __attribute__((vector_size(64)));

static inline th_vf vf_max(th_vf a, th_vf b)
{
    return _mm512_max_ps(a, b);
}

/* a*b + c, rounded once */
static inline th_vf vf_fma(th_vf a, th_vf b, th_vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* Lanes of a and b in turn: a0 b0 a1 b1 ..., the first half of it and the second. */
static inline void vf_zip(th_vf a, th_vf b, th_vf *first, th_vf *second)
{
    __m512i low =
        _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    *first = _mm512_permutex2var_ps(a, low, b);
    *second = _mm512_permutex2var_ps(a, high, b);
}

static inline uint32_t vf_positive(th_vf v)
{
    return _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_GT_OQ);
}

static inline th_vf vf_keep(th_vf v, uint32_t bits)
{
    return _mm512_maskz_mov_ps((__mmask16)bits, v);
}

static inline void vf_better(th_vf v, float place, th_vf *best, th_vf *where)
{
    __mmask16 up = _mm512_cmp_ps_mask(v, *best, _CMP_GT_OQ) |
                   _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    *best = _mm512_mask_mov_ps(*best, up, v);
    *where = _mm512_mask_mov_ps(*where, up, _mm512_set1_ps(place));
}

static inline th_vf vf_keep_equal(th_vf v, const uint8_t *p, int place)
{
    __m128i bytes = _mm_loadu_si128((const __m128i_u *)p);
    return _mm512_maskz_mov_ps(
        _mm_cmpeq_epi8_mask(bytes, _mm_set1_epi8((char)place)), v);
}
