/* SPDX-License-Identifier: Apache-2.0
 * PyTorch's .pth, .pt, .th: the zip archive of today and the stream of before 1.6.
 * Owns where the bytes of each storage are, and their conversion to fp32. The pickle is
 * read by pickle.c, as data; of it, only tensors in a dict of names count.
 *
 * Zip:    X/data.pkl is the pickle, X/data/KEY the bytes of storage KEY.
 * Stream: four pickles (magic number, protocol 1001, system, object), a fifth with the
 *         list of keys, then for each key an int64 count and that many elements. */
#include "bytes.h"
#include "error.h"
#include "mem.h"
#include "number.h"
#include "pickle.h"
#include "weights.h"
#include "zip.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 4, MAX_NAME = 4096 }; /* dicts to enter; bytes of a tensor's name */

/* The bytes of one storage. */
struct blob {
    const char *key; /* not terminated */
    size_t key_n;
    const unsigned char *data;
    size_t n;
    size_t item_bytes; /* of one element, in a stream */
};

struct source {
    const char *where;
    struct th_pickle pickle;
    struct blob *blob; /* sorted by key, each key once */
    size_t n_blobs;
};

static thaw_status damaged(const struct source *s, const char *why)
{
    return th_fail(
        THAW_E_DATA, "%s: damaged PyTorch file (%s): fetch it again", s->where, why);
}

/* ---- storages ---- */

static int by_key(const void *a, const void *b)
{
    const struct blob *x = a, *y = b;
    int order = memcmp(x->key, y->key, x->key_n < y->key_n ? x->key_n : y->key_n);
    return order ? order : (x->key_n > y->key_n) - (x->key_n < y->key_n);
}

static struct blob *find_blob(const struct source *s, uint32_t key)
{
    const struct th_pickle_value *v = &s->pickle.value[key];
    struct blob wanted = {.key = v->text.at, .key_n = v->text.n};
    return bsearch(&wanted, s->blob, s->n_blobs, sizeof wanted, by_key);
}

static bool ends_with(const struct th_zip_entry *e, const char *end)
{
    size_t n = strlen(end);
    return e->name_n >= n && memcmp(e->name + e->name_n - n, end, n) == 0;
}

/* Storages are the entries below PREFIXdata/. */
static thaw_status blobs_of_zip(
    struct source *s, const struct th_zip *zip, const struct th_zip_entry *pickle)
{
    static const char end[] = "data.pkl";
    size_t prefix_n = pickle->name_n - (sizeof end - 1),
           skip = prefix_n + strlen("data/");
    s->blob = th_alloc(zip->n, sizeof *s->blob);
    if (!s->blob)
        return THAW_E_MEMORY;
    for (size_t i = 0; i < zip->n; i++) {
        const struct th_zip_entry *e = &zip->entry[i];
        if (e->name_n < prefix_n || memcmp(e->name, pickle->name, prefix_n) != 0)
            continue;
        if (e->name_n == prefix_n + 9 && ends_with(e, "byteorder") &&
            (e->n != 6 || memcmp(e->data, "little", 6) != 0))
            return th_fail(THAW_E_DATA,
                "%s: big-endian numbers: save it again on a little-endian machine",
                s->where);
        if (e->name_n > skip && memcmp(e->name + prefix_n, "data/", 5) == 0)
            s->blob[s->n_blobs++] = (struct blob){.key = e->name + skip,
                .key_n = e->name_n - skip,
                .data = e->data,
                .n = e->n};
    }
    qsort(s->blob, s->n_blobs, sizeof *s->blob, by_key);
    for (size_t i = 1; i < s->n_blobs; i++)
        if (by_key(&s->blob[i - 1], &s->blob[i]) == 0)
            return damaged(s, "a storage is there twice");
    return THAW_OK;
}

static thaw_status open_zip(
    struct source *s, struct th_zip *zip, const unsigned char *bytes, size_t n)
{
    TRY(th_zip_init(zip, bytes, n, s->where));
    const struct th_zip_entry *pickle = NULL;
    for (size_t i = 0; i < zip->n; i++) {
        const struct th_zip_entry *e = &zip->entry[i];
        if (ends_with(e, "/data.pkl") && !memchr(e->name, '/', e->name_n - 9))
            pickle = e;
    }
    if (!pickle)
        return damaged(s, "no data.pkl in it");
    TRY(blobs_of_zip(s, zip, pickle));
    return th_pickle_init(&s->pickle, pickle->data, pickle->n, s->where, NULL);
}

/* The storages that the pickle names, sorted, each once; their bytes are yet to be found. */
static thaw_status blobs_of_pickle(struct source *s)
{
    const struct th_pickle *p = &s->pickle;
    s->blob = th_alloc(p->n_storages, sizeof *s->blob);
    if (!s->blob)
        return THAW_E_MEMORY;
    for (size_t i = 0; i < p->n_storages; i++) {
        const struct th_pickle_value *key = &p->value[p->storage[i].key];
        s->blob[i] = (struct blob){.key = key->text.at,
            .key_n = key->text.n,
            .item_bytes = th_number_bytes(p->storage[i].dtype)};
    }
    qsort(s->blob, p->n_storages, sizeof *s->blob, by_key);
    for (size_t i = 0; i < p->n_storages; i++) {
        if (!s->n_blobs || by_key(&s->blob[s->n_blobs - 1], &s->blob[i]) != 0)
            s->blob[s->n_blobs++] = s->blob[i];
        else if (s->blob[s->n_blobs - 1].item_bytes != s->blob[i].item_bytes)
            return damaged(s, "a storage of two types");
    }
    return THAW_OK;
}

/* Give each storage its bytes: they follow the list of keys, in its order. */
static thaw_status place_blobs(struct source *s, const struct th_pickle *keys,
    const unsigned char *bytes, size_t n)
{
    if (keys->value[keys->root].kind != TH_PICKLE_LIST)
        return damaged(s, "no list of storages");
    const struct th_pickle_list *list = &keys->list[keys->value[keys->root].index];
    for (size_t i = 0; i < list->n; i++) {
        const struct th_pickle_value *key = &keys->value[list->item[i]];
        struct blob wanted = {.key = key->text.at, .key_n = key->text.n};
        struct blob *b =
            key->kind == TH_PICKLE_TEXT
                ? bsearch(&wanted, s->blob, s->n_blobs, sizeof wanted, by_key)
                : NULL;
        if (!b || b->data)
            return damaged(s, "a storage that no tensor uses");
        if (n < 8 || th_le64(bytes) > (n - 8) / b->item_bytes)
            return damaged(s, "cut short within the tensors");
        b->data = bytes + 8;
        b->n = (size_t)th_le64(bytes) * b->item_bytes;
        bytes += 8 + b->n;
        n -= 8 + b->n;
    }
    return THAW_OK;
}

static thaw_status open_stream(struct source *s, const unsigned char *bytes, size_t n)
{
    struct th_pickle part = {0};
    size_t at = 0, used = 0;
    for (int i = 0; i < 3; i++) { /* magic number, protocol, system */
        TRY(th_pickle_init(&part, bytes + at, n - at, s->where, &used));
        bool is_other = i == 1 && part.value[part.root].integer != 1001;
        th_pickle_release(&part);
        at += used;
        if (is_other)
            return damaged(s, "an unknown protocol");
    }
    TRY(th_pickle_init(&s->pickle, bytes + at, n - at, s->where, &used));
    at += used;
    TRY(blobs_of_pickle(s));
    TRY(th_pickle_init(&part, bytes + at, n - at, s->where, &used));
    at += used;
    thaw_status status = place_blobs(s, &part, bytes + at, n - at);
    th_pickle_release(&part);
    return status;
}

/* ---- numbers ---- */

/* Any strides into row-major order, a row of the last axis at a time; the extents are
 * known to fit (K4). Dense tensors are one row. */
static void load_tensor(enum th_number type, const struct th_pickle_tensor *t,
    const unsigned char *src, float *dst)
{
    size_t bytes = th_number_bytes(type);
    int64_t n = th_shape_count(&t->shape), dense = 1, index[TH_MAX_RANK] = {0};
    int axis = t->shape.rank; /* axes from here on are dense */
    while (axis > 0 && (t->stride[axis - 1] == dense || t->shape.dim[axis - 1] == 1))
        dense *= t->shape.dim[--axis];
    int64_t row = dense, step = 1;
    if (dense == 1 && axis > 0) {
        step = t->stride[--axis];
        row = t->shape.dim[axis];
    }
    for (int64_t done = 0; done < n; done += row) {
        int64_t at = 0;
        for (int i = 0; i < axis; i++)
            at += index[i] * t->stride[i];
        th_number_load(
            type, src + (size_t)at * bytes, (size_t)step * bytes, dst + done, row);
        for (int i = axis; i-- > 0 && ++index[i] == t->shape.dim[i];)
            index[i] = 0;
    }
}

/* ---- names ---- */

static thaw_status add_tensor(struct source *s, const struct th_pickle_value *key,
    const struct th_pickle_tensor *t, struct th_weights *out)
{
    char name[MAX_NAME];
    float *data = NULL;
    const struct th_pickle_storage *storage = &s->pickle.storage[t->storage];
    const struct blob *b = find_blob(s, storage->key);
    size_t bytes = th_number_bytes(storage->dtype);
    if (key->text.n >= sizeof name || memchr(key->text.at, 0, key->text.n))
        return damaged(s, "a tensor of impossible name");
    memcpy(name, key->text.at, key->text.n);
    name[key->text.n] = 0;
    if (!b || !b->data)
        return th_fail(
            THAW_E_DATA, "%s: %.200s: its numbers are not in the file", s->where, name);
    if (b->n % bytes || b->n / bytes != (size_t)storage->root_n)
        return th_fail(THAW_E_DATA,
            "%s: %.200s: its storage has %zu bytes, not %lld x %zu", s->where, name,
            b->n, (long long)storage->root_n, bytes);
    TRY(th_weights_add(out, name, t->shape, NULL, &data));
    if (th_shape_count(&t->shape) > 0) /* else its place may be anywhere */
        load_tensor(storage->dtype, t,
            b->data + (size_t)(storage->offset + t->offset) * bytes, data);
    return THAW_OK;
}

static const struct th_pickle_list *dict_of(const struct th_pickle *p, uint32_t value)
{
    return p->value[value].kind == TH_PICKLE_DICT ? &p->list[p->value[value].index]
                                                  : NULL;
}

static size_t count_tensors(
    const struct th_pickle *p, const struct th_pickle_list *dict)
{
    size_t n = 0;
    for (size_t i = 1; i < dict->n; i += 2)
        n += p->value[dict->item[i]].kind == TH_PICKLE_TENSOR;
    return n;
}

/* The dict inside `dict` that holds the weights: under a name that training scripts use,
 * else, where `dict` has no tensors of its own, the only one that has; NULL for none. */
static const struct th_pickle_list *inner_dict(
    const struct th_pickle *p, const struct th_pickle_list *dict)
{
    static const char *const known[] = {"state_dict", "model_state_dict", "model"};
    for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
        for (size_t i = 0; i + 1 < dict->n; i += 2)
            if (th_pickle_is_text(p, dict->item[i], known[k]) &&
                dict_of(p, dict->item[i + 1]))
                return dict_of(p, dict->item[i + 1]);
    const struct th_pickle_list *only = NULL;
    int n = 0;
    for (size_t i = 1; i < dict->n; i += 2) {
        const struct th_pickle_list *inner = dict_of(p, dict->item[i]);
        if (inner && count_tensors(p, inner)) {
            only = inner;
            n++;
        }
    }
    return n == 1 && count_tensors(p, dict) == 0 ? only : NULL;
}

static thaw_status add_tensors(struct source *s, struct th_weights *out)
{
    const struct th_pickle *p = &s->pickle;
    const struct th_pickle_list *dict = dict_of(p, p->root);
    if (!dict)
        return th_fail(THAW_E_DATA,
            "%s: holds no dict of tensors: save model.state_dict() with torch.save",
            s->where);
    const struct th_pickle_list *inner = inner_dict(p, dict);
    for (int i = 0; inner && i < MAX_DEPTH; i++) {
        dict = inner;
        inner = inner_dict(p, dict);
    }
    for (size_t i = 0; i + 1 < dict->n; i += 2) {
        const struct th_pickle_value *key = &p->value[dict->item[i]];
        const struct th_pickle_value *value = &p->value[dict->item[i + 1]];
        if (key->kind == TH_PICKLE_TEXT && value->kind == TH_PICKLE_TENSOR)
            TRY(add_tensor(s, key, &p->tensor[value->index], out));
    }
    return THAW_OK;
}

/* ---- the format ---- */

static thaw_status pth_read(
    const unsigned char *bytes, size_t n, const char *where, struct th_weights *out)
{
    struct source s = {.where = where};
    struct th_zip zip = {0};
    thaw_status status =
        bytes[0] == 'P' ? open_zip(&s, &zip, bytes, n) : open_stream(&s, bytes, n);
    if (status == THAW_OK)
        status = add_tensors(&s, out);
    th_pickle_release(&s.pickle);
    th_free(s.blob);
    th_zip_release(&zip);
    return status;
}

/* The first entry of torch.save's archives is X/data.pkl; the magic number of its streams
 * stands at their start, behind the opcodes of some protocol. */
static bool pth_sniff(const unsigned char *bytes, size_t n)
{
    static const unsigned char magic[10] = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    if (n >= 30 && memcmp(bytes, "PK\3\4", 4) == 0) {
        size_t name_n = th_le16(bytes + 26);
        return n - 30 >= name_n && name_n > 9 &&
               memcmp(bytes + 30 + name_n - 9, "/data.pkl", 9) == 0;
    }
    for (size_t at = 2; n >= 32 && bytes[0] == 0x80 && at < 16; at++)
        if (memcmp(bytes + at, magic, sizeof magic) == 0)
            return true;
    return false;
}

const struct th_weight_format th_weight_format_pth = {
    .name = "pth",
    .sniff = pth_sniff,
    .read = pth_read,
    .library = th_zip_library,
};
