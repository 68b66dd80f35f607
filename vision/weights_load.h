/* SPDX-License-Identifier: Apache-2.0
 * Loading: the tensors of a file into the tensors of a model, by name, all or nothing.
 * Knows neither file formats nor models: a model is a list of slots. */
#ifndef TH_WEIGHTS_LOAD_H
#define TH_WEIGHTS_LOAD_H

#include "weights.h"

/* One tensor that a model wants. */
struct th_slot {
    const char *name;
    struct th_shape shape;
    float *data; /* host memory of that shape, written on success only */
    bool head;   /* of the head: may be new */
    bool loaded; /* out: taken from the file */
};

struct th_load_options {
    /* The name in the file of a tensor that is not there under its own, or NULL. */
    const char *(*file_name)(const void *user, const char *name);
    const void *user;
    /* Whether a tensor of another shape can be made to fit, or one of this shape has to be;
     * with `out`, do it. NULL: none. */
    bool (*refit)(const void *user, const struct th_slot *slot,
        const struct th_weight *found, float *out);
    bool allow_missing; /* what the file lacks keeps its values, outside the head too */
    bool new_head;      /* take no head tensor even where it fits */
    const char
        *head;      /* of a new head, the layer in whose place it stands: that and what
                           is in it are not unexpected; NULL: everything is */
    bool keep_head; /* the head must be there and fit, as all else */
};

struct th_name_list {
    size_t n, capacity;
    char **name; /* owned */
};

/* What was found. Filled on failure too, as far as it got. */
struct th_load_report {
    size_t n_slots, n_loaded;
    size_t n_head, n_head_loaded;   /* the rest of the head is new */
    struct th_name_list missing;    /* outside a new head */
    struct th_name_list misshapen;  /* likewise, as sentences */
    struct th_name_list refitted;   /* made to fit, as sentences */
    struct th_name_list unexpected; /* in the file, wanted by no slot */
};

void th_load_report_release(struct th_load_report *r);

/* "loaded 120 of 122, head new, unexpected: a, b" into text, which it returns. */
const char *th_load_report_text(
    const struct th_load_report *r, char *text, size_t size);

/* Fill the slots. A tensor that is missing or of another shape is THAW_E_DATA that says
 * which, except in a head, which is then new; `options` NULL is all-zero. `where` names
 * the file in messages. On failure no slot's data has changed. `report` is initialised
 * here, and released by the caller in every case. */
thaw_status th_weights_load(const struct th_weights *w, struct th_slot *slot, size_t n,
    const char *where, const struct th_load_options *options,
    struct th_load_report *report);

#endif
