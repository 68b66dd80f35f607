/* SPDX-License-Identifier: Apache-2.0
 * The data.yaml of YOLO's data: where images lie, and what their classes are called. */
#ifndef TH_YOLO_YAML_H
#define TH_YOLO_YAML_H

#include "files.h"

struct th_yolo {
    char *path;              /* owned; NULL: not said */
    struct th_names part[3]; /* train, val, test: folders or lists of images */
    struct th_names names;   /* of class 0, 1 ... */
};

/* THAW_E_DATA with file and line for what is no such file: keys of another kind, names
 * whose numbers have gaps, aliases and tags, more than 1 MiB or 8 levels. Other keys are
 * passed by. To be released also after a failure. */
thaw_status th_yolo_read(const char *path, struct th_yolo *out);
void th_yolo_release(struct th_yolo *yolo);

#endif
