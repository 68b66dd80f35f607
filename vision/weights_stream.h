/* SPDX-License-Identifier: Apache-2.0
 * Named tensors and attributes as records in one block of memory: how the process that
 * parses a stranger's file hands over what it found. Written by one side, read by the
 * other, which believes nothing (that process may have been taken over). No file format:
 * both sides are the same program.
 *
 * A record is its head, the name with its zero, padding to 64 bytes, the payload, padding
 * to 64 bytes. A head of zeros, as fresh memory is, ends the stream. */
#ifndef TH_WEIGHTS_STREAM_H
#define TH_WEIGHTS_STREAM_H

#include "weights.h"

struct th_stream {
    unsigned char *bytes; /* 64-byte aligned; zero beyond `at` where it is written */
    size_t n, at;
    size_t n_texts;    /* taken so far */
    const char *where; /* the file, for sentences */
};

/* The bytes that tensors and attributes of `limit` bytes in all may take as records. */
size_t th_stream_bytes(size_t limit);

/* Append. *data is where the tensor's numbers belong (may be NULL). THAW_E_DATA where it
 * does not fit: the file unpacks to more than its size allows. */
thaw_status th_stream_tensor(
    struct th_stream *s, const char *name, const struct th_shape *shape, float **data);
thaw_status th_stream_texts(struct th_stream *s, const char *name,
    enum th_attribute_kind kind, const char *const *text, size_t n);
thaw_status th_stream_numbers(struct th_stream *s, const char *name,
    enum th_attribute_kind kind, const void *values, size_t n);

/* Take the next record over into `out`; *more is false at the end. Bytes may be
 * anything: THAW_E_DATA for what no writer writes, or what `out` refuses. */
thaw_status th_stream_next(struct th_stream *s, struct th_weights *out, bool *more);

#endif
