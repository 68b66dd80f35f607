/* SPDX-License-Identifier: Apache-2.0
 * Which algorithm a convolution takes. A device has a table of its own; a user's, measured
 * by `thaw tune`, is asked before it (th_device.choices). Tables and never clocks, so that
 * results depend on the build, the table, the instruction set and the thread count. */
#ifndef TH_CONV_CHOICE_H
#define TH_CONV_CHOICE_H

#include "op.h"

enum th_conv_algorithm {
    TH_CONV_DIRECT,
    TH_CONV_DNNL_WINOGRAD, /* oneDNN's, which has one for AVX-512 until its version 3 */
    TH_CONV_WINOGRAD,      /* ours */
    TH_CONV_ALGORITHMS
};

/* "direct", "onednn-winograd", "winograd" */
const char *th_conv_algorithm_name(enum th_conv_algorithm algorithm);

/* One convolution, of any batch and with anything fused to it. */
struct th_conv_choice {
    enum th_op op; /* conv, conv_dx, conv_dw */
    int64_t c, h, w, o, kh, kw;
    struct th_attr_conv attr; /* relu is not looked at */
    enum th_conv_algorithm algorithm;
};

struct th_call;
/* The call's convolution; direct. */
struct th_conv_choice th_conv_choice_of(const struct th_call *call);

/* Whether there may be another than the direct one: 3x3, stride 1, one group. */
bool th_conv_choice_open(const struct th_conv_choice *c);

/* All but the algorithm. */
bool th_conv_choice_same(
    const struct th_conv_choice *a, const struct th_conv_choice *b);

#endif
