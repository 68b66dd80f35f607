/* SPDX-License-Identifier: Apache-2.0
 * Owns the matching of a file's tensors with a model's, and what is said about it.
 *
 * What thaw merge kept of a base (base.NAME) is nobody's business here.
 *
 * L1 First everything is matched, then everything is copied: a failure changes nothing.
 * L2 Shapes match exactly. [10,512,1,1] for [10,512] is misshapen: a file that is
 *    "nearly" right is usually another model's. What may differ is for `refit` to say. */
#include "weights_load.h"

#include "error.h"
#include "mem.h"

#include <stdio.h>
#include <string.h>

enum {
    FIRST = 3,       /* names that a message shows of a list */
    LIST_TEXT = 400, /* bytes for them */
    SHAPE_TEXT = 128
};

/* A match in the making. */
struct match {
    const struct th_weights *w;
    const char *where;
    const struct th_load_options *options;
    struct th_load_report *report;
    const struct th_weight **found; /* per slot, NULL for none */
    bool *used;                     /* per tensor of the file: a slot wants it */
};

static void names_release(struct th_name_list *names)
{
    for (size_t i = 0; i < names->n; i++)
        th_free(names->name[i]);
    th_free(names->name);
    *names = (struct th_name_list){0};
}

void th_load_report_release(struct th_load_report *r)
{
    names_release(&r->missing);
    names_release(&r->misshapen);
    names_release(&r->refitted);
    names_release(&r->unexpected);
}

/* Takes over `text`; NULL is out of memory. */
static thaw_status names_add(struct th_name_list *names, char *text)
{
    if (text && names->n == names->capacity) {
        size_t capacity = names->capacity ? 2 * names->capacity : 16;
        char **grown = th_realloc(names->name, names->n, capacity, sizeof *grown);
        if (!grown) {
            th_free(text);
            return THAW_E_MEMORY;
        }
        names->name = grown;
        names->capacity = capacity;
    }
    if (!text)
        return THAW_E_MEMORY;
    names->name[names->n++] = text;
    return THAW_OK;
}

/* "a, b, c and 7 more" */
static const char *names_text(const struct th_name_list *names, char *text, size_t size)
{
    size_t used = 0;
    text[0] = 0;
    for (size_t i = 0; i < names->n && i < FIRST && used < size; i++)
        used += (size_t)snprintf(
            text + used, size - used, "%s%.100s", i ? ", " : "", names->name[i]);
    if (names->n > FIRST && used < size)
        snprintf(text + used, size - used, " and %zu more", names->n - FIRST);
    return text;
}

const char *th_load_report_text(const struct th_load_report *r, char *text, size_t size)
{
    char list[LIST_TEXT];
    size_t used =
        (size_t)snprintf(text, size, "loaded %zu of %zu", r->n_loaded, r->n_slots);
    if (r->n_head && used < size)
        used += (size_t)snprintf(text + used, size - used, ", head %s",
            r->n_head_loaded == r->n_head ? "loaded"
            : r->n_head_loaded            ? "partly new"
                                          : "new");
    if (r->refitted.n && used < size)
        used += (size_t)snprintf(text + used, size - used, ", resampled: %s",
            names_text(&r->refitted, list, sizeof list));
    if (r->missing.n && used < size)
        used += (size_t)snprintf(text + used, size - used, ", missing: %s",
            names_text(&r->missing, list, sizeof list));
    if (r->unexpected.n && used < size)
        snprintf(text + used, size - used, ", unexpected: %s",
            names_text(&r->unexpected, list, sizeof list));
    return text;
}

static const struct th_weight *find(const struct match *m, const char *name)
{
    const struct th_weight *found = th_weights_find(m->w, name);
    const char *other = !found && m->options->file_name
                            ? m->options->file_name(m->options->user, name)
                            : NULL;
    return other ? th_weights_find(m->w, other) : found;
}

/* NAME, `says`, the file's shape, `but`, the model's. */
static char *shapes_text(const struct th_slot *slot, const char *says,
    const struct th_weight *found, const char *but)
{
    char have[SHAPE_TEXT], want[SHAPE_TEXT];
    return th_format("%s%s%s%s%s", slot->name, says,
        th_shape_text(&found->tensor.shape, have, sizeof have), but,
        th_shape_text(&slot->shape, want, sizeof want));
}

/* Look for one slot's tensor, and say so where it is not as it should be. */
static thaw_status match_slot(struct match *m, size_t i, const struct th_slot *slot)
{
    const struct th_weight *found = find(m, slot->name);
    if (found)
        m->used[found - m->w->weight] = true;
    bool may_be_new = slot->head && !m->options->keep_head;
    bool refits = found && m->options->refit &&
                  m->options->refit(m->options->user, slot, found, NULL);
    bool fits = refits || (found && th_shape_equal(&found->tensor.shape, &slot->shape));
    m->report->n_head += slot->head;
    if (fits && !(slot->head && m->options->new_head)) {
        m->found[i] = found;
        m->report->n_loaded++;
        m->report->n_head_loaded += slot->head;
        return refits ? names_add(&m->report->refitted,
                            shapes_text(slot, " from ", found, " to "))
                      : THAW_OK;
    }
    if (may_be_new)
        return THAW_OK;
    return found ? names_add(&m->report->misshapen,
                       shapes_text(slot, ": file has ", found, ", model wants "))
                 : names_add(&m->report->missing, th_strdup(slot->name));
}

/* Nothing fits at all: another model, or names that need a map. Show both sides. */
static thaw_status nothing_matches(
    const struct match *m, const struct th_slot *slot, size_t n)
{
    char wanted[LIST_TEXT] = "", had[LIST_TEXT] = "";
    for (size_t i = 0, used = 0; i < n && i < FIRST && used < sizeof wanted; i++)
        used += (size_t)snprintf(wanted + used, sizeof wanted - used, "%s%.100s",
            i ? ", " : "", slot[i].name);
    for (size_t i = 0, used = 0; i < m->w->n && i < FIRST && used < sizeof had; i++)
        used += (size_t)snprintf(had + used, sizeof had - used, "%s%.100s",
            i ? ", " : "", m->w->weight[i].name);
    return th_fail(THAW_E_DATA,
        "%s: 0 of %zu tensors matched: the model wants %s, ...; the file has %s, ...; "
        "is "
        "it the right --backbone?",
        m->where, n, wanted, had);
}

/* The verdict on what was found. */
static thaw_status judge(const struct match *m, const struct th_slot *slot, size_t n)
{
    const struct th_load_report *r = m->report;
    char list[LIST_TEXT];
    size_t n_body = n - r->n_head;
    if (n > 0 && r->n_loaded == 0 && r->misshapen.n == 0 &&
        (n_body || m->options->keep_head))
        return nothing_matches(m, slot, n);
    if (r->misshapen.n)
        return th_fail(THAW_E_DATA, "%s: %s (%zu of %zu tensors have another shape)",
            m->where, r->misshapen.name[0], r->misshapen.n, n);
    if (r->missing.n && !m->options->allow_missing)
        return th_fail(THAW_E_DATA,
            "%s: %zu of %zu tensors are missing: %s; --allow-missing goes on without "
            "them",
            m->where, r->missing.n, n, names_text(&r->missing, list, sizeof list));
    return THAW_OK;
}

/* A NaN in a frozen layer would not even show: ReLU may turn it into 0. */
static thaw_status check_finite(const struct match *m, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct th_weight *found = m->found[i];
        int64_t at = !found ? -1
                            : th_not_finite(found->tensor.data,
                                  th_shape_count(&found->tensor.shape));
        if (at >= 0)
            return th_fail(THAW_E_DATA,
                "%s: %s: value %lld is not finite: the file is damaged, or what it was "
                "trained with diverged",
                m->where, found->name, (long long)at);
    }
    return THAW_OK;
}

/* What a merged file keeps of its base, and the head that is replaced. */
static bool is_passed_over(const struct match *m, const char *name)
{
    const char *head = m->options->new_head ? m->options->head : NULL;
    size_t n = head ? strlen(head) : 0;
    return strncmp(name, "base.", 5) == 0 ||
           (head && strncmp(name, head, n) == 0 && name[n] == '.');
}

static thaw_status match_all(struct match *m, const struct th_slot *slot, size_t n)
{
    m->report->n_slots = n;
    for (size_t i = 0; i < n; i++)
        TRY(match_slot(m, i, &slot[i]));
    for (size_t i = 0; i < m->w->n; i++)
        if (!m->used[i] && !is_passed_over(m, m->w->weight[i].name))
            TRY(names_add(&m->report->unexpected, th_strdup(m->w->weight[i].name)));
    TRY(judge(m, slot, n));
    return check_finite(m, n);
}

thaw_status th_weights_load(const struct th_weights *w, struct th_slot *slot, size_t n,
    const char *where, const struct th_load_options *options,
    struct th_load_report *report)
{
    static const struct th_load_options plain = {0};
    *report = (struct th_load_report){0};
    struct match m = {.w = w, .where = where, .report = report};
    m.options = options ? options : &plain;
    m.found = th_alloc(n, sizeof *m.found);
    m.used = th_alloc(w->n, sizeof *m.used);
    thaw_status status = m.found && m.used ? match_all(&m, slot, n) : THAW_E_MEMORY;
    for (size_t i = 0; i < n; i++) {
        slot[i].loaded = status == THAW_OK && m.found[i];
        bool refitted =
            slot[i].loaded && m.options->refit &&
            m.options->refit(m.options->user, &slot[i], m.found[i], slot[i].data);
        if (slot[i].loaded && !refitted)
            memcpy(slot[i].data, m.found[i]->tensor.data,
                th_dtype_bytes(TH_F32, th_shape_count(&slot[i].shape)));
    }
    th_free(m.found);
    th_free(m.used);
    return status;
}
