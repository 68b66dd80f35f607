/* SPDX-License-Identifier: Apache-2.0
 * Owns the strategies: each is a name and what it sets over the user's options. What
 * trains is said in the words of --thaw, so that a person can type the same. */
#include "bench.h"

#include "freeze.h"
#include "mem.h"
#include "options.h"
#include "schedule.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char default_names[] =
    "head,bn,bias,lora,last1,last2,gradual,lpft,all,stats,first";
/* Of detectors, whose batches are small: where frozen stages end, and what BatchNorms do. */
static const char detector_names[] =
    "head,stats,last1,last2,freezeat2,bnfrozen,bntrain,lpft";

/* ---- What --thaw says, where that depends on the network or on --epochs ---- */

/* The last stage with weights below the head: a final norm goes with the block below it,
 * and alone would mean every LayerNorm to --thaw. */
static int last_block(const struct th_model *m)
{
    int s = m->n_stages - 2;
    return s > 0 && strcmp(m->stages[s], "norm") == 0 ? s - 1 : s;
}

/* Stages from `from` to the last before the head, then the head: "stage3,stage4,head". */
static char *stages_from(const struct th_model *m, int from)
{
    char *text = th_strdup("head");
    int last = m->n_stages - 2;
    if (from == last)
        from = last_block(m);
    for (int s = last; text && s >= from; s--) {
        char *longer = th_format("%s,%s", m->stages[s], text);
        th_free(text);
        text = longer;
    }
    return text;
}

static char *thaw_last(const struct th_model *m, int epochs, int k, const char **why)
{
    (void)epochs;
    if (k > last_block(m) + 1)
        *why = "the network has fewer stages";
    return *why ? NULL : stages_from(m, last_block(m) + 1 - k);
}

/* The head from epoch 0, then a stage more in equal parts of the epochs; the last part
 * trains all. Where there are fewer epochs than stages several come at once. */
static char *thaw_gradual(const struct th_model *m, int epochs, int k, const char **why)
{
    char *text = th_strdup("");
    int phases = epochs < m->n_stages ? epochs : m->n_stages;
    (void)k;
    if (epochs < 2)
        *why = "it wants at least 2 epochs";
    for (int p = 0; text && p < phases; p++) {
        int opened = p * (m->n_stages - 1) / (phases > 1 ? phases - 1 : 1);
        char *stages = stages_from(m, m->n_stages - 1 - opened);
        char *longer = stages ? th_format("%s%s%d:%s", text, p ? " " : "",
                                    p * epochs / phases, stages)
                              : NULL;
        th_free(stages);
        th_free(text);
        text = longer;
    }
    return text;
}

static char *thaw_lpft(const struct th_model *m, int epochs, int k, const char **why)
{
    (void)m;
    (void)k;
    if (epochs < 2)
        *why = "it wants at least 2 epochs";
    return *why ? NULL : th_format("0:head %d:all", epochs / 2);
}

static char *thaw_first(const struct th_model *m, int epochs, int k, const char **why)
{
    (void)epochs;
    (void)k;
    if (m->n_stages < 3)
        *why = "the network has no stages";
    return *why ? NULL : th_format("%s,%s,head", m->stages[0], m->stages[1]);
}

/* Detectron2's FREEZE_AT: 1 is the stem, 2 the first stage, too. */
static char *thaw_freeze_at(
    const struct th_model *m, int epochs, int k, const char **why)
{
    (void)epochs;
    if (k > last_block(m))
        *why = "the network has fewer stages";
    return *why ? NULL : stages_from(m, k);
}

/* ---- The table ---- */

static const struct strategy {
    const char *name; /* `numbered`: what stands before the number */
    const char *about;
    const char *thaw; /* a fixed text, or ... */
    char *(*make)(const struct th_model *m, int epochs, int k, const char **why);
    const char *bn;
    const char *lr_schedule; /* NULL: the user's */
    bool numbered, wants_bn, adapters;
} table[] = {
    {.name = "head",
        .about = "linear probe: the head alone",
        .thaw = "head",
        .bn = "auto"},
    {.name = "bn",
        .about = "scale, shift and statistics of every BatchNorm, and the head",
        .thaw = "bn,head",
        .bn = "train",
        .wants_bn = true},
    {.name = "bias",
        .about = "every bias (BatchNorm's shift is one), and the head",
        .thaw = "bias,head",
        .bn = "auto"},
    {.name = "last",
        .about = "the last stages, as many as the number says, and the head",
        .make = thaw_last,
        .bn = "auto",
        .numbered = true},
    {.name = "gradual",
        .about = "gradual unfreezing: from the head down, a stage at a time",
        .make = thaw_gradual,
        .bn = "auto"},
    {.name = "lpft",
        .about = "linear probe in the first half, then everything at a tenth of the "
                 "learning rate (Kumar et al. 2022)",
        .make = thaw_lpft,
        .bn = "auto",
        .lr_schedule = "step"},
    {.name = "all", .about = "full fine-tuning", .thaw = "all", .bn = "auto"},
    {.name = "stats",
        .about = "the head, while BatchNorm's statistics follow the images",
        .thaw = "head",
        .bn = "stats",
        .wants_bn = true},
    {.name = "first",
        .about = "surgical: stem and first stage, and the head (Lee et al. 2023)",
        .make = thaw_first,
        .bn = "auto"},
    {.name = "freezeat",
        .about =
            "Detectron2's FREEZE_AT: so many stages from the stem on are frozen, and "
            "every BatchNorm",
        .make = thaw_freeze_at,
        .bn = "frozen",
        .numbered = true,
        .wants_bn = true},
    {.name = "bnfrozen",
        .about = "everything but BatchNorms, which are as pretrained",
        .thaw = "all",
        .bn = "frozen",
        .wants_bn = true},
    {.name = "bntrain",
        .about = "everything, BatchNorms by the batch's statistics",
        .thaw = "all",
        .bn = "train",
        .wants_bn = true},
    {.name = "own", .about = "--thaw, --bn and --lora as given"},
    {.name = "lora",
        .about =
            "low-rank adapters, of rank 8 where --lora says nothing else, and the head",
        .thaw = "head",
        .bn = "auto",
        .adapters = true},
};

enum { N_TABLE = sizeof table / sizeof table[0], MOST_STAGES = 99 };

/* The row of a name, and the number behind it; NULL: there is none. */
static const struct strategy *find(const char *name, int *k)
{
    size_t letters = strcspn(name, "0123456789");
    for (int i = 0; i < N_TABLE; i++) {
        const struct strategy *s = &table[i];
        bool same = strlen(s->name) == letters && !strncmp(name, s->name, letters);
        *k = s->numbered ? atoi(name + letters) : 0;
        bool whole = strspn(name + letters, "0123456789") == strlen(name + letters);
        if (same && whole && s->numbered == (name[letters] != 0) &&
            (!s->numbered || (*k >= 1 && *k <= MOST_STAGES && name[letters] != '0')))
            return s;
    }
    return NULL;
}

/* ---- Names ---- */

static thaw_status unknown_name(const char *name)
{
    const char *names[N_TABLE + 2] = {"last1", "last2"};
    char all[256] = "";
    size_t n = 2;
    for (int i = 0; i < N_TABLE; i++) {
        size_t used = strlen(all);
        if (!table[i].numbered)
            names[n++] = table[i].name;
        const char *form = table[i].numbered ? "%s%s1, %s2 ..." : "%s%s";
        snprintf(all + used, sizeof all - used, form, i ? ", " : "", table[i].name,
            table[i].name);
    }
    const char *near = thaw_nearest(name, names, n);
    return th_fail(THAW_E_USAGE, "--strategies: '%s' is none%s%s%s; there are %s", name,
        near ? "; did you mean " : "", near ? near : "", near ? "?" : "", all);
}

static thaw_status add_name(char names[TH_MOST_STRATEGIES][TH_BENCH_NAME], int *n,
    const char *word, size_t length)
{
    int k = 0;
    if (*n == TH_MOST_STRATEGIES)
        return th_fail(THAW_E_USAGE, "--strategies: at most %d can be compared",
            TH_MOST_STRATEGIES);
    snprintf(names[*n], TH_BENCH_NAME, "%.*s", (int)length, word);
    const struct strategy *s = find(names[*n], &k);
    if (!s || length >= TH_BENCH_NAME)
        return unknown_name(names[*n]);
    for (int i = 0; i < *n; i++)
        if (!strcmp(names[i], names[*n]))
            return th_fail(THAW_E_USAGE, "--strategies: %s stands twice", names[i]);
    ++*n;
    return THAW_OK;
}

thaw_status th_bench_names(
    const thaw_options *o, char names[TH_MOST_STRATEGIES][TH_BENCH_NAME], int *n)
{
    const struct th_head *head = NULL;
    const char *text = th_option_text(o, "strategies");
    TRY(th_head_find(th_option_text(o, "head"), &head));
    const char *usual = head->detector ? detector_names : default_names;
    bool own = thaw_options_is_set(o, "thaw") || thaw_options_is_set(o, "bn");
    *n = 0;
    for (const char *at = text ? text : usual; *(at += strspn(at, ", "));) {
        size_t length = strcspn(at, ", ");
        TRY(add_name(names, n, at, length));
        at += length;
    }
    if (*n == 0)
        return th_fail(THAW_E_USAGE, "--strategies: '%s' names none", text);
    if (!text && own)
        return add_name(names, n, "own", 3);
    for (int i = 0; i < *n; i++)
        if (!strcmp(names[i], "own") && !own)
            return th_fail(THAW_E_USAGE,
                "--strategies: own is what --thaw and --bn say: give one");
    return THAW_OK;
}

/* ---- Settings ---- */

/* How much of the network trains, which says too whether --thaw and --bn can be had. */
static thaw_status count_phases(const struct th_model *m, const thaw_options *o,
    const char *thaw, const char *bn, int64_t *most)
{
    struct th_timetable t;
    TRY(th_timetable_init(&t, thaw));
    thaw_status status = THAW_OK;
    for (int i = 0; status == THAW_OK && i < t.n; i++) {
        struct th_freeze f;
        status = th_freeze_init(&f, m, t.spec[i], bn, (int)th_option_int(o, "batch"));
        if (status != THAW_OK)
            break;
        int64_t n = th_freeze_trained(&f, m);
        *most = n > *most ? n : *most;
        th_freeze_release(&f);
    }
    th_timetable_release(&t);
    return status;
}

static thaw_status count_trained(const struct th_model *m, const thaw_options *o,
    const struct th_bench_settings *s, int64_t *most)
{
    const char *bn = s->bn ? s->bn : th_option_text(o, "bn");
    const char *thaw = s->thaw ? s->thaw : th_option_text(o, "thaw");
    struct th_lora lora = {0};
    struct th_model adapted = {0};
    if (!s->lora)
        return count_phases(m, o, thaw, bn, most);
    TRY(th_lora_parse(&lora, s->lora));
    thaw_status status = th_model_init(&adapted, m->backbone, m->variant, m->head,
        m->head_width, &m->input, (const char *const *)m->classes, m->n_classes);
    if (status == THAW_OK)
        status = th_model_adapt(&adapted, &lora);
    if (status == THAW_OK)
        status = count_phases(&adapted, o, thaw, bn, most);
    th_model_release(&adapted);
    th_lora_release(&lora);
    return status;
}

/* --lora is said to the strategy of adapters, and to what is as given. */
static thaw_status set_lora(
    const struct strategy *s, const thaw_options *o, struct th_bench_settings *out)
{
    bool given = thaw_options_is_set(o, "lora"), as_given = !s->bn;
    if (!s->adapters && !(as_given && given))
        return THAW_OK;
    out->lora = th_strdup(given ? th_option_text(o, "lora") : "r=8");
    return out->lora ? THAW_OK : THAW_E_MEMORY;
}

static thaw_status fill(const struct strategy *s, int k, const thaw_options *o,
    const struct th_model *m, struct th_bench_settings *out)
{
    const char *why = s->wants_bn && !m->n_bns ? "the network has no BatchNorm" : NULL;
    const char *thaw = s->thaw;
    if (s->make)
        out->thaw = s->make(m, (int)th_option_int(o, "epochs"), k, &why);
    else if (thaw)
        out->thaw = th_strdup(thaw);
    out->bn = th_strdup(s->bn);
    if (why)
        out->missing = th_strdup(why);
    if ((why && !out->missing) || (s->bn && !out->bn) ||
        (!why && !out->thaw && (s->make || thaw)))
        return THAW_E_MEMORY;
    if (why)
        return THAW_OK;
    TRY(set_lora(s, o, out));
    thaw_status status = count_trained(m, o, out, &out->trained);
    if (status != THAW_E_USAGE || !s->bn) /* the user's own words are his to correct */
        return status;
    out->missing = th_strdup(thaw_error());
    return out->missing ? THAW_OK : THAW_E_MEMORY;
}

thaw_status th_bench_settings(const char *name, const thaw_options *o,
    const struct th_model *m, struct th_bench_settings *out)
{
    int k = 0;
    const struct strategy *s = find(name, &k);
    *out = (struct th_bench_settings){.about = s->about, .lr_schedule = s->lr_schedule};
    snprintf(out->name, sizeof out->name, "%s", name);
    return fill(s, k, o, m, out);
}

void th_bench_settings_release(struct th_bench_settings *s)
{
    th_free(s->thaw);
    th_free(s->bn);
    th_free(s->lora);
    th_free(s->missing);
    *s = (struct th_bench_settings){0};
}
