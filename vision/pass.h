/* SPDX-License-Identifier: Apache-2.0
 * The planner's passes, in order, one file each. All rewrite one graph in place.
 *
 *   random  dropout with nothing trainable at or below it goes
 *   bn      batchnorm -> statistics, apply and update steps by mode
 *   fold    frozen BatchNorms into their frozen convolutions (the cut, and above it)
 *   grad    gradient nodes, only where something below trains (lora: those of adapters)
 *   update  optimizer and commit steps
 *   fuse    bn or conv + add + ReLU; ReLU's backward into BatchNorm's
 *   int8    the frozen prefix's convolutions, where that is asked for
 *   recompute  what is cheap to make again is not kept for backward
 *   layout  channel blocks, types, reorders
 *   cut     below or above what nothing trains under, where one side is asked for
 *   arena   every value's byte offset */
#ifndef TH_PASS_H
#define TH_PASS_H

#include "plan.h"

struct th_lowering {
    struct th_graph graph;
    const struct th_plan_spec *spec;
    const struct th_store *store;
    struct th_device *device;
    int loss;       /* value; -1 */
    int scalars;    /* state; -1 in eval mode */
    int *grad;      /* [n_values at the time of pass_grad]: gradient's value, -1 */
    int n_grad;     /* length of grad */
    int n_dead;     /* gradients that were never built */
    int n_frontier; /* values that the part below the cut hands up */
    int n_cut;      /* forward nodes below which nothing trains or is random */
    bool *moves;    /* [n_moves] with an int8 prefix: values that are no part of it */
    int n_moves;    /* values when they were marked */
    int n_int8;     /* convolutions in int8 */
};

thaw_status th_pass_random(struct th_lowering *l);
thaw_status th_pass_bn(struct th_lowering *l);
thaw_status th_pass_fold(struct th_lowering *l);
thaw_status th_pass_grad(struct th_lowering *l);
/* The gradients of an adapter; values, -1 where there is none. */
struct th_low_rank {
    bool done; /* the layer's weight needs no gradient of its own */
    int a, b, da, db;
};
/* Where n is a layer on merged weights and it is the cheaper way: gradients of its A and
 * B, from dy, that of its output. `needs` as pass_grad has it. */
thaw_status th_pass_lora(struct th_lowering *l, const struct th_node *n, int dy,
    const bool *needs, struct th_low_rank *out);
thaw_status th_pass_update(struct th_lowering *l);
thaw_status th_pass_update_from_totals(struct th_lowering *l);
thaw_status th_pass_fuse(struct th_lowering *l);
thaw_status th_pass_int8_mark(struct th_lowering *l);
thaw_status th_pass_int8(struct th_lowering *l);
thaw_status th_pass_recompute(struct th_lowering *l);
thaw_status th_pass_layout(struct th_lowering *l);
thaw_status th_pass_cut(struct th_lowering *l);

/* One prepared step of a plan. */
struct th_step {
    struct th_call call;
    const struct th_kernel *kernel;
    enum th_phase phase;
    int in[TH_MAX_IN], out[TH_MAX_OUT]; /* value ids */
    bool derived; /* all its inputs outlive the run: runs when one changed */
    bool bound;   /* prepared: has to be released */
    int partner;  /* the other step of a pair that runs as one; -1 */
    int runs_at;  /* the step in whose place it runs: its own index, or its partner's */
    size_t scratch_offset; /* in the arena */
    size_t kept_offset;    /* in the arena, of call.kept, unless it is lasting */
    void *lasting;         /* device memory of call.kept; NULL: in the arena */
    bool moves;    /* an input that outlives the run trains: made anew in every run */
    int feeds;     /* of a derived step: the one that packs what it makes, and */
    int fed_by;    /* the other way round; -1. They run together: what is packed has no
                    * memory of its own */
    bool due;      /* in this run something runs in its place */
    uint64_t seen; /* sum of the versions of its lasting inputs when it last ran */
    char *name;
};

/* Where a value lives. */
struct th_place {
    int root; /* the value whose memory this is: itself, or through views, in place */
    size_t offset; /* in the arena, of a root */
    size_t bytes;
    int state;        /* index in the store; -1 */
    void *derived;    /* device memory of a derived value that is read in every run */
    bool nowhere;     /* only one step's insides: no memory */
    uint64_t version; /* of a derived value */
};

/* Where a plan has what it makes from lasting tensors (folded, packed weights). Training:
 * in memory of its own, from run to run, and verified. Other plans: in the arena, made
 * again after another plan ran there; or, where the arena would have to grow for it, in
 * each run. */
enum th_keeping { TH_KEPT_APART, TH_KEPT_IN_ARENA, TH_NOT_KEPT };

struct th_plan {
    struct th_graph graph;
    struct th_store *store;
    struct th_arena *arena;
    struct th_step *steps;
    const struct th_call **calls; /* [n_steps]: of each step */
    int n_steps;
    struct th_place *places; /* [n_values] */
    void *base;              /* arena base that the steps' pointers stand on */
    enum th_keeping keeping;
    uint64_t turn; /* the arena's, when this plan last used it */
    bool lost;     /* another plan has used the arena since this one ran */
    /* The device's recording of a run, which calls it is of (exec.c), those of the last run,
     * and whether to record failed. */
    void *recording;
    uint64_t recorded, last;
    bool unrecordable;
    struct th_plan_stats stats;
};

/* Pairs of steps that the device runs as one: partners, and where they run. The kernel and
 * what it holds are the first's; a value between the two that nobody else reads is nowhere.
 * Before any step is prepared. */
thaw_status th_pass_pair(struct th_plan *p);
/* Gives up the recording. */
void th_plan_forget(struct th_plan *p);
/* The two run apart, after all. */
void th_pass_part(struct th_plan *p, int step);

/* Offsets for all values and scratch: fills places, scratch offsets and the byte
 * statistics. `reuse` false: no two values share a byte. */
thaw_status th_pass_arena(struct th_plan *p, bool reuse);

#endif
