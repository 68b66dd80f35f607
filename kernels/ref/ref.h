/* SPDX-License-Identifier: Apache-2.0
 * The plain C engine: every op as its formula, for any channel block and any number of
 * threads with the same bits. Sums are taken in double. Speed is not its purpose.
 *
 * A place is a position in memory; a value of [n][c][h][w] has the place th_ref_at. */
#ifndef TH_REF_H
#define TH_REF_H

#include "backend.h"

#define REF(op, ...) thaw_status th_ref_##op(const struct th_call *call);
#include "ref.def"
#undef REF

/* scratch: double [n][heads][t][t]: scores; in dx probabilities, then the scores'
 * gradient. */
thaw_status th_ref_attention_prepare(struct th_call *call);
thaw_status th_ref_attention_dx_prepare(struct th_call *call);

/* scratch: the candidates of all grids, then of each box; boxes and their draws; double
 * [n][c][h][w]. */
thaw_status th_ref_proposals_prepare(struct th_call *call);
thaw_status th_ref_sample_rois_prepare(struct th_call *call);
thaw_status th_ref_roi_align_dx_prepare(struct th_call *call);

/* The kernel of an op, NULL where the table has none. */
const struct th_kernel *th_ref_kernel(enum th_op op);

/* Distance in memory between horizontal neighbours: the channel block. */
static inline int64_t th_ref_step(const struct th_operand *o)
{
    return o->shape.rank == 4 && o->block > 1 ? o->block : 1;
}

/* Place of x[n][c][y][x]. Rows are dim[3] steps apart. */
static inline int64_t th_ref_at(
    const struct th_operand *o, int64_t n, int64_t c, int64_t y, int64_t x)
{
    const int64_t *d = o->shape.dim, b = th_ref_step(o);
    return (((n * (d[1] / b) + c / b) * d[2] + y) * d[3] + x) * b + c % b;
}

/* Channel of the value at a place of [n][c][h][w]. */
static inline int64_t th_ref_channel(const struct th_operand *o, int64_t place)
{
    const int64_t *d = o->shape.dim, b = th_ref_step(o);
    return place / (d[2] * d[3] * b) % (d[1] / b) * b + place % b;
}

/* Row-major index [n][c][h][w] (or of any other rank) of the value at a place. */
static inline int64_t th_ref_canonical(const struct th_operand *o, int64_t place)
{
    int64_t b = th_ref_step(o);
    if (b == 1)
        return place;
    int64_t plane = o->shape.dim[2] * o->shape.dim[3];
    return (place / (plane * b) * b + place % b) * plane + place / b % plane;
}

/* Values per channel. */
static inline int64_t th_ref_plane(const struct th_operand *o)
{
    return o->shape.dim[2] * o->shape.dim[3];
}

static inline bool th_ref_bit(const uint8_t *mask, int64_t i)
{
    return mask[i / 8] >> (i % 8) & 1;
}

#endif
