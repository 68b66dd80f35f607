/* SPDX-License-Identifier: Apache-2.0
 * NumPy's .npz: a zip archive (zip.h: stored, not compressed) of .npy arrays, in which
 * Google's networks are published. Names are the entries' without ".npy".
 *
 *     "\x93NUMPY" | major, minor | header's bytes: u16 in version 1, u32 in 2 and 3 |
 *     {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } and spaces | numbers
 *
 * The header is a literal of Python; only what NumPy itself writes is read. Arrays of
 * objects are pickles and are refused: nothing in a file is executed. */
#include "bytes.h"
#include "error.h"
#include "number.h"
#include "weights.h"
#include "zip.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_NAME = 4096, MAGIC = 6, MAX_HEADER = 1 << 16, MAX_TYPE = 16 };

static const struct {
    const char *descr;
    enum th_number number;
} types[] = {
    {"<f4", TH_NUMBER_F32},
    {"<f8", TH_NUMBER_F64},
    {"<f2", TH_NUMBER_F16},
    {"|V2", TH_NUMBER_BF16}, /* how NumPy, which has none, writes JAX's bfloat16 */
    {"<i8", TH_NUMBER_I64},
    {"<i4", TH_NUMBER_I32},
    {"<i2", TH_NUMBER_I16},
    {"|i1", TH_NUMBER_I8},
    {"|u1", TH_NUMBER_U8},
    {"|b1", TH_NUMBER_U8},
    {"<u2", TH_NUMBER_U16},
    {"<u4", TH_NUMBER_U32},
    {"<u8", TH_NUMBER_U64},
};

enum { N_TYPES = sizeof types / sizeof types[0] };

/* One array, and the text of its header while that is read. */
struct array {
    const char *where, *name;
    const char *at, *end;
    char descr[MAX_TYPE];
    bool fortran;
    struct th_shape shape;
    unsigned seen; /* which keys */
};

static thaw_status damaged(const struct array *a, const char *why)
{
    return th_fail(THAW_E_DATA, "%s: %.200s: damaged NumPy array (%s): fetch it again",
        a->where, a->name, why);
}

/* ---- the header ---- */

static void skip_space(struct array *a)
{
    while (a->at < a->end && (*a->at == ' ' || *a->at == '\n'))
        a->at++;
}

/* Whether the next character but spaces is c, which is taken then. */
static bool take(struct array *a, char c)
{
    skip_space(a);
    if (a->at == a->end || *a->at != c)
        return false;
    a->at++;
    return true;
}

static bool take_word(struct array *a, const char *word)
{
    size_t n = strlen(word);
    skip_space(a);
    if ((size_t)(a->end - a->at) < n || memcmp(a->at, word, n) != 0)
        return false;
    a->at += n;
    return true;
}

/* A quoted text without escapes. */
static bool take_text(struct array *a, char *text, size_t size)
{
    size_t n = 0;
    if (!take(a, '\''))
        return false;
    while (a->at < a->end && *a->at != '\'' && *a->at != '\\' && n + 1 < size)
        text[n++] = *a->at++;
    text[n] = 0;
    return take(a, '\'');
}

/* (), (2,), (2, 3) */
static thaw_status take_shape(struct array *a)
{
    if (!take(a, '('))
        return damaged(a, "no shape");
    while (!take(a, ')')) {
        int64_t extent = 0;
        int digits = 0;
        if (a->shape.rank == TH_MAX_RANK)
            return damaged(a, "a shape of more than 6 extents");
        for (skip_space(a); a->at < a->end && *a->at >= '0' && *a->at <= '9'; digits++)
            if (__builtin_mul_overflow(extent, 10, &extent) ||
                __builtin_add_overflow(extent, *a->at++ - '0', &extent))
                return damaged(a, "an impossible shape");
        if (!digits || !(take(a, ',') || (a->at < a->end && *a->at == ')')))
            return damaged(a, "a shape that is none");
        a->shape.dim[a->shape.rank++] = extent;
    }
    return THAW_OK;
}

static thaw_status take_member(struct array *a)
{
    static const char *const keys[] = {"descr", "fortran_order", "shape"};
    char key[MAX_TYPE];
    unsigned k = 0;
    if (!take_text(a, key, sizeof key))
        return damaged(a, "a header that NumPy does not write");
    while (k < 3 && strcmp(key, keys[k]) != 0)
        k++;
    if (k == 3 || a->seen & 1U << k || !take(a, ':'))
        return damaged(a, "a header that NumPy does not write");
    a->seen |= 1U << k;
    if (k == 2)
        return take_shape(a);
    if (k == 1) {
        a->fortran = take_word(a, "True");
        return a->fortran || take_word(a, "False") ? THAW_OK
                                                   : damaged(a, "no fortran_order");
    }
    if (take_text(a, a->descr, sizeof a->descr))
        return THAW_OK;
    return th_fail(THAW_E_DATA, "%s: %.200s: an array of records, not of numbers",
        a->where, a->name);
}

static thaw_status read_header(struct array *a)
{
    if (!take(a, '{'))
        return damaged(a, "no header");
    while (!take(a, '}')) {
        TRY(take_member(a));
        skip_space(a);
        if (!take(a, ',') && (a->at == a->end || *a->at != '}'))
            return damaged(a, "a header that NumPy does not write");
    }
    skip_space(a);
    if (a->at != a->end || a->seen != 7)
        return damaged(a, "a header that NumPy does not write");
    return THAW_OK;
}

/* Leaves a->at .. a->end as the header's text; *data is where the numbers begin. */
static thaw_status open_array(
    struct array *a, const unsigned char *bytes, size_t n, size_t *data)
{
    static const unsigned char magic[MAGIC] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
    size_t prefix = n > MAGIC && bytes[MAGIC] == 1 ? 10 : 12;
    if (n < prefix || memcmp(bytes, magic, MAGIC) != 0)
        return damaged(a, "it does not begin as one");
    if (bytes[MAGIC] < 1 || bytes[MAGIC] > 3 || bytes[MAGIC + 1] != 0)
        return damaged(a, "an unknown version");
    size_t size = prefix == 10 ? th_le16(bytes + 8) : th_le32(bytes + 8);
    if (size > n - prefix || size > MAX_HEADER)
        return damaged(a, "its header is longer than it may be");
    a->at = (const char *)bytes + prefix;
    a->end = a->at + size;
    *data = prefix + size;
    return THAW_OK;
}

/* ---- the numbers ---- */

/* Column-major into row-major: element (i, j, ...) stands at i + j * I + ... */
static void load_fortran(
    enum th_number type, const struct th_shape *s, const unsigned char *src, float *dst)
{
    size_t bytes = th_number_bytes(type);
    int64_t n = th_shape_count(s), index[TH_MAX_RANK] = {0};
    for (int64_t done = 0; done < n; done++) {
        int64_t at = 0;
        for (int i = s->rank; i-- > 0;)
            at = at * s->dim[i] + index[i];
        th_number_load(type, src + (size_t)at * bytes, bytes, dst + done, 1);
        for (int i = s->rank; i-- > 0 && ++index[i] == s->dim[i];)
            index[i] = 0;
    }
}

static thaw_status check_bytes(const struct array *a, enum th_number type, size_t n)
{
    size_t bytes = th_number_bytes(type);
    bool empty = false;
    for (int i = 0; i < a->shape.rank; i++) {
        size_t extent = (size_t)a->shape.dim[i];
        empty |= extent == 0;
        if (__builtin_mul_overflow(bytes, extent ? extent : 1, &bytes))
            return damaged(a, "an impossible shape");
    }
    return n == (empty ? 0 : bytes)
               ? THAW_OK
               : damaged(a, "not as many numbers as its shape says");
}

static thaw_status read_array(
    struct array *a, const unsigned char *bytes, size_t n, struct th_weights *out)
{
    size_t data = 0, type = 0;
    float *to = NULL;
    TRY(open_array(a, bytes, n, &data));
    TRY(read_header(a));
    while (type < N_TYPES && strcmp(types[type].descr, a->descr) != 0)
        type++;
    if (type == N_TYPES)
        return th_fail(THAW_E_DATA,
            "%s: %.200s: numbers of type '%s', which are not read%s", a->where, a->name,
            a->descr,
            !strcmp(a->descr, "|O") ? ": a pickle, and nothing in a file is executed"
            : *a->descr == '>'      ? ": save them little-endian"
                                    : "");
    TRY(check_bytes(a, types[type].number, n - data));
    TRY(th_weights_add(out, a->name, a->shape, NULL, &to));
    if (a->fortran)
        load_fortran(types[type].number, &a->shape, bytes + data, to);
    else
        th_number_load(types[type].number, bytes + data,
            th_number_bytes(types[type].number), to, th_shape_count(&a->shape));
    return THAW_OK;
}

static thaw_status read_entry(
    const struct th_zip_entry *e, const char *where, struct th_weights *out)
{
    char name[MAX_NAME];
    struct array a = {.where = where, .name = name};
    if (e->name_n < 5 || memcmp(e->name + e->name_n - 4, ".npy", 4) != 0)
        return THAW_OK; /* no array */
    if (e->name_n - 4 >= sizeof name || memchr(e->name, 0, e->name_n))
        return th_fail(THAW_E_DATA, "%s: an array of impossible name", where);
    memcpy(name, e->name, e->name_n - 4);
    name[e->name_n - 4] = 0;
    return read_array(&a, e->data, e->n, out);
}

static thaw_status npz_read(
    const unsigned char *bytes, size_t n, const char *where, struct th_weights *out)
{
    struct th_zip zip = {0};
    TRY(th_zip_init(&zip, bytes, n, where));
    thaw_status status = THAW_OK;
    for (size_t i = 0; status == THAW_OK && i < zip.n; i++)
        status = read_entry(&zip.entry[i], where, out);
    th_zip_release(&zip);
    return status;
}

/* A zip archive whose first entry is an array. */
static bool npz_sniff(const unsigned char *bytes, size_t n)
{
    if (n < 30 || memcmp(bytes, "PK\3\4", 4) != 0)
        return false;
    size_t name_n = th_le16(bytes + 26);
    return n - 30 >= name_n && name_n > 4 &&
           memcmp(bytes + 30 + name_n - 4, ".npy", 4) == 0;
}

const struct th_weight_format th_weight_format_npz = {
    .name = "npz",
    .sniff = npz_sniff,
    .read = npz_read,
    .library = th_zip_library,
};
