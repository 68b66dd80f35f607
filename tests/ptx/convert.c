/* SPDX-License-Identifier: Apache-2.0
 * Owns conversions between types, and the instructions that lanes of a warp do together. */
#include "inside.h"

#include <math.h>
#include <string.h>

typedef lane_float f32;
typedef lane32 u32;
typedef lane64 u64;
typedef int32_t s32 __attribute__((may_alias));
typedef int64_t s64 __attribute__((may_alias));

LANE_STEP(u64_u32, u64, u32, u32, u32, a[l])
LANE_STEP(s64_s32, s64, s32, u32, u32, a[l])
LANE_STEP(to_32, u32, u64, u32, u32, a[l])
LANE_STEP(to_16, u32, u32, u32, u32, a[l] & 0xffff)
LANE_STEP(to_16_wide, u32, u64, u32, u32, a[l] & 0xffff)
LANE_STEP(from_u16, u32, u32, u32, u32, a[l] & 0xffff)
LANE_STEP(from_s16, s32, s32, u32, u32, (int16_t)a[l])
LANE_STEP(u64_u16, u64, u32, u32, u32, a[l] & 0xffff)
LANE_STEP(from_u8, u32, u32, u32, u32, a[l] & 0xff)
LANE_STEP(u64_u8, u64, u32, u32, u32, a[l] & 0xff)

LANE_STEP(f32_s32, f32, s32, u32, u32, (float)a[l])
LANE_STEP(f32_u32, f32, u32, u32, u32, (float)a[l])
LANE_STEP(f32_u16, f32, u32, u32, u32, (float)(a[l] & 0xffff))
LANE_STEP(f32_s64, f32, s64, u32, u32, (float)a[l])
LANE_STEP(f32_u64, f32, u64, u32, u32, (float)a[l])

/* To whole numbers: out of range gives the nearest there is, NaN gives 0. */
static int32_t whole(float v)
{
    if (isnan(v))
        return 0;
    return v >= 0x1p31F ? INT32_MAX : v < -0x1p31F ? INT32_MIN : (int32_t)v;
}
static uint32_t natural(float v)
{
    return !(v > 0) ? 0 : v >= 0x1p32F ? UINT32_MAX : (uint32_t)v;
}
LANE_STEP(rzi_s32, s32, f32, u32, u32, whole(a[l]))
LANE_STEP(rni_s32, s32, f32, u32, u32, whole(rintf(a[l])))
LANE_STEP(rzi_u32, u32, f32, u32, u32, natural(a[l]))
LANE_STEP(rni_f32, f32, f32, u32, u32, rintf(a[l]))
LANE_STEP(rzi_f32, f32, f32, u32, u32, truncf(a[l]))
LANE_STEP(rmi_f32, f32, f32, u32, u32, floorf(a[l]))
LANE_STEP(sat_f32, f32, f32, u32, u32, !(a[l] > 0) ? 0 : a[l] > 1 ? 1 : a[l])

/* bf16: the upper half of fp32, to nearest, ties to even */
static uint32_t bf16(uint32_t bits)
{
    if ((bits & 0x7fffffff) > 0x7f800000)
        return 0x7fff;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
LANE_STEP(bf16_f32, u32, u32, u32, u32, bf16(a[l]))
LANE_STEP(bf16x2_f32, u32, u32, u32, u32, bf16(a[l]) << 16 | bf16(b[l]))
LANE_STEP(f32_bf16, u32, u32, u32, u32, a[l] << 16)

#define ROW(text, signature, run)                                                      \
    {                                                                                  \
        text, signature, run, PLAIN                                                    \
    }

const struct op ptx_convert_ops[] = {
    ROW("cvt.u64.u32", "d=r", u64_u32),
    ROW("cvt.s64.s32", "d=r", s64_s32),
    ROW("cvt.u32.u64", "r=d", to_32),
    ROW("cvt.s32.s64", "r=d", to_32),
    ROW("cvt.u16.u32", "h=r", to_16),
    ROW("cvt.u16.u64", "h=d", to_16_wide),
    ROW("cvt.u32.u16", "r=h", from_u16),
    ROW("cvt.s32.s16", "r=h", from_s16),
    ROW("cvt.u64.u16", "d=h", u64_u16),
    ROW("cvt.u32.u8", "r=h", from_u8),
    ROW("cvt.u32.u8", "r=r", from_u8),
    ROW("cvt.u16.u8", "h=h", from_u8),
    ROW("cvt.u64.u8", "d=h", u64_u8),
    ROW("cvt.rn.f32.s32", "r=r", f32_s32),
    ROW("cvt.rn.f32.u32", "r=r", f32_u32),
    ROW("cvt.rn.f32.u16", "r=h", f32_u16),
    ROW("cvt.rn.f32.s64", "r=d", f32_s64),
    ROW("cvt.rn.f32.u64", "r=d", f32_u64),
    ROW("cvt.rzi.s32.f32", "r=r", rzi_s32),
    ROW("cvt.rni.s32.f32", "r=r", rni_s32),
    ROW("cvt.rzi.u32.f32", "r=r", rzi_u32),
    ROW("cvt.rni.f32.f32", "r=r", rni_f32),
    ROW("cvt.rzi.f32.f32", "r=r", rzi_f32),
    ROW("cvt.rmi.f32.f32", "r=r", rmi_f32),
    ROW("cvt.sat.f32.f32", "r=r", sat_f32),
    ROW("cvt.rn.bf16.f32", "h=r", bf16_f32),
    ROW("cvt.rn.bf16x2.f32", "r=rr", bf16x2_f32),
    ROW("cvt.f32.bf16", "r=h", f32_bf16),
    {0},
};

/* ---- together ---- */

static void sync_lanes(struct warp *w, const struct insn *in, uint32_t active)
{
    (void)w, (void)in, (void)active; /* the schedule did it */
}

enum shuffle { UP, DOWN, BUTTERFLY, INDEX };

/* Sources: value, offset, clamp and segment mask, member mask (PTX manual, shfl.sync). */
static void shuffle(
    struct warp *w, const struct insn *in, uint32_t active, enum shuffle mode)
{
    u32 *d = w->units[in->result[0]], taken[LANES], inside = 0;
    const u32 *a = w->units[in->source[0]], *b = w->units[in->source[1]],
              *c = w->units[in->source[2]];
    for (uint32_t rest = active; rest; rest &= rest - 1) {
        int lane = lowest(rest), offset = (int)(b[lane] & 31);
        int clamp = (int)(c[lane] & 31), segment = (int)(c[lane] >> 8 & 31);
        int most = (lane & segment) | (clamp & ~segment), first = lane & segment;
        int from = mode == UP          ? lane - offset
                   : mode == DOWN      ? lane + offset
                   : mode == BUTTERFLY ? lane ^ offset
                                       : (first | (offset & ~segment));
        bool in_range = mode == UP ? from >= most : from <= most;
        if (!in_range)
            from = lane;
        if (!(active >> from & 1)) {
            ptx_found(w, lane, "%s from lane %d, which is inactive", in->text, from);
            return;
        }
        inside |= (uint32_t)in_range << lane;
        taken[lane] = a[from];
    }
    for (uint32_t rest = active; rest; rest &= rest - 1)
        d[lowest(rest)] = taken[lowest(rest)];
    if (in->n_results > 1) {
        u32 *p = w->units[in->result[1]];
        *p = (*p & ~active) | inside;
    }
}

static void shfl_up(struct warp *w, const struct insn *in, uint32_t active)
{
    shuffle(w, in, active, UP);
}

static void shfl_down(struct warp *w, const struct insn *in, uint32_t active)
{
    shuffle(w, in, active, DOWN);
}

static void shfl_bfly(struct warp *w, const struct insn *in, uint32_t active)
{
    shuffle(w, in, active, BUTTERFLY);
}

static void shfl_idx(struct warp *w, const struct insn *in, uint32_t active)
{
    shuffle(w, in, active, INDEX);
}

static void ballot(struct warp *w, const struct insn *in, uint32_t active)
{
    u32 *d = w->units[in->result[0]], bits = w->units[in->source[0]][0] & active;
    EACH(active, d[l] = bits);
}

static void vote_any(struct warp *w, const struct insn *in, uint32_t active)
{
    u32 *d = w->units[in->result[0]], bits = w->units[in->source[0]][0] & active;
    *d = bits ? *d | active : *d & ~active;
}

static void vote_all(struct warp *w, const struct insn *in, uint32_t active)
{
    u32 *d = w->units[in->result[0]], bits = w->units[in->source[0]][0] & active;
    *d = bits == active ? *d | active : *d & ~active;
}

const struct op ptx_warp_ops[] = {
    {"shfl.sync.up.b32", "r|p=rrrr", shfl_up, WARP_WIDE},
    {"shfl.sync.down.b32", "r|p=rrrr", shfl_down, WARP_WIDE},
    {"shfl.sync.bfly.b32", "r|p=rrrr", shfl_bfly, WARP_WIDE},
    {"shfl.sync.idx.b32", "r|p=rrrr", shfl_idx, WARP_WIDE},
    {"vote.sync.ballot.b32", "r=pr", ballot, WARP_WIDE},
    {"vote.sync.any.pred", "p=pr", vote_any, WARP_WIDE},
    {"vote.sync.all.pred", "p=pr", vote_all, WARP_WIDE},
    {"bar.warp.sync", "=r", sync_lanes, WARP_SYNC},
    {"bar.sync", "=r", sync_lanes, BARRIER},
    {"barrier.sync", "=r", sync_lanes, BARRIER},
    {0},
};
