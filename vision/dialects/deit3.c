/* SPDX-License-Identifier: Apache-2.0
 * Meta's DeiT III (Touvron et al. 2022), whose names are timm's but for the LayerScales. */
#include "dialect.h"

static const char *const signs[] = {"blocks.#.gamma_1", "cls_token", "pos_embed", NULL};

static const struct th_name_row row[] = {
    TH_NAME("blocks.#.gamma_1", "blocks.#.ls1.gamma"),
    TH_NAME("blocks.#.gamma_2", "blocks.#.ls2.gamma"),
};

static const struct th_dialect_input input = {
    {0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}, 0.9, "bicubic"};

const struct th_dialect th_dialect_deit3 = {
    .name = "DeiT III",
    .signs = signs,
    TH_ROWS(row),
    .input = &input,
};
