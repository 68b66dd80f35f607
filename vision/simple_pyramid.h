/* SPDX-License-Identifier: Apache-2.0
 * A feature pyramid on a network that has one map: ViTDet's simple feature pyramid (Li et
 * al. 2022, arXiv:2203.16527, section 3), with Detectron2's names: simfp_L, L = log2 of the
 * level's stride. */
#ifndef TH_SIMPLE_PYRAMID_H
#define TH_SIMPLE_PYRAMID_H

#include "layers.h"

enum { TH_SIMPLE_LEVELS = 4 };

struct th_simple_pyramid {
    int n; /* levels, TH_SIMPLE_LEVELS at most, finest first; the last is of half the size */
    int map[TH_SIMPLE_LEVELS], stride[TH_SIMPLE_LEVELS];
    int coarsest; /* x in the last level's size, before its convolutions */
};

/* n levels of `width` channels, of the map x [n][c][h][w] of this stride. THAW_E_USAGE where
 * the finest stride would be no whole number. */
struct th_simple_pyramid th_simple_pyramid(
    struct th_builder *b, int x, int stride, int n, int width);

#endif
