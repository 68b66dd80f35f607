/* SPDX-License-Identifier: Apache-2.0
 * .safetensors: a JSON header with the place of every tensor, then their bytes.
 *
 *     u64 n | n bytes of JSON | data
 *     {"__metadata__": {"k": "text"}, "conv1.weight":
 *      {"dtype": "F32", "shape": [64,3,7,7], "data_offsets": [begin, end]}, ...}
 *
 * Read strictly: S1 no key twice (json.h), S2 end - begin is what dtype and shape say,
 * S3 the ranges, sorted, lie end to end and cover the data: no gap, no overlap, nothing
 * behind them. Model-file attributes are one metadata text, "thaw", which is JSON;
 * other metadata are attributes of text. */
#include "bytes.h"
#include "error.h"
#include "json.h"
#include "mem.h"
#include "number.h"
#include "weights.h"

#include <stdlib.h>
#include <string.h>

enum { PREFIX = 8, HEADER_ALIGN = 8 };
#define HEADER_LIMIT ((size_t)32 << 20) /* of JSON; a ViT-H has some 100 kB */

static const struct {
    const char *name;
    enum th_number number;
    size_t bytes; /* of an element that is passed over; 0: taken */
} dtypes[] = {
    {"F32", TH_NUMBER_F32, 0},
    {"F16", TH_NUMBER_F16, 0},
    {"BF16", TH_NUMBER_BF16, 0},
    {"F64", TH_NUMBER_F64, 0},
    {"I64", TH_NUMBER_I64, 0},
    {"I32", TH_NUMBER_I32, 0},
    {"I16", TH_NUMBER_I16, 0},
    {"I8", TH_NUMBER_I8, 0},
    {"U8", TH_NUMBER_U8, 0},
    {"BOOL", TH_NUMBER_U8, 0},
    {"U16", TH_NUMBER_U16, 0},
    {"U32", TH_NUMBER_U32, 0},
    {"U64", TH_NUMBER_U64, 0},
    {"F8_E4M3", 0, 1},
    {"F8_E5M2", 0, 1},
    {"F8_E8M0", 0, 1},
    {"C64", 0, 8},
};

enum { N_DTYPES = sizeof dtypes / sizeof dtypes[0] };

/* One tensor of the header. */
struct entry {
    const char *name;
    struct th_shape shape;
    size_t dtype; /* index into dtypes */
    size_t begin, end;
};

struct file {
    const char *where;
    const unsigned char *data;
    size_t n; /* of data */
    struct entry *entry;
    size_t n_entries, n_skipped;
};

static thaw_status damaged(const struct file *f, const char *name, const char *why)
{
    return th_fail(THAW_E_DATA,
        "%s: %.200s: damaged safetensors file (%s): fetch it again", f->where, name,
        why);
}

/* ---- reading ---- */

/* A whole number from 0 to `limit`. */
static bool read_size(const struct th_json *j, uint64_t limit, size_t *out)
{
    if (!j || j->kind != TH_JSON_NUMBER || !j->is_whole || j->whole < 0 ||
        (uint64_t)j->whole > limit)
        return false;
    *out = (size_t)j->whole;
    return true;
}

static thaw_status read_shape(
    const struct file *f, const struct th_json *j, struct entry *e)
{
    if (!j || j->kind != TH_JSON_ARRAY)
        return damaged(f, e->name, "no shape");
    if (j->n > TH_MAX_RANK)
        return damaged(f, e->name, "a shape of more than 6 extents");
    for (const struct th_json *x = j->first; x; x = x->next) {
        size_t extent = 0;
        if (!read_size(x, INT64_MAX, &extent))
            return damaged(f, e->name, "an impossible shape");
        e->shape.dim[e->shape.rank++] = (int64_t)extent;
    }
    return THAW_OK;
}

/* S2. */
static thaw_status check_bytes(const struct file *f, const struct entry *e)
{
    size_t bytes = dtypes[e->dtype].bytes ? dtypes[e->dtype].bytes
                                          : th_number_bytes(dtypes[e->dtype].number);
    bool empty = false;
    for (int i = 0; i < e->shape.rank; i++) {
        size_t extent = (size_t)e->shape.dim[i];
        empty |= extent == 0;
        if (__builtin_mul_overflow(bytes, extent ? extent : 1, &bytes))
            return damaged(f, e->name, "an impossible shape");
    }
    if (e->end - e->begin != (empty ? 0 : bytes))
        return damaged(f, e->name, "its place is not as large as its shape says");
    return THAW_OK;
}

static thaw_status read_entry(
    const struct file *f, const struct th_json *j, struct entry *e)
{
    const struct th_json *dtype = th_json_get(j, "dtype");
    const struct th_json *place = th_json_get(j, "data_offsets");
    e->name = j->key;
    if (j->kind != TH_JSON_OBJECT || j->n != 3)
        return damaged(f, e->name, "not dtype, shape and data_offsets");
    if (!dtype || dtype->kind != TH_JSON_STRING)
        return damaged(f, e->name, "no dtype");
    while (e->dtype < N_DTYPES && strcmp(dtypes[e->dtype].name, dtype->text) != 0)
        e->dtype++;
    if (e->dtype == N_DTYPES)
        return th_fail(THAW_E_DATA,
            "%s: %.200s: an unknown dtype '%.40s': save it as F32", f->where, e->name,
            dtype->text);
    TRY(read_shape(f, th_json_get(j, "shape"), e));
    if (!place || place->kind != TH_JSON_ARRAY || place->n != 2 ||
        !read_size(place->first, INT64_MAX, &e->begin) ||
        !read_size(place->first->next, INT64_MAX, &e->end) || e->begin > e->end)
        return damaged(f, e->name, "impossible data_offsets");
    if (e->end > f->n)
        return th_fail(THAW_E_DATA,
            "%s: %.200s ends at byte %zu of the data, and there are %zu: cut short; "
            "fetch it again",
            f->where, e->name, e->end, f->n);
    return check_bytes(f, e);
}

static int by_place(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return x->begin != y->begin ? (x->begin > y->begin) - (x->begin < y->begin)
                                : (x->end > y->end) - (x->end < y->end);
}

/* S3, on a copy in order of place: the tensors stay in the order of the header. */
static thaw_status check_places(const struct file *f)
{
    size_t at = 0;
    thaw_status status = THAW_OK;
    struct entry *sorted = th_alloc(f->n_entries, sizeof *sorted);
    if (!sorted)
        return THAW_E_MEMORY;
    memcpy(sorted, f->entry, f->n_entries * sizeof *sorted);
    qsort(sorted, f->n_entries, sizeof *sorted, by_place);
    for (size_t i = 0; status == THAW_OK && i < f->n_entries; i++) {
        if (sorted[i].begin != at)
            status = damaged(f, sorted[i].name,
                sorted[i].begin < at ? "it overlaps another tensor"
                                     : "a gap before it");
        at = sorted[i].end;
    }
    if (status == THAW_OK && at != f->n)
        status = th_fail(THAW_E_DATA,
            "%s: %zu bytes behind the last tensor: damaged safetensors file, fetch it "
            "again",
            f->where, f->n - at);
    th_free(sorted);
    return status;
}

/* One attribute of ours: a text, a list of texts, a number or a list of numbers. */
static thaw_status read_attribute(const struct th_json *j, struct th_weights *out)
{
    bool is_list = j->kind == TH_JSON_ARRAY, texts = true, whole = true, numbers = true;
    const struct th_json *first = is_list ? j->first : j;
    size_t n = is_list ? j->n : 1, at = 0;
    for (const struct th_json *x = first; x; x = is_list ? x->next : NULL) {
        texts &= x->kind == TH_JSON_STRING;
        numbers &= x->kind == TH_JSON_NUMBER;
        whole &= x->kind == TH_JSON_NUMBER && x->is_whole;
    }
    if (!is_list && texts)
        return th_weights_set_string(out, j->key, j->text);
    if (!texts && !numbers)
        return THAW_OK;            /* of a later version */
    void *values = th_alloc(n, 8); /* pointers, int64_t or double */
    if (!values)
        return THAW_E_MEMORY;
    for (const struct th_json *x = first; x; x = is_list ? x->next : NULL, at++)
        if (texts)
            ((const char **)values)[at] = x->text;
        else if (whole)
            ((int64_t *)values)[at] = x->whole;
        else
            ((double *)values)[at] = x->real;
    thaw_status status = texts   ? th_weights_set_strings(out, j->key, values, n)
                         : whole ? th_weights_set_ints(out, j->key, values, n)
                                 : th_weights_set_floats(out, j->key, values, n);
    th_free(values);
    return status;
}

static thaw_status read_ours(
    const struct file *f, const char *text, struct th_weights *out)
{
    struct th_json *root = NULL;
    TRY(th_json_parse(text, strlen(text), f->where, &root));
    thaw_status status = root->kind == TH_JSON_OBJECT
                             ? THAW_OK
                             : damaged(f, "__metadata__.thaw", "not an object");
    for (const struct th_json *j = root->first; status == THAW_OK && j; j = j->next)
        status = read_attribute(j, out);
    th_json_free(root);
    return status;
}

static thaw_status read_metadata(
    const struct file *f, const struct th_json *j, struct th_weights *out)
{
    if (j->kind != TH_JSON_OBJECT)
        return damaged(f, "__metadata__", "not an object");
    for (const struct th_json *x = j->first; x; x = x->next) {
        if (x->kind != TH_JSON_STRING)
            return damaged(f, "__metadata__", "a value that is no text");
        if (strcmp(x->key, "thaw") == 0)
            TRY(read_ours(f, x->text, out));
        else if (strcmp(x->key, "format") != 0) /* "pt": who wrote it */
            TRY(th_weights_set_string(out, x->key, x->text));
    }
    return THAW_OK;
}

static thaw_status take_tensor(
    struct file *f, const struct entry *e, struct th_weights *out)
{
    float *data = NULL;
    if (dtypes[e->dtype].bytes) {
        f->n_skipped++;
        return THAW_OK;
    }
    enum th_number type = dtypes[e->dtype].number;
    TRY(th_weights_add(out, e->name, e->shape, NULL, &data));
    th_number_load(type, f->data + e->begin, th_number_bytes(type), data,
        th_shape_count(&e->shape));
    return THAW_OK;
}

static thaw_status read_header(
    struct file *f, const struct th_json *root, struct th_weights *out)
{
    if (root->kind != TH_JSON_OBJECT)
        return damaged(f, "the header", "not an object");
    f->entry = th_alloc(root->n, sizeof *f->entry);
    if (!f->entry)
        return THAW_E_MEMORY;
    for (const struct th_json *j = root->first; j; j = j->next)
        if (strcmp(j->key, "__metadata__") == 0)
            TRY(read_metadata(f, j, out));
        else
            TRY(read_entry(f, j, &f->entry[f->n_entries++]));
    TRY(check_places(f));
    for (size_t i = 0; i < f->n_entries; i++)
        TRY(take_tensor(f, &f->entry[i], out));
    return f->n_skipped ? th_weights_note(out,
                              "%zu tensors of 8-bit floats or complex numbers left out",
                              f->n_skipped)
                        : THAW_OK;
}

static thaw_status safetensors_read(
    const unsigned char *bytes, size_t n, const char *where, struct th_weights *out)
{
    struct file f = {.where = where};
    uint64_t header = th_le64(bytes);
    struct th_json *root = NULL;
    if (header > n - PREFIX)
        return th_fail(THAW_E_DATA,
            "%s: its header ends behind the file: cut short; fetch it again", where);
    if (header > HEADER_LIMIT)
        return th_fail(THAW_E_DATA,
            "%s: a header of %llu bytes: more than any model has (%zu)", where,
            (unsigned long long)header, HEADER_LIMIT);
    f.data = bytes + PREFIX + header;
    f.n = n - PREFIX - (size_t)header;
    TRY(th_json_parse((const char *)bytes + PREFIX, (size_t)header, where, &root));
    thaw_status status = read_header(&f, root, out);
    th_free(f.entry);
    th_json_free(root);
    return status;
}

/* Nothing else has a brace at its ninth byte behind a number of less than 4 GB. */
static bool safetensors_sniff(const unsigned char *bytes, size_t n)
{
    return n >= PREFIX + 2 && bytes[PREFIX] == '{' && th_le32(bytes + 4) == 0;
}

/* ---- writing ---- */

static void put_attribute(struct th_json_out *o, const struct th_attribute *a)
{
    bool is_list = a->kind == TH_ATTRIBUTE_STRINGS || (!a->strings && a->n != 1);
    th_json_key(o, a->name);
    if (is_list)
        th_json_open(o, '[');
    for (size_t i = 0; i < a->n; i++)
        if (a->strings)
            th_json_string(o, a->strings[i]);
        else if (a->ints)
            th_json_whole(o, a->ints[i]);
        else
            th_json_exact(o, a->floats[i]);
    if (is_list)
        th_json_close(o, ']');
}

/* {"format": "pt", "thaw": "{...}"}; transformers wants to be told the format. */
static void put_metadata(struct th_json_out *o, const struct th_weights *w)
{
    struct th_json_out ours = {0};
    th_json_key(o, "__metadata__");
    th_json_open(o, '{');
    th_json_put_string(o, "format", "pt");
    if (w->n_attributes) {
        th_json_open(&ours, '{');
        for (size_t i = 0; i < w->n_attributes; i++)
            put_attribute(&ours, &w->attribute[i]);
        th_json_close(&ours, '}');
        if (th_json_out_status(&ours) == THAW_OK)
            th_json_put_string(o, "thaw", ours.text);
        else
            o->failed = true;
    }
    th_json_close(o, '}');
    th_json_out_release(&ours);
}

static size_t tensor_bytes(const struct th_weight *w)
{
    return th_dtype_bytes(TH_F32, th_shape_count(&w->tensor.shape));
}

static void put_header(struct th_json_out *o, const struct th_weights *w)
{
    int64_t at = 0;
    th_json_open(o, '{');
    put_metadata(o, w);
    for (size_t i = 0; i < w->n; i++) {
        const struct th_shape *s = &w->weight[i].tensor.shape;
        th_json_key(o, w->weight[i].name);
        th_json_open(o, '{');
        th_json_put_string(o, "dtype", "F32");
        th_json_key(o, "shape");
        th_json_open(o, '[');
        for (int k = 0; k < s->rank; k++)
            th_json_whole(o, s->dim[k]);
        th_json_close(o, ']');
        th_json_key(o, "data_offsets");
        th_json_open(o, '[');
        th_json_whole(o, at);
        at += (int64_t)tensor_bytes(&w->weight[i]);
        th_json_whole(o, at);
        th_json_close(o, ']');
        th_json_close(o, '}');
    }
    th_json_close(o, '}');
}

static void put_floats(unsigned char *to, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        for (int k = 0; k < 4; k++)
            *to++ = (unsigned char)(bits >> 8 * k);
    }
}

/* The header is filled up with spaces, so that the tensors are aligned. */
static thaw_status safetensors_image(
    const struct th_weights *w, unsigned char **bytes, size_t *n)
{
    struct th_json_out o = {0};
    put_header(&o, w);
    thaw_status status = th_json_out_status(&o);
    size_t header = (o.n + HEADER_ALIGN - 1) / HEADER_ALIGN * HEADER_ALIGN;
    size_t total = PREFIX + header;
    for (size_t i = 0; i < w->n; i++)
        total += tensor_bytes(&w->weight[i]);
    unsigned char *image = status == THAW_OK ? th_alloc(total, 1) : NULL;
    if (image) {
        for (int k = 0; k < PREFIX; k++)
            image[k] = (unsigned char)((uint64_t)header >> 8 * k);
        memcpy(image + PREFIX, o.text, o.n);
        memset(image + PREFIX + o.n, ' ', header - o.n);
        unsigned char *to = image + PREFIX + header;
        for (size_t i = 0; i < w->n; to += tensor_bytes(&w->weight[i++]))
            put_floats(to, w->weight[i].tensor.data, tensor_bytes(&w->weight[i]) / 4);
    } else if (status == THAW_OK) {
        status = THAW_E_MEMORY;
    }
    *bytes = image;
    *n = total;
    th_json_out_release(&o);
    return status;
}

const struct th_weight_format th_weight_format_safetensors = {
    .name = "safetensors",
    .endings = "safetensors",
    .sniff = safetensors_sniff,
    .read = safetensors_read,
    .image = safetensors_image,
};
