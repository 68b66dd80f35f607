/* SPDX-License-Identifier: Apache-2.0
 * Owns the application of a dialect: patterns, layouts, stacking, and what is said of it.
 *
 * Tensors move from one list to another; only those that change are copied, one at a
 * time, so that memory stays what the file took. */
#include "dialect.h"

#include "error.h"
#include "mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NAME = 4096, MAX_DIGITS = 6, MAX_NUMBERS = 4, MAX_PASSES = 3, PARTS = 3 };

/* What a pattern met. */
struct met {
    long number[MAX_NUMBERS];
    int n;
    const char *rest; /* of *, NULL: none */
};

/* What was done, for the notes. */
struct deeds {
    size_t renamed, transposed, stacked, dropped;
};

/* ---- patterns ---- */

static bool meet(const char *pattern, const char *name, struct met *m)
{
    *m = (struct met){0};
    for (; *pattern; pattern++) {
        if (*pattern == '#') {
            size_t n = strspn(name, "0123456789");
            if (n == 0 || n > MAX_DIGITS || m->n == MAX_NUMBERS)
                return false;
            m->number[m->n++] = strtol(name, NULL, 10);
            name += n;
        } else if (*pattern == '*') {
            m->rest = name;
            return *name && !strchr(name, '.');
        } else if (*pattern != *name++) {
            return false;
        }
    }
    return *name == 0;
}

bool th_dialect_meets(const char *pattern, const char *name)
{
    struct met m;
    return meet(pattern, name, &m);
}

/* `to` with what was met, into name[MAX_NAME]; false where it does not fit. */
static bool expand(const char *to, const struct met *m, char *name)
{
    size_t used = 0;
    int next = 0;
    for (; *to && used < MAX_NAME; to++) {
        if (*to == '#') {
            long number = next < m->n ? m->number[next++] : 0;
            if (to[1] == '+' || to[1] == '-')
                number += *++to == '+' ? 1 : -1;
            used += (size_t)snprintf(name + used, MAX_NAME - used, "%ld", number);
        } else if (*to == '*') {
            used += (size_t)snprintf(name + used, MAX_NAME - used, "%s", m->rest);
        } else {
            name[used++] = *to;
        }
    }
    if (used >= MAX_NAME)
        return false;
    name[used] = 0;
    return true;
}

/* ---- layouts ---- */

/* out[b][a] = in[a][b] for blocks of `n` floats apart: dst [cols][rows], src [rows][cols]. */
static void transpose(float *dst, const float *src, int64_t rows, int64_t cols)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++)
            dst[c * rows + r] = src[r * cols + c];
}

/* [k][i][o] -> [o][i][k], k = h * w; the i turned round if asked. */
static void hwio_to_oihw(
    float *dst, const float *src, int64_t k, const struct th_shape *s, bool turned)
{
    int64_t in = s->dim[2], out = s->dim[3];
    for (int64_t p = 0; p < k; p++)
        for (int64_t i = 0; i < in; i++)
            for (int64_t o = 0; o < out; o++)
                dst[(o * in + (turned ? in - 1 - i : i)) * k + p] =
                    src[(p * in + i) * out + o];
}

static bool fits(enum th_fit fit, int rank)
{
    switch (fit) {
    case TH_FIT_KERNEL:
        return rank == 2 || rank == 4;
    case TH_FIT_KERNEL_BGR:
        return rank == 4;
    case TH_FIT_TO_HEADS:
    case TH_FIT_OF_HEADS:
        return rank == 3;
    case TH_FIT_VECTOR:
        return rank == 1 || rank == 2;
    case TH_FIT_TOKENS:
        return rank >= 1 && rank <= 3;
    default:
        return true;
    }
}

/* The shape that `fit` gives; where only the shape changes, that is all. */
static struct th_shape fitted(const struct th_shape *s, enum th_fit fit)
{
    const int64_t *d = s->dim;
    switch (fit) {
    case TH_FIT_TO_HEADS:
        return TH_SHAPE(d[1] * d[2], d[0]);
    case TH_FIT_OF_HEADS:
        return TH_SHAPE(d[2], d[0] * d[1]);
    case TH_FIT_VECTOR:
        return s->rank == 2 ? TH_SHAPE(d[0] * d[1]) : *s;
    case TH_FIT_TOKENS:
        return s->rank == 1   ? TH_SHAPE(1, 1, d[0])
               : s->rank == 2 ? TH_SHAPE(1, d[0], d[1])
                              : *s;
    case TH_FIT_KERNEL:
    case TH_FIT_KERNEL_BGR:
        return s->rank == 2 ? TH_SHAPE(d[1], d[0]) : TH_SHAPE(d[3], d[2], d[0], d[1]);
    default:
        return *s;
    }
}

thaw_status th_dialect_fit(
    struct th_tensor *t, enum th_fit fit, const char *name, const char *where)
{
    struct th_tensor made;
    const struct th_shape s = t->shape;
    if (!fits(fit, s.rank)) {
        char text[128];
        return th_fail(THAW_E_DATA,
            "%s: %.200s has the shape %s, which its name does not go with: is the file "
            "another network's?",
            where, name, th_shape_text(&s, text, sizeof text));
    }
    if (fit == TH_FIT_SAME || fit == TH_FIT_VECTOR || fit == TH_FIT_TOKENS) {
        t->shape = fitted(&s, fit);
        return THAW_OK;
    }
    TRY(th_tensor_init(&made, TH_F32, fitted(&s, fit)));
    if (th_shape_count(&s) == 0)
        ; /* nothing to move */
    else if (s.rank == 4)
        hwio_to_oihw(
            made.data, t->data, s.dim[0] * s.dim[1], &s, fit == TH_FIT_KERNEL_BGR);
    else if (fit == TH_FIT_TO_HEADS)
        transpose(made.data, t->data, s.dim[0], s.dim[1] * s.dim[2]);
    else if (fit == TH_FIT_OF_HEADS)
        transpose(made.data, t->data, s.dim[0] * s.dim[1], s.dim[2]);
    else
        transpose(made.data, t->data, s.dim[0], s.dim[1]);
    th_tensor_release(t);
    *t = made;
    return THAW_OK;
}

/* ---- lists ---- */

void th_dialect_begin(struct th_weights *w, struct th_weights *out)
{
    th_weights_init(out);
    out->attribute = w->attribute;
    out->n_attributes = w->n_attributes;
    out->attribute_capacity = w->attribute_capacity;
    out->notes = w->notes;
    out->format = w->format;
    w->attribute = NULL;
    w->n_attributes = w->attribute_capacity = 0;
    w->notes = NULL;
}

void th_dialect_finish(struct th_weights *w, struct th_weights *out)
{
    th_weights_release(w);
    *w = *out;
}

thaw_status th_dialect_keep(struct th_weights *w, const char *prefix, const char *where)
{
    struct th_weights out;
    size_t n = strlen(prefix), kept = 0;
    thaw_status status = THAW_OK;
    for (size_t i = 0; i < w->n; i++)
        kept += !strncmp(w->weight[i].name, prefix, n);
    if (!kept || kept == w->n)
        return THAW_OK;
    size_t dropped = w->n - kept;
    th_dialect_begin(w, &out);
    out.where = where;
    for (size_t i = 0; status == THAW_OK && i < w->n; i++)
        if (!strncmp(w->weight[i].name, prefix, n))
            status = th_weights_move(&out, w->weight[i].name, &w->weight[i].tensor);
    if (status == THAW_OK)
        status = th_weights_note(
            &out, "%zu outside %.*s dropped", dropped, (int)n - 1, prefix);
    out.where = "";
    th_dialect_finish(w, &out);
    return status;
}

/* Stack a part, [n] or [n][i], into `name` of three times the rows. `seen` has a bit a
 * part for each tensor of `out`, by index. */
static thaw_status stack(struct th_weights *out, unsigned char *seen, const char *name,
    int part, const struct th_weight *from, const char *where)
{
    struct th_shape whole = from->tensor.shape;
    int64_t n = th_shape_count(&whole);
    const struct th_weight *to = th_weights_find(out, name);
    if (whole.rank < 1 || whole.dim[0] > INT64_MAX / PARTS)
        return th_fail(THAW_E_DATA, "%s: %.200s has no rows", where, from->name);
    whole.dim[0] *= PARTS;
    if (!to) {
        TRY(th_weights_add(out, name, whole, NULL, NULL));
        to = &out->weight[out->n - 1];
    }
    size_t at = (size_t)(to - out->weight);
    if (seen[at] & 1U << part || !th_shape_equal(&to->tensor.shape, &whole))
        return th_fail(THAW_E_DATA,
            "%s: %.200s does not go with the others of query, key and value", where,
            from->name);
    seen[at] = (unsigned char)(seen[at] | 1U << part);
    if (n)
        memcpy((float *)to->tensor.data + (part - 1) * n, from->tensor.data,
            (size_t)n * sizeof(float));
    return THAW_OK;
}

/* Three parts, or none: half of an attention is no network. */
static thaw_status check_stacked(
    const struct th_weights *out, const unsigned char *seen, const char *where)
{
    for (size_t i = 0; i < out->n; i++)
        if (seen[i] && seen[i] != (1U << 1 | 1U << 2 | 1U << 3))
            return th_fail(THAW_E_DATA,
                "%s: %.200s: one of query, key and value is missing", where,
                out->weight[i].name);
    return THAW_OK;
}

static const struct th_name_row *find_row(
    const struct th_dialect *d, const char *name, struct met *m)
{
    for (size_t i = 0; i < d->n_rows; i++)
        if (meet(d->row[i].from, name, m))
            return &d->row[i];
    return NULL;
}

static const char *unwrapped(const struct th_dialect *d, const char *name)
{
    for (const char *const *p = d->wrapped; p && *p; p++)
        if (!strncmp(name, *p, strlen(*p)) && name[strlen(*p)])
            return name + strlen(*p);
    return name;
}

static thaw_status convert_one(const struct th_dialect *d, struct th_weight *from,
    struct th_weights *out, unsigned char *seen, struct deeds *deeds, const char *where)
{
    char name[MAX_NAME];
    struct met m;
    const char *plain = unwrapped(d, from->name);
    const struct th_name_row *row = find_row(d, plain, &m);
    if (!row)
        return th_weights_move(out, from->name, &from->tensor);
    if (row->fit == TH_FIT_DROP) {
        deeds->dropped++;
        return THAW_OK;
    }
    if (!expand(row->to, &m, name))
        return th_fail(THAW_E_DATA, "%s: %.200s: too long a name", where, from->name);
    TRY(th_dialect_fit(&from->tensor, row->fit, from->name, where));
    deeds->renamed += strcmp(name, from->name) != 0;
    deeds->transposed += row->fit != TH_FIT_SAME && row->fit != TH_FIT_VECTOR &&
                         row->fit != TH_FIT_TOKENS;
    if (!row->part)
        return th_weights_move(out, name, &from->tensor);
    deeds->stacked++;
    TRY(stack(out, seen, name, row->part, from, where));
    th_tensor_release(&from->tensor);
    return THAW_OK;
}

static thaw_status note(
    const struct th_dialect *d, const struct deeds *deeds, struct th_weights *w)
{
    char text[200];
    size_t used = (size_t)snprintf(text, sizeof text, "names of %s", d->name);
    if (deeds->transposed)
        used += (size_t)snprintf(
            text + used, sizeof text - used, ", %zu transposed", deeds->transposed);
    if (deeds->stacked)
        used += (size_t)snprintf(text + used, sizeof text - used,
            ", %zu joined into %zu", deeds->stacked, deeds->stacked / PARTS);
    if (deeds->dropped)
        snprintf(text + used, sizeof text - used, ", %zu dropped", deeds->dropped);
    return th_weights_note(w, "%s", text);
}

/* Preprocessing that the file does not tell. */
static thaw_status describe_input(const struct th_dialect *d, struct th_weights *w)
{
    const struct th_dialect_input *in = d->input;
    if (!in || th_weights_floats(w, "mean", NULL) || th_weights_floats(w, "std", NULL))
        return THAW_OK;
    TRY(th_weights_set_floats(w, "mean", in->mean, 3));
    TRY(th_weights_set_floats(w, "std", in->std, 3));
    TRY(th_weights_set_floats(w, "crop", &in->crop, 1));
    TRY(th_weights_set_string(w, "interpolation", in->interpolation));
    return th_weights_note(w,
        "preprocessing assumed: that of %s (mean %.4g %.4g %.4g, std %.4g %.4g %.4g, "
        "crop %.3g, %s)",
        d->name, in->mean[0], in->mean[1], in->mean[2], in->std[0], in->std[1],
        in->std[2], in->crop, in->interpolation);
}

static thaw_status run_rows(
    const struct th_dialect *d, struct th_weights *w, const char *where)
{
    struct th_weights out;
    struct deeds deeds = {0};
    unsigned char *seen = th_alloc(w->n + 1, 1);
    if (!seen)
        return THAW_E_MEMORY;
    th_dialect_begin(w, &out);
    out.where = where;
    thaw_status status = THAW_OK;
    for (size_t i = 0; status == THAW_OK && i < w->n; i++)
        status = convert_one(d, &w->weight[i], &out, seen, &deeds, where);
    if (status == THAW_OK)
        status = check_stacked(&out, seen, where);
    if (status == THAW_OK && (deeds.renamed || deeds.transposed || deeds.dropped))
        status = note(d, &deeds, &out);
    out.where = "";
    th_free(seen);
    th_dialect_finish(w, &out);
    return status;
}

/* Does any tensor meet the pattern, or one of "pattern|pattern"? */
static bool any_meets(
    const struct th_dialect *d, const struct th_weights *w, const char *patterns)
{
    char pattern[200];
    for (const char *at = patterns; *at; at += *at == '|') {
        size_t n = strcspn(at, "|");
        snprintf(pattern, sizeof pattern, "%.*s", (int)n, at);
        for (size_t i = 0; i < w->n; i++)
            if (th_dialect_meets(pattern, w->weight[i].name) ||
                th_dialect_meets(pattern, unwrapped(d, w->weight[i].name)))
                return true;
        at += n;
    }
    return false;
}

static bool recognised(const struct th_dialect *d, const struct th_weights *w)
{
    if (d->recognise)
        return d->recognise(w);
    for (const char *const *sign = d->signs; *sign; sign++)
        if (!any_meets(d, w, *sign))
            return false;
    return true;
}

thaw_status th_dialect_apply(struct th_weights *w, const char *where)
{
    const struct th_dialect *last = NULL;
    for (int pass = 0; pass < MAX_PASSES; pass++) {
        const struct th_dialect *const *d = th_dialect_list;
        while (*d && (*d == last || !recognised(*d, w)))
            d++;
        if (!*d)
            break;
        last = *d;
        if (last->before)
            TRY(last->before(w, where));
        TRY(run_rows(last, w, where));
        if (last->after)
            TRY(last->after(w, where));
        TRY(describe_input(last, w));
    }
    return THAW_OK;
}
