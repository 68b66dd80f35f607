/* SPDX-License-Identifier: Apache-2.0
 * Owns the operators of detectors: pyramids, and the way from outputs to boxes that
 * th_reader_read goes, of one image. */
#include "mem.h"
#include "onnx_graph.h"

#include <stdio.h>

typedef const char *const names[]; /* (names){a, b, NULL} */

/* ---- Pyramids ---- */

/* gamma h + beta (kernels/groupnorm.c): of opset 17 InstanceNormalization of [n][groups]
 * [values of a group] makes h. */
thaw_status th_onnx_groupnorm(struct th_onnx *x, const struct th_node *n)
{
    enum { MOST_GROUPS = 1024 };
    const struct th_onnx_attr eps[] = {
        {.name = "epsilon", .type = TH_ONNX_FLOAT, .f = n->attr.norm.eps}, {0}};
    struct th_shape s = th_onnx_shape(x, n->in[0]);
    int64_t c = s.dim[1], groups = n->attr.norm.groups;
    const struct th_shape group = TH_SHAPE(groups);
    float one[MOST_GROUPS], zero[MOST_GROUPS] = {0};
    struct th_onnx_name gamma, beta, y = th_onnx_value(x, n->in[0]),
                                     out = th_onnx_value(x, n->out[0]);
    if (groups > MOST_GROUPS)
        return th_fail(THAW_E_USAGE,
            "ONNX: a GroupNorm of more than %d groups: write "
            ".h5 or .safetensors",
            MOST_GROUPS);
    for (int64_t i = 0; i < groups; i++)
        one[i] = 1;
    TRY(th_onnx_state(x, n->in[1], &gamma));
    TRY(th_onnx_state(x, n->in[2], &beta));
    struct th_onnx_name ones = th_onnx_f32(x, NULL, &group, one),
                        zeros = th_onnx_f32(x, NULL, &group, zero);
    y = th_onnx_reshape(x, y.text, NULL,
        (int64_t[]){s.dim[0], groups, c / groups * s.dim[2] * s.dim[3]}, 3);
    y = th_onnx_node(x, "InstanceNormalization",
        (names){y.text, ones.text, zeros.text, NULL}, NULL, eps);
    y = th_onnx_reshape(x, y.text, NULL, s.dim, s.rank);
    gamma = th_onnx_reshape(x, gamma.text, NULL, (int64_t[]){c, 1, 1}, 3);
    beta = th_onnx_reshape(x, beta.text, NULL, (int64_t[]){c, 1, 1}, 3);
    y = th_onnx_binary(x, "Mul", y.text, gamma.text);
    th_onnx_node(x, "Add", (names){y.text, beta.text, NULL}, out.text, NULL);
    return THAW_OK;
}

/* The nearest value, coordinates rounded down, and what it is added to. */
thaw_status th_onnx_upsample(struct th_onnx *x, const struct th_node *n)
{
    const struct th_onnx_attr attr[] = {
        {.name = "mode", .type = TH_ONNX_TEXT, .text = "nearest"},
        {.name = "coordinate_transformation_mode",
            .type = TH_ONNX_TEXT,
            .text = "asymmetric"},
        {.name = "nearest_mode", .type = TH_ONNX_TEXT, .text = "floor"}, {0}};
    struct th_shape to = th_onnx_shape(x, n->out[0]);
    struct th_onnx_name in = th_onnx_value(x, n->in[0]),
                        out = th_onnx_value(x, n->out[0]);
    struct th_onnx_name size = th_onnx_i64(x, to.dim, to.rank);
    bool adds = n->in[1] >= 0;
    struct th_onnx_name y = th_onnx_node(x, "Resize",
        (names){in.text, "", "", size.text, NULL}, adds ? NULL : out.text, attr);
    if (adds)
        th_onnx_node(x, "Add", (names){y.text, th_onnx_value(x, n->in[1]).text, NULL},
            out.text, NULL);
    return THAW_OK;
}

/* A map [n][k*width][h][w] as rows [n][h*w*k][width]. */
static struct th_onnx_name write_rows(struct th_onnx *x, int map, int width)
{
    struct th_shape s = th_onnx_shape(x, map);
    int64_t k = s.dim[1] / width;
    struct th_onnx_name y = th_onnx_value(x, map);
    y = th_onnx_reshape(
        x, y.text, NULL, (int64_t[]){s.dim[0], k, width, s.dim[2], s.dim[3]}, 5);
    y = th_onnx_transpose(x, y.text, NULL, (int[]){0, 3, 4, 1, 2}, 5);
    return th_onnx_reshape(
        x, y.text, NULL, (int64_t[]){s.dim[0], s.dim[2] * s.dim[3] * k, width}, 3);
}

thaw_status th_onnx_map_rows(struct th_onnx *x, const struct th_node *n)
{
    const struct th_onnx_attr axis[] = {
        {.name = "axis", .type = TH_ONNX_INT, .i = 1}, {0}};
    struct th_onnx_name level[TH_MAX_IN];
    const char *levels[TH_MAX_IN + 1] = {0};
    for (int i = 0; i < TH_MAX_IN && n->in[i] >= 0; i++) {
        level[i] = write_rows(x, n->in[i], n->attr.rows.width);
        levels[i] = level[i].text;
    }
    th_onnx_node(x, "Concat", levels, th_onnx_value(x, n->out[0]).text, axis);
    return THAW_OK;
}

/* ---- From outputs to boxes ---- */

/* What is made of outputs: names of values. */
struct found {
    struct th_onnx_name boxes, scores, classes; /* [k][4], [k], [k] */
};

/* rows[which] along the first axis. */
static struct th_onnx_name gather(
    struct th_onnx *x, const char *rows, const char *which)
{
    const struct th_onnx_attr axis[] = {
        {.name = "axis", .type = TH_ONNX_INT, .i = 0}, {0}};
    return th_onnx_node(x, "Gather", (names){rows, which, NULL}, NULL, axis);
}

static struct th_onnx_name concat(
    struct th_onnx *x, const char *const *parts, int64_t along)
{
    const struct th_onnx_attr axis[] = {
        {.name = "axis", .type = TH_ONNX_INT, .i = along}, {0}};
    return th_onnx_node(x, "Concat", parts, NULL, axis);
}

static struct th_onnx_name whole(struct th_onnx *x, int64_t value)
{
    return th_onnx_i64(x, &value, 1);
}

/* Centres and extents of anchors [rows][4], as constants [rows][2]. */
static thaw_status write_anchors(
    struct th_onnx *x, const struct th_model *m, struct th_onnx_name at[2])
{
    const struct th_pyramid *p = &m->pyramid;
    size_t rows = (size_t)p->rows;
    const struct th_shape shape = TH_SHAPE(p->rows, 2);
    float *anchor = th_alloc(rows, 4 * sizeof *anchor);
    float *centre = th_alloc(rows, 2 * sizeof *centre);
    float *size = th_alloc(rows, 2 * sizeof *size);
    bool there = anchor && centre && size;
    if (there)
        m->head->detector->anchors(p, m->input.size, anchor);
    for (size_t i = 0; there && i < rows * 2; i++) {
        const float *a = anchor + i / 2 * 4 + i % 2;
        size[i] = a[2] - a[0];
        centre[i] = a[0] + size[i] / 2;
    }
    if (there) {
        at[0] = th_onnx_f32(x, "anchor_centres", &shape, centre);
        at[1] = th_onnx_f32(x, "anchor_sizes", &shape, size);
    }
    th_free(anchor);
    th_free(centre);
    th_free(size);
    return there ? THAW_OK : THAW_E_MEMORY;
}

/* No more than the input's extent in each axis. */
static struct th_onnx_name cut_far(
    struct th_onnx *x, const char *boxes, struct th_size size)
{
    const struct th_shape shape = TH_SHAPE(4);
    const float w = (float)size.w, h = (float)size.h, most[] = {w, h, w, h};
    if (size.w == size.h)
        return th_onnx_with(x, "Min", boxes, size.w);
    return th_onnx_binary(
        x, "Min", boxes, th_onnx_f32(x, "input_extent", &shape, most).text);
}

/* th_box_decode of every row, cut at the input's edges: [rows][4]. */
static thaw_status write_boxes(
    struct th_onnx *x, const struct th_model *m, struct th_onnx_name *boxes)
{
    struct th_onnx_name at[2], value, end[2], low, high;
    TRY(write_anchors(x, m, at));
    value =
        th_onnx_value(x, th_graph_find(x->graph, m->head->detector->output[0].name));
    value = th_onnx_reshape(x, value.text, NULL, (int64_t[]){m->pyramid.rows, 4}, 2);
    for (int i = 0; i < 2; i++)
        end[i] = th_onnx_slice(x, value.text, 1, 2 * i, 2);
    if (m->head->detector->code == TH_CODE_SIDES) {
        for (int i = 0; i < 2; i++)
            end[i] = th_onnx_binary(x, "Mul", end[i].text, at[1].text);
        low = th_onnx_binary(x, "Sub", at[0].text, end[0].text);
        high = th_onnx_binary(x, "Add", at[0].text, end[1].text);
    } else {
        struct th_onnx_name centre = th_onnx_binary(x, "Mul", end[0].text, at[1].text);
        centre = th_onnx_binary(x, "Add", at[0].text, centre.text);
        struct th_onnx_name half =
            th_onnx_with(x, "Min", end[1].text, (double)TH_BOX_MOST_LOG);
        half = th_onnx_unary(x, "Exp", half.text);
        half = th_onnx_binary(x, "Mul", half.text, at[1].text);
        half = th_onnx_with(x, "Div", half.text, 2);
        low = th_onnx_binary(x, "Sub", centre.text, half.text);
        high = th_onnx_binary(x, "Add", centre.text, half.text);
    }
    *boxes = concat(x, (names){low.text, high.text, NULL}, 1);
    *boxes = th_onnx_with(x, "Max", boxes->text, 0);
    *boxes = cut_far(x, boxes->text, m->input.size);
    return THAW_OK;
}

/* [1][rows][classes] */
static struct th_onnx_name write_scores(struct th_onnx *x, const struct th_model *m)
{
    const struct th_detector *d = m->head->detector;
    struct th_onnx_name scores =
        th_onnx_unary(x, "Sigmoid", th_onnx_value(x, x->logits).text);
    if (d->n_outputs < 2)
        return scores;
    struct th_onnx_name quality =
        th_onnx_value(x, th_graph_find(x->graph, d->output[1].name));
    quality = th_onnx_unary(x, "Sigmoid", quality.text);
    scores = th_onnx_binary(x, "Mul", scores.text, quality.text);
    return th_onnx_unary(x, "Sqrt", scores.text);
}

/* The best of a level, best first. */
static struct found write_level(
    struct th_onnx *x, const struct th_model *m, const struct found *all, int level)
{
    const struct th_pyramid *p = &m->pyramid;
    int64_t first = p->level[level].first, classes = m->n_classes;
    int64_t n = (level + 1 < p->n ? p->level[level + 1].first : p->rows) - first;
    int64_t top = m->head->detector->top;
    struct th_onnx_name best[2], scores, boxes, row, k = whole(x, classes);
    scores = th_onnx_slice(x, all->scores.text, 1, first, n);
    scores = th_onnx_reshape(x, scores.text, NULL, (int64_t[]){-1}, 1);
    boxes = th_onnx_slice(x, all->boxes.text, 0, first, n);
    struct th_onnx_name most = whole(x, n * classes < top ? n * classes : top);
    th_onnx_pair(x, "TopK", (names){scores.text, most.text, NULL}, best);
    row = th_onnx_binary(x, "Div", best[1].text, k.text);
    return (struct found){.boxes = gather(x, boxes.text, row.text),
        .scores = best[0],
        .classes = th_onnx_binary(x, "Mod", best[1].text, k.text)};
}

/* Those of all levels, level by level. */
static struct found write_levels(
    struct th_onnx *x, const struct th_model *m, const struct found *all)
{
    struct found level[TH_MAX_LEVELS];
    const char *parts[3][TH_MAX_LEVELS + 1] = {{0}};
    for (int i = 0; i < m->pyramid.n; i++) {
        level[i] = write_level(x, m, all, i);
        parts[0][i] = level[i].boxes.text;
        parts[1][i] = level[i].scores.text;
        parts[2][i] = level[i].classes.text;
    }
    return (struct found){
        concat(x, parts[0], 0), concat(x, parts[1], 0), concat(x, parts[2], 0)};
}

/* [1][classes][k]: a box's score in the row of its class, 0 in the others. */
static thaw_status write_by_class(struct th_onnx *x, const struct th_model *m,
    const struct found *f, struct th_onnx_name *scores)
{
    int64_t *number = th_alloc((size_t)m->n_classes, sizeof *number);
    if (!number)
        return THAW_E_MEMORY;
    for (int i = 0; i < m->n_classes; i++)
        number[i] = i;
    struct th_onnx_name own = th_onnx_i64(x, number, m->n_classes),
                        none = th_onnx_scalar(x, 0);
    th_free(number);
    own = th_onnx_reshape(x, own.text, NULL, (int64_t[]){m->n_classes, 1}, 2);
    own = th_onnx_binary(x, "Equal", f->classes.text, own.text);
    *scores = th_onnx_node(
        x, "Where", (names){own.text, f->scores.text, none.text, NULL}, NULL, NULL);
    *scores =
        th_onnx_reshape(x, scores->text, NULL, (int64_t[]){1, m->n_classes, -1}, 3);
    return THAW_OK;
}

/* Which of the boxes stay: suppression by class, then the best of all. */
static thaw_status write_kept(
    struct th_onnx *x, const struct th_model *m, const struct found *f, double score)
{
    const struct th_detector *d = m->head->detector;
    struct th_onnx_name scores, boxes, kept, best[2], number, most = whole(x, d->most),
                                                              two = whole(x, 2);
    const struct th_onnx_attr axis[] = {
        {.name = "axis", .type = TH_ONNX_INT, .i = 1}, {0}};
    TRY(write_by_class(x, m, f, &scores));
    boxes = th_onnx_reshape(x, f->boxes.text, NULL, (int64_t[]){1, -1, 4}, 3);
    struct th_onnx_name overlap = th_onnx_scalar(x, (double)d->overlap),
                        least = th_onnx_scalar(x, score);
    kept = th_onnx_node(x, "NonMaxSuppression",
        (names){boxes.text, scores.text, most.text, overlap.text, least.text, NULL},
        NULL, NULL);
    kept = th_onnx_node(x, "Gather", (names){kept.text, two.text, NULL}, NULL, axis);
    kept = th_onnx_reshape(x, kept.text, NULL, (int64_t[]){-1}, 1);
    scores = gather(x, f->scores.text, kept.text);
    number = th_onnx_unary(x, "Shape", scores.text);
    number = th_onnx_binary(x, "Min", number.text, most.text);
    th_onnx_pair(x, "TopK", (names){scores.text, number.text, NULL}, best);
    kept = gather(x, kept.text, best[1].text);
    th_onnx_node(x, "Gather", (names){f->boxes.text, kept.text, NULL}, "boxes", NULL);
    th_onnx_node(
        x, "Gather", (names){f->classes.text, kept.text, NULL}, "labels", NULL);
    th_onnx_node(x, "Identity", (names){best[0].text, NULL}, "scores", NULL);
    return x->proto->status;
}

thaw_status th_onnx_detections(
    struct th_onnx *x, const struct th_model *m, double score)
{
    struct found all = {.scores = write_scores(x, m)};
    TRY(write_boxes(x, m, &all.boxes));
    const struct found best = write_levels(x, m, &all);
    return write_kept(x, m, &best, score);
}
