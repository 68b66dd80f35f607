/* SPDX-License-Identifier: Apache-2.0
 * One annotation file of Pascal VOC: XML whose root is <annotation>. */
#ifndef TH_VOC_XML_H
#define TH_VOC_XML_H

#include "thaw.h"

#include <stdbool.h>
#include <stdint.h>

struct th_voc_object {
    char *name;    /* owned */
    double box[4]; /* xmin, ymin, xmax, ymax as they stand there */
    bool difficult;
    int64_t line; /* of <object> */
};

struct th_voc {
    char *filename; /* owned; NULL: none is said */
    int64_t filename_line;
    double w, h; /* 0: not said */
    struct th_voc_object *object;
    int64_t n, capacity;
};

/* THAW_E_DATA with file and line for what is no such file, has a DOCTYPE (and with it
 * entities), lacks a name or a coordinate, is larger than 1 MiB or deeper than 16 levels.
 * To be released also after a failure. */
thaw_status th_voc_read(const char *path, struct th_voc *out);
void th_voc_release(struct th_voc *voc);

#endif
