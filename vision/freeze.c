/* SPDX-License-Identifier: Apache-2.0
 * Owns the freeze state of one phase: what the words of --thaw and --bn mean.
 * A parameter trains when --thaw names it and, where it belongs to a BatchNorm, that
 * BatchNorm's mode lets its affine train. Buffers never train. */
#include "freeze.h"

#include "mem.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

enum { BATCH_FOR_STATISTICS = 16 }; /* --bn auto: fewer images make poor statistics */

static const char *const mode_names[] = {
    "train", "frozen", "stats", "stats-running", "affine"};

const char *th_bn_mode_name(enum th_bn_mode mode)
{
    return mode_names[mode];
}

bool th_bn_uses_batch(enum th_bn_mode mode)
{
    return mode == TH_BN_TRAIN || mode == TH_BN_STATS;
}

bool th_bn_updates(enum th_bn_mode mode)
{
    return mode != TH_BN_FROZEN && mode != TH_BN_AFFINE;
}

static bool affine_may_train(enum th_bn_mode mode)
{
    return mode == TH_BN_TRAIN || mode == TH_BN_AFFINE;
}

/* ---- --thaw ---- */

static bool is_bias(const struct th_param *p)
{
    return p->role == TH_ROLE_BIAS || p->role == TH_ROLE_BETA ||
           p->role == TH_ROLE_LN_BETA;
}

/* Whether one word of --thaw names the parameter. `stages`: "norm" is the stage. An adapter
 * belongs to its layer's stage. */
static bool names_param(
    const struct th_model *m, const struct th_param *p, const char *word, bool stages)
{
    if (th_param_is_buffer(p))
        return false;
    if (strcmp(word, "all") == 0)
        return true;
    if (strcmp(word, m->stages[p->stage]) == 0)
        return true;
    if (strcmp(word, "lora") == 0)
        return th_param_is_lora(p);
    if (stages && strcmp(word, "norm") == 0)
        return false;
    if (strcmp(word, "bn") == 0)
        return p->role == TH_ROLE_GAMMA || p->role == TH_ROLE_BETA;
    if (strcmp(word, "norm") == 0)
        return p->role == TH_ROLE_LN_GAMMA || p->role == TH_ROLE_LN_BETA;
    if (strcmp(word, "bias") == 0)
        return is_bias(p);
    return fnmatch(word, p->name, 0) == 0;
}

static thaw_status unknown_word(const struct th_model *m, const char *word)
{
    if (strcmp(word, "lora") == 0)
        return th_fail(THAW_E_USAGE,
            "--thaw: lora names adapters, and there are none: add --lora r=8");
    const char *names[TH_MAX_STAGES + 8];
    size_t n = 0;
    for (int i = 0; i < m->n_stages; i++)
        names[n++] = m->stages[i];
    names[n++] = "all";
    names[n++] = "none";
    names[n++] = "bn";
    names[n++] = "norm";
    names[n++] = "bias";
    char stages[512] = "";
    for (int i = 0; i < m->n_stages; i++) {
        size_t used = strlen(stages);
        snprintf(
            stages + used, sizeof stages - used, "%s%s", i ? ", " : "", m->stages[i]);
    }
    const char *near = thaw_nearest(word, names, n);
    return th_fail(THAW_E_USAGE,
        "--thaw: '%s' matches nothing in %s%s%s%s; stages are %s; patterns match "
        "parameter "
        "names such as %s",
        word, m->variant->name, near ? "; did you mean " : "", near ? near : "",
        near ? "?" : "", stages, m->params[0].name);
}

static thaw_status thaw_word(
    const struct th_model *m, const char *word, bool stages, bool *named, bool *none)
{
    if (strcmp(word, "none") == 0) {
        *none = true;
        return THAW_OK;
    }
    bool any = false;
    for (int i = 0; i < m->n_params; i++)
        if (names_param(m, &m->params[i], word, stages))
            any = named[i] = true;
    return any ? THAW_OK : unknown_word(m, word);
}

/* The next word at *at, cut to its buffer; false at the end. */
static bool next_word(const char **at, char word[256])
{
    *at += strspn(*at, ", ");
    size_t n = strcspn(*at, ", ");
    snprintf(word, 256, "%.*s", (int)n, *at);
    *at += n;
    return n > 0;
}

/* "norm" is every LayerNorm, as "bn" is every BatchNorm; but beside another stage below
 * the head, as in "block11,norm,head", it is the stage of that name. */
static bool norm_is_stage(const struct th_model *m, const char *text)
{
    char word[256];
    int norm = th_model_stage(m, "norm");
    for (const char *at = text; norm >= 0 && next_word(&at, word);) {
        int stage = th_model_stage(m, word);
        if (stage >= 0 && stage != norm && stage != m->n_stages - 1)
            return true;
    }
    return false;
}

/* named[i]: --thaw names parameter i. */
static thaw_status parse_thaw(const struct th_model *m, const char *text, bool *named)
{
    bool none = false, stages = norm_is_stage(m, text);
    int words = 0;
    char word[256];
    for (const char *at = text; next_word(&at, word); words++)
        TRY(thaw_word(m, word, stages, named, &none));
    if (words == 0 || (none && words > 1))
        return th_fail(THAW_E_USAGE,
            "--thaw: '%s': say head, all, none or names separated by commas; none "
            "stands "
            "alone",
            text);
    for (int i = 0; m->lora.rank && !m->lora.by_word && !none && i < m->n_params; i++)
        named[i] = named[i] || th_param_is_lora(&m->params[i]);
    return THAW_OK;
}

bool th_freeze_says_lora(const char *thaw)
{
    for (const char *at = thaw; *(at += strspn(at, ", :"));) {
        size_t n = strcspn(at, ", :");
        char word[256];
        snprintf(word, sizeof word, "%.*s", (int)n, at);
        if (strcmp(word, "lora") == 0 || strstr(word, "lora_"))
            return true;
        at += n;
    }
    return false;
}

/* ---- --bn ---- */

static bool has_bn(const struct th_model *m, int first, int last)
{
    for (int i = 0; i < m->n_bns; i++)
        if (m->bns[i].stage >= first && m->bns[i].stage <= last)
            return true;
    return false;
}

static bool mode_by_name(const char *name, enum th_bn_mode *mode)
{
    for (size_t i = 0; i < sizeof mode_names / sizeof *mode_names; i++)
        if (strcmp(name, mode_names[i]) == 0) {
            *mode = (enum th_bn_mode)i;
            return true;
        }
    return false;
}

/* Frozen with its convolution; affine where --thaw names it all the same; where the
 * convolution trains, train if the batch is large enough for statistics, or in the head,
 * which brings none. */
static enum th_bn_mode auto_mode(
    const struct th_model *m, const struct th_bn *bn, const bool *named, int batch)
{
    bool conv = bn->conv >= 0 ? named[bn->conv] : named[bn->gamma];
    bool head = bn->stage == m->n_stages - 1;
    if (conv)
        return head || batch >= BATCH_FOR_STATISTICS ? TH_BN_TRAIN : TH_BN_FROZEN;
    return named[bn->gamma] || named[bn->beta] ? TH_BN_AFFINE : TH_BN_FROZEN;
}

/* The stages that have BatchNorms, for messages. */
static const char *bn_stages(const struct th_model *m, char *text, size_t size)
{
    *text = '\0';
    for (int s = 0; s < m->n_stages; s++) {
        size_t used = strlen(text);
        if (has_bn(m, s, s))
            snprintf(text + used, size - used, "%s%s", used ? ", " : "", m->stages[s]);
    }
    return text;
}

static thaw_status stage_of(const struct th_model *m, const char *name, int *stage)
{
    char stages[512];
    *stage = th_model_stage(m, name);
    if (*stage >= 0)
        return THAW_OK;
    const char *near =
        thaw_nearest(name, (const char *const *)m->stages, (size_t)m->n_stages);
    return th_fail(THAW_E_USAGE,
        "--bn: no stage '%s' in %s%s%s%s; stages with BatchNorm are %s", name,
        m->variant->name, near ? "; did you mean " : "", near ? near : "",
        near ? "?" : "", bn_stages(m, stages, sizeof stages));
}

/* "stem-stage3:frozen": a stage or a range of stages, and a mode. */
struct bn_word {
    char text[256]; /* cut up: the first stage */
    const char *last;
    enum th_bn_mode mode;
};

/* The next word at *at; false at the end. */
static bool next_bn_word(const char **at, struct bn_word *w)
{
    *at += strspn(*at, " ");
    size_t n = strcspn(*at, " ");
    snprintf(w->text, sizeof w->text, "%.*s", (int)n, *at);
    *at += n;
    return n > 0;
}

static thaw_status parse_bn_word(struct bn_word *w)
{
    char *colon = strrchr(w->text, ':');
    if (!colon || !mode_by_name(colon + 1, &w->mode)) {
        const char *mode = colon ? colon + 1 : w->text;
        const char *near =
            thaw_nearest(mode, mode_names, sizeof mode_names / sizeof mode_names[0]);
        return th_fail(THAW_E_USAGE,
            "--bn: '%s'%s%s%s: want auto, train, frozen, stats, stats-running, affine, "
            "or STAGE:MODE and STAGE-STAGE:MODE separated by spaces",
            w->text, near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
    }
    *colon = '\0';
    char *dash = strchr(w->text, '-');
    if (dash)
        *dash = '\0';
    w->last = dash ? dash + 1 : w->text;
    return THAW_OK;
}

thaw_status th_freeze_check_bn(const char *text)
{
    enum th_bn_mode mode = TH_BN_TRAIN;
    struct bn_word w;
    if (mode_by_name(text, &mode) || strcmp(text, "auto") == 0)
        return THAW_OK;
    int words = 0;
    for (const char *at = text; next_bn_word(&at, &w); words++)
        TRY(parse_bn_word(&w));
    return words ? THAW_OK : th_fail(THAW_E_USAGE, "--bn: '%s' names nothing", text);
}

/* One word over the stages that it names; `said` [n_bns]: a word before has named it. */
static thaw_status apply_bn_word(
    struct th_freeze *f, const struct th_model *m, const struct bn_word *w, bool *said)
{
    int first = 0, last = 0;
    char stages[512];
    TRY(stage_of(m, w->text, &first));
    TRY(stage_of(m, w->last, &last));
    if (first > last)
        return th_fail(THAW_E_USAGE,
            "--bn: %s-%s names no stage: stages go from the input up, %s-%s", w->text,
            w->last, w->last, w->text);
    if (!has_bn(m, first, last))
        return th_fail(THAW_E_USAGE,
            "--bn: %s of %s has no BatchNorm; stages that have are %s", w->text,
            m->variant->name, bn_stages(m, stages, sizeof stages));
    for (int i = 0; i < m->n_bns; i++) {
        int stage = m->bns[i].stage;
        if (stage < first || stage > last)
            continue;
        if (said[i] && f->bn[i] != w->mode)
            return th_fail(THAW_E_USAGE,
                "--bn: %s cannot be both %s and %s: name each stage once",
                m->stages[stage], mode_names[f->bn[i]], mode_names[w->mode]);
        said[i] = true;
        f->bn[i] = w->mode;
    }
    return THAW_OK;
}

static thaw_status apply_bn_words(
    struct th_freeze *f, const struct th_model *m, const char *text)
{
    struct bn_word w;
    bool *said = th_alloc((size_t)m->n_bns, sizeof *said);
    thaw_status status = said ? THAW_OK : THAW_E_MEMORY;
    for (const char *at = text; status == THAW_OK && next_bn_word(&at, &w);) {
        status = parse_bn_word(&w);
        if (status == THAW_OK)
            status = apply_bn_word(f, m, &w, said);
    }
    th_free(said);
    return status;
}

static thaw_status parse_bn(struct th_freeze *f, const struct th_model *m,
    const char *text, const bool *named, int batch)
{
    enum th_bn_mode mode = TH_BN_TRAIN;
    bool one = mode_by_name(text, &mode);
    for (int i = 0; i < m->n_bns; i++)
        f->bn[i] = one ? mode : auto_mode(m, &m->bns[i], named, batch);
    if (one || strcmp(text, "auto") == 0)
        return THAW_OK;
    return apply_bn_words(f, m, text);
}

thaw_status th_freeze_init(struct th_freeze *f, const struct th_model *m,
    const char *thaw, const char *bn, int batch)
{
    *f = (struct th_freeze){.n_params = m->n_params, .n_bns = m->n_bns};
    f->trainable = th_alloc((size_t)m->n_params, sizeof *f->trainable);
    f->bn = th_alloc((size_t)m->n_bns, sizeof *f->bn);
    thaw_status status = f->trainable && f->bn ? THAW_OK : THAW_E_MEMORY;
    if (status == THAW_OK)
        status = parse_thaw(m, thaw, f->trainable);
    if (status == THAW_OK)
        status = parse_bn(f, m, bn, f->trainable, batch);
    for (int i = 0; status == THAW_OK && i < m->n_params; i++)
        if (m->params[i].bn >= 0 && !affine_may_train(f->bn[m->params[i].bn]))
            f->trainable[i] = false;
    if (status != THAW_OK)
        th_freeze_release(f);
    return status;
}

void th_freeze_release(struct th_freeze *f)
{
    th_free(f->trainable);
    th_free(f->bn);
    *f = (struct th_freeze){0};
}

/* ---- Questions ---- */

bool th_freeze_is_frozen(const struct th_freeze *f, const struct th_model *m, int param)
{
    const struct th_param *p = &m->params[param];
    if (th_param_is_buffer(p))
        return !th_bn_updates(f->bn[p->bn]);
    return !f->trainable[param];
}

int64_t th_freeze_trained(const struct th_freeze *f, const struct th_model *m)
{
    int64_t n = 0;
    for (int i = 0; i < m->n_params; i++)
        n += f->trainable[i] ? th_shape_count(&m->params[i].shape) : 0;
    return n;
}

int64_t th_model_values(const struct th_model *m)
{
    int64_t n = 0;
    for (int i = 0; i < m->n_params; i++)
        n +=
            th_param_is_buffer(&m->params[i]) ? 0 : th_shape_count(&m->params[i].shape);
    return n;
}

/* The mode of a stage's BatchNorms; false where they differ or there are none. */
static bool stage_mode(const struct th_freeze *f, const struct th_model *m, int stage,
    enum th_bn_mode *mode)
{
    bool any = false;
    for (int i = 0; i < m->n_bns; i++) {
        if (m->bns[i].stage != stage)
            continue;
        if (any && f->bn[i] != *mode)
            return false;
        *mode = f->bn[i];
        any = true;
    }
    return any;
}

char *th_freeze_bn_text(const struct th_freeze *f, const struct th_model *m)
{
    char text[1024] = "";
    for (int s = 0; s < m->n_stages;) {
        enum th_bn_mode mode = TH_BN_TRAIN, next = TH_BN_TRAIN;
        int first = s++;
        if (!stage_mode(f, m, first, &mode)) {
            if (has_bn(m, first, first))
                snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s mixed",
                    *text ? ", " : "", m->stages[first]);
            continue;
        }
        while (s < m->n_stages && stage_mode(f, m, s, &next) && next == mode)
            s++;
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used,
            s - first > 1 ? "%s%s-%s %s" : "%s%s%.0s %s", *text ? ", " : "",
            m->stages[first], m->stages[s - 1], mode_names[mode]);
    }
    return th_strdup(text);
}
