/* SPDX-License-Identifier: Apache-2.0
 * Fingerprints of data: which images, of which classes, in which split. Made of the
 * manifest (class, objects, file name and size in bytes of each image; its pixels where it is in
 * memory), not of what the files hold: that would mean reading all of them. Neither the
 * place of the folder nor the order of the listing counts. */
#ifndef TH_FINGERPRINT_H
#define TH_FINGERPRINT_H

#include "dataset.h"

struct th_fingerprint {
    uint64_t split[TH_N_SPLITS]; /* sum over the images, so that splits can be added */
    int64_t images[TH_N_SPLITS];
};

enum { TH_FINGERPRINT_TEXT = 17 }; /* 16 hexadecimal digits */

struct th_fingerprint th_fingerprint_of(const struct th_dataset *d);

/* All of it in one text: the images and how they are split. */
const char *th_fingerprint_text(
    const struct th_fingerprint *f, char text[TH_FINGERPRINT_TEXT]);

/* The same images, of the same classes, are in splits `a` (a set of bits, as 1 <<
 * TH_SPLIT_VAL) of one and in splits `b` of the other; at least one. */
bool th_fingerprint_same(const struct th_fingerprint *f, unsigned a,
    const struct th_fingerprint *g, unsigned b);

#endif
