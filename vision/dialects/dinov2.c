/* SPDX-License-Identifier: Apache-2.0
 * Meta's DINOv2, whose names are timm's but for the registers (Darcet et al. 2023). There
 * the class token has a position and the registers have none; timm adds that position to
 * the token and keeps those of the patches, which gives the same sums. */
#include "dialect.h"
#include "error.h"

#include <string.h>

static const char *const signs[] = {"register_tokens", "cls_token", "pos_embed", NULL};

static const struct th_name_row row[] = {
    TH_NAME("register_tokens", "reg_token"),
    TH_GONE("mask_token"),
};

/* cls_token [1][1][d] += pos_embed[0][0]; pos_embed [1][1 + p][d] loses that row. */
static thaw_status before(struct th_weights *w, const char *where)
{
    struct th_tensor *cls = NULL, *pos = NULL;
    for (size_t i = 0; i < w->n; i++) {
        if (!strcmp(w->weight[i].name, "cls_token"))
            cls = &w->weight[i].tensor;
        if (!strcmp(w->weight[i].name, "pos_embed"))
            pos = &w->weight[i].tensor;
    }
    if (!cls || !pos || cls->shape.rank != 3 || pos->shape.rank != 3 ||
        pos->shape.dim[0] != 1 || pos->shape.dim[1] < 2 || cls->shape.dim[0] != 1 ||
        cls->shape.dim[1] != 1 || cls->shape.dim[2] != pos->shape.dim[2])
        return th_fail(THAW_E_DATA,
            "%s: cls_token and pos_embed do not go together: is the file damaged?",
            where);
    int64_t d = pos->shape.dim[2];
    float *token = cls->data, *place = pos->data;
    for (int64_t i = 0; i < d; i++)
        token[i] += place[i];
    if (d)
        memmove(
            place, place + d, (size_t)((pos->shape.dim[1] - 1) * d) * sizeof *place);
    pos->shape.dim[1]--;
    w->bytes -= (size_t)d * sizeof *place;
    return th_weights_note(w, "position of the class token added to it");
}

static const struct th_dialect_input input = {
    {0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}, 0.875, "bicubic"};

const struct th_dialect th_dialect_dinov2 = {
    .name = "DINOv2",
    .signs = signs,
    TH_ROWS(row),
    .input = &input,
    .before = before,
};
