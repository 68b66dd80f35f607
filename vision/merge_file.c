/* SPDX-License-Identifier: Apache-2.0
 * Owns thaw_merge and thaw_unmerge. No arithmetic gives w back from w + s B A, so a merged
 * file keeps apart what it changed: the base's tensors as base.NAME where they differ, its
 * head too, and its attributes as base_NAME. Whoever reads the file as a model takes no
 * notice of them; thaw convert leaves them out. */
#include "file.h"
#include "mem.h"
#include "model_file.h"
#include "model_open.h"
#include "options.h"
#include "pretrained.h"
#include "report.h"

#include <stdio.h>
#include <string.h>

static const char tensor_prefix[] = "base.", attribute_prefix[] = "base_";
enum { TENSOR_PREFIX = sizeof tensor_prefix - 1 };
enum { ATTRIBUTE_PREFIX = sizeof attribute_prefix - 1, MAX_NAME = 256 };

static thaw_status check_out(const char *out)
{
    if (!th_weights_format_of(out))
        return th_fail(
            THAW_E_USAGE, "%s: weights are written as .h5 or .safetensors", out);
    return th_file_exists(out)
               ? th_fail(THAW_E_USAGE, "%s exists: choose another name", out)
               : THAW_OK;
}

static thaw_status set_attribute(
    struct th_weights *w, const char *name, const struct th_attribute *a)
{
    switch (a->kind) {
    case TH_ATTRIBUTE_STRING:
        return th_weights_set_string(w, name, a->strings[0]);
    case TH_ATTRIBUTE_STRINGS:
        return th_weights_set_strings(w, name, (const char *const *)a->strings, a->n);
    case TH_ATTRIBUTE_FLOATS:
        return th_weights_set_floats(w, name, a->floats, a->n);
    case TH_ATTRIBUTE_INTS:
        return th_weights_set_ints(w, name, a->ints, a->n);
    }
    return THAW_OK;
}

/* ---- Merging ---- */

static thaw_status keep_tensor(
    struct th_weights *w, const char *name, const struct th_tensor *t)
{
    char kept[MAX_NAME];
    snprintf(kept, sizeof kept, "%s%s", tensor_prefix, name);
    return th_weights_add(w, kept, t->shape, t->data, NULL);
}

static bool same_tensor(const struct th_weight *a, const struct th_tensor *b)
{
    return a && th_shape_equal(&a->tensor.shape, &b->shape) &&
           memcmp(a->tensor.data, b->data,
               sizeof(float) * (size_t)th_shape_count(&b->shape)) == 0;
}

/* Names that the base does not have: those of a new head. */
static thaw_status note_new(struct th_weights *w, const struct th_weights *base)
{
    size_t n = 0;
    const char **names = th_alloc(w->n, sizeof *names);
    if (!names)
        return THAW_E_MEMORY;
    for (size_t i = 0; i < w->n; i++)
        if (!th_weights_find(base, w->weight[i].name))
            names[n++] = w->weight[i].name;
    thaw_status status =
        n ? th_weights_set_strings(w, "merged_new", names, n) : THAW_OK;
    th_free(names);
    return status;
}

/* The base as it was read, under its own file's names: what merging changed of it. */
static thaw_status keep_base(struct th_weights *w, const struct th_weights *base)
{
    char name[MAX_NAME];
    TRY(note_new(w, base));
    for (size_t i = 0; i < base->n; i++) {
        const struct th_weight *t = &base->weight[i];
        if (!same_tensor(th_weights_find(w, t->name), &t->tensor))
            TRY(keep_tensor(w, t->name, &t->tensor));
    }
    for (size_t i = 0; i < base->n_attributes; i++) {
        snprintf(name, sizeof name, "%s%s", attribute_prefix, base->attribute[i].name);
        TRY(set_attribute(w, name, &base->attribute[i]));
    }
    return THAW_OK;
}

static thaw_status merge(
    const struct thaw_model *m, const char *out, const thaw_events *events)
{
    const int64_t merged = 1;
    struct th_weights w;
    th_weights_init(&w);
    thaw_status status = th_model_file_fill(&w, &m->net.model, &m->net.store);
    if (status == THAW_OK)
        status = th_weights_set_ints(&w, "thaw_merged", &merged, 1);
    if (status == THAW_OK)
        status = keep_base(&w, &m->base);
    if (status == THAW_OK)
        status = th_weights_write(out, NULL, &w);
    if (status == THAW_OK)
        th_say(events, "weights", "%s, %d classes, %s merged (%s) -> %s",
            m->net.model.variant->name, m->net.model.n_classes, m->adapters[0],
            m->net.model.lora.targets, out);
    th_weights_release(&w);
    return status;
}

thaw_status thaw_merge(const char *base, const char *adapter, const char *out,
    const thaw_options *o, const thaw_events *events)
{
    thaw_options *with = NULL;
    thaw_model *m = NULL;
    const char *backbone = th_option_text(o, "backbone");
    TRY(check_out(out));
    TRY(thaw_options_new(&with));
    thaw_status status = thaw_options_set(with, "adapter", adapter);
    if (status == THAW_OK && backbone)
        status = thaw_options_set(with, "backbone", backbone);
    if (status == THAW_OK)
        status = thaw_model_open(base, with, &m);
    if (status == THAW_OK)
        status = merge(m, out, events);
    thaw_model_free(m);
    thaw_options_free(with);
    return status;
}

/* ---- And back ---- */

/* Whether the base had tensor `name` of the merged file as it stands there. */
static bool is_base(const struct th_weights *w, const char *name)
{
    char kept[MAX_NAME];
    size_t n = 0;
    const char *const *new = th_weights_strings(w, "merged_new", &n);
    for (size_t i = 0; new &&i < n; i++)
        if (!strcmp(new[i], name))
            return false;
    snprintf(kept, sizeof kept, "%s%s", tensor_prefix, name);
    return !th_weights_find(w, kept);
}

static thaw_status take_base(struct th_weights *base, const struct th_weights *w)
{
    for (size_t i = 0; i < w->n; i++) {
        const struct th_weight *t = &w->weight[i];
        bool kept = strncmp(t->name, tensor_prefix, TENSOR_PREFIX) == 0;
        if (kept || is_base(w, t->name))
            TRY(th_weights_add(base, t->name + (kept ? TENSOR_PREFIX : 0),
                t->tensor.shape, t->tensor.data, NULL));
    }
    for (size_t i = 0; i < w->n_attributes; i++) {
        const struct th_attribute *a = &w->attribute[i];
        if (strncmp(a->name, attribute_prefix, ATTRIBUTE_PREFIX) == 0)
            TRY(set_attribute(base, a->name + ATTRIBUTE_PREFIX, a));
    }
    return THAW_OK;
}

thaw_status thaw_unmerge(const char *merged, const char *out, const thaw_events *events)
{
    struct th_weights w, base;
    char *path = NULL;
    TRY(check_out(out));
    TRY(th_pretrained_model_path(merged, &path));
    th_weights_init(&w);
    th_weights_init(&base);
    thaw_status status = th_weights_read(path, &w);
    if (status == THAW_OK && !th_weights_ints(&w, "thaw_merged", NULL))
        status = th_fail(THAW_E_DATA,
            "%s: thaw merge did not write it, so no base is kept in it: the base is "
            "the "
            "weights file that the training began with",
            path);
    if (status == THAW_OK)
        status = take_base(&base, &w);
    if (status == THAW_OK)
        status = th_weights_write(out, NULL, &base);
    if (status == THAW_OK)
        th_say(events, "weights", "%zu tensors of the base -> %s", base.n, out);
    th_weights_release(&base);
    th_weights_release(&w);
    th_free(path);
    return status;
}
