/* SPDX-License-Identifier: Apache-2.0
 * Owns the launches of proposals.cu. */
#include "own_ops.h"

#include "balance.h"
#include "rng.h"

/* ---- proposals ---- */

static struct th_k_grids grids_of(const struct th_call *call)
{
    const struct th_attr_proposals *p = &call->attr.proposals;
    struct th_k_grids g = {.images = (uint32_t)call->in[0].shape.dim[0],
        .n = (uint32_t)p->n_grids,
        .size = {p->size.w, p->size.h}};
    _Static_assert((int)TH_GRIDS == (int)TH_MAX_GRIDS, "of attributes and parameters");
    for (int i = 0; i < p->n_grids; i++) {
        uint32_t rows = (uint32_t)(p->grid[i].h * p->grid[i].w * TH_RPN_ANCHORS);
        uint32_t most = (uint32_t)p->level_most;
        g.row[i + 1] = g.row[i] + rows;
        g.candidate[i + 1] = g.candidate[i] + (rows < most ? rows : most);
        g.h[i] = p->grid[i].h;
        g.w[i] = p->grid[i].w;
        g.stride[i] = p->grid[i].stride;
    }
    return g;
}

/* Scratch: boxes, ranks, and how many of each grid are left. */
enum { CANDIDATE_BYTES = 4 * sizeof(float) + sizeof(uint64_t) };

static thaw_status proposals_prepare(struct th_call *call)
{
    const struct th_k_grids g = grids_of(call);
    if (call->attr.proposals.level_most > TH_RANK_MOST)
        return th_fail(THAW_E_USAGE,
            "proposals: %d candidates of a level, of which its kernel sorts %d: use "
            "--device cpu",
            call->attr.proposals.level_most, TH_RANK_MOST);
    call->scratch_bytes = (size_t)g.images * g.candidate[g.n] * CANDIDATE_BYTES +
                          (size_t)g.images * g.n * sizeof(uint32_t);
    return th_own_fits(call);
}

static thaw_status proposals(const struct th_call *call)
{
    const struct th_args_proposals *a = (const void *)call->args;
    const struct th_k_grids g = grids_of(call);
    int64_t candidates = (int64_t)g.images * g.candidate[g.n];
    uint32_t most = (uint32_t)call->out[0].shape.dim[1];
    float *box = call->scratch;
    uint64_t *rank = (uint64_t *)(box + 4 * candidates);
    uint32_t *kept = (uint32_t *)(rank + candidates);
    struct th_cuda_grid grid = th_own_blocks((int64_t)g.images * g.n);
    grid.threads[0] = TH_RANK_THREADS;
    TRY(th_own_launch(call, TH_K_proposals_rank, grid,
        &(struct th_k_proposals_rank){a->logits, rank, g}));
    TRY(th_own_launch(call, TH_K_proposals_keep, grid,
        &(struct th_k_proposals_keep){
            a->deltas, rank, box, kept, g, call->attr.proposals.overlap}));
    return th_own_launch(call, TH_K_proposals_merge,
        th_own_samples(g.images, TH_RANK_MOST, 1),
        &(struct th_k_proposals_merge){rank, box, kept, a->rois, g, most});
}

/* ---- sample_rois ---- */

static struct th_k_rois rois_of(const struct th_call *call)
{
    const struct th_args_sample_rois *a = (const void *)call->args;
    return (struct th_k_rois){a->rois, a->box, a->label, call->scratch,
        call->in[0].shape.dim[0], (uint32_t)call->in[0].shape.dim[1],
        (uint32_t)call->in[1].shape.dim[1]};
}

static thaw_status sample_rois_prepare(struct th_call *call)
{
    const struct th_k_rois r = rois_of(call);
    call->scratch_bytes = (size_t)r.images * (r.n_rois + (size_t)r.n_box) *
                          (sizeof(struct th_k_drawn) + sizeof(uint8_t));
    return th_own_fits(call);
}

static thaw_status sample_rois(const struct th_call *call)
{
    const struct th_args_sample_rois *a = (const void *)call->args;
    const struct th_attr_sample *s = &call->attr.sample;
    const struct th_k_rois r = rois_of(call);
    int64_t rows = (int64_t)r.n_rois + r.n_box;
    uint8_t *is = (uint8_t *)(r.row + r.images * rows);
    struct th_cuda_grid grid = th_own_samples(r.images, rows, 1);
    TRY(th_own_launch(call, TH_K_rois_match, grid,
        &(struct th_k_rois_match){r, a->keys, th_rng_name(TH_ROIS_DRAW), s->overlap}));
    TRY(th_own_launch(call, TH_K_rois_draw, grid,
        &(struct th_k_rois_draw){r, is, (uint32_t)s->count, (uint32_t)s->positive}));
    return th_own_launch(call, TH_K_rois_place, grid,
        &(struct th_k_rois_place){
            r, is, a->sampled, a->target_box, a->target, (uint32_t)s->count});
}

const struct th_own th_own_proposals = {.prepare = proposals_prepare, .run = proposals};
const struct th_own th_own_sample_rois = {
    .prepare = sample_rois_prepare, .run = sample_rois};
