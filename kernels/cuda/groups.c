/* SPDX-License-Identifier: Apache-2.0
 * Owns the search for pairs. A pair runs as one: where its second step stands, if nobody
 * between them reads what the first makes; else where the first stands, if all that the
 * second reads exists there. */
#include "groups.h"

static bool reads(const struct th_pair_step *s, int value)
{
    for (int k = 0; k < TH_MAX_IN; k++)
        if (value >= 0 && s->in[k] == value)
            return true;
    return false;
}

static bool reads_any(const struct th_pair_step *s, const struct th_pair_step *maker)
{
    for (int k = 0; k < TH_MAX_OUT; k++)
        if (reads(s, maker->out[k]))
            return true;
    return false;
}

static int readers(const struct th_pair_step *steps, int n, int value)
{
    int count = 0;
    for (int i = 0; i < n; i++)
        count += reads(&steps[i], value);
    return count;
}

/* Whether some step of first+1 .. second-1 makes, or writes in place, what second reads. */
static bool needs_between(const struct th_pair_step *steps, int first, int second)
{
    for (int i = first + 1; i < second; i++) {
        unsigned writes = th_op_rule(steps[i].call->op)->writes;
        if (reads_any(&steps[second], &steps[i]))
            return true;
        for (int k = 0; k < TH_MAX_IN; k++)
            if (writes >> k & 1 && reads(&steps[second], steps[i].in[k]))
                return true;
    }
    return false;
}

static bool read_between(const struct th_pair_step *steps, int first, int second)
{
    for (int i = first + 1; i < second; i++)
        if (reads_any(&steps[i], &steps[first]))
            return true;
    return false;
}

/* Whether some step between writes in place what the first step reads. */
static bool written_between(const struct th_pair_step *steps, int first, int second)
{
    for (int i = first + 1; i < second; i++) {
        unsigned writes = th_op_rule(steps[i].call->op)->writes;
        for (int k = 0; k < TH_MAX_IN; k++)
            if (writes >> k & 1 && reads(&steps[first], steps[i].in[k]))
                return true;
    }
    return false;
}

static bool fits(const struct th_pair_step *steps, int n, int i, int j,
    const struct th_cuda_pair *pair, bool *early, bool *keep)
{
    int value = steps[i].out[pair->out];
    if (steps[j].call->op != pair->second || steps[j].partner >= 0 || steps[j].alone ||
        value < 0 || steps[j].in[pair->in] != value)
        return false;
    *keep = steps[i].wanted || readers(steps, n, value) > 1;
    if (*keep && pair->sole)
        return false;
    *early = read_between(steps, i, j) || written_between(steps, i, j);
    return !*early || !needs_between(steps, i, j);
}

static void find_partner(
    struct th_pair_step *steps, int n, int i, const struct th_cuda_pair *pair)
{
    bool early = false, keep = false;
    for (int j = i + 1; j < n; j++) {
        if (!fits(steps, n, i, j, pair, &early, &keep))
            continue;
        steps[i].partner = j;
        steps[j].partner = i;
        steps[j].second = true;
        steps[i].early = steps[j].early = early;
        steps[i].keep = steps[j].keep = keep;
        return;
    }
}

void th_cuda_group_steps(struct th_pair_step *steps, int n)
{
    int n_pairs;
    const struct th_cuda_pair *pairs = th_cuda_pairs(&n_pairs);
    for (int i = 0; i < n; i++) {
        steps[i].partner = -1;
        steps[i].second = steps[i].early = steps[i].keep = false;
    }
    for (int p = 0; p < n_pairs; p++)
        for (int i = 0; i < n; i++)
            if (steps[i].call->op == pairs[p].first && steps[i].partner < 0 &&
                !steps[i].alone)
                find_partner(steps, n, i, &pairs[p]);
}

void th_cuda_pair_steps(struct th_pair_step *steps, int n)
{
    for (int i = 0; i < n; i++)
        if (steps[i].call->op == TH_OP_bn_stats || steps[i].call->op == TH_OP_bn_reduce)
            steps[i].alone = true;
    th_cuda_group_steps(steps, n);
}

bool th_cuda_group_of(
    const struct th_pair_step *steps, int i, struct th_cuda_group *group)
{
    const struct th_pair_step *s = &steps[i];
    *group = (struct th_cuda_group){.calls = {s->call}, .n = 1, .keep = s->keep};
    if (s->partner < 0)
        return true;
    group->calls[1] = steps[s->partner].call;
    group->n = 2;
    return !s->second;
}
