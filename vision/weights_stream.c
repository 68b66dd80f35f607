/* SPDX-License-Identifier: Apache-2.0
 * Owns the records. Reading: a head is copied before it is looked at, each length is
 * compared with what is left before it is used, and `out` checks names and shapes. */
#include "weights_stream.h"

#include "error.h"
#include "mem.h"

#include <string.h>

enum record_kind { END, TENSOR, STRING, STRINGS, FLOATS, INTS };

enum {
    MAX_NAME = 4096,
    MAX_ATTRIBUTES = 4096, /* `out` looks through them one by one */
    MAX_TEXTS = 1 << 20    /* of all attributes: a byte here is some 100 in `out` */
};

struct head {
    uint32_t kind, rank;
    int64_t dim[TH_MAX_RANK];
    uint64_t name_bytes, n, payload; /* n texts or numbers, payload bytes */
};

size_t th_stream_bytes(size_t limit)
{
    /* Heads and names come on top; small things are as dear in the file. */
    size_t bytes = 0;
    return __builtin_add_overflow(limit, limit / 8 + (1 << 20), &bytes) ? SIZE_MAX / 2
                                                                        : bytes;
}

/* ---- writing ---- */

static thaw_status too_large(const struct th_stream *s, const char *name)
{
    return th_fail(THAW_E_DATA,
        "%s: %.200s: needs more memory than a file of this size may unpack to; is the "
        "file damaged?",
        s->where, name);
}

/* Room for a record of `h`; *payload is where its payload belongs. */
static thaw_status append(
    struct th_stream *s, struct head h, const char *name, unsigned char **payload)
{
    h.name_bytes = strlen(name) + 1;
    size_t left = s->n - s->at, front = th_align_up(sizeof h + h.name_bytes);
    if (left < front || h.payload > (left - front) / TH_ALIGN * TH_ALIGN)
        return too_large(s, name);
    memcpy(s->bytes + s->at, &h, sizeof h);
    memcpy(s->bytes + s->at + sizeof h, name, h.name_bytes);
    *payload = s->bytes + s->at + front;
    s->at += front + th_align_up(h.payload);
    return THAW_OK;
}

thaw_status th_stream_tensor(
    struct th_stream *s, const char *name, const struct th_shape *shape, float **data)
{
    struct head h = {.kind = TENSOR, .rank = (uint32_t)shape->rank, .payload = 4};
    unsigned char *payload = NULL;
    for (int i = 0; i < shape->rank; i++) {
        h.dim[i] = shape->dim[i];
        if (__builtin_mul_overflow(h.payload, (uint64_t)shape->dim[i], &h.payload))
            return too_large(s, name);
    }
    TRY(append(s, h, name, &payload));
    if (data)
        *data = (float *)(void *)payload;
    return THAW_OK;
}

thaw_status th_stream_texts(struct th_stream *s, const char *name,
    enum th_attribute_kind kind, const char *const *text, size_t n)
{
    struct head h = {.kind = kind == TH_ATTRIBUTE_STRING ? STRING : STRINGS, .n = n};
    unsigned char *payload = NULL;
    for (size_t i = 0; i < n; i++)
        h.payload += strlen(text[i]) + 1;
    TRY(append(s, h, name, &payload));
    for (size_t i = 0; i < n; i++) {
        size_t bytes = strlen(text[i]) + 1;
        memcpy(payload, text[i], bytes);
        payload += bytes;
    }
    return THAW_OK;
}

thaw_status th_stream_numbers(struct th_stream *s, const char *name,
    enum th_attribute_kind kind, const void *values, size_t n)
{
    struct head h = {.kind = kind == TH_ATTRIBUTE_FLOATS ? FLOATS : INTS,
        .n = n,
        .payload = n * 8}; /* double or int64; n of them are in memory */
    unsigned char *payload = NULL;
    TRY(append(s, h, name, &payload));
    if (n)
        memcpy(payload, values, n * 8);
    return THAW_OK;
}

/* ---- reading ---- */

/* A record that lies within the stream. */
struct record {
    struct head head;
    const char *name; /* terminated */
    const unsigned char *payload;
};

static thaw_status broken(const struct th_stream *s, const char *why)
{
    return th_fail(THAW_E_DATA,
        "%s: what its reader handed over makes no sense (%s): the file is made to do "
        "harm",
        s->where, why);
}

static thaw_status take(struct th_stream *s, struct record *r)
{
    size_t left = s->n - s->at;
    *r = (struct record){0};
    if (left < sizeof r->head)
        return broken(s, "it does not end");
    memcpy(&r->head, s->bytes + s->at, sizeof r->head);
    const struct head *h = &r->head;
    if (h->kind == END)
        return THAW_OK;
    if (h->name_bytes == 0 || h->name_bytes > MAX_NAME)
        return broken(s, "a name");
    size_t front = th_align_up(sizeof *h + (size_t)h->name_bytes);
    if (left < front || h->payload > left - front)
        return broken(s, "a record reaches beyond the end");
    r->name = (const char *)s->bytes + s->at + sizeof *h;
    if (strnlen(r->name, h->name_bytes) != h->name_bytes - 1)
        return broken(s, "a name without end");
    r->payload = s->bytes + s->at + front;
    size_t behind = th_align_up((size_t)h->payload);
    s->at = behind > left - front ? s->n : s->at + front + behind;
    return THAW_OK;
}

static thaw_status take_tensor(
    const struct th_stream *s, const struct record *r, struct th_weights *out)
{
    float *data = NULL;
    struct th_shape shape = {.rank = (int)r->head.rank};
    if (r->head.rank > TH_MAX_RANK)
        return broken(s, "a rank");
    memcpy(shape.dim, r->head.dim, sizeof shape.dim);
    TRY(th_weights_add(out, r->name, shape, NULL, &data));
    size_t bytes = th_dtype_bytes(TH_F32, th_shape_count(&shape));
    if (bytes != r->head.payload)
        return broken(s, "a tensor's size");
    if (bytes)
        memcpy(data, r->payload, bytes);
    return THAW_OK;
}

/* n texts that fill the payload exactly. */
static thaw_status take_texts(
    struct th_stream *s, const struct record *r, struct th_weights *out)
{
    size_t n = (size_t)r->head.n;
    const char *at = (const char *)r->payload, *end = at + r->head.payload;
    if (n > r->head.payload || (r->head.kind == STRING && n != 1))
        return broken(s, "a number of texts");
    if (n > MAX_TEXTS - s->n_texts)
        return th_fail(
            THAW_E_DATA, "%s: more than %d texts in attributes", s->where, MAX_TEXTS);
    s->n_texts += n;
    const char **text = th_alloc(n, sizeof *text);
    if (!text)
        return THAW_E_MEMORY;
    size_t found = 0;
    for (; found < n && at < end; found++) {
        size_t bytes = strnlen(at, (size_t)(end - at));
        if (bytes == (size_t)(end - at))
            break;
        text[found] = at;
        at += bytes + 1;
    }
    thaw_status status;
    if (found != n || at != end)
        status = broken(s, "texts");
    else if (r->head.kind == STRING)
        status = th_weights_set_string(out, r->name, text[0]);
    else
        status = th_weights_set_strings(out, r->name, text, n);
    th_free(text);
    return status;
}

static thaw_status take_numbers(
    const struct th_stream *s, const struct record *r, struct th_weights *out)
{
    size_t n = (size_t)r->head.n;
    const void *values = r->payload; /* aligned to 64 bytes */
    if (r->head.payload % 8 || n != r->head.payload / 8)
        return broken(s, "a number of numbers");
    return r->head.kind == FLOATS ? th_weights_set_floats(out, r->name, values, n)
                                  : th_weights_set_ints(out, r->name, values, n);
}

thaw_status th_stream_next(struct th_stream *s, struct th_weights *out, bool *more)
{
    struct record r;
    TRY(take(s, &r));
    *more = r.head.kind != END;
    if (r.head.kind > TENSOR && out->n_attributes == MAX_ATTRIBUTES)
        return th_fail(
            THAW_E_DATA, "%s: more than %d attributes", s->where, MAX_ATTRIBUTES);
    switch (r.head.kind) {
    case END:
        return THAW_OK;
    case TENSOR:
        return take_tensor(s, &r, out);
    case STRING:
    case STRINGS:
        return take_texts(s, &r, out);
    case FLOATS:
    case INTS:
        return take_numbers(s, &r, out);
    default:
        return broken(s, "a kind of record");
    }
}
