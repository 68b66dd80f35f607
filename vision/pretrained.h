/* SPDX-License-Identifier: Apache-2.0
 * From a weights file to a network: which file, which backbone, which classes and input,
 * and its tensors into the store. */
#ifndef TH_PRETRAINED_H
#define TH_PRETRAINED_H

#include "network.h"

/* The weights file of a run (DESIGN section 8): the option, else $THAW_WEIGHTS, else
 * share/thaw/weights/BACKBONE.h5. *path is fresh; NULL for `--weights random`, which must
 * be typed. THAW_E_USAGE where nothing is found: what to get, what to type. */
thaw_status th_pretrained_find(const thaw_options *o, char **path);

/* MODEL of a command, or weights: a file that can be opened, or a run folder's best.h5.
 * *path is fresh. THAW_E_IO, THAW_E_USAGE. */
thaw_status th_pretrained_model_path(const char *model, char **path);

/* The head that the options name, else the file's (`w` may be NULL), else the default. */
thaw_status th_pretrained_head(
    const struct th_weights *w, const thaw_options *o, const struct th_head **head);

/* Backbone, variant, head and input of spec, from what the file says and the options;
 * `w` is NULL for random weights. *assumed: neither they nor the network
 * itself say what the input was. */
thaw_status th_pretrained_identify(const struct th_weights *w, const thaw_options *o,
    struct th_network_spec *spec, bool *assumed);

/* What the options say of the input, over what is in *in. */
bool th_pretrained_input_options(const thaw_options *o, struct th_input *in);

/* Whether the file has the classifier of spec's network. */
bool th_pretrained_has_head(
    const struct th_weights *w, const struct th_network_spec *spec);

/* Class names that come with the file: its own, else those of the published weights, else
 * class_0 ... by the rows of its head's weight. *fresh (for th_free, the names are in the same block) and *n.
 * THAW_E_DATA where the file has no head; *named: they are real ones. */
thaw_status th_pretrained_classes(const struct th_weights *w,
    const struct th_network_spec *spec, char ***fresh, int *n, bool *named);

struct th_load_spec {
    const char *where; /* names the file in messages */
    bool head;         /* take the head too: it must be there */
    bool allow_missing;
    bool adapters; /* take A and B too: a checkpoint */
};

/* The file's tensors into the store, all or nothing; "loaded 95 of 97, head new" into
 * report (may be NULL). THAW_E_DATA names what is missing or misshapen. */
thaw_status th_pretrained_load(const struct th_weights *w, struct th_network *n,
    const struct th_load_spec *spec, char *report, size_t report_bytes);

#endif
