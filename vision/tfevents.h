/* SPDX-License-Identifier: Apache-2.0
 * Scalars for TensorBoard: an events file that only grows, of records that are checked
 * one by one, so that a file cut off anywhere can still be read up to there.
 *
 *     struct th_tfevents e = {0};
 *     TRY(th_tfevents_begin(&e, "RUN", 0));
 *     TRY(th_tfevents_scalar(&e, "train/loss", 1, 2.3));
 *     TRY(th_tfevents_flush(&e));
 *     th_tfevents_release(&e); */
#ifndef TH_TFEVENTS_H
#define TH_TFEVENTS_H

#include "error.h"

/* All zero: not begun, and everything but begin does nothing. */
struct th_tfevents {
    char *path;
    unsigned char *pending; /* records that are not in the file yet */
    size_t n, capacity;
    int64_t written; /* bytes of the file: whole records */
};

/* A new file events.out.tfevents.TIME.K in `folder`, on the first flush. TensorBoard drops
 * what older files of the folder say about step `first` and later ones: they were not kept
 * by the checkpoint that a resumed run began from. */
thaw_status th_tfevents_begin(struct th_tfevents *e, const char *folder, int64_t first);

/* Remember a value; nothing is written yet. */
thaw_status th_tfevents_scalar(
    struct th_tfevents *e, const char *tag, int64_t step, double value);

/* Write what is pending. After a failure the file ends with its last whole record, and
 * what is pending waits for the next flush. */
thaw_status th_tfevents_flush(struct th_tfevents *e);

/* What is pending is lost. */
void th_tfevents_release(struct th_tfevents *e);

/* CRC-32C (RFC 3720, B.4) of n bytes. */
uint32_t th_crc32c(const void *bytes, size_t n);

#endif
