/* SPDX-License-Identifier: Apache-2.0
 * Model files: the parameters and buffers of a model under their own names, with what is
 * needed to use it as root attributes (DESIGN section 7: thaw_format, backbone, head,
 * classes, input_size, mean, std, interpolation, crop), and the fingerprint of the data
 * that it was trained on (data_fingerprint; data_hashes and data_images: of train, val and
 * test) or adapted to (adapted_on). */
#ifndef TH_MODEL_FILE_H
#define TH_MODEL_FILE_H

#include "model.h"
#include "store.h"

/* Write `m` with the values in `s`, durably, in the format that the ending names. */
thaw_status th_model_file_write(
    const char *path, const struct th_model *m, const struct th_store *s);

/* The attributes and tensors of such a file into an empty `w`. */
thaw_status th_model_file_fill(
    struct th_weights *w, const struct th_model *m, const struct th_store *s);

/* The bytes of such a file, for th_free. */
thaw_status th_model_file_image(const struct th_model *m, const struct th_store *s,
    unsigned char **bytes, size_t *n);

/* The attributes, so that checkpoints carry them too. */
thaw_status th_model_file_describe(const struct th_model *m, struct th_weights *w);

enum { TH_MOST_HEAD_WIDTH = 65536 };

/* Width of the hidden layer of the file's head; 0: it does not say. THAW_E_DATA. */
thaw_status th_model_file_head_width(const struct th_weights *w, int *width);

/* The input that the file says it is for, and a square where it does not: for the ratio of the
 * sides. */
struct th_size th_model_file_shape(const struct th_weights *w);

/* What the file says about its input; fields that it does not mention stay. Returns
 * whether it said anything. */
thaw_status th_model_file_input(
    const struct th_weights *w, struct th_input *input, bool *said);

/* What the file says about the data that it was made from, into `m`. */
void th_model_file_origin(const struct th_weights *w, struct th_model *m);
bool th_model_file_trained_on(const struct th_weights *w, struct th_fingerprint *f);

/* Append state `id` of the store under its name or `name`. THAW_E_DIVERGED for a tensor
 * with a value that is not finite: no file has one. */
thaw_status th_model_file_add(
    struct th_weights *w, const struct th_store *s, int id, const char *name);

#endif
