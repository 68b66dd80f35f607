/* SPDX-License-Identifier: Apache-2.0
 * Owns pairs of steps that a device runs as one (th_backend.pair): a convolution and what
 * comes after it, say. Two steps stay two in the plan; one of them runs both.
 *
 * Invariant: what either step reads lives until the pair runs, and what either makes lives
 * from there (pass_arena looks at runs_at, not at the order alone). */
#include "pass.h"

#include "mem.h"

/* What comes of lasting values has its own times to run, and host steps their own kernel. */
static void describe(
    const struct th_plan *p, const struct th_step *s, struct th_pair_step *out)
{
    *out = (struct th_pair_step){
        .call = &s->call, .alone = s->derived || s->kernel->on_host};
    for (int k = 0; k < TH_MAX_IN; k++)
        out->in[k] = s->in[k];
    for (int k = 0; k < TH_MAX_OUT; k++) {
        out->out[k] = s->out[k];
        out->wanted =
            out->wanted || (s->out[k] >= 0 && p->graph.values[s->out[k]].wanted);
    }
}

/* What the second gets from the first. */
static void mark_between(struct th_plan *p, int first, int second, bool nowhere)
{
    for (int k = 0; k < TH_MAX_OUT; k++)
        for (int i = 0; i < TH_MAX_IN; i++)
            if (p->steps[first].out[k] >= 0 &&
                p->steps[first].out[k] == p->steps[second].in[i])
                p->places[p->steps[first].out[k]].nowhere = nowhere;
}

static void take(struct th_plan *p, const struct th_pair_step *pairs)
{
    for (int i = 0; i < p->n_steps; i++) {
        const struct th_pair_step *s = &pairs[i];
        p->steps[i].partner = s->partner;
        p->steps[i].runs_at = i;
        if (s->partner < 0)
            continue;
        p->steps[i].runs_at = s->early == s->second ? s->partner : i;
        if (s->second)
            continue;
        p->steps[i].call.second = &p->steps[s->partner].call;
        p->steps[i].call.keep = s->keep;
        mark_between(p, i, s->partner, !s->keep);
    }
}

thaw_status th_pass_pair(struct th_plan *p)
{
    const struct th_backend *backend = p->store->device->backend;
    struct th_pair_step *pairs = th_alloc((size_t)p->n_steps, sizeof *pairs);
    if (!pairs)
        return THAW_E_MEMORY;
    for (int i = 0; i < p->n_steps; i++) {
        describe(p, &p->steps[i], &pairs[i]);
        pairs[i].partner = -1;
    }
    if (backend->pair)
        backend->pair(pairs, p->n_steps);
    take(p, pairs);
    th_free(pairs);
    return THAW_OK;
}

void th_pass_part(struct th_plan *p, int step)
{
    int other = p->steps[step].partner;
    int first = step < other ? step : other, second = step < other ? other : step;
    mark_between(p, first, second, false);
    p->steps[first].call.second = NULL;
    p->steps[first].partner = p->steps[second].partner = -1;
    p->steps[first].runs_at = first;
    p->steps[second].runs_at = second;
}
