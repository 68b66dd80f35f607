/* SPDX-License-Identifier: Apache-2.0
 * Vectors without more than the compiler's own; see lanes.h. */
enum {
    TH_LANES = 4,
    TH_PRODUCT_ROWS = 6,
    TH_PRODUCT_COLUMNS = 2,
    TH_PRODUCT_DW_ROWS = 4,
    TH_TILE_ROWS = 6
};

typedef float th_vf __attribute__((vector_size(16)));
typedef int32_t th_vi __attribute__((vector_size(16)));

static inline th_vf vf_max(th_vf a, th_vf b)
{
    th_vi larger = a > b;
    return (th_vf)(((th_vi)a & larger) | ((th_vi)b & ~larger));
}

/* a*b + c, rounded twice */
static inline th_vf vf_fma(th_vf a, th_vf b, th_vf c)
{
    return a * b + c;
}

/* Lanes of a and b in turn: a0 b0 a1 b1 ..., the first half of it and the second. */
static inline void vf_zip(th_vf a, th_vf b, th_vf *first, th_vf *second)
{
    *first = (th_vf){a[0], b[0], a[1], b[1]};
    *second = (th_vf){a[2], b[2], a[3], b[3]};
}

/* Bit i of the result: v[i] > 0. */
static inline uint32_t vf_positive(th_vf v)
{
    th_vi bits = (v > 0) & (th_vi){1, 2, 4, 8};
    return (uint32_t)(bits[0] | bits[1] | bits[2] | bits[3]);
}

/* v where the bit is set, else 0. */
static inline th_vf vf_keep(th_vf v, uint32_t bits)
{
    th_vi one = {1, 2, 4, 8};
    return (th_vf)((th_vi)v & (((int32_t)bits & one) != 0));
}

/* Where v is larger than best or not a number: best = v, where = place. */
static inline void vf_better(th_vf v, float place, th_vf *best, th_vf *where)
{
    th_vi up = (v > *best) | (v != v);
    th_vf at = place - (th_vf){0};
    *best = (th_vf)(((th_vi)v & up) | ((th_vi)*best & ~up));
    *where = (th_vf)(((th_vi)at & up) | ((th_vi)*where & ~up));
}

/* v where p[i] is `place`, else 0. */
static inline th_vf vf_keep_equal(th_vf v, const uint8_t *p, int place)
{
    th_vi at = {p[0], p[1], p[2], p[3]};
    return (th_vf)((th_vi)v & (at == place));
}
