/* SPDX-License-Identifier: Apache-2.0
 * Owns the events file: TFRecord framing around `Event` messages (tensorflow/core/util/
 * event.proto), of which three kinds are written: the version, the start of a session,
 * and a scalar. */
#include "tfevents.h"

#include "file.h"
#include "mem.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST_NAMES = 100, RECORD_FRAME = 16 };

/* Field numbers of event.proto and summary.proto, with protobuf's wire types. */
enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };
enum { EVENT_WALL_TIME = 1, EVENT_STEP = 2, EVENT_VERSION = 3, EVENT_SUMMARY = 5 };
enum { EVENT_SESSION = 7, SESSION_STATUS = 1, SESSION_START = 1 };
enum { SUMMARY_VALUE = 1, VALUE_TAG = 1, VALUE_SIMPLE = 2 };

uint32_t th_crc32c(const void *bytes, size_t n)
{
    const unsigned char *at = bytes;
    uint32_t crc = ~0U;
    for (size_t i = 0; i < n; i++) {
        crc ^= at[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0x82f63b78U & (0U - (crc & 1)));
    }
    return ~crc;
}

/* ---- Messages; short ones, so they are built in place ---- */

struct message {
    unsigned char bytes[512];
    size_t n;
    bool too_long;
};

static void put(struct message *m, const void *bytes, size_t n)
{
    m->too_long = m->too_long || n > sizeof m->bytes - m->n;
    if (m->too_long)
        return;
    memcpy(m->bytes + m->n, bytes, n);
    m->n += n;
}

static void put_varint(struct message *m, uint64_t value)
{
    for (; value >= 128; value >>= 7)
        put(m, &(unsigned char){(unsigned char)(value | 128)}, 1);
    put(m, &(unsigned char){(unsigned char)value}, 1);
}

static void put_key(struct message *m, unsigned field, unsigned type)
{
    put_varint(m, field << 3 | type);
}

static void put_bytes(struct message *m, unsigned field, const void *bytes, size_t n)
{
    put_key(m, field, BYTES);
    put_varint(m, n);
    put(m, bytes, n);
}

static void put_message(struct message *m, unsigned field, const struct message *inner)
{
    m->too_long = m->too_long || inner->too_long;
    put_bytes(m, field, inner->bytes, inner->n);
}

/* The lowest n bytes of a number, little-endian on any machine. */
static void put_fixed(struct message *m, uint64_t bits, size_t n)
{
    for (size_t i = 0; i < n; i++)
        put(m, &(unsigned char){(unsigned char)(bits >> 8 * i)}, 1);
}

static void put_double(struct message *m, unsigned field, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_key(m, field, FIXED64);
    put_fixed(m, bits, sizeof bits);
}

static void put_float(struct message *m, unsigned field, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_key(m, field, FIXED32);
    put_fixed(m, bits, sizeof bits);
}

static void begin_event(struct message *m, int64_t step)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    put_double(m, EVENT_WALL_TIME, (double)now.tv_sec + 1e-9 * (double)now.tv_nsec);
    put_key(m, EVENT_STEP, VARINT);
    put_varint(m, (uint64_t)step);
}

/* ---- Records ---- */

/* A CRC over bytes that hold CRCs would be weak: they are stored rotated and shifted. */
static uint32_t masked_crc(const void *bytes, size_t n)
{
    uint32_t crc = th_crc32c(bytes, n);
    return (crc >> 15 | crc << 17) + 0xa282ead8U;
}

static thaw_status reserve(struct th_tfevents *e, size_t more)
{
    if (e->n + more <= e->capacity)
        return THAW_OK;
    size_t capacity = 2 * (e->n + more) + 1024;
    unsigned char *grown = th_realloc(e->pending, e->n, capacity, 1);
    if (!grown)
        return THAW_E_MEMORY;
    e->pending = grown;
    e->capacity = capacity;
    return THAW_OK;
}

/* u64 length | its CRC | the message | its CRC */
static thaw_status add_record(struct th_tfevents *e, const struct message *event)
{
    if (event->too_long)
        return th_fail(THAW_E_USAGE, "the name of a scalar is too long");
    TRY(reserve(e, event->n + RECORD_FRAME));
    struct message head = {.n = 0}, tail = {.n = 0};
    put_fixed(&head, event->n, 8);
    put_fixed(&head, masked_crc(head.bytes, 8), 4);
    put_fixed(&tail, masked_crc(event->bytes, event->n), 4);
    const struct message *const parts[] = {&head, event, &tail};
    for (int i = 0; i < 3; i++) {
        memcpy(e->pending + e->n, parts[i]->bytes, parts[i]->n);
        e->n += parts[i]->n;
    }
    return THAW_OK;
}

/* ---- The file ---- */

/* A name that is not taken; later ones sort behind earlier ones. */
static thaw_status choose_path(struct th_tfevents *e, const char *folder)
{
    long long now = (long long)time(NULL);
    for (int k = 0; k < MOST_NAMES; k++) {
        char *path = th_format("%s/events.out.tfevents.%010lld.%02d", folder, now, k);
        if (!path)
            return THAW_E_MEMORY;
        if (!th_file_exists(path)) {
            e->path = path;
            return THAW_OK;
        }
        th_free(path);
    }
    return th_fail(THAW_E_IO, "%s: too many events files", folder);
}

thaw_status th_tfevents_begin(struct th_tfevents *e, const char *folder, int64_t first)
{
    static const char version[] = "brain.Event:2";
    struct message of_version = {.n = 0}, session = {.n = 0}, start = {.n = 0};
    begin_event(&of_version, 0);
    put_bytes(&of_version, EVENT_VERSION, version, sizeof version - 1);
    put_key(&session, SESSION_STATUS, VARINT);
    put_varint(&session, SESSION_START);
    begin_event(&start, first);
    put_message(&start, EVENT_SESSION, &session);
    TRY(choose_path(e, folder));
    TRY(add_record(e, &of_version));
    return add_record(e, &start);
}

thaw_status th_tfevents_scalar(
    struct th_tfevents *e, const char *tag, int64_t step, double value)
{
    struct message v = {.n = 0}, summary = {.n = 0}, event = {.n = 0};
    if (!e->path)
        return THAW_OK;
    put_bytes(&v, VALUE_TAG, tag, strlen(tag));
    put_float(&v, VALUE_SIMPLE, (float)value);
    put_message(&summary, SUMMARY_VALUE, &v);
    begin_event(&event, step);
    put_message(&event, EVENT_SUMMARY, &summary);
    return add_record(e, &event);
}

thaw_status th_tfevents_flush(struct th_tfevents *e)
{
    if (!e->path || !e->n)
        return THAW_OK;
    thaw_status status = th_file_append(e->path, e->pending, e->n, NULL);
    if (status != THAW_OK) {
        /* A part may be there: readers would stop at it, so nothing can follow it. */
        if (truncate(e->path, (off_t)e->written) && errno != ENOENT)
            th_tfevents_release(e);
        return status;
    }
    e->written += (int64_t)e->n;
    e->n = 0;
    return THAW_OK;
}

void th_tfevents_release(struct th_tfevents *e)
{
    th_free(e->path);
    th_free(e->pending);
    *e = (struct th_tfevents){0};
}
