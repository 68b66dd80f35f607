/* SPDX-License-Identifier: Apache-2.0
 * Feature pyramid networks: Lin et al. 2017 (arXiv:1612.03144), as torchvision builds and
 * names them, below "fpn."; on a backbone with one map simple_pyramid's, whose P6 and P7 are
 * Detectron2's top_block. */
#ifndef TH_FPN_H
#define TH_FPN_H

#include "layers.h"

struct th_fpn_spec {
    int taps; /* of the backbone's, the last so many; of one that has one map, levels */
    int width; /* channels of every level */
    bool
        norm; /* of a pyramid on several maps: BatchNorm behind each convolution of a level */
    /* Two coarser levels by 3x3 convolutions of stride 2: P6 of the last level (or, p6_of_tap,
     * of the last tap), P7 of P6. */
    bool p6_p7, p6_of_tap;
    /* One coarser level: every second place of the last. */
    bool pooled;
};

/* Append it. map[i] is level i of b->model->pyramid, which is set but for anchors and rows.
 * THAW_E_USAGE where the backbone has too few feature maps, and more or less than one. */
void th_fpn(struct th_builder *b, const struct th_taps *taps, struct th_fpn_spec spec,
    int map[TH_MAX_LEVELS]);

/* The pyramid's maps as rows [n][rows][width] under this name, wanted; sets the pyramid's
 * rows for so many anchors a place. */
int th_pyramid_rows(
    struct th_builder *b, const int *map, int anchors, int width, const char *name);

#endif
