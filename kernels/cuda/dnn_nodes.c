/* SPDX-License-Identifier: Apache-2.0
 * Owns the nodes of a graph: each constructor checks that its tensors fit, then notes the
 * attributes of one operation descriptor. What the attributes mean is in the comments of
 * cudnn_graph_v9.h as NVIDIA ships it with cuDNN 9.26. */
#include "dnn_nodes.h"

#include <string.h>

#define ATTR(name) CUDNN_ATTR_##name

/* ---- writing a node down ---- */

static struct th_cudnn_setting *setting(struct th_cudnn_node *n,
    cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type)
{
    struct th_cudnn_setting *s = &n->settings[n->n_settings++];
    *s = (struct th_cudnn_setting){.name = name, .type = type, .n = 1};
    return s;
}

/* Inputs first: th_cudnn_node.n_in counts those among the tensors. */
static void input(struct th_cudnn_node *n, cudnnBackendAttributeName_t name, int tensor)
{
    setting(n, name, CUDNN_TYPE_BACKEND_DESCRIPTOR)->value.e = tensor;
    n->n_in++;
}

static void output(
    struct th_cudnn_node *n, cudnnBackendAttributeName_t name, int tensor)
{
    if (tensor >= 0)
        setting(n, name, CUDNN_TYPE_BACKEND_DESCRIPTOR)->value.e = tensor;
}

static void word(struct th_cudnn_node *n, cudnnBackendAttributeName_t name,
    cudnnBackendAttributeType_t type, int value)
{
    setting(n, name, type)->value.e = value;
}

static void number(
    struct th_cudnn_node *n, cudnnBackendAttributeName_t name, float value)
{
    setting(n, name, CUDNN_TYPE_FLOAT)->value.f = value;
}

static void inner_word(struct th_cudnn_node *n, cudnnBackendAttributeName_t name,
    cudnnBackendAttributeType_t type, int value)
{
    word(n, name, type, value);
    n->settings[n->n_settings - 1].inner = true;
}

static void inner_pair(struct th_cudnn_node *n, cudnnBackendAttributeName_t name,
    const int64_t *v, int count)
{
    struct th_cudnn_setting *s = setting(n, name, CUDNN_TYPE_INT64);
    s->inner = true;
    s->n = count;
    memcpy(s->value.i, v, (size_t)count * sizeof *v);
}

static struct th_cudnn_node with_inner(const char *name,
    cudnnBackendDescriptorType_t type, cudnnBackendDescriptorType_t inner,
    cudnnBackendAttributeName_t at)
{
    return (struct th_cudnn_node){
        .name = name, .type = type, .has_inner = true, .inner = inner, .inner_at = at};
}

static int add_node(struct th_cudnn_graph *g, const struct th_cudnn_node *n, int out)
{
    if (g->n_nodes == TH_CUDNN_NODES)
        return th_cudnn_fail(g, n->name, NULL, 0, "the graph has no room for a node");
    g->nodes[g->n_nodes++] = *n;
    return out;
}

/* ---- what fits ---- */

/* Whether a node cannot be added: the graph has failed, or a tensor does not exist. */
static bool stopped(
    struct th_cudnn_graph *g, const char *node, const int *tensors, int n)
{
    for (int i = 0; i < n && g->status == THAW_OK; i++)
        if (tensors[i] < 0 || tensors[i] >= g->n_tensors)
            th_cudnn_fail(g, node, tensors, n, "a tensor is missing");
    return g->status != THAW_OK;
}

static const int64_t *dim_of(const struct th_cudnn_graph *g, int tensor)
{
    return g->tensors[tensor].dim;
}

static bool same_shape(const struct th_cudnn_graph *g, int a, int b)
{
    return g->tensors[a].rank == g->tensors[b].rank &&
           memcmp(dim_of(g, a), dim_of(g, b),
               (size_t)g->tensors[a].rank * sizeof(int64_t)) == 0;
}

/* Whether small broadcasts to large. */
static bool broadcasts(const struct th_cudnn_graph *g, int small, int large)
{
    const struct th_cudnn_tensor *s = &g->tensors[small], *l = &g->tensors[large];
    if (s->kind == TH_CUDNN_SCALAR)
        return true;
    bool good = s->rank == l->rank;
    for (int i = 0; good && i < s->rank; i++)
        good = s->dim[i] == l->dim[i] || s->dim[i] == 1;
    return good;
}

/* ---- convolution ---- */

enum { X, W, Y }; /* of the forward convolution, whichever way it is taken */

/* One of the three ways: which of x, w and y it makes, and its attributes. */
struct conv_form {
    const char *name;
    cudnnBackendDescriptorType_t type;
    int makes;
    cudnnBackendAttributeName_t window, at[3], alpha, beta;
};

static const struct conv_form forward = {"conv",
    CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, Y,
    ATTR(OPERATION_CONVOLUTION_FORWARD_CONV_DESC),
    {ATTR(OPERATION_CONVOLUTION_FORWARD_X), ATTR(OPERATION_CONVOLUTION_FORWARD_W),
        ATTR(OPERATION_CONVOLUTION_FORWARD_Y)},
    ATTR(OPERATION_CONVOLUTION_FORWARD_ALPHA),
    ATTR(OPERATION_CONVOLUTION_FORWARD_BETA)};
static const struct conv_form backward_data = {"conv_dx",
    CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, X,
    ATTR(OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC),
    {ATTR(OPERATION_CONVOLUTION_BWD_DATA_DX), ATTR(OPERATION_CONVOLUTION_BWD_DATA_W),
        ATTR(OPERATION_CONVOLUTION_BWD_DATA_DY)},
    ATTR(OPERATION_CONVOLUTION_BWD_DATA_ALPHA),
    ATTR(OPERATION_CONVOLUTION_BWD_DATA_BETA)};
static const struct conv_form backward_filter = {"conv_dw",
    CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, W,
    ATTR(OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC),
    {ATTR(OPERATION_CONVOLUTION_BWD_FILTER_X),
        ATTR(OPERATION_CONVOLUTION_BWD_FILTER_DW),
        ATTR(OPERATION_CONVOLUTION_BWD_FILTER_DY)},
    ATTR(OPERATION_CONVOLUTION_BWD_FILTER_ALPHA),
    ATTR(OPERATION_CONVOLUTION_BWD_FILTER_BETA)};

static bool slides(const struct th_cudnn_window *v, int axis, int64_t size,
    int64_t kernel, int64_t outputs)
{
    int64_t room = size + v->before[axis] + v->after[axis] -
                   (v->dilation[axis] * (kernel - 1) + 1);
    return v->stride[axis] >= 1 && v->dilation[axis] >= 1 && v->before[axis] >= 0 &&
           v->after[axis] >= 0 && room >= 0 && room / v->stride[axis] + 1 == outputs;
}

/* Why x, w and y are no convolution; NULL: they are. */
static const char *misfit(const struct th_cudnn_graph *g,
    const struct th_cudnn_window *v, const struct conv_form *f, const int t[3])
{
    for (int i = 0; i < 3; i++)
        if (g->tensors[t[i]].rank != 4)
            return "x, w and y have to be of rank 4";
    const int64_t *x = dim_of(g, t[X]), *w = dim_of(g, t[W]), *y = dim_of(g, t[Y]);
    if (v->groups < 1 || w[1] * v->groups != x[1] || w[0] % v->groups != 0 ||
        w[0] != y[1] || x[0] != y[0])
        return "w has to be [channels of y][channels of x / groups][h][w], the batch "
               "of x "
               "and y the same";
    if (!slides(v, 0, x[2], w[2], y[2]) || !slides(v, 1, x[3], w[3], y[3]))
        return "stride, dilation and padding do not make the rows and columns of y";
    int a = t[(f->makes + 1) % 3], b = t[(f->makes + 2) % 3]; /* the inputs */
    return g->tensors[a].type == g->tensors[b].type
               ? NULL
               : "the inputs are of different types";
}

static void slide(struct th_cudnn_node *n, const struct th_cudnn_window *v)
{
    inner_pair(n, ATTR(CONVOLUTION_SPATIAL_DIMS), (int64_t[]){2}, 1);
    inner_word(n, ATTR(CONVOLUTION_COMP_TYPE), CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    inner_word(n, ATTR(CONVOLUTION_CONV_MODE), CUDNN_TYPE_CONVOLUTION_MODE,
        CUDNN_CROSS_CORRELATION);
    inner_pair(n, ATTR(CONVOLUTION_PRE_PADDINGS), v->before, 2);
    inner_pair(n, ATTR(CONVOLUTION_POST_PADDINGS), v->after, 2);
    inner_pair(n, ATTR(CONVOLUTION_DILATIONS), v->dilation, 2);
    inner_pair(n, ATTR(CONVOLUTION_FILTER_STRIDES), v->stride, 2);
}

static int conv_node(struct th_cudnn_graph *g, const struct th_cudnn_window *v,
    const struct conv_form *f, const int t[3])
{
    if (stopped(g, f->name, t, 3))
        return -1;
    const char *why = misfit(g, v, f, t);
    if (why)
        return th_cudnn_fail(g, f->name, t, 3, why);
    struct th_cudnn_node n =
        with_inner(f->name, f->type, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, f->window);
    for (int i = 0; i < 3; i++)
        if (i != f->makes)
            input(&n, f->at[i], t[i]);
    output(&n, f->at[f->makes], t[f->makes]);
    number(&n, f->alpha, 1.0F);
    number(&n, f->beta, 0.0F);
    slide(&n, v);
    return add_node(g, &n, t[f->makes]);
}

int th_cudnn_conv(
    struct th_cudnn_graph *g, const struct th_cudnn_window *window, int x, int w, int y)
{
    return conv_node(g, window, &forward, (int[]){x, w, y});
}

int th_cudnn_conv_dx(struct th_cudnn_graph *g, const struct th_cudnn_window *window,
    int dy, int w, int dx)
{
    return conv_node(g, window, &backward_data, (int[]){dx, w, dy});
}

int th_cudnn_conv_dw(struct th_cudnn_graph *g, const struct th_cudnn_window *window,
    int x, int dy, int dw)
{
    return conv_node(g, window, &backward_filter, (int[]){x, dw, dy});
}

/* ---- pointwise, reduction, matrix product, reshape ---- */

static struct th_cudnn_node pointwise_node(cudnnPointwiseMode_t mode)
{
    struct th_cudnn_node n = with_inner("pointwise",
        CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR,
        CUDNN_BACKEND_POINTWISE_DESCRIPTOR, ATTR(OPERATION_POINTWISE_PW_DESCRIPTOR));
    inner_word(&n, ATTR(POINTWISE_MODE), CUDNN_TYPE_POINTWISE_MODE, (int)mode);
    inner_word(&n, ATTR(POINTWISE_MATH_PREC), CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    return n;
}

int th_cudnn_pointwise(
    struct th_cudnn_graph *g, cudnnPointwiseMode_t mode, int x, int b, int y)
{
    struct th_cudnn_node n = pointwise_node(mode);
    if (y < 0 && x >= 0) /* x may be the one that is broadcast */
        y = th_cudnn_virtual(g, CUDNN_DATA_FLOAT,
            b >= 0 && g->status == THAW_OK && broadcasts(g, x, b) ? b : x);
    const int all[3] = {x, b >= 0 ? b : x, y};
    if (stopped(g, n.name, all, 3))
        return -1;
    if (!broadcasts(g, all[0], y) || !broadcasts(g, all[1], y))
        return th_cudnn_fail(
            g, n.name, all, 3, "inputs do not broadcast to the output");
    input(&n, ATTR(OPERATION_POINTWISE_XDESC), x);
    if (b >= 0)
        input(&n, ATTR(OPERATION_POINTWISE_BDESC), b);
    output(&n, ATTR(OPERATION_POINTWISE_YDESC), y);
    return add_node(g, &n, y);
}

int th_cudnn_pointwise_dx(
    struct th_cudnn_graph *g, cudnnPointwiseMode_t mode, int dy, int x, int dx)
{
    struct th_cudnn_node n = pointwise_node(mode);
    n.name = "pointwise_dx";
    if (dx < 0)
        dx = th_cudnn_virtual(g, CUDNN_DATA_FLOAT, dy);
    const int all[3] = {dy, x, dx};
    if (stopped(g, n.name, all, 3))
        return -1;
    if (!same_shape(g, dy, x) || !same_shape(g, x, dx))
        return th_cudnn_fail(g, n.name, all, 3, "dy, x and dx have to be alike");
    input(&n, ATTR(OPERATION_POINTWISE_XDESC), x);
    input(&n, ATTR(OPERATION_POINTWISE_DYDESC), dy);
    output(&n, ATTR(OPERATION_POINTWISE_DXDESC), dx);
    return add_node(g, &n, dx);
}

int th_cudnn_reduce(struct th_cudnn_graph *g, cudnnReduceTensorOp_t op, int x, int y)
{
    struct th_cudnn_node n =
        with_inner("reduce", CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR,
            CUDNN_BACKEND_REDUCTION_DESCRIPTOR, ATTR(OPERATION_REDUCTION_DESC));
    const int all[2] = {x, y};
    if (stopped(g, n.name, all, 2))
        return -1;
    if (!broadcasts(g, y, x))
        return th_cudnn_fail(
            g, n.name, all, 2, "each axis of the output has the extent of x, or 1");
    inner_word(
        &n, ATTR(REDUCTION_OPERATOR), CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, (int)op);
    inner_word(&n, ATTR(REDUCTION_COMP_TYPE), CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    input(&n, ATTR(OPERATION_REDUCTION_XDESC), x);
    output(&n, ATTR(OPERATION_REDUCTION_YDESC), y);
    return add_node(g, &n, y);
}

/* [batch...][m][k] by [batch...][k][n] */
static bool multiplies(const struct th_cudnn_graph *g, int a, int b)
{
    int rank = g->tensors[a].rank;
    const int64_t *da = dim_of(g, a), *db = dim_of(g, b);
    bool good = rank >= 3 && g->tensors[b].rank == rank && da[rank - 1] == db[rank - 2];
    for (int i = 0; good && i < rank - 2; i++)
        good = da[i] == db[i];
    return good;
}

int th_cudnn_matmul(struct th_cudnn_graph *g, int a, int b, int c)
{
    struct th_cudnn_node n =
        with_inner("matmul", CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR,
            CUDNN_BACKEND_MATMUL_DESCRIPTOR, ATTR(OPERATION_MATMUL_DESC));
    if (stopped(g, n.name, (int[]){a, b}, 2))
        return -1;
    if (!multiplies(g, a, b))
        return th_cudnn_fail(g, n.name, (int[]){a, b}, 2,
            "of rank 3 or 4, the columns of the first have to be the rows of the "
            "second, "
            "what is before them the same");
    int rank = g->tensors[a].rank;
    int64_t dim[TH_CUDNN_RANK];
    memcpy(dim, dim_of(g, a), sizeof dim);
    dim[rank - 1] = dim_of(g, b)[rank - 1];
    if (c < 0)
        c = th_cudnn_virtual_dense(g, CUDNN_DATA_FLOAT, rank, dim);
    const int all[3] = {a, b, c};
    if (stopped(g, n.name, all, 3))
        return -1;
    if (g->tensors[c].rank != rank ||
        memcmp(dim, dim_of(g, c), (size_t)rank * sizeof *dim) != 0)
        return th_cudnn_fail(g, n.name, all, 3, "the product has another shape");
    inner_word(&n, ATTR(MATMUL_COMP_TYPE), CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    input(&n, ATTR(OPERATION_MATMUL_ADESC), a);
    input(&n, ATTR(OPERATION_MATMUL_BDESC), b);
    output(&n, ATTR(OPERATION_MATMUL_CDESC), c);
    return add_node(g, &n, c);
}

int th_cudnn_reshape(struct th_cudnn_graph *g, int x, int y)
{
    struct th_cudnn_node n = {
        .name = "reshape", .type = CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR};
    const int all[2] = {x, y};
    if (stopped(g, n.name, all, 2))
        return -1;
    int64_t count[2] = {1, 1};
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < g->tensors[all[k]].rank; i++)
            count[k] *= dim_of(g, all[k])[i];
    if (count[0] != count[1])
        return th_cudnn_fail(g, n.name, all, 2, "as many values on both sides");
    input(&n, ATTR(OPERATION_RESHAPE_XDESC), x);
    output(&n, ATTR(OPERATION_RESHAPE_YDESC), y);
    return add_node(g, &n, y);
}

/* ---- pooling ---- */

static void resample(
    struct th_cudnn_node *n, cudnnResampleMode_t mode, const struct th_cudnn_window *v)
{
    bool max = mode == CUDNN_RESAMPLE_MAXPOOL;
    inner_word(n, ATTR(RESAMPLE_MODE), CUDNN_TYPE_RESAMPLE_MODE, (int)mode);
    inner_word(n, ATTR(RESAMPLE_COMP_TYPE), CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    inner_word(n, ATTR(RESAMPLE_PADDING_MODE), CUDNN_TYPE_PADDING_MODE,
        max ? CUDNN_NEG_INF_PAD : CUDNN_ZERO_PAD);
    inner_pair(n, ATTR(RESAMPLE_SPATIAL_DIMS), (int64_t[]){2}, 1);
    inner_pair(n, ATTR(RESAMPLE_WINDOW_DIMS), v->size, 2);
    inner_pair(n, ATTR(RESAMPLE_STRIDES), v->stride, 2);
    inner_pair(n, ATTR(RESAMPLE_PRE_PADDINGS), v->before, 2);
    inner_pair(n, ATTR(RESAMPLE_POST_PADDINGS), v->after, 2);
}

/* x and y of the forward pass; an index is like y. */
static bool pools(struct th_cudnn_graph *g, const char *node,
    const struct th_cudnn_window *v, int x, int y, int index)
{
    const int all[3] = {x, y, index >= 0 ? index : y};
    struct th_cudnn_window plain = *v;
    plain.dilation[0] = plain.dilation[1] = 1;
    if (stopped(g, node, all, 3))
        return false;
    const int64_t *dx = dim_of(g, x), *dy = dim_of(g, y);
    bool good = g->tensors[x].rank == 4 && g->tensors[y].rank == 4 && dx[0] == dy[0] &&
                dx[1] == dy[1] && same_shape(g, y, all[2]) &&
                slides(&plain, 0, dx[2], v->size[0], dy[2]) &&
                slides(&plain, 1, dx[3], v->size[1], dy[3]);
    if (!good)
        th_cudnn_fail(g, node, all, 3, "the window does not make one of the other");
    return good;
}

int th_cudnn_pool(struct th_cudnn_graph *g, cudnnResampleMode_t mode,
    const struct th_cudnn_window *window, int x, int y, int index)
{
    struct th_cudnn_node n =
        with_inner("pool", CUDNN_BACKEND_OPERATION_RESAMPLE_FWD_DESCRIPTOR,
            CUDNN_BACKEND_RESAMPLE_DESCRIPTOR, ATTR(OPERATION_RESAMPLE_FWD_DESC));
    if (!pools(g, n.name, window, x, y, index))
        return -1;
    resample(&n, mode, window);
    input(&n, ATTR(OPERATION_RESAMPLE_FWD_XDESC), x);
    output(&n, ATTR(OPERATION_RESAMPLE_FWD_YDESC), y);
    output(&n, ATTR(OPERATION_RESAMPLE_FWD_IDXDESC), index);
    return add_node(g, &n, y);
}

int th_cudnn_pool_dx(struct th_cudnn_graph *g, cudnnResampleMode_t mode,
    const struct th_cudnn_window *window, int dy, int dx, int index)
{
    struct th_cudnn_node n =
        with_inner("pool_dx", CUDNN_BACKEND_OPERATION_RESAMPLE_BWD_DESCRIPTOR,
            CUDNN_BACKEND_RESAMPLE_DESCRIPTOR, ATTR(OPERATION_RESAMPLE_BWD_DESC));
    if (!pools(g, n.name, window, dx, dy, index))
        return -1;
    resample(&n, mode, window);
    input(&n, ATTR(OPERATION_RESAMPLE_BWD_DYDESC), dy);
    if (index >= 0)
        input(&n, ATTR(OPERATION_RESAMPLE_BWD_IDXDESC), index);
    output(&n, ATTR(OPERATION_RESAMPLE_BWD_DXDESC), dx);
    return add_node(g, &n, dx);
}

/* ---- normalisation ---- */

int th_cudnn_norm_fwd(struct th_cudnn_graph *g, const struct th_cudnn_norm *m)
{
    struct th_cudnn_node n = {
        .name = "norm", .type = CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR};
    const int all[] = {m->x, m->gamma, m->beta, m->eps, m->mean, m->rstd, m->y};
    if (stopped(g, n.name, all, 7))
        return -1;
    if (!same_shape(g, m->x, m->y) || !same_shape(g, m->mean, m->rstd) ||
        !same_shape(g, m->gamma, m->beta) || !broadcasts(g, m->gamma, m->x) ||
        !broadcasts(g, m->mean, m->x))
        return th_cudnn_fail(g, n.name, all, 7, "the shapes do not fit x");
    word(&n, ATTR(OPERATION_NORM_FWD_MODE), CUDNN_TYPE_NORM_MODE, (int)m->mode);
    word(&n, ATTR(OPERATION_NORM_FWD_PHASE), CUDNN_TYPE_NORM_FWD_PHASE,
        CUDNN_NORM_FWD_TRAINING);
    input(&n, ATTR(OPERATION_NORM_FWD_XDESC), m->x);
    input(&n, ATTR(OPERATION_NORM_FWD_SCALE_DESC), m->gamma);
    input(&n, ATTR(OPERATION_NORM_FWD_BIAS_DESC), m->beta);
    input(&n, ATTR(OPERATION_NORM_FWD_EPSILON_DESC), m->eps);
    output(&n, ATTR(OPERATION_NORM_FWD_YDESC), m->y);
    output(&n, ATTR(OPERATION_NORM_FWD_MEAN_DESC), m->mean);
    output(&n, ATTR(OPERATION_NORM_FWD_INV_VARIANCE_DESC), m->rstd);
    return add_node(g, &n, m->y);
}

int th_cudnn_norm_bwd(struct th_cudnn_graph *g, const struct th_cudnn_norm *m)
{
    struct th_cudnn_node n = {
        .name = "norm_bwd", .type = CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR};
    const int all[] = {
        m->dy, m->x, m->mean, m->rstd, m->gamma, m->dgamma, m->dbeta, m->dx};
    if (stopped(g, n.name, all, 8))
        return -1;
    if (!same_shape(g, m->x, m->dy) || !same_shape(g, m->x, m->dx) ||
        !same_shape(g, m->mean, m->rstd) || !same_shape(g, m->gamma, m->dgamma) ||
        !same_shape(g, m->gamma, m->dbeta) || !broadcasts(g, m->gamma, m->x) ||
        !broadcasts(g, m->mean, m->x))
        return th_cudnn_fail(g, n.name, all, 8, "the shapes do not fit x");
    word(&n, ATTR(OPERATION_NORM_BWD_MODE), CUDNN_TYPE_NORM_MODE, (int)m->mode);
    input(&n, ATTR(OPERATION_NORM_BWD_DYDESC), m->dy);
    input(&n, ATTR(OPERATION_NORM_BWD_XDESC), m->x);
    input(&n, ATTR(OPERATION_NORM_BWD_MEAN_DESC), m->mean);
    input(&n, ATTR(OPERATION_NORM_BWD_INV_VARIANCE_DESC), m->rstd);
    input(&n, ATTR(OPERATION_NORM_BWD_SCALE_DESC), m->gamma);
    output(&n, ATTR(OPERATION_NORM_BWD_DXDESC), m->dx);
    output(&n, ATTR(OPERATION_NORM_BWD_DSCALE_DESC), m->dgamma);
    output(&n, ATTR(OPERATION_NORM_BWD_DBIAS_DESC), m->dbeta);
    return add_node(g, &n, m->dx);
}

/* ---- attention ---- */

int th_cudnn_attention(
    struct th_cudnn_graph *g, int q, int k, int v, int scale, int y, int lse)
{
    struct th_cudnn_node n = {
        .name = "attention", .type = CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR};
    const int all[] = {q, k, v, scale, y};
    if (stopped(g, n.name, all, 5))
        return -1;
    if (g->tensors[q].rank != 4 || !same_shape(g, q, k) || !same_shape(g, q, v) ||
        !same_shape(g, q, y) || (lse >= 0 && !broadcasts(g, lse, q)))
        return th_cudnn_fail(
            g, n.name, all, 5, "q, k, v and y have to be [n][heads][t][e], all alike");
    input(&n, ATTR(OPERATION_SDPA_FWD_QDESC), q);
    input(&n, ATTR(OPERATION_SDPA_FWD_KDESC), k);
    input(&n, ATTR(OPERATION_SDPA_FWD_VDESC), v);
    input(&n, ATTR(OPERATION_SDPA_FWD_SCALEDESC), scale);
    output(&n, ATTR(OPERATION_SDPA_FWD_ODESC), y);
    output(&n, ATTR(OPERATION_SDPA_FWD_STATSDESC), lse);
    return add_node(g, &n, y);
}
