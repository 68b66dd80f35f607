/* SPDX-License-Identifier: Apache-2.0
 * Vectors of AVX2; see lanes.h. */
#include <immintrin.h>

/* TH_PRODUCT_: registers of a matrix product, rows by vectors; two and one remain. */
enum {
    TH_LANES = 8,
    TH_PRODUCT_ROWS = 6,
    TH_PRODUCT_COLUMNS = 2,
    TH_PRODUCT_DW_ROWS = 4,
    TH_TILE_ROWS = 6
};

typedef float th_vf __attribute__((vector_size(32)));
typedef int32_t th_vi __attribute__((vector_size(32)));

static inline th_vf vf_max(th_vf a, th_vf b)
{
    return _mm256_max_ps(a, b);
}

/* a*b + c, rounded once */
static inline th_vf vf_fma(th_vf a, th_vf b, th_vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

/* Lanes of a and b in turn: a0 b0 a1 b1 ..., the first half of it and the second. */
static inline void vf_zip(th_vf a, th_vf b, th_vf *first, th_vf *second)
{
    __m256 low = _mm256_unpacklo_ps(a, b), high = _mm256_unpackhi_ps(a, b);
    *first = _mm256_permute2f128_ps(low, high, 0x20);
    *second = _mm256_permute2f128_ps(low, high, 0x31);
}

static inline uint32_t vf_positive(th_vf v)
{
    return (uint32_t)_mm256_movemask_ps((th_vf)(v > 0));
}

static inline th_vf vf_keep(th_vf v, uint32_t bits)
{
    th_vi one = {1, 2, 4, 8, 16, 32, 64, 128};
    return (th_vf)((th_vi)v & (((int32_t)bits & one) != 0));
}

static inline void vf_better(th_vf v, float place, th_vf *best, th_vf *where)
{
    th_vf up = (th_vf)((v > *best) | (v != v));
    *best = _mm256_blendv_ps(*best, v, up);
    *where = _mm256_blendv_ps(*where, _mm256_set1_ps(place), up);
}

static inline th_vf vf_keep_equal(th_vf v, const uint8_t *p, int place)
{
    __m128i bytes = _mm_loadl_epi64((const __m128i_u *)p);
    return (th_vf)((th_vi)v & ((th_vi)_mm256_cvtepu8_epi32(bytes) == place));
}
