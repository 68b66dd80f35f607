/* SPDX-License-Identifier: Apache-2.0
 * Owns the rules of detectors of two stages (Ren et al. 2015, arXiv:1506.01497), as torchvision
 * has them. Boxes are [n][boxes][4]; where there is none, x0 is below 0.
 *
 * proposals, of logits [n][rows][1] and deltas [n][rows][4] for the anchors of grids: of each
 * grid the level_most rows of the largest logits; their boxes, cut at the input's edges, but
 * for those narrower or lower than 1e-3; of each grid those that no better one overlaps by
 * more than `overlap`; the `most` best of all, best first. Of equal logits the first row's.
 *
 * sample_rois: the image's objects [n][m] (class -1: none) join the boxes. A box is of the class
 * of the object that it overlaps most, from `overlap` on, else it is background. Drawn are up
 * to `positive` boxes with a class, and background to make `count`; in the order in which they
 * stood. target is the class, -1 background; target_box the object's code (th_roi_encode). Of an
 * image whose key is 0 the first ones are drawn. Places that are left over have target -2 and
 * the drawn boxes again, in turn: statistics of a batch over all places are of real boxes.
 *
 * roi_align (He et al. 2017, arXiv:1703.06870, section 3; without its half pixel): y[b,c,p,q] is
 * the mean of sampling^2 points of a window of box b, each bilinear between four places. The map
 * is floor(4 + log2(sqrt(area)/224) + 1e-6) (Lin et al. 2017, arXiv:1612.03144, equation 1),
 * where 4 is the one of stride 16. No box: zeros. It has no gradient by the boxes.
 *
 * class_rows, x [n][a][(1 + classes) k], the background's values first:
 *
 *   y[n,a,j] = x[n, a, (1 + target) k + j], 0 where target is below 0 */
#include "rule.h"

/* Candidates of a grid, at most. */
static int64_t grid_most(const struct th_attr_proposals *p, int i)
{
    int64_t n = (int64_t)p->grid[i].h * p->grid[i].w * TH_RPN_ANCHORS;
    return n < p->level_most ? n : p->level_most;
}

int64_t th_proposals_most(const struct th_attr_proposals *p)
{
    int64_t most = 0;
    for (int i = 0; i < p->n_grids; i++)
        most += grid_most(p, i);
    return most < p->most ? most : p->most;
}

static thaw_status proposals_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    const struct th_attr_proposals *p = &attr->proposals;
    const int64_t *d = in[0].shape.dim;
    int64_t rows = 0;
    TRY(th_rule_rank("proposals", "logits", &in[0], 3));
    TRY(th_rule_rank("proposals", "deltas", &in[1], 3));
    for (int i = 0; i < p->n_grids; i++)
        rows += (int64_t)p->grid[i].h * p->grid[i].w * TH_RPN_ANCHORS;
    if (d[1] != rows || d[2] != 1 || in[1].shape.dim[0] != d[0] ||
        in[1].shape.dim[1] != rows || in[1].shape.dim[2] != 4)
        return th_fail(THAW_E_USAGE,
            "proposals: a logit and four values for each of %lld anchors",
            (long long)rows);
    th_rule_f32(&out[0], TH_SHAPE(d[0], th_proposals_most(p), 4));
    return THAW_OK;
}

const struct th_op_fn th_rule_proposals = {.shape = proposals_shape, .detached = true};

static bool is_i32(const struct th_operand *o, int64_t rows, int64_t columns)
{
    return o->dtype == TH_I32 && o->shape.rank == 2 && o->shape.dim[0] == rows &&
           o->shape.dim[1] == columns;
}

static thaw_status sample_rois_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    const int64_t *d = in[0].shape.dim, *box = in[1].shape.dim;
    int64_t count = attr->sample.count;
    TRY(th_rule_rank("sample_rois", "rois", &in[0], 3));
    TRY(th_rule_rank("sample_rois", "box", &in[1], 3));
    if (d[2] != 4 || box[0] != d[0] || box[2] != 4 || !is_i32(&in[2], d[0], box[1]) ||
        !is_i32(&in[3], d[0], 2))
        return th_fail(THAW_E_USAGE,
            "sample_rois: boxes, and of as many images objects with a class and a key");
    th_rule_f32(&out[0], TH_SHAPE(d[0], count, 4));
    out[1].shape = TH_SHAPE(d[0], count);
    out[1].dtype = TH_I32;
    th_rule_f32(&out[2], TH_SHAPE(d[0], count, 4));
    return THAW_OK;
}

const struct th_op_fn th_rule_sample_rois = {
    .shape = sample_rois_shape, .detached = true};

enum { ROIS = 4 }; /* input of roi_align */

static thaw_status roi_align_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    const struct th_attr_roi *a = &attr->roi;
    const int64_t *d = in[0].shape.dim, *boxes = in[ROIS].shape.dim;
    TRY(th_rule_rank("roi_align", "rois", &in[ROIS], 3));
    for (int i = 0; i < a->n_maps; i++) {
        TRY(th_rule_rank("roi_align", "a map", &in[i], 4));
        if (in[i].shape.dim[0] != boxes[0] || in[i].shape.dim[1] != d[1])
            return th_fail(THAW_E_USAGE,
                "roi_align: maps of as many channels, of as many images as the boxes");
    }
    th_rule_f32(&out[0], TH_SHAPE(boxes[0] * boxes[1], d[1], a->pooled, a->pooled));
    return THAW_OK;
}

static thaw_status roi_align_grad(struct th_grad *g)
{
    union th_attr attr = *g->attr;
    for (int i = 0; i < attr.roi.n_maps; i++) {
        attr.roi.map = i;
        if (g->need[i])
            TRY(g->emit(g, TH_OP_roi_align_dx, &attr, (int[]){g->dout[0], g->in[ROIS]},
                &g->in[i], &g->din[i]));
    }
    return THAW_OK;
}

const struct th_op_fn th_rule_roi_align = {
    .shape = roi_align_shape, .grad = roi_align_grad};
const struct th_op_fn th_rule_roi_align_dx = {0};

static thaw_status class_rows_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    const int64_t *d = in[0].shape.dim;
    TRY(th_rule_rank("class_rows", "x", &in[0], 3));
    if (!is_i32(&in[1], d[0], d[1]) || d[2] % attr->rows.width)
        return th_fail(THAW_E_USAGE,
            "class_rows: a class for each row, of %d values each", attr->rows.width);
    th_rule_f32(&out[0], TH_SHAPE(d[0], d[1], attr->rows.width));
    return THAW_OK;
}

static thaw_status class_rows_grad(struct th_grad *g)
{
    if (!g->need[0])
        return THAW_OK;
    return th_rule_emit(
        g, TH_OP_class_rows_dx, (int[]){g->dout[0], g->in[1]}, g->in[0], &g->din[0]);
}

const struct th_op_fn th_rule_class_rows = {
    .shape = class_rows_shape, .grad = class_rows_grad};
const struct th_op_fn th_rule_class_rows_dx = {0};
