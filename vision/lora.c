/* SPDX-License-Identifier: Apache-2.0
 * Owns the reading and writing of --lora, and which layers its words name. */
#include "lora.h"

#include "mem.h"
#include "options.h"

#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_RANK = 8, MAX_WORD = 256 };

static const char *const keys[] = {"r", "alpha", "targets", "dropout", "rslora"};
enum { N_KEYS = sizeof keys / sizeof keys[0] };

static const char wanted[] =
    "want r=8,alpha=16,targets=qkv,proj,dropout=0.0,rslora=0, any of them";

/* ---- Reading ---- */

static thaw_status read_value(struct th_lora *l, const char *key, const char *value)
{
    double x = 0;
    if (!th_parse_real(value, &x))
        return th_fail(
            THAW_E_USAGE, "--lora: %s=%s is not a number; %s", key, value, wanted);
    if (!strcmp(key, "r")) {
        if (!(x >= 1 && x <= TH_LORA_MAX_RANK) || x != floor(x))
            return th_fail(THAW_E_USAGE,
                "--lora: r=%s: the rank is a whole number from 1 to %d", value,
                TH_LORA_MAX_RANK);
        l->rank = (int)x;
    } else if (!strcmp(key, "alpha")) {
        if (!(x > 0 && x <= 1e6))
            return th_fail(THAW_E_USAGE,
                "--lora: alpha=%s: want a number above 0, at most 1e6", value);
        l->alpha = (float)x;
    } else if (!strcmp(key, "dropout")) {
        if (!(x >= 0 && x < 1))
            return th_fail(
                THAW_E_USAGE, "--lora: dropout=%s: want 0 up to below 1", value);
        l->dropout = (float)x;
    } else {
        if (strcmp(value, "0") != 0 && strcmp(value, "1") != 0)
            return th_fail(THAW_E_USAGE, "--lora: rslora=%s: want 0 or 1", value);
        l->rslora = *value == '1';
    }
    return THAW_OK;
}

static thaw_status add_target(struct th_lora *l, const char *word)
{
    char *longer = l->targets ? th_format("%s,%s", l->targets, word) : th_strdup(word);
    if (!longer)
        return THAW_E_MEMORY;
    th_free(l->targets);
    l->targets = longer;
    return *word ? THAW_OK
                 : th_fail(THAW_E_USAGE, "--lora: an empty target; %s", wanted);
}

/* One part between commas; *in_targets: a part without '=' goes on with the list. */
static thaw_status read_part(struct th_lora *l, char *part, bool *in_targets)
{
    char *equals = strchr(part, '=');
    if (!equals && *in_targets)
        return add_target(l, part);
    if (equals)
        *equals = '\0';
    const char *const *key = keys;
    while (key < keys + N_KEYS && strcmp(*key, part) != 0)
        key++;
    if (key == keys + N_KEYS || !equals) {
        const char *near = thaw_nearest(part, keys, N_KEYS);
        return th_fail(THAW_E_USAGE, "--lora: '%s'%s%s%s; %s", part,
            near ? " (did you mean " : "", near ? near : "", near ? "=?)" : "", wanted);
    }
    *in_targets = !strcmp(*key, "targets");
    return *in_targets ? add_target(l, equals + 1) : read_value(l, *key, equals + 1);
}

thaw_status th_lora_parse(struct th_lora *l, const char *text)
{
    char *copy = th_strdup(text), *rest = copy;
    bool in_targets = false;
    *l = (struct th_lora){.rank = DEFAULT_RANK};
    thaw_status status = copy ? THAW_OK : THAW_E_MEMORY;
    while (status == THAW_OK && rest) {
        char *part = rest, *comma = strchr(rest, ',');
        rest = comma ? comma + 1 : NULL;
        if (comma)
            *comma = '\0';
        status = read_part(l, part, &in_targets);
    }
    th_free(copy);
    if (!(l->alpha > 0))
        l->alpha = 2 * (float)l->rank;
    if (status != THAW_OK)
        th_lora_release(l);
    return status;
}

char *th_lora_text(const struct th_lora *l)
{
    return th_format("r=%d,alpha=%.9g,dropout=%.9g,rslora=%d%s%s", l->rank,
        (double)l->alpha, (double)l->dropout, l->rslora, l->targets ? ",targets=" : "",
        l->targets ? l->targets : "");
}

thaw_status th_lora_copy(struct th_lora *to, const struct th_lora *from)
{
    *to = *from;
    to->targets = th_strdup(from->targets);
    return from->targets && !to->targets ? THAW_E_MEMORY : THAW_OK;
}

void th_lora_release(struct th_lora *l)
{
    th_free(l->targets);
    *l = (struct th_lora){0};
}

float th_lora_scale(const struct th_lora *l)
{
    double r = (double)l->rank;
    return (float)((double)l->alpha / (l->rslora ? sqrt(r) : r));
}

/* ---- Targets ---- */

bool th_lora_word_names(const char *word, const char *layer, bool conv)
{
    const char *dot = strrchr(layer, '.');
    if (!strcmp(word, "all-linear"))
        return !conv;
    if (!strcmp(word, "conv"))
        return conv;
    return !strcmp(word, dot ? dot + 1 : layer) || fnmatch(word, layer, 0) == 0;
}

bool th_lora_targets(const struct th_lora *l, const char *layer, bool conv)
{
    char word[MAX_WORD];
    const char *at = l->targets;
    while (th_next_word(&at, word, sizeof word))
        if (th_lora_word_names(word, layer, conv))
            return true;
    return false;
}

void th_lora_layer(const char *param, char *layer, size_t size)
{
    const char *end = strstr(param, ".lora_");
    snprintf(
        layer, size, "%.*s", (int)(end ? (size_t)(end - param) : strlen(param)), param);
}
