/* SPDX-License-Identifier: Apache-2.0
 * Owns the list of named tensors and attributes, the choice of the file format, and the
 * cleaning of names. Does not know any format, nor what a model wants. */
#include "weights.h"

#include "dialect.h"
#include "error.h"
#include "file.h"
#include "hub.h"
#include "mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FILE_LIMIT ((size_t)1 << 36) /* 64 GiB: beyond any vision model */

void th_weights_init(struct th_weights *w)
{
    *w = (struct th_weights){.where = "", .format = ""};
}

static void attribute_release(struct th_attribute *a)
{
    for (size_t i = 0; a->strings && i < a->n; i++)
        th_free(a->strings[i]);
    th_free(a->strings);
    th_free(a->floats);
    th_free(a->ints);
    th_free(a->name);
    *a = (struct th_attribute){0};
}

static void weight_release(struct th_weight *w)
{
    if (!w->borrowed)
        th_tensor_release(&w->tensor);
    th_free(w->name);
}

void th_weights_release(struct th_weights *w)
{
    for (size_t i = 0; i < w->n; i++)
        weight_release(&w->weight[i]);
    for (size_t i = 0; i < w->n_attributes; i++)
        attribute_release(&w->attribute[i]);
    th_free(w->weight);
    th_free(w->attribute);
    th_free(w->bucket);
    th_free(w->notes);
    th_weights_init(w);
}

/* The bucket that holds `name`, or the empty one where it belongs (linear probing; at
 * most half of the buckets are full, so an empty one is found). */
static uint32_t *bucket_of(const struct th_weights *w, const char *name)
{
    size_t at = (size_t)th_hash(name, strlen(name), 0) & (w->n_buckets - 1);
    while (w->bucket[at] && strcmp(w->weight[w->bucket[at] - 1].name, name) != 0)
        at = (at + 1) & (w->n_buckets - 1);
    return &w->bucket[at];
}

const struct th_weight *th_weights_find(const struct th_weights *w, const char *name)
{
    uint32_t found = w->n_buckets ? *bucket_of(w, name) : 0;
    return found ? &w->weight[found - 1] : NULL;
}

/* Build the index anew for `n_buckets` buckets, from the names as they are now. */
static thaw_status reindex(struct th_weights *w, size_t n_buckets)
{
    uint32_t *bucket = th_alloc(n_buckets, sizeof *bucket);
    if (!bucket)
        return THAW_E_MEMORY;
    th_free(w->bucket);
    w->bucket = bucket;
    w->n_buckets = n_buckets;
    for (size_t i = 0; i < w->n; i++)
        *bucket_of(w, w->weight[i].name) = (uint32_t)i + 1;
    return THAW_OK;
}

/* Room for one more tensor. */
static thaw_status reserve(struct th_weights *w)
{
    if (w->n < w->capacity)
        return THAW_OK;
    size_t capacity = w->capacity ? 2 * w->capacity : 64;
    struct th_weight *grown = th_realloc(w->weight, w->n, capacity, sizeof *grown);
    if (!grown)
        return THAW_E_MEMORY;
    w->weight = grown;
    w->capacity = capacity;
    return reindex(w, 2 * capacity);
}

static thaw_status refused(
    const struct th_weights *w, const char *name, const char *why)
{
    return th_fail(THAW_E_DATA, "%s%s%.200s: %s; is the file damaged?", w->where,
        *w->where ? ": " : "", name, why);
}

/* Bytes of an fp32 tensor of this shape, checked; sets the sentence on failure. */
static thaw_status checked_bytes(const struct th_weights *w, const char *name,
    const struct th_shape *s, size_t *bytes)
{
    int64_t n = 4; /* with extents of 0 taken as 1: no product may overflow anywhere */
    bool bad = s->rank < 0 || s->rank > TH_MAX_RANK, empty = false;
    for (int i = 0; !bad && i < s->rank; i++) {
        empty |= s->dim[i] == 0;
        bad = s->dim[i] < 0 || __builtin_mul_overflow(n, s->dim[i] ? s->dim[i] : 1, &n);
    }
    if (bad)
        return refused(w, name, "an impossible shape");
    *bytes = empty ? 0 : (size_t)n;
    if (w->limit && (*bytes > w->limit || w->bytes > w->limit - *bytes))
        return refused(
            w, name, "needs more memory than a file of this size may unpack to");
    return THAW_OK;
}

/* Names are printed in messages: a file must not steer the terminal with them. */
static thaw_status check_name(const struct th_weights *w, const char *name)
{
    for (const char *at = name; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 127)
            return refused(w, "a tensor", "its name holds control characters");
    return *name ? THAW_OK : refused(w, "a tensor", "its name is empty");
}

thaw_status th_weights_move(
    struct th_weights *w, const char *name, struct th_tensor *from)
{
    size_t bytes = 0;
    TRY(check_name(w, name));
    TRY(checked_bytes(w, name, &from->shape, &bytes));
    if (th_weights_find(w, name))
        return refused(w, name, "there are two tensors of this name");
    TRY(reserve(w));
    struct th_weight added = {.name = th_strdup(name), .tensor = *from};
    if (!added.name)
        return THAW_E_MEMORY;
    *from = (struct th_tensor){0};
    *bucket_of(w, name) = (uint32_t)w->n + 1;
    w->weight[w->n++] = added;
    w->bytes += bytes;
    return THAW_OK;
}

thaw_status th_weights_add(struct th_weights *w, const char *name,
    struct th_shape shape, const float *data, float **data_out)
{
    size_t bytes = 0;
    struct th_tensor added = {0};
    TRY(check_name(w, name));
    TRY(checked_bytes(w, name, &shape, &bytes)); /* before anything is allocated */
    TRY(th_tensor_init(&added, TH_F32, shape));
    if (data && bytes)
        memcpy(added.data, data, bytes);
    float *place = added.data;
    thaw_status status = th_weights_move(w, name, &added);
    th_tensor_release(&added);
    if (status == THAW_OK && data_out)
        *data_out = place;
    return status;
}

thaw_status th_weights_borrow(
    struct th_weights *w, const char *name, struct th_shape shape, const float *data)
{
    struct th_tensor lent = {
        .dtype = TH_F32, .shape = shape, .data = (void *)(uintptr_t)data};
    TRY(th_weights_move(w, name, &lent));
    w->weight[w->n - 1].borrowed = true;
    return THAW_OK;
}

thaw_status th_weights_note(struct th_weights *w, const char *fmt, ...)
{
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    char *longer =
        th_format("%s%s%s", w->notes ? w->notes : "", w->notes ? ", " : "", text);
    if (!longer)
        return THAW_E_MEMORY;
    th_free(w->notes);
    w->notes = longer;
    return THAW_OK;
}

static struct th_attribute *find_attribute(const struct th_weights *w, const char *name)
{
    for (size_t i = 0; i < w->n_attributes; i++)
        if (strcmp(w->attribute[i].name, name) == 0)
            return &w->attribute[i];
    return NULL;
}

/* Put a filled attribute in place; takes it over, released on failure. */
static thaw_status put_attribute(
    struct th_weights *w, const char *name, struct th_attribute *a, bool filled)
{
    struct th_attribute *place = find_attribute(w, name);
    a->name = th_strdup(name);
    if (filled && a->name && !place && w->n_attributes == w->attribute_capacity) {
        size_t capacity = w->attribute_capacity ? 2 * w->attribute_capacity : 16;
        struct th_attribute *grown =
            th_realloc(w->attribute, w->n_attributes, capacity, sizeof *grown);
        filled = grown != NULL;
        w->attribute = grown ? grown : w->attribute;
        w->attribute_capacity = grown ? capacity : w->attribute_capacity;
    }
    if (!filled || !a->name) {
        attribute_release(a);
        return THAW_E_MEMORY;
    }
    if (place)
        attribute_release(place);
    else
        place = &w->attribute[w->n_attributes++];
    *place = *a;
    return THAW_OK;
}

static thaw_status set_texts(struct th_weights *w, const char *name,
    const char *const *values, size_t n, enum th_attribute_kind kind)
{
    struct th_attribute a = {.kind = kind, .n = n};
    a.strings = th_alloc(n, sizeof *a.strings);
    bool filled = a.strings != NULL;
    for (size_t i = 0; filled && i < n; i++)
        filled = (a.strings[i] = th_strdup(values[i])) != NULL;
    return put_attribute(w, name, &a, filled);
}

thaw_status th_weights_set_string(
    struct th_weights *w, const char *name, const char *value)
{
    return set_texts(w, name, &value, 1, TH_ATTRIBUTE_STRING);
}

thaw_status th_weights_set_strings(
    struct th_weights *w, const char *name, const char *const *values, size_t n)
{
    return set_texts(w, name, values, n, TH_ATTRIBUTE_STRINGS);
}

thaw_status th_weights_set_floats(
    struct th_weights *w, const char *name, const double *values, size_t n)
{
    struct th_attribute a = {.kind = TH_ATTRIBUTE_FLOATS, .n = n};
    a.floats = th_alloc(n, sizeof *a.floats);
    if (a.floats && n)
        memcpy(a.floats, values, n * sizeof *values);
    return put_attribute(w, name, &a, a.floats != NULL);
}

thaw_status th_weights_set_ints(
    struct th_weights *w, const char *name, const int64_t *values, size_t n)
{
    struct th_attribute a = {.kind = TH_ATTRIBUTE_INTS, .n = n};
    a.ints = th_alloc(n, sizeof *a.ints);
    a.floats = th_alloc(n, sizeof *a.floats);
    bool filled = a.ints && a.floats;
    for (size_t i = 0; filled && i < n; i++) {
        a.ints[i] = values[i];
        a.floats[i] = (double)values[i];
    }
    return put_attribute(w, name, &a, filled);
}

const char *const *th_weights_strings(
    const struct th_weights *w, const char *name, size_t *n)
{
    const struct th_attribute *a = find_attribute(w, name);
    if (!a || !a->strings)
        return NULL;
    if (n)
        *n = a->n;
    return (const char *const *)a->strings;
}

const char *th_weights_string(const struct th_weights *w, const char *name)
{
    const struct th_attribute *a = find_attribute(w, name);
    return a && a->kind == TH_ATTRIBUTE_STRING ? a->strings[0] : NULL;
}

const double *th_weights_floats(const struct th_weights *w, const char *name, size_t *n)
{
    const struct th_attribute *a = find_attribute(w, name);
    if (a && n)
        *n = a->n;
    return a ? a->floats : NULL;
}

const int64_t *th_weights_ints(const struct th_weights *w, const char *name, size_t *n)
{
    const struct th_attribute *a = find_attribute(w, name);
    if (a && n)
        *n = a->n;
    return a ? a->ints : NULL;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* BatchNorm's count of batches is of no use here (our momentum is never its average). */
static void drop_counters(struct th_weights *w)
{
    size_t kept = 0;
    for (size_t i = 0; i < w->n; i++) {
        if (ends_with(w->weight[i].name, "num_batches_tracked")) {
            w->bytes -=
                th_dtype_bytes(TH_F32, th_shape_count(&w->weight[i].tensor.shape));
            weight_release(&w->weight[i]);
        } else {
            w->weight[kept++] = w->weight[i];
        }
    }
    w->n = kept;
}

/* Strip `prefix` if every name carries it and has more; true if it did. */
static bool strip_prefix(struct th_weights *w, const char *prefix)
{
    size_t n = strlen(prefix);
    for (size_t i = 0; i < w->n; i++)
        if (strncmp(w->weight[i].name, prefix, n) != 0 || !w->weight[i].name[n])
            return false;
    for (size_t i = 0; i < w->n; i++)
        memmove(w->weight[i].name, w->weight[i].name + n,
            strlen(w->weight[i].name + n) + 1);
    return w->n > 0;
}

/* Names as torchvision and timm have them; wrappers may be stacked. */
static thaw_status clean_names(struct th_weights *w, const char *where)
{
    static const char *const prefix[] = {"module.", "model.", "backbone."};
    drop_counters(w);
    for (size_t i = 0; i < w->n; i++)
        for (char *at = w->weight[i].name; *at; at++)
            *at = *at == '/' ? '.' : *at;
    for (size_t i = 0; i < sizeof prefix / sizeof prefix[0];)
        i = strip_prefix(w, prefix[i]) ? 0 : i + 1;
    if (w->n_buckets)
        TRY(reindex(w, w->n_buckets));
    for (size_t i = 0; i < w->n; i++) /* "a/b" and "a.b" became the same */
        if (*bucket_of(w, w->weight[i].name) != i + 1)
            return th_fail(THAW_E_DATA,
                "%s: %.200s: there are two tensors of this name", where,
                w->weight[i].name);
    return THAW_OK;
}

/* What a file that no format recognises looks like, with what to do. */
static const char *guess(const unsigned char *bytes, size_t n)
{
    static const struct {
        const char *start, *hint;
    } known[] = {
        {"<", "it looks like a web page: the download went wrong, fetch it again"},
        {"version https://git-lfs", "it is a Git LFS pointer: run `git lfs pull`"},
        {"\x80",
            "it is a Python pickle but not of torch.save: save the state_dict with "
            "torch.save"},
        {"PK", "it is a zip archive but not of torch.save or numpy.savez"},
    };
    if (n == 0)
        return "it is empty";
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        size_t m = strlen(known[i].start);
        if (n >= m && memcmp(bytes, known[i].start, m) == 0)
            return known[i].hint;
    }
    return "known are HDF5 (.h5), safetensors, NumPy (.npz) and PyTorch (.pth, .pt, "
           ".th) "
           "files";
}

static thaw_status read_bytes(
    const unsigned char *bytes, size_t n, const char *where, struct th_weights *out)
{
    for (const struct th_weight_format *const *f = th_weight_format_list; *f; f++) {
        if (!(*f)->sniff(bytes, n))
            continue;
        out->format = (*f)->name;
        out->where = where;
        out->limit = TH_WEIGHTS_BASE + TH_WEIGHTS_RATIO * n;
        thaw_status status = (*f)->read(bytes, n, where, out);
        out->limit = 0; /* about this file, not about what is added later */
        out->where = "";
        return status;
    }
    return th_fail(
        THAW_E_DATA, "%s: not a weight file that is known: %s", where, guess(bytes, n));
}

thaw_status th_weights_read(const char *path, struct th_weights *out)
{
    unsigned char *bytes = NULL;
    size_t n = 0;
    TRY(th_file_read(path, FILE_LIMIT, &bytes, &n));
    thaw_status status = read_bytes(bytes, n, path, out);
    th_free(bytes);
    if (status == THAW_OK)
        status = clean_names(out, path);
    if (status == THAW_OK)
        status = th_hub_describe(path, out);
    if (status == THAW_OK)
        status = th_dialect_apply(out, path);
    if (status == THAW_OK && out->n == 0)
        status = th_fail(THAW_E_DATA, "%s: holds no tensors", path);
    if (status != THAW_OK)
        th_weights_release(out);
    return status;
}

static const struct th_weight_format *find_format(const char *name)
{
    const struct th_weight_format *const *f = th_weight_format_list;
    while (*f && strcmp((*f)->name, name) != 0)
        f++;
    return *f;
}

/* Is `ending` a word of `words`? */
static bool is_word(const char *ending, const char *words)
{
    size_t n = strlen(ending);
    for (const char *at = words; at && n; at = strchr(at, ' ')) {
        at += *at == ' ';
        if (!strncmp(at, ending, n) && (at[n] == ' ' || at[n] == 0))
            return true;
    }
    return false;
}

const char *th_weights_format_of(const char *path)
{
    const char *dot = strrchr(path, '.');
    if (!dot || strchr(dot, '/'))
        return NULL;
    for (const struct th_weight_format *const *f = th_weight_format_list; *f; f++)
        if ((*f)->image && is_word(dot + 1, (*f)->endings))
            return (*f)->name;
    return NULL;
}

static thaw_status to_image(
    const char *format, const struct th_weights *w, unsigned char **bytes, size_t *n)
{
    const struct th_weight_format *f = find_format(format);
    if (!f || !f->image)
        return th_fail(
            THAW_E_USAGE, "%s: weights cannot be written in this format", format);
    return f->image(w, bytes, n);
}

thaw_status th_weights_write(
    const char *path, const char *format, const struct th_weights *w)
{
    unsigned char *bytes = NULL;
    size_t n = 0;
    format = format ? format : th_weights_format_of(path);
    TRY(to_image(format ? format : "hdf5", w, &bytes, &n));
    thaw_status status = th_file_write_atomic(path, bytes, n, NULL);
    th_free(bytes);
    return status;
}

thaw_status th_weights_to_image(
    const struct th_weights *w, unsigned char **bytes, size_t *n)
{
    return to_image("hdf5", w, bytes, n);
}

thaw_status th_weights_read_image(
    const unsigned char *bytes, size_t n, const char *where, struct th_weights *out)
{
    thaw_status status = read_bytes(bytes, n, where, out);
    if (status != THAW_OK)
        th_weights_release(out);
    return status;
}
