/* SPDX-License-Identifier: Apache-2.0
 * Owns how ops become ONNX operators (onnx.ai/onnx/operators): a row an op. What OpenCV's
 * dnn reads as well is preferred where there is a choice. */
#include "mem.h"
#include "onnx_graph.h"

#include <math.h>
#include <string.h>

typedef const char *const names[]; /* (names){a, b, NULL} */

/* A node of the op's activations alone, in order. */
static thaw_status write_plain(struct th_onnx *x, const struct th_node *n,
    const char *op, const struct th_onnx_attr *attr)
{
    struct th_onnx_name a = th_onnx_value(x, n->in[0]), y = th_onnx_value(x, n->out[0]),
                        b = {""};
    bool two = n->in[1] >= 0;
    if (two)
        b = th_onnx_value(x, n->in[1]);
    th_onnx_node(x, op, (names){a.text, two ? b.text : NULL, NULL}, y.text, attr);
    return THAW_OK;
}

/* OP(x, constant) -> the node's output. */
static void write_with(struct th_onnx *x, const struct th_node *n, const char *op,
    struct th_onnx_name constant)
{
    struct th_onnx_name a = th_onnx_value(x, n->in[0]), y = th_onnx_value(x, n->out[0]);
    th_onnx_node(x, op, (names){a.text, constant.text, NULL}, y.text, NULL);
}

/* ---- Convolutions and BatchNorms ---- */

/* The BatchNorm that alone reads the convolution's output; NULL: none. */
static const struct th_node *norm_after(
    const struct th_onnx *x, const struct th_node *conv)
{
    const struct th_graph *g = x->graph;
    if (th_graph_readers(g, conv->out[0]) != 1)
        return NULL;
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op == TH_OP_batchnorm && g->nodes[i].in[0] == conv->out[0])
            return &g->nodes[i];
    return NULL;
}

/* factor = gamma / sqrt(var + eps), shift = beta - factor mean (Ioffe and Szegedy 2015,
 * algorithm 2): y = factor x + shift. Both [channels], for th_free. */
static thaw_status read_norm(
    const struct th_onnx *x, const struct th_node *norm, float **factor, float **shift)
{
    float *state[4] = {0}; /* gamma, beta, mean, var */
    thaw_status status = THAW_OK;
    for (int i = 0; i < 4 && status == THAW_OK; i++)
        status = th_onnx_read_state(x, norm->in[1 + i], &state[i]);
    struct th_shape shape = th_onnx_shape(x, norm->in[1]);
    for (int64_t c = 0; c < shape.dim[0] && status == THAW_OK; c++) {
        double f = (double)state[0][c] /
                   sqrt((double)state[3][c] + (double)norm->attr.norm.eps);
        state[1][c] = (float)((double)state[1][c] - f * (double)state[2][c]);
        state[0][c] = (float)f;
    }
    th_free(state[2]);
    th_free(state[3]);
    *factor = state[0];
    *shift = state[1];
    return status;
}

/* w[o] *= factor[o], b = factor b + shift. b NULL: shift becomes the bias. */
static thaw_status fold(const struct th_onnx *x, const struct th_node *norm,
    const struct th_shape *shape, float *w, float **b)
{
    float *factor = NULL, *shift = NULL;
    thaw_status status = read_norm(x, norm, &factor, &shift);
    int64_t filter = th_shape_count(shape) / shape->dim[0];
    for (int64_t o = 0; o < shape->dim[0] && status == THAW_OK; o++) {
        for (int64_t i = 0; i < filter; i++)
            w[o * filter + i] *= factor[o];
        if (*b)
            shift[o] += factor[o] * (*b)[o];
    }
    th_free(factor);
    th_free(*b);
    *b = shift;
    return status;
}

static thaw_status write_conv(struct th_onnx *x, const struct th_node *n)
{
    const struct th_attr_conv *a = &n->attr.conv;
    const struct th_node *norm = norm_after(x, n);
    struct th_shape shape = th_onnx_shape(x, n->in[1]),
                    channels = TH_SHAPE(shape.dim[0]);
    const int kernel[2] = {(int)shape.dim[2], (int)shape.dim[3]};
    const struct th_onnx_attr attr[] = {
        {.name = "kernel_shape", .type = TH_ONNX_INTS, .ints = kernel, .n = 2},
        {.name = "strides", .type = TH_ONNX_INTS, .ints = a->stride, .n = 2},
        {.name = "pads", .type = TH_ONNX_INTS, .ints = a->pad, .n = 4},
        {.name = "dilations", .type = TH_ONNX_INTS, .ints = a->dilation, .n = 2},
        {.name = "group", .type = TH_ONNX_INT, .i = a->groups}, {0}};
    float *w = NULL, *b = NULL;
    thaw_status status = th_onnx_read_state(x, n->in[1], &w);
    if (status == THAW_OK && n->in[2] >= 0)
        status = th_onnx_read_state(x, n->in[2], &b);
    if (status == THAW_OK && norm)
        status = fold(x, norm, &shape, w, &b);
    if (status == THAW_OK) {
        struct th_onnx_name in = th_onnx_value(x, n->in[0]),
                            out = th_onnx_value(x, norm ? norm->out[0] : n->out[0]),
                            cw = th_onnx_put_state(x, n->in[1], &shape, w), cb = {""};
        if (b)
            cb = th_onnx_f32(x, NULL, &channels, b);
        th_onnx_node(x, "Conv", (names){in.text, cw.text, b ? cb.text : NULL, NULL},
            out.text, attr);
    }
    th_free(w);
    th_free(b);
    return status;
}

/* One that no convolution took: BatchNormalization(x, gamma, beta, mean, var). */
static thaw_status write_batchnorm(struct th_onnx *x, const struct th_node *n)
{
    const struct th_onnx_attr attr[] = {
        {.name = "epsilon", .type = TH_ONNX_FLOAT, .f = n->attr.norm.eps}, {0}};
    const struct th_node *maker = th_graph_maker(x->graph, n->in[0]);
    struct th_onnx_name in = th_onnx_value(x, n->in[0]),
                        out = th_onnx_value(x, n->out[0]), c[4];
    if (maker && maker->op == TH_OP_conv && norm_after(x, maker) == n)
        return THAW_OK;
    for (int i = 0; i < 4; i++)
        TRY(th_onnx_state(x, n->in[1 + i], &c[i]));
    th_onnx_node(x, "BatchNormalization",
        (names){in.text, c[0].text, c[1].text, c[2].text, c[3].text, NULL}, out.text,
        attr);
    return THAW_OK;
}

/* y = x[:, :, ::stride, ::stride] between channels of zeros (option A of He et al. 2015,
 * section 4.2). */
static thaw_status write_shortcut(struct th_onnx *x, const struct th_node *n)
{
    const struct th_attr_shortcut *a = &n->attr.shortcut;
    struct th_shape in = th_onnx_shape(x, n->in[0]);
    const int64_t from[2] = {0, 0}, to[2] = {in.dim[2], in.dim[3]}, axes[2] = {2, 3},
                  steps[2] = {a->stride, a->stride},
                  pads[8] = {0, a->front, 0, 0, 0, a->back, 0, 0};
    struct th_onnx_name v = th_onnx_value(x, n->in[0]),
                        out = th_onnx_value(x, n->out[0]);
    struct th_onnx_name c[4] = {th_onnx_i64(x, from, 2), th_onnx_i64(x, to, 2),
        th_onnx_i64(x, axes, 2), th_onnx_i64(x, steps, 2)};
    v = th_onnx_node(x, "Slice",
        (names){v.text, c[0].text, c[1].text, c[2].text, c[3].text, NULL}, NULL, NULL);
    struct th_onnx_name p = th_onnx_i64(x, pads, 8);
    th_onnx_node(x, "Pad", (names){v.text, p.text, NULL}, out.text, NULL);
    return THAW_OK;
}

/* ---- Pooling ---- */

static thaw_status write_pool(
    struct th_onnx *x, const struct th_node *n, const char *op, bool counts_padding)
{
    const struct th_attr_pool *a = &n->attr.pool;
    const struct th_onnx_attr attr[] = {
        {.name = "kernel_shape", .type = TH_ONNX_INTS, .ints = a->kernel, .n = 2},
        {.name = "strides", .type = TH_ONNX_INTS, .ints = a->stride, .n = 2},
        {.name = "pads", .type = TH_ONNX_INTS, .ints = a->pad, .n = 4},
        {.name = counts_padding ? "count_include_pad" : NULL,
            .type = TH_ONNX_INT,
            .i = 1},
        {0}};
    return write_plain(x, n, op, attr);
}

static thaw_status write_maxpool(struct th_onnx *x, const struct th_node *n)
{
    return write_pool(x, n, "MaxPool", false);
}

static thaw_status write_avgpool(struct th_onnx *x, const struct th_node *n)
{
    return write_pool(x, n, "AveragePool", true);
}

/* [n][c][h][w] -> [n][c][1][1] -> [n][c] */
static thaw_status write_global(struct th_onnx *x, const struct th_node *n)
{
    const char *op = n->op == TH_OP_gmp ? "GlobalMaxPool" : "GlobalAveragePool";
    struct th_onnx_name in = th_onnx_value(x, n->in[0]);
    struct th_onnx_name y = th_onnx_node(x, op, (names){in.text, NULL}, NULL, NULL);
    th_onnx_node(
        x, "Flatten", (names){y.text, NULL}, th_onnx_value(x, n->out[0]).text, NULL);
    return THAW_OK;
}

/* ---- Elementwise ---- */

static thaw_status write_concat(struct th_onnx *x, const struct th_node *n)
{
    const struct th_onnx_attr axis[] = {
        {.name = "axis", .type = TH_ONNX_INT, .i = 1}, {0}};
    return write_plain(x, n, "Concat", axis);
}

static thaw_status write_relu(struct th_onnx *x, const struct th_node *n)
{
    return write_plain(x, n, "Relu", NULL);
}

static thaw_status write_add(struct th_onnx *x, const struct th_node *n)
{
    return write_plain(x, n, "Add", NULL);
}

static thaw_status write_scale(struct th_onnx *x, const struct th_node *n)
{
    write_with(x, n, "Mul", th_onnx_scalar(x, (double)n->attr.scale.factor));
    return THAW_OK;
}

static thaw_status write_layerscale(struct th_onnx *x, const struct th_node *n)
{
    struct th_onnx_name gamma;
    TRY(th_onnx_state(x, n->in[1], &gamma));
    write_with(x, n, "Mul", gamma);
    return THAW_OK;
}

static thaw_status write_view(struct th_onnx *x, const struct th_node *n)
{
    struct th_shape shape = th_onnx_shape(x, n->out[0]);
    struct th_onnx_name in = th_onnx_value(x, n->in[0]),
                        out = th_onnx_value(x, n->out[0]);
    th_onnx_reshape(x, in.text, out.text, shape.dim, shape.rank);
    return THAW_OK;
}

/* Formulas: kernels/act.c. x sigmoid(1.702 x), or half of x (1 + bend), bend being
 * erf(x / sqrt 2) or tanh(sqrt(2 / pi) (x + 0.044715 x^3)). */
static thaw_status write_gelu(struct th_onnx *x, const struct th_node *n)
{
    struct th_onnx_name in = th_onnx_value(x, n->in[0]),
                        out = th_onnx_value(x, n->out[0]);
    struct th_onnx_name y;
    if (n->attr.act.kind == TH_GELU_QUICK) {
        y = th_onnx_with(x, "Mul", in.text, 1.702);
        y = th_onnx_unary(x, "Sigmoid", y.text);
        th_onnx_node(x, "Mul", (names){in.text, y.text, NULL}, out.text, NULL);
        return THAW_OK;
    }
    if (n->attr.act.kind == TH_GELU_TANH) {
        y = th_onnx_node(x, "Mul", (names){in.text, in.text, NULL}, NULL, NULL);
        y = th_onnx_with(x, "Mul", y.text, 0.044715);
        y = th_onnx_with(x, "Add", y.text, 1);
        y = th_onnx_node(x, "Mul", (names){in.text, y.text, NULL}, NULL, NULL);
        y = th_onnx_with(x, "Mul", y.text, 0.79788456080286535588);
        y = th_onnx_unary(x, "Tanh", y.text);
    } else {
        y = th_onnx_with(x, "Div", in.text, 1.41421356237309504880);
        y = th_onnx_unary(x, "Erf", y.text);
    }
    y = th_onnx_with(x, "Add", y.text, 1);
    y = th_onnx_node(x, "Mul", (names){in.text, y.text, NULL}, NULL, NULL);
    struct th_onnx_name half = th_onnx_scalar(x, 0.5);
    th_onnx_node(x, "Mul", (names){y.text, half.text, NULL}, out.text, NULL);
    return THAW_OK;
}

/* ---- Transformers ---- */

static thaw_status write_layernorm(struct th_onnx *x, const struct th_node *n)
{
    const struct th_onnx_attr attr[] = {{.name = "axis", .type = TH_ONNX_INT, .i = -1},
        {.name = "epsilon", .type = TH_ONNX_FLOAT, .f = n->attr.norm.eps}, {0}};
    struct th_onnx_name in = th_onnx_value(x, n->in[0]),
                        out = th_onnx_value(x, n->out[0]), gamma, beta;
    TRY(th_onnx_state(x, n->in[1], &gamma));
    TRY(th_onnx_state(x, n->in[2], &beta));
    th_onnx_node(x, "LayerNormalization", (names){in.text, gamma.text, beta.text, NULL},
        out.text, attr);
    return THAW_OK;
}

/* w [o][i] as [i][o], for MatMul, which cannot transpose. */
static thaw_status write_transposed(
    struct th_onnx *x, int value, struct th_onnx_name *constant)
{
    float *w = NULL;
    struct th_shape s = th_onnx_shape(x, value), t = TH_SHAPE(s.dim[1], s.dim[0]);
    TRY(th_onnx_read_state(x, value, &w));
    float *to = th_alloc((size_t)th_shape_count(&s), sizeof *to);
    for (int64_t o = 0; to && o < s.dim[0]; o++)
        for (int64_t i = 0; i < s.dim[1]; i++)
            to[i * s.dim[0] + o] = w[o * s.dim[1] + i];
    if (to)
        *constant = th_onnx_put_state(x, value, &t, to);
    th_free(w);
    th_free(to);
    return to ? THAW_OK : THAW_E_MEMORY;
}

static const double LEAST_NORM = 1e-12; /* kernels/norm.c */

/* Weights of unit rows are a constant under the name of what is made of them. */
static thaw_status write_unit_weights(struct th_onnx *x, const struct th_node *n)
{
    float *w = NULL;
    struct th_shape s = th_onnx_shape(x, n->in[0]);
    TRY(th_onnx_read_state(x, n->in[0], &w));
    for (int64_t r = 0, k = s.dim[1]; r < s.dim[0]; r++) {
        double sum = 0;
        for (int64_t i = r * k; i < (r + 1) * k; i++)
            sum += (double)w[i] * (double)w[i];
        for (int64_t i = r * k; i < (r + 1) * k; i++)
            w[i] = (float)((double)w[i] / fmax(sqrt(sum), LEAST_NORM));
    }
    th_onnx_f32(x, th_onnx_value(x, n->out[0]).text, &s, w);
    th_free(w);
    return THAW_OK;
}

/* scale x / max(||x||, eps) */
static thaw_status write_l2norm(struct th_onnx *x, const struct th_node *n)
{
    const struct th_onnx_attr rows[] = {
        {.name = "axes", .type = TH_ONNX_INTS, .ints = (int[]){1}, .n = 1}, {0}};
    if (x->graph->values[n->in[0]].kind == TH_VALUE_STATE)
        return write_unit_weights(x, n);
    struct th_onnx_name in = th_onnx_value(x, n->in[0]), scale;
    TRY(th_onnx_state(x, n->in[1], &scale));
    struct th_onnx_name y =
        th_onnx_node(x, "ReduceL2", (names){in.text, NULL}, NULL, rows);
    y = th_onnx_with(x, "Max", y.text, LEAST_NORM);
    y = th_onnx_node(x, "Div", (names){in.text, y.text, NULL}, NULL, NULL);
    th_onnx_node(x, "Mul", (names){y.text, scale.text, NULL},
        th_onnx_value(x, n->out[0]).text, NULL);
    return THAW_OK;
}

/* Gemm takes matrices alone; tokens [n][t][i] go through MatMul and Add. */
static thaw_status write_linear(struct th_onnx *x, const struct th_node *n)
{
    const struct th_onnx_attr attr[] = {
        {.name = "transB", .type = TH_ONNX_INT, .i = 1}, {0}};
    struct th_onnx_name in = th_onnx_value(x, n->in[0]),
                        out = th_onnx_value(x, n->out[0]), w, b = {""}, y;
    bool bias = n->in[2] >= 0, matrix = th_onnx_shape(x, n->in[0]).rank == 2;
    if (bias)
        TRY(th_onnx_state(x, n->in[2], &b));
    if (matrix) {
        w = th_onnx_value(x, n->in[1]);
        if (x->graph->values[n->in[1]].kind == TH_VALUE_STATE)
            TRY(th_onnx_state(x, n->in[1], &w));
        th_onnx_node(x, "Gemm", (names){in.text, w.text, bias ? b.text : NULL, NULL},
            out.text, attr);
        return THAW_OK;
    }
    TRY(write_transposed(x, n->in[1], &w));
    y = th_onnx_node(
        x, "MatMul", (names){in.text, w.text, NULL}, bias ? NULL : out.text, NULL);
    if (bias)
        th_onnx_node(x, "Add", (names){y.text, b.text, NULL}, out.text, NULL);
    return THAW_OK;
}

/* Part 0, 1, 2 (q, k, v) of qkv [n][t][3d] as [n][heads][t][e], of k [n][heads][e][t]. */
static struct th_onnx_name write_part(
    struct th_onnx *x, const struct th_node *n, int part)
{
    struct th_shape s = th_onnx_shape(x, n->in[0]);
    int64_t d = s.dim[2] / 3, heads = n->attr.attention.heads;
    struct th_onnx_name in = th_onnx_value(x, n->in[0]);
    struct th_onnx_name y = th_onnx_slice(x, in.text, 2, part * d, d);
    y = th_onnx_reshape(
        x, y.text, NULL, (int64_t[]){s.dim[0], s.dim[1], heads, d / heads}, 4);
    const int plain[4] = {0, 2, 1, 3}, turned[4] = {0, 2, 3, 1};
    return th_onnx_transpose(x, y.text, NULL, part == 1 ? turned : plain, 4);
}

/* softmax(q k^T / sqrt e) v (kernels/attention.c). */
static thaw_status write_attention(struct th_onnx *x, const struct th_node *n)
{
    const struct th_onnx_attr last[] = {
        {.name = "axis", .type = TH_ONNX_INT, .i = -1}, {0}};
    struct th_shape s = th_onnx_shape(x, n->out[0]);
    double e = (double)s.dim[2] / n->attr.attention.heads;
    struct th_onnx_name out = th_onnx_value(x, n->out[0]);
    struct th_onnx_name q = write_part(x, n, 0), k = write_part(x, n, 1),
                        v = write_part(x, n, 2);
    q = th_onnx_with(x, "Mul", q.text, 1 / sqrt(e));
    struct th_onnx_name p =
        th_onnx_node(x, "MatMul", (names){q.text, k.text, NULL}, NULL, NULL);
    p = th_onnx_node(x, "Softmax", (names){p.text, NULL}, NULL, last);
    p = th_onnx_node(x, "MatMul", (names){p.text, v.text, NULL}, NULL, NULL);
    p = th_onnx_transpose(x, p.text, NULL, (int[]){0, 2, 1, 3}, 4);
    th_onnx_reshape(x, p.text, out.text, s.dim, s.rank);
    return THAW_OK;
}

/* A token [1][m][d] once for each of n images, as a constant [n][m][d]. */
static thaw_status write_token(
    struct th_onnx *x, int value, int64_t n, struct th_onnx_name *constant)
{
    float *one = NULL;
    struct th_shape s = th_onnx_shape(x, value);
    size_t count = (size_t)th_shape_count(&s);
    TRY(th_onnx_read_state(x, value, &one));
    float *all = th_alloc((size_t)n * count, sizeof *all);
    for (int64_t i = 0; all && i < n; i++)
        memcpy(all + (size_t)i * count, one, count * sizeof *all);
    s.dim[0] = n;
    if (all)
        *constant = th_onnx_put_state(x, value, &s, all);
    th_free(one);
    th_free(all);
    return all ? THAW_OK : THAW_E_MEMORY;
}

/* y = cat(cls, more, patches) + pos, or cat(cls, more, patches + pos) where there are
 * positions for the patches alone (kernels/token.c). */
static thaw_status write_tokens(struct th_onnx *x, const struct th_node *n)
{
    enum { CLS = 1, MORE, POS };
    const struct th_onnx_attr axis[] = {
        {.name = "axis", .type = TH_ONNX_INT, .i = 1}, {0}};
    struct th_shape s = th_onnx_shape(x, n->in[0]), y = th_onnx_shape(x, n->out[0]);
    int64_t patches = s.dim[2] * s.dim[3];
    struct th_onnx_name v = th_onnx_value(x, n->in[0]),
                        out = th_onnx_value(x, n->out[0]), part[2], pos;
    const char *parts[4] = {0};
    int k = 0;
    bool pos_first = n->in[POS] >= 0 && th_onnx_shape(x, n->in[POS]).dim[1] != y.dim[1];
    bool pos_last = n->in[POS] >= 0 && !pos_first;
    bool joined = n->in[CLS] >= 0 || n->in[MORE] >= 0;
    if (n->in[POS] >= 0)
        TRY(th_onnx_state(x, n->in[POS], &pos));
    v = th_onnx_reshape(x, v.text, NULL, (int64_t[]){s.dim[0], s.dim[1], patches}, 3);
    bool ends = !joined && n->in[POS] < 0;
    v = th_onnx_transpose(x, v.text, ends ? out.text : NULL, (int[]){0, 2, 1}, 3);
    if (pos_first)
        v = th_onnx_node(x, "Add", (names){v.text, pos.text, NULL}, NULL, NULL);
    for (int i = CLS; i <= MORE; i++)
        if (n->in[i] >= 0) {
            TRY(write_token(x, n->in[i], s.dim[0], &part[k]));
            parts[k] = part[k].text;
            k++;
        }
    parts[k] = v.text;
    struct th_onnx_name all = v;
    if (joined)
        all = th_onnx_node(x, "Concat", parts, pos_last ? NULL : out.text, axis);
    if (pos_last)
        th_onnx_node(x, "Add", (names){all.text, pos.text, NULL}, out.text, NULL);
    return THAW_OK;
}

/* [n][t][d] -> [n][d], the mean of some tokens. */
static thaw_status write_token_mean(struct th_onnx *x, const struct th_node *n)
{
    const struct th_attr_token *a = &n->attr.token;
    const struct th_onnx_attr attr[] = {
        {.name = "axes", .type = TH_ONNX_INTS, .ints = (int[]){1}, .n = 1},
        {.name = "keepdims", .type = TH_ONNX_INT, .i = 0}, {0}};
    struct th_onnx_name in = th_onnx_value(x, n->in[0]),
                        out = th_onnx_value(x, n->out[0]);
    struct th_onnx_name y = th_onnx_slice(x, in.text, 1, a->first, a->count);
    th_onnx_node(x, "ReduceMean", (names){y.text, NULL}, out.text, attr);
    return THAW_OK;
}

/* ---- The table ---- */

static thaw_status (*const rows[TH_OP_COUNT])(
    struct th_onnx *x, const struct th_node *n) = {
    [TH_OP_conv] = write_conv,
    [TH_OP_batchnorm] = write_batchnorm,
    [TH_OP_shortcut_a] = write_shortcut,
    [TH_OP_maxpool] = write_maxpool,
    [TH_OP_avgpool] = write_avgpool,
    [TH_OP_gap] = write_global,
    [TH_OP_gmp] = write_global,
    [TH_OP_concat] = write_concat,
    [TH_OP_l2norm] = write_l2norm,
    [TH_OP_relu] = write_relu,
    [TH_OP_gelu] = write_gelu,
    [TH_OP_add] = write_add,
    [TH_OP_scale] = write_scale,
    [TH_OP_layerscale] = write_layerscale,
    [TH_OP_view] = write_view,
    [TH_OP_layernorm] = write_layernorm,
    [TH_OP_linear] = write_linear,
    [TH_OP_attention] = write_attention,
    [TH_OP_tokens] = write_tokens,
    [TH_OP_token_mean] = write_token_mean,
    [TH_OP_groupnorm] = th_onnx_groupnorm,
    [TH_OP_upsample] = th_onnx_upsample,
    [TH_OP_map_rows] = th_onnx_map_rows,
};

thaw_status th_onnx_walk(struct th_onnx *x)
{
    for (int i = 0; i < x->graph->n_nodes; i++) {
        const struct th_node *n = &x->graph->nodes[i];
        if (!rows[n->op])
            return th_fail(THAW_E_USAGE,
                "ONNX: the op '%s' (%s) has no counterpart: this network cannot be "
                "exported; write .h5 or .safetensors",
                th_op_rule(n->op)->name, n->name ? n->name : "unnamed");
        TRY(rows[n->op](x, n));
        TRY(x->proto->status);
    }
    return THAW_OK;
}
