/* SPDX-License-Identifier: Apache-2.0
 * Owns whole numbers, bits, moves and predicates: one function an instruction, in a table. */
#include "inside.h"

typedef int32_t s32 __attribute__((may_alias));
typedef int64_t s64 __attribute__((may_alias));
typedef lane32 u32;
typedef lane64 u64;

LANE_STEP(mov32, u32, u32, u32, u32, a[l])
LANE_STEP(mov64, u64, u64, u32, u32, a[l])
LANE_STEP(pack32, u32, u32, u32, u32, (a[l] & 0xffff) | b[l] << 16)
LANE_STEP(pack64, u64, u32, u32, u32, a[l] | (uint64_t)b[l] << 32)

/* mov.b32 {h, h}, r and mov.b64 {r, r}, d */
static void unpack32(struct warp *w, const struct insn *in, uint32_t active)
{
    const u32 *a = w->units[in->source[0]];
    u32 *low = w->units[in->result[0]], *high = w->units[in->result[1]];
    EACH(active, low[l] = a[l] & 0xffff; high[l] = a[l] >> 16);
}

static void unpack64(struct warp *w, const struct insn *in, uint32_t active)
{
    const u64 *a = (const void *)w->units[in->source[0]];
    u32 *low = w->units[in->result[0]], *high = w->units[in->result[1]];
    EACH(active, low[l] = (uint32_t)a[l]; high[l] = (uint32_t)(a[l] >> 32));
}

LANE_STEP(add32, u32, u32, u32, u32, a[l] + b[l])
LANE_STEP(sub32, u32, u32, u32, u32, a[l] - b[l])
LANE_STEP(mul32, u32, u32, u32, u32, a[l] * b[l])
LANE_STEP(mad32, u32, u32, u32, u32, a[l] * b[l] + c[l])
LANE_STEP(neg32, u32, u32, u32, u32, 0 - a[l])
LANE_STEP(mul_hi_u32, u32, u32, u32, u32, ((uint64_t)a[l] * b[l]) >> 32)
LANE_STEP(mul_hi_s32, u32, s32, s32, u32, ((int64_t)a[l] * b[l]) >> 32)
LANE_STEP(mul_wide_u32, u64, u32, u32, u32, (uint64_t)a[l] * b[l])
LANE_STEP(mul_wide_s32, s64, s32, s32, u32, (int64_t)a[l] * b[l])
LANE_STEP(mul_wide_u16, u32, u32, u32, u32, (a[l] & 0xffff) * (b[l] & 0xffff))
LANE_STEP(mad_wide_u32, u64, u32, u32, u64, (uint64_t)a[l] * b[l] + c[l])
LANE_STEP(mad_wide_s32, u64, s32, s32, u64, (uint64_t)((int64_t)a[l] * b[l]) + c[l])
/* by 0: all bits set, as on a device */
LANE_STEP(div_u32, u32, u32, u32, u32, b[l] ? a[l] / b[l] : 0xffffffff)
LANE_STEP(rem_u32, u32, u32, u32, u32, b[l] ? a[l] % b[l] : a[l])
LANE_STEP(div_s32, u32, s32, s32, u32, b[l] ? (int64_t)a[l] / b[l] : -1)
LANE_STEP(rem_s32, u32, s32, s32, u32, b[l] ? (int64_t)a[l] % b[l] : a[l])
LANE_STEP(min_s32, s32, s32, s32, u32, a[l] < b[l] ? a[l] : b[l])
LANE_STEP(max_s32, s32, s32, s32, u32, a[l] > b[l] ? a[l] : b[l])
LANE_STEP(min_u32, u32, u32, u32, u32, a[l] < b[l] ? a[l] : b[l])
LANE_STEP(max_u32, u32, u32, u32, u32, a[l] > b[l] ? a[l] : b[l])

LANE_STEP(add64, u64, u64, u64, u32, a[l] + b[l])
LANE_STEP(sub64, u64, u64, u64, u32, a[l] - b[l])
LANE_STEP(mul64, u64, u64, u64, u32, a[l] * b[l])
LANE_STEP(mad64, u64, u64, u64, u64, a[l] * b[l] + c[l])
LANE_STEP(neg64, u64, u64, u32, u32, 0 - a[l])
LANE_STEP(div_u64, u64, u64, u64, u32, b[l] ? a[l] / b[l] : ~0ULL)
LANE_STEP(rem_u64, u64, u64, u64, u32, b[l] ? a[l] % b[l] : a[l])
LANE_STEP(div_s64, u64, s64, s64, u32,
    b[l] == 0    ? -1
    : b[l] == -1 ? (int64_t)(0 - (uint64_t)a[l])
                 : a[l] / b[l])
LANE_STEP(rem_s64, u64, s64, s64, u32, b[l] == 0 ? a[l] : b[l] == -1 ? 0 : a[l] % b[l])
LANE_STEP(min_s64, s64, s64, s64, u32, a[l] < b[l] ? a[l] : b[l])
LANE_STEP(max_s64, s64, s64, s64, u32, a[l] > b[l] ? a[l] : b[l])
LANE_STEP(min_u64, u64, u64, u64, u32, a[l] < b[l] ? a[l] : b[l])
LANE_STEP(max_u64, u64, u64, u64, u32, a[l] > b[l] ? a[l] : b[l])

LANE_STEP(add16, u32, u32, u32, u32, (a[l] + b[l]) & 0xffff)
LANE_STEP(sub16, u32, u32, u32, u32, (a[l] - b[l]) & 0xffff)
LANE_STEP(mul16, u32, u32, u32, u32, (a[l] * b[l]) & 0xffff)
LANE_STEP(shl16, u32, u32, u32, u32, b[l] > 15 ? 0 : a[l] << b[l] & 0xffff)
LANE_STEP(shr_u16, u32, u32, u32, u32, b[l] > 15 ? 0 : (a[l] & 0xffff) >> b[l])

LANE_STEP(and32, u32, u32, u32, u32, a[l] & b[l])
LANE_STEP(or32, u32, u32, u32, u32, a[l] | b[l])
LANE_STEP(xor32, u32, u32, u32, u32, a[l] ^ b[l])
LANE_STEP(not32, u32, u32, u32, u32, ~a[l])
LANE_STEP(not16, u32, u32, u32, u32, ~a[l] & 0xffff)
LANE_STEP(shl32, u32, u32, u32, u32, b[l] > 31 ? 0 : a[l] << b[l])
LANE_STEP(shr_u32, u32, u32, u32, u32, b[l] > 31 ? 0 : a[l] >> b[l])
LANE_STEP(shr_s32, s32, s32, u32, u32, a[l] >> (b[l] > 31 ? 31 : b[l]))
LANE_STEP(and64, u64, u64, u64, u32, a[l] & b[l])
LANE_STEP(or64, u64, u64, u64, u32, a[l] | b[l])
LANE_STEP(xor64, u64, u64, u64, u32, a[l] ^ b[l])
LANE_STEP(not64, u64, u64, u32, u32, ~a[l])
LANE_STEP(shl64, u64, u64, u32, u32, b[l] > 63 ? 0 : a[l] << b[l])
LANE_STEP(shr_u64, u64, u64, u32, u32, b[l] > 63 ? 0 : a[l] >> b[l])
LANE_STEP(shr_s64, s64, s64, u32, u32, a[l] >> (b[l] > 63 ? 63 : b[l]))
LANE_STEP(shf_l, u32, u32, u32, u32,
    (c[l] & 31) ? b[l] << (c[l] & 31) | a[l] >> (32 - (c[l] & 31)) : b[l])
LANE_STEP(shf_r, u32, u32, u32, u32,
    (c[l] & 31) ? b[l] << (32 - (c[l] & 31)) | a[l] >> (c[l] & 31) : a[l])
LANE_STEP(popc, u32, u32, u32, u32, __builtin_popcount(a[l]))
LANE_STEP(clz, u32, u32, u32, u32, a[l] ? __builtin_clz(a[l]) : 32)

static uint32_t permuted(uint64_t bytes, uint32_t selector)
{
    uint32_t d = 0;
    for (int i = 0; i < 4; i++) {
        unsigned s = selector >> 4 * i & 15;
        uint32_t byte = bytes >> 8 * (s & 7) & 0xff;
        d |= (s & 8 ? (byte & 0x80 ? 0xffU : 0) : byte) << 8 * i;
    }
    return d;
}
LANE_STEP(prmt, u32, u32, u32, u32, permuted((uint64_t)b[l] << 32 | a[l], c[l]))

static uint32_t field(uint32_t a, uint32_t from, uint32_t bits)
{
    from &= 0xff;
    bits &= 0xff;
    uint32_t v = from > 31 ? 0 : a >> from;
    return bits > 31 ? v : v & ((1U << bits) - 1);
}
LANE_STEP(bfe_u32, u32, u32, u32, u32, field(a[l], b[l], c[l]))

/* the low bits of a, `n` of them, into b from bit `from` on */
static void bfi(struct warp *w, const struct insn *in, uint32_t active)
{
    u32 *d = w->units[in->result[0]];
    const u32 *a = w->units[in->source[0]], *b = w->units[in->source[1]],
              *from = w->units[in->source[2]], *n = w->units[in->source[3]];
    for (; active; active &= active - 1) {
        int l = lowest(active);
        uint64_t bits = (n[l] & 0xff) > 31 ? 0xffffffff : (1ULL << (n[l] & 0xff)) - 1;
        uint64_t mask = (from[l] & 0xff) > 31 ? 0 : bits << (from[l] & 0xff);
        d[l] = (uint32_t)((b[l] & ~mask) | ((uint64_t)a[l] << (from[l] & 31) & mask));
    }
}

static void bfi64(struct warp *w, const struct insn *in, uint32_t active)
{
    u64 *d = (void *)w->units[in->result[0]];
    const u64 *a = (const void *)w->units[in->source[0]],
              *b = (const void *)w->units[in->source[1]];
    const u32 *from = w->units[in->source[2]], *n = w->units[in->source[3]];
    for (; active; active &= active - 1) {
        int l = lowest(active);
        uint64_t bits = (n[l] & 0xff) > 63 ? ~0ULL : (1ULL << (n[l] & 0xff)) - 1;
        uint64_t mask = (from[l] & 0xff) > 63 ? 0 : bits << (from[l] & 0xff);
        d[l] = (b[l] & ~mask) | (a[l] << (from[l] & 63) & mask);
    }
}

/* the table of three bits: bit 4a+2b+c */
static void lop3(struct warp *w, const struct insn *in, uint32_t active)
{
    u32 *d = w->units[in->result[0]];
    const u32 *a = w->units[in->source[0]], *b = w->units[in->source[1]],
              *c = w->units[in->source[2]], *table = w->units[in->source[3]];
    for (; active; active &= active - 1) {
        int l = lowest(active);
        uint32_t v = 0;
        for (int k = 0; k < 8; k++)
            if (table[l] >> k & 1)
                v |= (k & 4 ? a[l] : ~a[l]) & (k & 2 ? b[l] : ~b[l]) &
                     (k & 1 ? c[l] : ~c[l]);
        d[l] = v;
    }
}

/* ---- chosen by a predicate ---- */

static void selp32(struct warp *w, const struct insn *in, uint32_t active)
{
    u32 *d = w->units[in->result[0]], p = w->units[in->source[2]][0];
    const u32 *a = w->units[in->source[0]], *b = w->units[in->source[1]];
    EACH(active, d[l] = p >> l & 1 ? a[l] : b[l]);
}

static void selp64(struct warp *w, const struct insn *in, uint32_t active)
{
    u64 *d = (void *)w->units[in->result[0]];
    u32 p = w->units[in->source[2]][0];
    const u64 *a = (const void *)w->units[in->source[0]],
              *b = (const void *)w->units[in->source[1]];
    EACH(active, d[l] = p >> l & 1 ? a[l] : b[l]);
}

#define PREDICATE_STEP(name, expression)                                               \
    static void name(struct warp *w, const struct insn *in, uint32_t active)           \
    {                                                                                  \
        uint32_t *d = w->units[in->result[0]], a = w->units[in->source[0]][0],         \
                 b = w->units[in->source[1]][0];                                       \
        (void)b;                                                                       \
        *d = (*d & ~active) | ((expression)&active);                                   \
    }
PREDICATE_STEP(and_pred, a &b)
PREDICATE_STEP(or_pred, a | b)
PREDICATE_STEP(xor_pred, a ^ b)
PREDICATE_STEP(not_pred, ~a)
PREDICATE_STEP(mov_pred, a)

/* ---- comparisons ---- */

#define COMPARE(type, T)                                                               \
    LANE_TEST(eq_##type, T, a[l] == b[l])                                              \
    LANE_TEST(ne_##type, T, a[l] != b[l])                                              \
    LANE_TEST(lt_##type, T, a[l] < b[l])                                               \
    LANE_TEST(le_##type, T, a[l] <= b[l])                                              \
    LANE_TEST(gt_##type, T, a[l] > b[l])                                               \
    LANE_TEST(ge_##type, T, a[l] >= b[l])
COMPARE(s32, s32)
COMPARE(u32, u32)
COMPARE(s64, s64)
COMPARE(u64, u64)
LANE_TEST(eq_16, u32, (a[l] & 0xffff) == (b[l] & 0xffff))
LANE_TEST(ne_16, u32, (a[l] & 0xffff) != (b[l] & 0xffff))
LANE_TEST(lt_u16, u32, (a[l] & 0xffff) < (b[l] & 0xffff))
LANE_TEST(gt_u16, u32, (a[l] & 0xffff) > (b[l] & 0xffff))

#define COMPARISONS(type, signature)                                                   \
    {"setp.eq." #type, signature, eq_##type, PLAIN},                                   \
        {"setp.ne." #type, signature, ne_##type, PLAIN},                               \
        {"setp.lt." #type, signature, lt_##type, PLAIN},                               \
        {"setp.le." #type, signature, le_##type, PLAIN},                               \
        {"setp.gt." #type, signature, gt_##type, PLAIN},                               \
        {"setp.ge." #type, signature, ge_##type, PLAIN},

#define ROW(text, signature, run)                                                      \
    {                                                                                  \
        text, signature, run, PLAIN                                                    \
    }
/* of signed and unsigned alike */
#define ROWS(text, suffix, signature, run)                                             \
    ROW(text ".s" suffix, signature, run), ROW(text ".u" suffix, signature, run)

const struct op ptx_int_ops[] = {
    COMPARISONS(s32, "p=rr") COMPARISONS(u32, "p=rr") COMPARISONS(s64, "p=dd")
        COMPARISONS(u64, "p=dd") ROW("setp.eq.b32", "p=rr", eq_u32),
    ROW("setp.ne.b32", "p=rr", ne_u32),
    ROW("setp.eq.b64", "p=dd", eq_u64),
    ROW("setp.ne.b64", "p=dd", ne_u64),
    ROWS("setp.eq", "16", "p=hh", eq_16),
    ROW("setp.eq.b16", "p=hh", eq_16),
    ROWS("setp.ne", "16", "p=hh", ne_16),
    ROW("setp.ne.b16", "p=hh", ne_16),
    ROW("setp.lt.u16", "p=hh", lt_u16),
    ROW("setp.gt.u16", "p=hh", gt_u16),
    ROWS("mov", "32", "r=r", mov32),
    ROW("mov.b32", "r=r", mov32),
    ROW("mov.f32", "r=r", mov32),
    ROW("mov.b32", "r=hh", pack32),
    ROW("mov.b32", "hh=r", unpack32),
    ROWS("mov", "64", "d=d", mov64),
    ROW("mov.b64", "d=d", mov64),
    ROW("mov.b64", "d=rr", pack64),
    ROW("mov.b64", "rr=d", unpack64),
    ROWS("mov", "16", "h=h", mov32),
    ROW("mov.b16", "h=h", mov32),
    ROW("mov.pred", "p=p", mov_pred),
    ROW("cvta.to.global.u64", "d=d", mov64),
    ROWS("add", "32", "r=rr", add32),
    ROWS("sub", "32", "r=rr", sub32),
    ROWS("mul.lo", "32", "r=rr", mul32),
    ROWS("mad.lo", "32", "r=rrr", mad32),
    ROW("neg.s32", "r=r", neg32),
    ROW("mul.hi.u32", "r=rr", mul_hi_u32),
    ROW("mul.hi.s32", "r=rr", mul_hi_s32),
    ROW("mul.wide.u32", "d=rr", mul_wide_u32),
    ROW("mul.wide.s32", "d=rr", mul_wide_s32),
    ROW("mul.wide.u16", "r=hh", mul_wide_u16),
    ROW("mad.wide.u32", "d=rrd", mad_wide_u32),
    ROW("mad.wide.s32", "d=rrd", mad_wide_s32),
    ROW("div.u32", "r=rr", div_u32),
    ROW("rem.u32", "r=rr", rem_u32),
    ROW("div.s32", "r=rr", div_s32),
    ROW("rem.s32", "r=rr", rem_s32),
    ROW("min.s32", "r=rr", min_s32),
    ROW("max.s32", "r=rr", max_s32),
    ROW("min.u32", "r=rr", min_u32),
    ROW("max.u32", "r=rr", max_u32),
    ROWS("add", "64", "d=dd", add64),
    ROWS("sub", "64", "d=dd", sub64),
    ROWS("mul.lo", "64", "d=dd", mul64),
    ROWS("mad.lo", "64", "d=ddd", mad64),
    ROW("neg.s64", "d=d", neg64),
    ROW("div.u64", "d=dd", div_u64),
    ROW("rem.u64", "d=dd", rem_u64),
    ROW("div.s64", "d=dd", div_s64),
    ROW("rem.s64", "d=dd", rem_s64),
    ROW("min.s64", "d=dd", min_s64),
    ROW("max.s64", "d=dd", max_s64),
    ROW("min.u64", "d=dd", min_u64),
    ROW("max.u64", "d=dd", max_u64),
    ROWS("add", "16", "h=hh", add16),
    ROWS("sub", "16", "h=hh", sub16),
    ROWS("mul.lo", "16", "h=hh", mul16),
    ROW("shl.b16", "h=hr", shl16),
    ROW("shr.u16", "h=hr", shr_u16),
    ROW("and.b32", "r=rr", and32),
    ROW("or.b32", "r=rr", or32),
    ROW("xor.b32", "r=rr", xor32),
    ROW("not.b32", "r=r", not32),
    ROW("and.b16", "h=hh", and32),
    ROW("or.b16", "h=hh", or32),
    ROW("xor.b16", "h=hh", xor32),
    ROW("not.b16", "h=h", not16),
    ROW("shl.b32", "r=rr", shl32),
    ROW("shr.u32", "r=rr", shr_u32),
    ROW("shr.b32", "r=rr", shr_u32),
    ROW("shr.s32", "r=rr", shr_s32),
    ROW("and.b64", "d=dd", and64),
    ROW("or.b64", "d=dd", or64),
    ROW("xor.b64", "d=dd", xor64),
    ROW("not.b64", "d=d", not64),
    ROW("shl.b64", "d=dr", shl64),
    ROW("shr.u64", "d=dr", shr_u64),
    ROW("shr.b64", "d=dr", shr_u64),
    ROW("shr.s64", "d=dr", shr_s64),
    ROW("shf.l.wrap.b32", "r=rrr", shf_l),
    ROW("shf.r.wrap.b32", "r=rrr", shf_r),
    ROW("popc.b32", "r=r", popc),
    ROW("clz.b32", "r=r", clz),
    ROW("prmt.b32", "r=rrr", prmt),
    ROW("bfe.u32", "r=rrr", bfe_u32),
    ROW("bfi.b32", "r=rrrr", bfi),
    ROW("bfi.b64", "d=ddrr", bfi64),
    ROW("lop3.b32", "r=rrrr", lop3),
    ROWS("selp", "32", "r=rrp", selp32),
    ROW("selp.b32", "r=rrp", selp32),
    ROW("selp.f32", "r=rrp", selp32),
    ROWS("selp", "64", "d=ddp", selp64),
    ROW("selp.b64", "d=ddp", selp64),
    ROWS("selp", "16", "h=hhp", selp32),
    ROW("selp.b16", "h=hhp", selp32),
    ROW("and.pred", "p=pp", and_pred),
    ROW("or.pred", "p=pp", or_pred),
    ROW("xor.pred", "p=pp", xor_pred),
    ROW("not.pred", "p=p", not_pred),
    {0},
};
