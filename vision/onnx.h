/* SPDX-License-Identifier: Apache-2.0
 * ONNX files: a model's forward graph as operators of opset 17, with constant shapes,
 * frozen BatchNorms folded into their convolutions, class names and preprocessing as
 * metadata. docs/export.md says what is in one. */
#ifndef TH_ONNX_H
#define TH_ONNX_H

#include "model.h"
#include "store.h"

struct th_onnx_spec {
    int batch;
    /* "image" is u8 [n][h][w][3], of the input's size, in place of normalised fp32
     * [n][3][h][w]: casting, normalising and transposing are in the graph. */
    bool embed_preprocessing;
    double score; /* of a detector: from which on a box is put out */
};

/* Write `m`, which has no adapters, with the values in `s`, durably. THAW_E_USAGE names an
 * op that has no counterpart, or says that the file would be too large. */
thaw_status th_onnx_write(const char *path, struct th_model *m,
    const struct th_store *s, const struct th_onnx_spec *spec);

#endif
