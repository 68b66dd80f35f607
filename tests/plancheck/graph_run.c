/* SPDX-License-Identifier: Apache-2.0
 * Owns the interpreter. Each tensor's values stand in a row in the order of its axes,
 * whatever its strides; memory is read before the first node and written after the last. */
#include "graph_run.h"

#include "mem.h"

#include <math.h>
#include <string.h>

struct run {
    const struct th_cudnn_graph *g;
    double *values[TH_CUDNN_TENSORS];
};

typedef int64_t axes[TH_CUDNN_RANK];

static int64_t count_of(const struct th_cudnn_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= t->dim[i];
    return n;
}

/* The axes of value i, missing ones 0. */
static void axes_of(const struct th_cudnn_tensor *t, int64_t i, axes at)
{
    memset(at, 0, sizeof(axes));
    for (int k = t->rank - 1; k >= 0; k--) {
        at[k] = i % t->dim[k];
        i /= t->dim[k];
    }
}

/* The value of tensor t at these axes; those of extent 1 are broadcast. */
static int64_t place(const struct th_cudnn_tensor *t, const axes at)
{
    int64_t p = 0;
    for (int k = 0; k < t->rank; k++)
        p = p * t->dim[k] + (t->dim[k] == 1 ? 0 : at[k]);
    return p;
}

static double get(const struct run *r, int tensor, const axes at)
{
    const struct th_cudnn_tensor *t = &r->g->tensors[tensor];
    return t->kind == TH_CUDNN_SCALAR ? (double)t->value
                                      : r->values[tensor][place(t, at)];
}

/* ---- memory ---- */

static int64_t offset_of(const struct th_cudnn_tensor *t, int64_t i)
{
    axes at;
    int64_t offset = 0;
    if (t->source == TH_CUDNN_PACKED && t->rank == 4)
        return i; /* the plain order */
    axes_of(t, i, at);
    for (int k = 0; k < t->rank; k++)
        offset += at[k] * t->stride[k];
    return offset;
}

static void *memory_of(
    const struct th_cudnn_tensor *t, void *const *args, void *scratch)
{
    char *base = t->source == TH_CUDNN_SCRATCH ? scratch : args[t->argument];
    return base ? base + t->offset : NULL;
}

static void load(const struct th_cudnn_tensor *t, const void *memory, double *v)
{
    for (int64_t i = 0; i < count_of(t); i++) {
        int64_t at = offset_of(t, i);
        if (t->type == CUDNN_DATA_BOOLEAN)
            v[i] = ((const uint8_t *)memory)[at / 8] >> (at % 8) & 1;
        else if (t->type == CUDNN_DATA_INT8)
            v[i] = ((const int8_t *)memory)[at];
        else
            v[i] = (double)((const float *)memory)[at];
    }
}

static void store(const struct th_cudnn_tensor *t, void *memory, const double *v)
{
    for (int64_t i = 0; i < count_of(t); i++) {
        int64_t at = offset_of(t, i);
        uint8_t bit = (uint8_t)(1U << (at % 8));
        if (t->type == CUDNN_DATA_INT8)
            ((int8_t *)memory)[at] = (int8_t)v[i];
        else if (t->type != CUDNN_DATA_BOOLEAN)
            ((float *)memory)[at] = (float)v[i];
        else if (v[i] != 0)
            ((uint8_t *)memory)[at / 8] |= bit;
        else
            ((uint8_t *)memory)[at / 8] &= (uint8_t)~bit;
    }
}

/* ---- attributes ---- */

static const struct th_cudnn_setting *find(
    const struct th_cudnn_node *n, cudnnBackendAttributeName_t name)
{
    for (int i = 0; i < n->n_settings; i++)
        if (n->settings[i].name == name)
            return &n->settings[i];
    return NULL;
}

static int tensor(const struct th_cudnn_node *n, cudnnBackendAttributeName_t name)
{
    const struct th_cudnn_setting *s = find(n, name);
    return s ? s->value.e : -1;
}
#define T(name) tensor(n, CUDNN_ATTR_OPERATION_##name)

static const struct th_cudnn_tensor *shape(const struct run *r, int t)
{
    return &r->g->tensors[t];
}

/* ---- element by element ---- */

static double gelu(double x)
{
    return x * (1 + erf(x / sqrt(2))) / 2;
}

static double gelu_slope(double x)
{
    return (1 + erf(x / sqrt(2))) / 2 + x * exp(-x * x / 2) / sqrt(2 * acos(-1));
}

/* u = sqrt(2/pi) (x + 0.044715 x^3) */
static double gelu_tanh(double x)
{
    double u = sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x);
    return x * (1 + tanh(u)) / 2;
}

static double gelu_tanh_slope(double x)
{
    double c = sqrt(2 / acos(-1)), t = tanh(c * (x + 0.044715 * x * x * x));
    return (1 + t) / 2 + x * (1 - t * t) / 2 * c * (1 + 3 * 0.044715 * x * x);
}

static bool pointwise(int mode, double x, double b, double *y)
{
    switch (mode) {
    case CUDNN_POINTWISE_ADD:
        *y = x + b;
        return true;
    case CUDNN_POINTWISE_SUB:
        *y = x - b;
        return true;
    case CUDNN_POINTWISE_MUL:
    case CUDNN_POINTWISE_GELU_BWD: /* b: the slope */
    case CUDNN_POINTWISE_GELU_APPROX_TANH_BWD:
        *y = x * b;
        return true;
    case CUDNN_POINTWISE_RSQRT:
        *y = 1 / sqrt(x);
        return true;
    case CUDNN_POINTWISE_EXP:
        *y = exp(x);
        return true;
    case CUDNN_POINTWISE_IDENTITY:
        *y = x;
        return true;
    case CUDNN_POINTWISE_RELU_FWD:
        *y = x > 0 ? x : 0;
        return true;
    case CUDNN_POINTWISE_CMP_GT:
        *y = x > b;
        return true;
    case CUDNN_POINTWISE_GELU_FWD:
        *y = gelu(x);
        return true;
    case CUDNN_POINTWISE_GELU_APPROX_TANH_FWD:
        *y = gelu_tanh(x);
        return true;
    }
    return false;
}

static bool run_pointwise(struct run *r, const struct th_cudnn_node *n)
{
    int mode = find(n, CUDNN_ATTR_POINTWISE_MODE)->value.e;
    int x = T(POINTWISE_XDESC), b = T(POINTWISE_BDESC), dy = T(POINTWISE_DYDESC);
    int y = dy >= 0 ? T(POINTWISE_DXDESC) : T(POINTWISE_YDESC);
    bool known = true;
    for (int64_t i = 0; i < count_of(shape(r, y)); i++) {
        axes at;
        axes_of(shape(r, y), i, at);
        double first = get(r, x, at), second = b >= 0 ? get(r, b, at) : 0;
        if (dy >= 0) { /* dx = dy * slope(x) */
            second = mode == CUDNN_POINTWISE_GELU_BWD ? gelu_slope(first)
                                                      : gelu_tanh_slope(first);
            first = get(r, dy, at);
        }
        known = known && pointwise(mode, first, second, &r->values[y][i]);
    }
    return known;
}

static void run_reduce(struct run *r, const struct th_cudnn_node *n)
{
    int x = T(REDUCTION_XDESC), y = T(REDUCTION_YDESC);
    memset(r->values[y], 0, (size_t)count_of(shape(r, y)) * sizeof(double));
    for (int64_t i = 0; i < count_of(shape(r, x)); i++) {
        axes at;
        axes_of(shape(r, x), i, at);
        r->values[y][place(shape(r, y), at)] += r->values[x][i];
    }
}

/* The same memory under other axes and strides. */
static thaw_status run_reshape(struct run *r, const struct th_cudnn_node *n)
{
    int x = T(RESHAPE_XDESC), y = T(RESHAPE_YDESC);
    int64_t n_values = count_of(shape(r, x)), last = 0;
    for (int64_t i = 0; i < n_values; i++) {
        int64_t at = offset_of(shape(r, x), i);
        last = at > last ? at : last;
    }
    double *memory = th_alloc((size_t)last + 1, sizeof *memory);
    if (!memory)
        return THAW_E_MEMORY;
    for (int64_t i = 0; i < n_values; i++)
        memory[offset_of(shape(r, x), i)] = r->values[x][i];
    for (int64_t i = 0; i < n_values; i++)
        r->values[y][i] = memory[offset_of(shape(r, y), i)];
    th_free(memory);
    return THAW_OK;
}

static void run_matmul(struct run *r, const struct th_cudnn_node *n)
{
    int a = T(MATMUL_ADESC), b = T(MATMUL_BDESC), c = T(MATMUL_CDESC);
    int row = shape(r, c)->rank - 2, column = row + 1;
    for (int64_t i = 0; i < count_of(shape(r, c)); i++) {
        axes at, of_a, of_b;
        double sum = 0;
        axes_of(shape(r, c), i, at);
        memcpy(of_a, at, sizeof at);
        memcpy(of_b, at, sizeof at);
        for (int64_t k = 0; k < shape(r, a)->dim[column]; k++) {
            of_a[column] = of_b[row] = k;
            sum += get(r, a, of_a) * get(r, b, of_b);
        }
        r->values[c][i] = sum;
    }
}

/* ---- convolution and pooling: all products of one window ---- */

/* Adds to what `makes` of x, w, y the products of the two others. */
static void run_conv(
    struct run *r, const struct th_cudnn_node *n, const int t[3], int makes)
{
    const int64_t *stride = find(n, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES)->value.i;
    const int64_t *dilation = find(n, CUDNN_ATTR_CONVOLUTION_DILATIONS)->value.i;
    const int64_t *before = find(n, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS)->value.i;
    const int64_t *dx = shape(r, t[0])->dim, *dw = shape(r, t[1])->dim;
    int64_t per_group = dw[0] / (dx[1] / dw[1]), window = dw[1] * dw[2] * dw[3];
    memset(
        r->values[t[makes]], 0, (size_t)count_of(shape(r, t[makes])) * sizeof(double));
    for (int64_t i = 0; i < count_of(shape(r, t[2])) * window; i++) {
        axes y, f = {0};
        axes_of(shape(r, t[2]), i / window, y);
        f[0] = y[1];
        f[1] = i % window / (dw[2] * dw[3]);
        f[2] = i / dw[3] % dw[2];
        f[3] = i % dw[3];
        axes x = {y[0], y[1] / per_group * dw[1] + f[1],
            y[2] * stride[0] + f[2] * dilation[0] - before[0],
            y[3] * stride[1] + f[3] * dilation[1] - before[1]};
        if (x[2] < 0 || x[3] < 0 || x[2] >= dx[2] || x[3] >= dx[3])
            continue;
        double *at[3] = {&r->values[t[0]][place(shape(r, t[0]), x)],
            &r->values[t[1]][place(shape(r, t[1]), f)],
            &r->values[t[2]][place(shape(r, t[2]), y)]};
        *at[makes] += *at[(makes + 1) % 3] * *at[(makes + 2) % 3];
    }
}

struct pool {
    int x, y, index; /* of the forward pass */
    bool backward, max;
    const int64_t *size, *stride, *before;
};

/* One window: y of it, or what it gives to dx. */
static void run_window(struct run *r, const struct pool *p, int64_t i)
{
    const int64_t *d = shape(r, p->x)->dim;
    double best = -INFINITY, sum = 0, *y = &r->values[p->y][i];
    int64_t chosen = 0, window = p->size[0] * p->size[1];
    axes at;
    axes_of(shape(r, p->y), i, at);
    for (int64_t k = 0; k < window; k++) {
        axes in = {at[0], at[1], at[2] * p->stride[0] + k / p->size[1] - p->before[0],
            at[3] * p->stride[1] + k % p->size[1] - p->before[1]};
        if (in[2] < 0 || in[3] < 0 || in[2] >= d[2] || in[3] >= d[3])
            continue;
        double *x = &r->values[p->x][place(shape(r, p->x), in)];
        if (p->backward && p->max)
            *x += (int64_t)r->values[p->index][i] == k ? *y : 0;
        else if (p->backward)
            *x += *y / (double)window;
        else if (*x > best) {
            best = *x;
            chosen = k;
        }
        sum += *x;
    }
    if (p->backward)
        return;
    *y = p->max ? best : sum / (double)window;
    if (p->index >= 0)
        r->values[p->index][i] = (double)chosen;
}

static void run_pool(struct run *r, const struct th_cudnn_node *n, bool backward)
{
    struct pool p = {.x = backward ? T(RESAMPLE_BWD_DXDESC) : T(RESAMPLE_FWD_XDESC),
        .y = backward ? T(RESAMPLE_BWD_DYDESC) : T(RESAMPLE_FWD_YDESC),
        .index = backward ? T(RESAMPLE_BWD_IDXDESC) : T(RESAMPLE_FWD_IDXDESC),
        .backward = backward,
        .max = find(n, CUDNN_ATTR_RESAMPLE_MODE)->value.e == CUDNN_RESAMPLE_MAXPOOL,
        .size = find(n, CUDNN_ATTR_RESAMPLE_WINDOW_DIMS)->value.i,
        .stride = find(n, CUDNN_ATTR_RESAMPLE_STRIDES)->value.i,
        .before = find(n, CUDNN_ATTR_RESAMPLE_PRE_PADDINGS)->value.i};
    if (backward)
        memset(r->values[p.x], 0, (size_t)count_of(shape(r, p.x)) * sizeof(double));
    for (int64_t i = 0; i < count_of(shape(r, p.y)); i++)
        run_window(r, &p, i);
}

/* ---- normalisation: values with one mean are a set ---- */

/* sums[set] += f(i) for each value of x */
static void run_norm(struct run *r, const struct th_cudnn_node *n)
{
    int x = T(NORM_FWD_XDESC), y = T(NORM_FWD_YDESC), mean = T(NORM_FWD_MEAN_DESC);
    int rstd = T(NORM_FWD_INV_VARIANCE_DESC), gamma = T(NORM_FWD_SCALE_DESC);
    int beta = T(NORM_FWD_BIAS_DESC);
    double eps = (double)shape(r, T(NORM_FWD_EPSILON_DESC))->value;
    int64_t all = count_of(shape(r, x)), sets = count_of(shape(r, mean));
    double *m = r->values[mean], *v = r->values[rstd], size = (double)(all / sets);
    axes at;
    memset(m, 0, (size_t)sets * sizeof *m);
    memset(v, 0, (size_t)sets * sizeof *v);
    for (int64_t i = 0; i < all; i++) {
        axes_of(shape(r, x), i, at);
        m[place(shape(r, mean), at)] += r->values[x][i] / size;
    }
    for (int64_t i = 0; i < all; i++) {
        axes_of(shape(r, x), i, at);
        double d = r->values[x][i] - get(r, mean, at);
        v[place(shape(r, mean), at)] += d * d / size;
    }
    for (int64_t s = 0; s < sets; s++)
        v[s] = 1 / sqrt(v[s] + eps);
    for (int64_t i = 0; i < all; i++) {
        axes_of(shape(r, x), i, at);
        double h = (r->values[x][i] - get(r, mean, at)) * get(r, rstd, at);
        r->values[y][i] = h * get(r, gamma, at) + get(r, beta, at);
    }
}

/* With u = dy gamma, h normalised x, and means over the set:
 * dx = rstd (u - mean(u) - h mean(u h)). */
static thaw_status run_norm_bwd(struct run *r, const struct th_cudnn_node *n)
{
    int x = T(NORM_BWD_XDESC), dy = T(NORM_BWD_DYDESC), mean = T(NORM_BWD_MEAN_DESC);
    int rstd = T(NORM_BWD_INV_VARIANCE_DESC), gamma = T(NORM_BWD_SCALE_DESC);
    int dgamma = T(NORM_BWD_DSCALE_DESC), dbeta = T(NORM_BWD_DBIAS_DESC);
    int dx = T(NORM_BWD_DXDESC);
    int64_t all = count_of(shape(r, x)), sets = count_of(shape(r, mean));
    size_t vector = (size_t)count_of(shape(r, gamma)) * sizeof(double);
    double size = (double)(all / sets);
    double *mu = th_alloc((size_t)sets * 2, sizeof *mu), *muh = mu + sets;
    axes at;
    if (!mu)
        return THAW_E_MEMORY;
    memset(r->values[dgamma], 0, vector);
    memset(r->values[dbeta], 0, vector);
    for (int64_t i = 0; i < all; i++) {
        axes_of(shape(r, x), i, at);
        double h = (r->values[x][i] - get(r, mean, at)) * get(r, rstd, at);
        double d = r->values[dy][i], u = d * get(r, gamma, at);
        mu[place(shape(r, mean), at)] += u / size;
        muh[place(shape(r, mean), at)] += u * h / size;
        r->values[dgamma][place(shape(r, gamma), at)] += d * h;
        r->values[dbeta][place(shape(r, gamma), at)] += d;
    }
    for (int64_t i = 0; i < all; i++) {
        axes_of(shape(r, x), i, at);
        int64_t set = place(shape(r, mean), at);
        double h = (r->values[x][i] - get(r, mean, at)) * get(r, rstd, at);
        r->values[dx][i] = get(r, rstd, at) * (r->values[dy][i] * get(r, gamma, at) -
                                                  mu[set] - h * muh[set]);
    }
    th_free(mu);
    return THAW_OK;
}

/* ---- attention ---- */

/* Row at[2] of head at[1] of sample at[0]: y and lse. */
static void run_row(struct run *r, const struct th_cudnn_node *n, axes at)
{
    int q = T(SDPA_FWD_QDESC), k = T(SDPA_FWD_KDESC), v = T(SDPA_FWD_VDESC);
    int y = T(SDPA_FWD_ODESC), lse = T(SDPA_FWD_STATSDESC);
    const int64_t *d = shape(r, q)->dim;
    double scale = (double)shape(r, T(SDPA_FWD_SCALEDESC))->value, total = 0;
    for (int64_t c = 0; c < d[3]; c++)
        r->values[y][place(shape(r, y), (axes){at[0], at[1], at[2], c})] = 0;
    for (int64_t j = 0; j < d[2]; j++) {
        double s = 0;
        for (int64_t c = 0; c < d[3]; c++)
            s += get(r, q, (axes){at[0], at[1], at[2], c}) *
                 get(r, k, (axes){at[0], at[1], j, c});
        s = exp(scale * s);
        total += s;
        for (int64_t c = 0; c < d[3]; c++)
            r->values[y][place(shape(r, y), (axes){at[0], at[1], at[2], c})] +=
                s * get(r, v, (axes){at[0], at[1], j, c});
    }
    for (int64_t c = 0; c < d[3]; c++)
        r->values[y][place(shape(r, y), (axes){at[0], at[1], at[2], c})] /= total;
    if (lse >= 0)
        r->values[lse][place(shape(r, lse), at)] = log(total);
}

static void run_attention(struct run *r, const struct th_cudnn_node *n)
{
    const int64_t *d = shape(r, T(SDPA_FWD_QDESC))->dim;
    for (int64_t i = 0; i < d[0] * d[1] * d[2]; i++)
        run_row(r, n, (axes){i / (d[1] * d[2]), i / d[2] % d[1], i % d[2], 0});
}

/* ---- the graph ---- */

static thaw_status run_node(struct run *r, const struct th_cudnn_node *n)
{
    bool known = true;
    switch ((int)n->type) {
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
        known = run_pointwise(r, n);
        break;
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
        known =
            find(n, CUDNN_ATTR_REDUCTION_OPERATOR)->value.e == CUDNN_REDUCE_TENSOR_ADD;
        run_reduce(r, n);
        break;
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
        return run_reshape(r, n);
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
        run_matmul(r, n);
        break;
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
        run_conv(r, n,
            (int[]){T(CONVOLUTION_FORWARD_X), T(CONVOLUTION_FORWARD_W),
                T(CONVOLUTION_FORWARD_Y)},
            2);
        break;
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
        run_conv(r, n,
            (int[]){T(CONVOLUTION_BWD_DATA_DX), T(CONVOLUTION_BWD_DATA_W),
                T(CONVOLUTION_BWD_DATA_DY)},
            0);
        break;
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
        run_conv(r, n,
            (int[]){T(CONVOLUTION_BWD_FILTER_X), T(CONVOLUTION_BWD_FILTER_DW),
                T(CONVOLUTION_BWD_FILTER_DY)},
            1);
        break;
    case CUDNN_BACKEND_OPERATION_RESAMPLE_FWD_DESCRIPTOR:
        run_pool(r, n, false);
        break;
    case CUDNN_BACKEND_OPERATION_RESAMPLE_BWD_DESCRIPTOR:
        run_pool(r, n, true);
        break;
    case CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR:
        run_norm(r, n);
        break;
    case CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR:
        return run_norm_bwd(r, n);
    case CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR:
        run_attention(r, n);
        break;
    default:
        known = false;
    }
    return known ? THAW_OK
                 : th_fail(THAW_E_FAIL, "%s: the interpreter does not know this %s",
                       r->g->name, n->name);
}

static bool is_output(const struct th_cudnn_graph *g, int t)
{
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0, seen = 0; k < g->nodes[i].n_settings; k++)
            if (g->nodes[i].settings[k].type == CUDNN_TYPE_BACKEND_DESCRIPTOR &&
                seen++ >= g->nodes[i].n_in && g->nodes[i].settings[k].value.e == t)
                return true;
    return false;
}

thaw_status graph_run(const struct th_cudnn_graph *g, void *const *args, void *scratch)
{
    struct run r = {.g = g};
    thaw_status status = THAW_OK;
    for (int i = 0; status == THAW_OK && i < g->n_tensors; i++) {
        const struct th_cudnn_tensor *t = &g->tensors[i];
        if (!th_cudnn_uses(g, i) || t->kind == TH_CUDNN_SCALAR)
            continue;
        r.values[i] = th_alloc((size_t)count_of(t), sizeof(double));
        void *memory = t->kind == TH_CUDNN_REAL ? memory_of(t, args, scratch) : NULL;
        if (!r.values[i])
            status = THAW_E_MEMORY;
        else if (t->kind == TH_CUDNN_REAL && !memory)
            status = th_fail(THAW_E_FAIL, "%s: no memory for %s", g->name, t->name);
        else if (memory && !is_output(g, i))
            load(t, memory, r.values[i]);
    }
    for (int i = 0; status == THAW_OK && i < g->n_nodes; i++)
        status = run_node(&r, &g->nodes[i]);
    for (int i = 0; status == THAW_OK && i < g->n_tensors; i++)
        if (g->tensors[i].kind == TH_CUDNN_REAL && is_output(g, i))
            store(
                &g->tensors[i], memory_of(&g->tensors[i], args, scratch), r.values[i]);
    for (int i = 0; i < g->n_tensors; i++)
        th_free(r.values[i]);
    return status;
}
