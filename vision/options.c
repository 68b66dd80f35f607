/* SPDX-License-Identifier: Apache-2.0
 * Owns the option table and sets of option values. Invariant: a value in a set has
 * passed the checks of its row. Knows nothing of the command line or of JSON. */
#include "options.h"

#include "mem.h"

#include <assert.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const thaw_option table[] = {
#define OPTION(name, type, value, default, choices, least, most, help, commands)       \
    {name, THAW_OPTION_##type, value, default, choices, help, commands},
#include "options.def"
};

static const struct range {
    double least, most;
} ranges[] = {
#define OPTION(name, type, value, default, choices, least, most, help, commands)       \
    {least, most},
#include "options.def"
};

enum { N_OPTIONS = sizeof table / sizeof table[0] };

struct thaw_options {
    char *values[N_OPTIONS]; /* NULL: unset */
};

const char *thaw_version(void)
{
    return THAW_VERSION;
}

const thaw_option *thaw_option_table(size_t *n)
{
    *n = N_OPTIONS;
    return table;
}

static int find(const char *name)
{
    for (int i = 0; i < N_OPTIONS; i++)
        if (!strcmp(table[i].name, name))
            return i;
    return -1;
}

/* ---- Nearest names ---- */

enum { MAX_NAME = 63 };

static int min3(int a, int b, int c)
{
    int m = a < b ? a : b;
    return m < c ? m : c;
}

/* Edit distance with swaps of neighbours (optimal string alignment): d[i][j] from the
 * first i letters of a to the first j of b; three rows suffice. */
static int edit_distance(const char *a, const char *b)
{
    int n = (int)strlen(a), m = (int)strlen(b);
    if (n > MAX_NAME || m > MAX_NAME)
        return MAX_NAME;
    int rows[3][MAX_NAME + 1];
    for (int j = 0; j <= m; j++)
        rows[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = rows[i % 3], *last = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            int change = a[i - 1] != b[j - 1];
            now[j] = min3(last[j] + 1, now[j - 1] + 1, last[j - 1] + change);
            bool swapped =
                i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && before[j - 2] + 1 < now[j])
                now[j] = before[j - 2] + 1;
        }
    }
    return rows[n % 3][m];
}

const char *thaw_nearest(const char *typed, const char *const *names, size_t n)
{
    const char *best = NULL;
    /* A third of the letters may be wrong; "epo" is near to what it begins. */
    int limit = (int)strlen(typed) / 3 + 1;
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(typed);
        bool begins = length >= 3 && !strncmp(typed, names[i], length);
        int d = begins ? 1 : edit_distance(typed, names[i]);
        if (d < limit || (d == limit && !best)) {
            best = names[i];
            limit = d;
        }
    }
    return best;
}

/* ---- Values ---- */

thaw_status thaw_options_new(thaw_options **out)
{
    *out = th_alloc(1, sizeof **out);
    return *out ? THAW_OK : THAW_E_MEMORY;
}

void thaw_options_free(thaw_options *o)
{
    if (!o)
        return;
    for (int i = 0; i < N_OPTIONS; i++)
        th_free(o->values[i]);
    th_free(o);
}

bool th_parse_real(const char *text, double *out)
{
    if (!*text || text[strspn(text, "0123456789+-.eE")])
        return false;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    char *end = NULL;
    *out = strtod_l(text, &end, c);
    freelocale(c);
    return !*end && *out - *out == 0; /* finite */
}

static bool is_whole(const char *text)
{
    const char *digits = text + (*text == '+' || *text == '-');
    return *digits && !digits[strspn(digits, "0123456789")] && strlen(digits) <= 16;
}

/* Three numbers with commas. */
static bool parse_rgb(const char *text, double rgb[3])
{
    char copy[96];
    if (strlen(text) >= sizeof copy)
        return false;
    strcpy(copy, text);
    char *at = copy;
    for (int i = 0; i < 3; i++) {
        char *comma = strchr(at, ',');
        if (!comma != (i == 2))
            return false;
        if (comma)
            *comma = 0;
        if (!th_parse_real(at, &rgb[i]))
            return false;
        at = comma ? comma + 1 : at;
    }
    return true;
}

static bool is_choice(const char *choices, const char *value)
{
    size_t length = strcspn(value, "|");
    if (!length || value[length])
        return false;
    for (const char *at = choices; at;) {
        if (!strncmp(at, value, length) && (at[length] == '|' || !at[length]))
            return true;
        at = strchr(at, '|');
        at = at ? at + 1 : NULL;
    }
    return false;
}

static thaw_status check_choice(const thaw_option *row, const char *value)
{
    if (is_choice(row->choices, value))
        return THAW_OK;
    return th_fail(
        THAW_E_USAGE, "--%s: '%s' is not one of %s", row->name, value, row->choices);
}

static thaw_status check_number(int i, const char *value)
{
    const thaw_option *row = &table[i];
    const struct range *r = &ranges[i];
    bool whole = row->type == THAW_OPTION_INT;
    double x = 0;
    if (!th_parse_real(value, &x) || (whole && !is_whole(value)))
        return th_fail(THAW_E_USAGE, "--%s: '%s' is not a %s from %.16g", row->name,
            value, whole ? "whole number" : "number", r->least);
    if (x < r->least || x > r->most)
        return th_fail(THAW_E_USAGE, "--%s: %s is outside %.16g to %.16g", row->name,
            value, r->least, r->most);
    return THAW_OK;
}

static thaw_status check_size(int i, const char *value)
{
    const struct range *r = &ranges[i];
    struct th_sizes all;
    if (!th_sizes_parse(value, &all) && strchr(value, ','))
        return th_fail(THAW_E_USAGE,
            "--%s: '%s' is not a list of sizes: give at most %d, each once, as "
            "320x256,256x320",
            table[i].name, value, TH_MAX_SIZES);
    if (!th_sizes_parse(value, &all))
        return th_fail(THAW_E_USAGE,
            "--%s: '%s' is not a size: give pixels on a side, as 320, or width x "
            "height, "
            "as 320x240",
            table[i].name, value);
    for (int k = 0; k < all.n; k++) {
        struct th_size s = all.at[k];
        if (s.w < r->least || s.w > r->most || s.h < r->least || s.h > r->most)
            return th_fail(THAW_E_USAGE, "--%s: %s is outside %.16g to %.16g%s",
                table[i].name, value, r->least, r->most,
                s.w == s.h ? "" : " on a side");
    }
    return THAW_OK;
}

static thaw_status check_text(const thaw_option *row, const char *value)
{
    bool is_std = !strcmp(row->name, "std");
    double rgb[3];
    if (!*value)
        return th_fail(THAW_E_USAGE, "--%s: the value is empty", row->name);
    if (!is_std && strcmp(row->name, "mean"))
        return THAW_OK;
    if (!parse_rgb(value, rgb))
        return th_fail(THAW_E_USAGE,
            "--%s: '%s' is not three numbers as in 0.485,0.456,0.406", row->name,
            value);
    for (int c = 0; c < 3; c++)
        if (is_std && !(rgb[c] > 0))
            return th_fail(THAW_E_USAGE, "--std: '%s' must be above 0", value);
    return THAW_OK;
}

static thaw_status check(int i, const char *value)
{
    const thaw_option *row = &table[i];
    switch (row->type) {
    case THAW_OPTION_FLAG:
        if (!strcmp(value, "0") || !strcmp(value, "1"))
            return THAW_OK;
        return th_fail(THAW_E_USAGE, "--%s takes no value (or 1 or 0), not '%s'",
            row->name, value);
    case THAW_OPTION_INT:
    case THAW_OPTION_REAL:
        return check_number(i, value);
    case THAW_OPTION_CHOICE:
        return check_choice(row, value);
    case THAW_OPTION_SIZE:
        return check_size(i, value);
    case THAW_OPTION_TEXT:
        break;
    }
    return check_text(row, value);
}

static thaw_status fail_unknown(const char *name)
{
    const char *names[N_OPTIONS];
    for (int i = 0; i < N_OPTIONS; i++)
        names[i] = table[i].name;
    const char *near = thaw_nearest(name, names, N_OPTIONS);
    if (!near)
        return th_fail(THAW_E_USAGE, "unknown option --%s", name);
    return th_fail(THAW_E_USAGE, "unknown option --%s; did you mean --%s?", name, near);
}

thaw_status thaw_options_set(thaw_options *o, const char *name, const char *value)
{
    int i = find(name);
    if (i < 0)
        return fail_unknown(name);
    if (!value)
        return th_fail(THAW_E_USAGE, "--%s wants a value", name);
    TRY(check(i, value));
    char *copy = th_strdup(value);
    if (!copy)
        return THAW_E_MEMORY;
    th_free(o->values[i]);
    o->values[i] = copy;
    return strcmp(name, "config") ? THAW_OK : th_options_load(o, value);
}

const char *thaw_options_get(const thaw_options *o, const char *name)
{
    int i = find(name);
    if (i < 0)
        return NULL;
    return o && o->values[i] ? o->values[i] : table[i].default_value;
}

bool thaw_options_is_set(const thaw_options *o, const char *name)
{
    int i = find(name);
    return i >= 0 && o && o->values[i];
}

const char *th_option_text(const thaw_options *o, const char *name)
{
    assert(find(name) >= 0);
    return thaw_options_get(o, name);
}

int64_t th_option_int(const thaw_options *o, const char *name)
{
    const char *text = th_option_text(o, name);
    return text ? strtoll(text, NULL, 10) : 0;
}

double th_option_real(const thaw_options *o, const char *name)
{
    const char *text = th_option_text(o, name);
    double x = 0;
    if (text)
        th_parse_real(text, &x);
    return x;
}

bool th_option_flag(const thaw_options *o, const char *name)
{
    const char *text = th_option_text(o, name);
    return text && !strcmp(text, "1");
}

struct th_sizes th_option_sizes(const thaw_options *o, const char *name)
{
    const char *text = th_option_text(o, name);
    struct th_sizes s = {0};
    if (text)
        th_sizes_parse(text, &s);
    return s;
}

struct th_size th_option_size(const thaw_options *o, const char *name)
{
    return th_option_sizes(o, name).at[0];
}

bool th_option_rgb(const thaw_options *o, const char *name, float out[3])
{
    const char *text = th_option_text(o, name);
    double rgb[3];
    if (!text || !parse_rgb(text, rgb))
        return false;
    for (int c = 0; c < 3; c++)
        out[c] = (float)rgb[c];
    return true;
}

bool th_next_word(const char **at, char *word, size_t size)
{
    if (!*at || !**at)
        return false;
    size_t n = strcspn(*at, ",");
    snprintf(word, size, "%.*s", (int)n, *at);
    *at += n + ((*at)[n] == ',');
    return true;
}
