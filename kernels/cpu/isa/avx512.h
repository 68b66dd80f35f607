/* SPDX-License-Identifier: Apache-2.0
 * Vectors of AVX-512; see lanes.h. */
#include <immintrin.h>

enum { TH_LANES = 16 };

typedef float th_vf __attribute__((vector_size(64)));

static inline th_vf vf_max(th_vf a, th_vf b)
{
    return _mm512_max_ps(a, b);
}

static inline uint32_t vf_positive(th_vf v)
{
    return _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_GT_OQ);
}

static inline th_vf vf_keep(th_vf v, uint32_t bits)
{
    return _mm512_maskz_mov_ps((__mmask16)bits, v);
}
