/* SPDX-License-Identifier: Apache-2.0
 * Execution plans on disk, so that the next run need not have them made: an engine that cuDNN
 * compiles at run time takes a second or two, reading it back milliseconds.
 *
 * A file a plan, named by a hash of its key. The key says cuDNN's version, the device (with its
 * driver), the policy and the graph; an entry is taken only where key and content are
 * whole and the same. Nothing here ends a run: what cannot be used is made again, and what
 * cannot be written is left. Runs may share a folder, at the same time, too.
 *
 * What cuDNN refuses is not kept: a refusal may have passing reasons. */
#ifndef TH_CUDA_PLAN_CACHE_H
#define TH_CUDA_PLAN_CACHE_H

#include "dnn_plan.h"

struct th_plan_cache {
    char *folder; /* owned; NULL: nothing is kept */
    char *device; /* owned; its description */
    size_t most;  /* bytes in the folder: beyond, the oldest entries go */
    size_t bytes; /* that are there now */
    bool counted; /* bytes is known */
    bool told;    /* one warning is enough */
    /* Where the first thing that went wrong is said; the owner's. */
    char *warning;
    size_t room;
    int n_read, n_made; /* plans so far */
};

/* folder NULL: nothing is kept, and the others below work all the same. */
void th_plan_cache_open(struct th_plan_cache *c, const char *folder,
    const struct th_cudnn_target *target, char *warning, size_t room);
void th_plan_cache_close(struct th_plan_cache *c);

/* th_cudnn_plan_new, of what is kept where there is such a plan; a new one is kept. */
thaw_status th_plan_cache_get(struct th_plan_cache *c,
    const struct th_cudnn_graph *graph, const struct th_cudnn_target *target,
    const struct th_cudnn_policy *policy, struct th_cudnn_plan **out);

#endif
