/* SPDX-License-Identifier: Apache-2.0
 * Owns how options become a run's config, and which of them a resume may change. */
#include "run_config.h"

#include "mem.h"
#include "model.h"
#include "options.h"
#include "recipe.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const changeable[] = {"epochs", "threads", "workers", "isa",
    "memory", "conv-table", "plan-cache", "conv-choices", "quiet", "json", "out"};

static bool may_change(const char *name)
{
    for (size_t i = 0; i < sizeof changeable / sizeof changeable[0]; i++)
        if (!strcmp(changeable[i], name))
            return true;
    return false;
}

/* ---- Paths ---- */

/* "FORMAT:PATH" or a path; what does not exist stays, and fails where it is opened. */
static thaw_status make_absolute(thaw_options *o, const char *name)
{
    const char *text = thaw_options_get(o, name);
    double fraction = 0;
    if (!text || th_parse_real(text, &fraction) || !strcmp(text, "random"))
        return THAW_OK;
    size_t prefix = strspn(text, "abcdefghijklmnopqrstuvwxyz");
    prefix = text[prefix] == ':' ? prefix + 1 : 0;
    char *path = realpath(text + prefix, NULL);
    if (!path)
        return THAW_OK;
    char *whole = th_format("%.*s%s", (int)prefix, text, path);
    free(path);
    thaw_status status = whole ? thaw_options_set(o, name, whole) : THAW_E_MEMORY;
    th_free(whole);
    return status;
}

/* The folder of a shared cache need not exist yet. */
static thaw_status place_cache(thaw_options *o, const char *name)
{
    const char *dir = thaw_options_get(o, name);
    if (!dir || *dir == '/' || !strcmp(dir, "auto") || !strcmp(dir, "off"))
        return THAW_OK;
    char *here = realpath(".", NULL);
    char *path = here ? th_format("%s/%s", here, dir) : NULL;
    thaw_status status =
        path ? thaw_options_set(o, name, path)
             : th_fail_errno(THAW_E_IO, "the current folder has no path");
    free(here);
    th_free(path);
    return status;
}

static thaw_status set_int(thaw_options *o, const char *name, int value)
{
    char text[24];
    snprintf(text, sizeof text, "%d", value);
    return thaw_options_set(o, name, text);
}

static thaw_status copy_set(const thaw_options *o, thaw_options *to)
{
    size_t n = 0;
    const thaw_option *table = thaw_option_table(&n);
    for (size_t i = 0; i < n; i++) {
        const char *name = table[i].name;
        if (thaw_options_is_set(o, name) && strcmp(name, "config"))
            TRY(thaw_options_set(to, name, thaw_options_get(o, name)));
    }
    return THAW_OK;
}

thaw_status th_run_config_copy(const thaw_options *o, thaw_options **out)
{
    static const char *const paths[] = {
        "data", "val", "weights", "adapter", "out", "conv-table"};
    TRY(thaw_options_new(out));
    TRY(copy_set(o, *out));
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        TRY(make_absolute(*out, paths[i]));
    TRY(place_cache(*out, "cache-dir"));
    TRY(place_cache(*out, "plan-cache"));
    return set_int(*out, "threads", th_option_threads(*out, "threads"));
}

/* ---- What was found out ---- */

struct real {
    char text[24];
};

/* As few digits as give the same float again: 0.485, not 0.485000014. */
static struct real real(float x)
{
    struct real r;
    for (int digits = 6; digits <= 9; digits++) {
        double back = 0;
        snprintf(r.text, sizeof r.text, "%.*g", digits, (double)x);
        th_parse_real(r.text, &back);
        if (!((float)back < x || (float)back > x))
            break;
    }
    return r;
}

static thaw_status set_channels(thaw_options *o, const char *name, const float x[3])
{
    char text[96];
    snprintf(text, sizeof text, "%s,%s,%s", real(x[0]).text, real(x[1]).text,
        real(x[2]).text);
    return thaw_options_set(o, name, text);
}

thaw_status th_run_config_resolve(thaw_options *o, const struct th_model *m)
{
    const struct th_input *in = &m->input;
    TRY(thaw_options_set(o, "backbone", m->variant->name));
    TRY(thaw_options_set(o, "head", m->head->name));
    if (m->head->hidden)
        TRY(set_int(o, "head-width", m->head_width));
    const struct th_sizes sizes = th_input_sizes(in);
    TRY(thaw_options_set(o, "image-size", th_sizes_text(&sizes).text));
    if (m->lora.rank) {
        char *lora = th_lora_text(&m->lora);
        thaw_status status = lora ? thaw_options_set(o, "lora", lora) : THAW_E_MEMORY;
        th_free(lora);
        TRY(status);
    }
    TRY(thaw_options_set(o, "crop", real(in->crop).text));
    TRY(set_channels(o, "mean", in->mean));
    TRY(set_channels(o, "std", in->std));
    return thaw_options_set(o, "interpolation", in->bicubic ? "bicubic" : "bilinear");
}

/* ---- Resuming ---- */

thaw_status th_run_config_override(thaw_options *o, const thaw_options *overrides)
{
    const char *epochs = thaw_options_get(overrides, "epochs");
    static const char *const names[] = {"threads", "workers", "isa", "memory",
        "conv-table", "plan-cache", "quiet", "json"};
    for (size_t i = 0; overrides && i < sizeof names / sizeof names[0]; i++)
        if (thaw_options_is_set(overrides, names[i]))
            TRY(thaw_options_set(o, names[i], thaw_options_get(overrides, names[i])));
    TRY(make_absolute(o, "conv-table"));
    TRY(place_cache(o, "plan-cache"));
    if (!overrides || !thaw_options_is_set(overrides, "epochs"))
        return THAW_OK;
    if (*epochs != '+')
        return thaw_options_set(o, "epochs", epochs);
    int64_t sum = th_option_int(o, "epochs") + strtoll(epochs + 1, NULL, 10);
    return set_int(o, "epochs", sum > INT_MAX ? INT_MAX : (int)sum);
}

static thaw_status compare_all(
    const thaw_options *o, const thaw_options *then, const char *run)
{
    size_t n = 0;
    const thaw_option *table = thaw_option_table(&n);
    for (size_t i = 0; i < n; i++) {
        const char *name = table[i].name;
        const char *a = thaw_options_get(o, name), *b = thaw_options_get(then, name);
        if (may_change(name) || (!a && !b) || (a && b && !strcmp(a, b)))
            continue;
        return th_fail(THAW_E_USAGE,
            "%s/config.json says %s %s, but its checkpoint was made with %s: put it "
            "back, or start a new run",
            run, name, a ? a : "(nothing)", b ? b : "(nothing)");
    }
    return THAW_OK;
}

thaw_status th_run_config_compare(
    const thaw_options *o, const char *checkpoint, const char *run)
{
    thaw_options *then = NULL;
    TRY(thaw_options_new(&then));
    thaw_status status = th_options_from_json(then, checkpoint, "checkpoint");
    if (status == THAW_OK)
        status = compare_all(o, then, run);
    thaw_options_free(then);
    return status;
}
