/* SPDX-License-Identifier: Apache-2.0
 * Protocol buffers, written into one growing buffer (protobuf.dev, "Encoding").
 *
 * A message within a message is opened and closed; its length, which comes first, is kept
 * a place of five bytes: varints may be longer than they need to be, so nothing is copied
 * when a length becomes known. Failures (memory, 2 GiB) are kept to the end. */
#ifndef TH_PROTOBUF_H
#define TH_PROTOBUF_H

#include "error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All-zero is empty. */
struct th_proto {
    unsigned char *bytes; /* owned */
    size_t n, capacity;
    thaw_status status; /* sticky */
};

void th_proto_int(struct th_proto *p, int field, int64_t value);
void th_proto_float(struct th_proto *p, int field, float value);
void th_proto_bytes(struct th_proto *p, int field, const void *bytes, size_t n);
void th_proto_text(struct th_proto *p, int field, const char *text);

/* A field of n bytes, all zero, to be filled; valid until the next call. NULL after a
 * failure. */
void *th_proto_place(struct th_proto *p, int field, size_t n);

/* A message as a field: what is written until the close is in it. */
size_t th_proto_open(struct th_proto *p, int field);
void th_proto_close(struct th_proto *p, size_t opened);

void th_proto_release(struct th_proto *p);

#endif
