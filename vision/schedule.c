/* SPDX-License-Identifier: Apache-2.0
 * Owns the freeze timetable's text form and the learning-rate formulas. */
#include "schedule.h"

#include "mem.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void th_timetable_release(struct th_timetable *t)
{
    for (int i = 0; i < t->n; i++)
        th_free(t->spec[i]);
    th_free(t->spec);
    th_free(t->epoch);
    *t = (struct th_timetable){0};
}

static thaw_status add_phase(
    struct th_timetable *t, int epoch, const char *spec, size_t n)
{
    if (t->n ? epoch <= t->epoch[t->n - 1] : epoch != 0)
        return th_fail(THAW_E_USAGE,
            "--thaw: phase at epoch %d: phases start at 0 and each starts after the "
            "one "
            "before, as in \"0:head 3:all\"",
            epoch);
    if (n == 0)
        return th_fail(
            THAW_E_USAGE, "--thaw: the phase at epoch %d names nothing to thaw", epoch);
    t->epoch[t->n] = epoch;
    t->spec[t->n] = th_format("%.*s", (int)n, spec);
    return t->spec[t->n] ? (t->n++, THAW_OK) : THAW_E_MEMORY;
}

/* "3:stage4,head": the number before the colon; 0 where there is none. */
static const char *phase_epoch(const char *word, size_t n, int *epoch)
{
    char *end = NULL;
    long value = isdigit((unsigned char)*word) ? strtol(word, &end, 10) : 0;
    *epoch = value > 1000000 ? 1000000 : (int)value;
    return end && *end == ':' && end < word + n ? end + 1 : NULL;
}

static thaw_status parse_phases(struct th_timetable *t, const char *text)
{
    size_t words = 0;
    for (const char *at = text; *(at += strspn(at, " ")); at += strcspn(at, " "))
        words++;
    for (const char *at = text; *(at += strspn(at, " "));) {
        size_t n = strcspn(at, " ");
        int epoch = 0;
        const char *spec = phase_epoch(at, n, &epoch);
        if (!spec && words > 1)
            return th_fail(THAW_E_USAGE,
                "--thaw: '%.*s' has no epoch; a timetable reads \"0:head 3:all\"; "
                "names "
                "of one phase are separated by commas",
                (int)n, at);
        spec = spec ? spec : at;
        TRY(add_phase(t, epoch, spec, n - (size_t)(spec - at)));
        at += n;
    }
    return t->n ? THAW_OK
                : th_fail(THAW_E_USAGE, "--thaw: empty; say head, all, none or stages");
}

thaw_status th_timetable_init(struct th_timetable *t, const char *text)
{
    *t = (struct th_timetable){0};
    size_t most = strlen(text) + 1;
    t->epoch = th_alloc(most, sizeof *t->epoch);
    t->spec = th_alloc(most, sizeof *t->spec);
    thaw_status status = t->epoch && t->spec ? parse_phases(t, text) : THAW_E_MEMORY;
    if (status != THAW_OK)
        th_timetable_release(t);
    return status;
}

int th_timetable_phase(const struct th_timetable *t, int epoch)
{
    int phase = 0;
    while (phase + 1 < t->n && t->epoch[phase + 1] <= epoch)
        phase++;
    return phase;
}

static const double PI = 3.14159265358979323846;

/* The defaults of OneCycleLR (torch/optim/lr_scheduler.py); Smith and Topin, "Super-
 * Convergence", arXiv:1708.07120. */
static const double RISE = 0.3;        /* pct_start: share of the steps */
static const double FIRST = 1.0 / 25;  /* 1 / div_factor, of the peak */
static const double LAST = 1.0 / 25e4; /* and 1 / final_div_factor of that */
static const double MOMENTUM[] = {0.95, 0.85};

static double anneal(double from, double to, double share)
{
    return to + (from - to) / 2 * (1 + cos(PI * share));
}

/* From `low` to `high` by half a cosine at step RISE T - 1, then to `end` at T - 1. */
static double one_cycle(
    const struct th_lr *s, int64_t i, double low, double high, double end)
{
    double at = (double)i, peak = RISE * (double)s->total - 1;
    double over = (double)s->total - 1 - peak;
    return at <= peak ? anneal(low, high, at / peak)
                      : anneal(high, end, (at - peak) / over);
}

float th_momentum_at(const struct th_lr *s, int64_t i)
{
    if (s->kind != TH_LR_ONE_CYCLE)
        return 0;
    return (float)one_cycle(s, i, MOMENTUM[0], MOMENTUM[1], MOMENTUM[0]);
}

float th_lr_at(const struct th_lr *s, int64_t i)
{
    double lr = s->base, at = (double)i, total = (double)s->total;
    if (i < s->warmup)
        return (float)(lr * (at + 1.0) / (double)s->warmup);
    if (s->kind == TH_LR_COSINE)
        lr *= 0.5 * (1.0 + cos(PI * at / total));
    if (s->kind == TH_LR_STEP)
        lr *= i >= s->total - s->total / 4 ? 0.01 : i >= s->total / 2 ? 0.1 : 1.0;
    if (s->kind == TH_LR_ONE_CYCLE)
        lr = one_cycle(s, i, lr * FIRST, lr, lr * LAST);
    return (float)lr;
}
