/* SPDX-License-Identifier: Apache-2.0
 * Owns the bytes of a protocol buffer that is being written. */
#include "protobuf.h"

#include "mem.h"

#include <string.h>

enum { VARINT = 0, LENGTH = 2, FIXED32 = 5 }; /* wire types */
enum { LENGTH_BYTES = 5, FIRST_CAPACITY = 4096 };

/* Readers take no message of 2 GiB or more. */
static const size_t MOST = INT32_MAX;

/* n more bytes, zero; NULL after a failure. */
static unsigned char *grow(struct th_proto *p, size_t n)
{
    if (p->status != THAW_OK)
        return NULL;
    if (n > MOST - p->n) {
        p->status = th_fail(THAW_E_USAGE,
            "more than 2 GiB: protocol buffers, and so ONNX files, cannot be as large");
        return NULL;
    }
    if (p->n + n > p->capacity) {
        size_t capacity = p->capacity ? p->capacity : FIRST_CAPACITY;
        while (capacity < p->n + n)
            capacity += capacity / 2;
        unsigned char *bytes = th_realloc(p->bytes, p->capacity, capacity, 1);
        if (!bytes) {
            p->status = THAW_E_MEMORY;
            return NULL;
        }
        p->bytes = bytes;
        p->capacity = capacity;
    }
    unsigned char *place = p->bytes + p->n;
    p->n += n;
    return place;
}

/* Seven bits a byte, least significant first, the top bit on all but the last. */
static void varint(struct th_proto *p, uint64_t value)
{
    for (; value >= 0x80; value >>= 7) {
        unsigned char *at = grow(p, 1);
        if (at)
            *at = (unsigned char)(value | 0x80);
    }
    unsigned char *at = grow(p, 1);
    if (at)
        *at = (unsigned char)value;
}

static void tag(struct th_proto *p, int field, int wire)
{
    varint(p, (uint64_t)field << 3 | (uint64_t)wire);
}

void th_proto_int(struct th_proto *p, int field, int64_t value)
{
    tag(p, field, VARINT);
    varint(p, (uint64_t)value);
}

void th_proto_float(struct th_proto *p, int field, float value)
{
    uint32_t bits;
    tag(p, field, FIXED32);
    unsigned char *at = grow(p, sizeof bits);
    if (!at)
        return;
    memcpy(&bits, &value, sizeof bits);
    for (size_t i = 0; i < sizeof bits; i++)
        at[i] = (unsigned char)(bits >> 8 * i);
}

void *th_proto_place(struct th_proto *p, int field, size_t n)
{
    tag(p, field, LENGTH);
    varint(p, n);
    return grow(p, n);
}

void th_proto_bytes(struct th_proto *p, int field, const void *bytes, size_t n)
{
    void *at = th_proto_place(p, field, n);
    if (at && n)
        memcpy(at, bytes, n);
}

void th_proto_text(struct th_proto *p, int field, const char *text)
{
    th_proto_bytes(p, field, text, strlen(text));
}

size_t th_proto_open(struct th_proto *p, int field)
{
    tag(p, field, LENGTH);
    grow(p, LENGTH_BYTES);
    return p->n;
}

void th_proto_close(struct th_proto *p, size_t opened)
{
    if (p->status != THAW_OK)
        return;
    uint64_t length = p->n - opened;
    unsigned char *at = p->bytes + opened - LENGTH_BYTES;
    for (int i = 0; i < LENGTH_BYTES; i++)
        at[i] = (unsigned char)((length >> 7 * i & 0x7f) |
                                (i < LENGTH_BYTES - 1 ? 0x80U : 0U));
}

void th_proto_release(struct th_proto *p)
{
    th_free(p->bytes);
    *p = (struct th_proto){0};
}
