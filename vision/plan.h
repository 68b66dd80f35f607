/* SPDX-License-Identifier: Apache-2.0
 * The planner: (model, freeze state, mode, batch size, device) -> a flat array of
 * prepared steps with every byte placed in one arena. A frozen parameter has no step. */
#ifndef TH_PLAN_H
#define TH_PLAN_H

#include "freeze.h"
#include "store.h"

/* Memory that plans share, one at a time: as large as the largest needs. */
struct th_arena {
    struct th_device *device;
    void *base;
    size_t bytes;
    uint64_t turn; /* grows when another plan than the last one uses it */
};

void th_arena_init(struct th_arena *a, struct th_device *device);
void th_arena_release(struct th_arena *a);
/* Between runs: give the memory back to the system until a plan next uses it. */
void th_arena_discard(struct th_arena *a);

enum th_optimizer { TH_SGD, TH_ADAMW };

struct th_optim {
    enum th_optimizer kind;
    float momentum, weight_decay; /* decay on tensors of rank >= 2 only */
    bool nesterov;
    float beta1, beta2, eps; /* adamw */
    float layer_decay;       /* lr factor per stage below the head; 0 stands for 1 */
    float clip;              /* largest gradient norm; 0: none */
    float l2sp;     /* decay towards "start/NAME" in place of weight_decay; 0: none */
    bool keep_head; /* the head has a start, too; a new one has none */
    bool ema;
};

/* Whether a parameter decays towards its start (L2-SP). */
bool th_optim_pulls(const struct th_optim *o, const struct th_model *m, int param);

/* TH_CALIBRATE: in evaluation mode, the statistics of what some BatchNorms see. */
enum th_mode { TH_EVAL, TH_TRAIN, TH_CALIBRATE };

/* Of a training step: all of it; or, where a group of batches is one step, what each batch
 * adds to the totals of the gradients, and the update from them (no inputs, no loss). Plans
 * that gather are made before the one that updates. */
enum th_part { TH_PART_ALL, TH_PART_GATHER, TH_PART_UPDATE };

/* What is kept between forward and backward: see pass_recompute.c. */
enum th_keep { TH_KEEP_NORMAL, TH_KEEP_LITTLE, TH_KEEP_ALL };

/* Of a plan with "image" as its input: all of it; or the part below the cut, which makes
 * the frontier's values "cut/NAME" of the image alone; or the part above, with these as
 * inputs in place of the image. */
enum th_side { TH_WHOLE, TH_BELOW, TH_ABOVE };

/* Passes that only save work; each may be left out (tests of P5). */
enum th_pass {
    TH_PASS_FOLD = 1,
    TH_PASS_FUSE = 2,
    TH_PASS_LAYOUT = 4,
    TH_PASS_REUSE = 8
};

struct th_plan_spec {
    const struct th_model *model;
    const struct th_freeze *freeze; /* training only */
    enum th_mode mode;
    enum th_part part;
    int batch;
    bool loss;           /* eval: also the loss */
    bool keep_gradients; /* gradients become wanted outputs "grad/NAME" (tests) */
    bool no_update;      /* no optimizer steps (tests) */
    const struct th_optim *optim;
    enum th_keep keep;
    bool
        rare; /* of an epoch's last batch: derives from frozen tensors anew in each run */
    unsigned without; /* th_pass bits left out */
    /* calibrate: [n_bns] whose inputs are measured, as wanted outputs "bn.mean/NAME" and
     * "bn.var/NAME" (biased); nothing that they do not need is computed. */
    const bool *measured;
    enum th_side side;
    const bool *moving; /* [n_params]; with a side: what changes between steps or runs:
                           what trains, and running statistics that follow */
    /* Convolutions below which nothing moves (by `freeze`, needed in every mode then) in
     * int8, with scales from the store; or, with `observe`, in its place the values that
     * such a plan would quantise as wanted outputs, named as their scales are, and nothing
     * that they do not need. See pass_int8.c, int8.h. */
    bool prefix_int8, observe;
};

/* Whether a state of this name is a scale of the int8 prefix. */
bool th_is_scale(const char *state);

struct th_plan;

/* *out NULL, and THAW_OK: a side was asked for, and nothing worth keeping is below. */
thaw_status th_plan_new(const struct th_plan_spec *spec, struct th_store *store,
    struct th_arena *arena, struct th_plan **out);
void th_plan_free(struct th_plan *p);

/* Host -> input "image", "target", "keys" (whole), before each run: a run reuses an
 * input's memory once it has been read. Value -> host. THAW_E_USAGE when the
 * plan has no such value (th_plan_has tells). */
bool th_plan_has(const struct th_plan *p, const char *name);
thaw_status th_plan_set(struct th_plan *p, const char *name, const void *host);
thaw_status th_plan_get(struct th_plan *p, const char *name, void *host);

/* Several of them, and among them "scalars", a struct th_scalars: the store's, where a plan
 * has them. */
enum { TH_MAX_FEEDS = 12 };
struct th_feed {
    const char *name;
    const void *host;
};
struct th_fetch {
    const char *name;
    void *host;
};
thaw_status th_plan_set_all(struct th_plan *p, const struct th_feed *feeds, int n);
/* With one wait for the device. */
thaw_status th_plan_get_all(struct th_plan *p, const struct th_fetch *fetches, int n);
/* While a run is under way: inputs of the next one set out for the device, and the host's
 * memory is the caller's again. *lot 0: there is no room for them, and setting them is left.
 * What was sent becomes the inputs by th_plan_take, of the same names, in the place of setting
 * them. One lot at a time, whichever plan's. can_send: whether the device has such a way. */
bool th_plan_can_send(const struct th_plan *p);
thaw_status th_plan_send(
    struct th_plan *p, const struct th_feed *feeds, int n, uint64_t *lot);
thaw_status th_plan_take(
    struct th_plan *p, const struct th_feed *feeds, int n, uint64_t lot);
thaw_status th_plan_run(struct th_plan *p);
/* Calls `after` (NULL: not) after each step that ran. */
thaw_status th_plan_run_watched(
    struct th_plan *p, void (*after)(void *context, int step), void *context);

/* What the part below hands to the part above, in the plain order, [batch][values]; the
 * names are the plan's. The same for any batch size. */
enum { TH_MAX_FRONTIER = 8 };
struct th_frontier {
    int n;
    const char *name[TH_MAX_FRONTIER];
    int64_t values[TH_MAX_FRONTIER]; /* of one image */
};
void th_plan_frontier(const struct th_plan *p, struct th_frontier *f);

/* Derive again what was derived from frozen tensors (folded, packed) and compare it with
 * what is in use. THAW_E_FAIL names the step that differs. A training plan may take the
 * arena for it: what the last run left there is gone. */
thaw_status th_plan_verify(struct th_plan *p);

struct th_plan_stats {
    int n_steps, n_derived, n_forward, n_backward, n_commit;
    int n_cut;          /* forward steps below which nothing trains */
    int n_dead;         /* gradients that were never built */
    int n_int8;         /* convolutions in int8, or with `observe` that would be */
    int64_t macs;       /* multiply-adds of a run */
    size_t moved_bytes; /* of the operands of all steps of a run */
    size_t arena_bytes; /* peak */
    size_t live_bytes;  /* largest sum of live values */
    size_t saved_bytes; /* what backward reads from forward */
    /* For forecasts: the run in multiply-adds of a matrix product, and in bytes of a sum
     * of two tensors for what has no multiply-adds; memory beside arena and store (what
     * a training plan derives from frozen tensors, and its kernels keep of them). */
    double work_macs, work_bytes;
    size_t derived_bytes, kept_bytes;
};
void th_plan_stats(const struct th_plan *p, struct th_plan_stats *stats);

/* A step, for reports: what it is, and what a run of it costs at the least. */
struct th_step_info {
    const char *phase;     /* "derived": runs only when what it is made of changed */
    const char *op, *name; /* name: the layer's, "" where there is none */
    const struct th_operand *out;    /* the first; NULL where it has none */
    const struct th_operand *weight; /* of a convolution, [o][i][kh][kw]; else NULL */
    const union th_attr *attr;
    int64_t macs;
    size_t bytes; /* of its operands: each read or written once */
};
/* Step i of the plan, n_steps of them. */
void th_plan_step(const struct th_plan *p, int i, struct th_step_info *step);

/* The lowered graph, for reports and tests. */
const struct th_graph *th_plan_graph(const struct th_plan *p);

/* The plan as text, a line a step; fresh string. */
char *th_plan_text(const struct th_plan *p);

#endif
