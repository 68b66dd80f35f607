/* SPDX-License-Identifier: Apache-2.0
 * Owns the layers: each appends its nodes to the graph and its parameters to the model's
 * catalogue. Holds no values. */
#include "layers.h"

#include "mem.h"
#include "rng.h"

#include <stdio.h>
#include <string.h>

enum { NAME_SIZE = 128 };

static bool failed(const struct th_builder *b)
{
    return b->graph->status != THAW_OK;
}

static int stop(struct th_builder *b, thaw_status status)
{
    if (b->graph->status == THAW_OK)
        b->graph->status = status;
    return -1;
}

const struct th_shape *th_shape_at(const struct th_builder *b, int value)
{
    return &b->graph->values[value].o.shape;
}

void th_stage(struct th_builder *b, const char *name)
{
    struct th_model *m = b->model;
    b->stage = th_model_stage(m, name);
    if (b->stage >= 0 || failed(b))
        return;
    if (m->n_stages == TH_MAX_STAGES) {
        stop(b,
            th_fail(THAW_E_FAIL, "more than %d stages at '%s'", TH_MAX_STAGES, name));
        return;
    }
    b->stage = m->n_stages;
    m->stages[m->n_stages] = th_strdup(name);
    if (!m->stages[m->n_stages])
        stop(b, THAW_E_MEMORY);
    else
        m->n_stages++;
}

void th_want(struct th_builder *b, int value, const char *name)
{
    char scoped[NAME_SIZE];
    snprintf(scoped, sizeof scoped, "%s%s", b->scope ? b->scope : "", name);
    th_graph_want(b->graph, value, scoped);
}

/* Element `*n` of a growing array, zero; NULL on failure. */
static void *grow(void **array, int *n, int *cap, size_t size)
{
    if (*n == *cap) {
        int grown = *cap ? *cap * 2 : 64;
        void *p = th_realloc(*array, (size_t)*cap, (size_t)grown, size);
        if (!p)
            return NULL;
        *array = p;
        *cap = grown;
    }
    return (char *)*array + (size_t)(*n)++ * size;
}

struct param_spec {
    struct th_shape shape;
    enum th_role role;
    int bn, fan_in;
    float init, shift;
    int before;
};

/* The state value of parameter LAYER.SUFFIX, or just LAYER; catalogued on the first build. */
static int param(struct th_builder *b, const char *layer, const char *suffix,
    struct param_spec spec, int *index)
{
    if (failed(b))
        return -1;
    char name[NAME_SIZE];
    snprintf(name, sizeof name, "%s%s%s", layer, *suffix ? "." : "", suffix);
    struct th_model *m = b->model;
    int i = th_model_param(m, name);
    if (i < 0) {
        struct th_param *p =
            grow((void **)&m->params, &m->n_params, &m->cap_params, sizeof *p);
        if (!p)
            return stop(b, THAW_E_MEMORY);
        *p = (struct th_param){.name = th_strdup(name),
            .shape = spec.shape,
            .role = spec.role,
            .stage = b->stage,
            .bn = spec.bn,
            .fan_in = spec.fan_in,
            .before = spec.before,
            .init = spec.init,
            .shift = spec.shift};
        if (!p->name)
            return stop(b, THAW_E_MEMORY);
        i = m->n_params - 1;
    }
    if (index)
        *index = i;
    if (!b->scope)
        return th_graph_state(b->graph, name, spec.shape);
    char scoped[NAME_SIZE + sizeof(struct th_scope)];
    snprintf(scoped, sizeof scoped, "%s%s", b->scope, name);
    return th_graph_state(b->graph, scoped, spec.shape);
}

static int or_one(int x)
{
    return x ? x : 1;
}

/* Zeros before and behind an extent of n: TensorFlow's "SAME" is ceil(n / stride) outputs,
 * the smaller half of what that takes before (tf.nn, "Notes on padding"). */
static void padding(const struct th_conv_spec *s, int64_t n, int *before, int *behind)
{
    int64_t stride = or_one(s->stride),
            reach = (int64_t)(s->kernel - 1) * or_one(s->dilation) + 1;
    int64_t all = (n - 1) / stride * stride + reach - n;
    all = all > 0 ? all : 0;
    *before = s->same ? (int)(all / 2) : s->pad;
    *behind = s->same ? (int)(all - all / 2) : s->pad;
}

/* ---- Adapters ---- */

/* The two matrices of a layer's adapter; a < 0: it has none. */
struct adapter {
    int a, b;
};

/* For a weight [o][i] or [o][i][kh][kw]. The head trains by itself and gets none. */
static struct adapter adapter_of(struct th_builder *b, const char *name, int w)
{
    const struct th_lora *lora = &b->model->lora;
    struct adapter none = {-1, -1};
    if (failed(b) || lora->rank == 0 || !strcmp(b->model->stages[b->stage], "head"))
        return none;
    struct th_shape shape = *th_shape_at(b, w), as = shape, bs = shape;
    if (!th_lora_targets(lora, name, shape.rank == 4))
        return none;
    as.dim[0] = bs.dim[1] = lora->rank;
    for (int i = 2; i < bs.rank; i++)
        bs.dim[i] = 1;
    int fan_in = (int)(th_shape_count(&shape) / shape.dim[0]);
    struct adapter r;
    struct param_spec spec = {
        .shape = as, .role = TH_ROLE_LORA_A, .bn = -1, .fan_in = fan_in};
    r.a = param(b, name, "lora_A.weight", spec, NULL);
    spec.shape = bs;
    spec.role = TH_ROLE_LORA_B;
    r.b = param(b, name, "lora_B.weight", spec, NULL);
    return r;
}

/* Dropout keeps the adapter's path apart while training; else the layer runs on merged
 * weights, and nothing of the adapter is left but in the gradient (pass_lora). */
static bool runs_apart(const struct th_builder *b, struct adapter adapter)
{
    return adapter.a >= 0 && b->training && b->model->lora.dropout > 0.0F;
}

static union th_attr lora_attr(const struct th_builder *b)
{
    return (union th_attr){.lora = {.scale = th_lora_scale(&b->model->lora)}};
}

/* w + scale B A, made once a step where A or B train, else once. */
static int merged(struct th_builder *b, const char *name, int w, struct adapter adapter)
{
    if (adapter.a < 0 || runs_apart(b, adapter))
        return w;
    union th_attr attr = lora_attr(b);
    int y = th_graph_node(
        b->graph, TH_OP_lora_merge, &attr, (int[]){w, adapter.a, adapter.b}, name);
    if (y >= 0)
        b->graph->values[y].kind = TH_VALUE_DERIVED;
    return y;
}

/* y + B (scale A dropout(x)); `conv`: A's attributes, NULL of a linear layer. */
static int beside(struct th_builder *b, const char *name, int x, int y,
    struct adapter adapter, const union th_attr *conv)
{
    char path[NAME_SIZE];
    union th_attr attr = lora_attr(b),
                  one = {.conv = {.stride = {1, 1}, .dilation = {1, 1}, .groups = 1}};
    if (!runs_apart(b, adapter))
        return y;
    snprintf(path, sizeof path, "%s.lora", name);
    enum th_op op = conv ? TH_OP_conv : TH_OP_linear;
    int dropped = th_dropout(b, path, x, b->model->lora.dropout);
    int h =
        th_graph_node(b->graph, op, conv, (int[]){dropped, adapter.a, -1, -1}, path);
    h = th_graph_node(b->graph, TH_OP_scale_rows, &attr, (int[]){h, -1, -1}, path);
    h = th_graph_node(
        b->graph, op, conv ? &one : NULL, (int[]){h, adapter.b, -1, -1}, path);
    return th_add(b, y, h);
}

static int refuse_groups(struct th_builder *b, const char *name, int groups)
{
    return stop(b,
        th_fail(THAW_E_USAGE,
            "--lora: %s has %d groups: an adapter of a grouped convolution cannot be "
            "merged; name other targets",
            name, groups));
}

int th_conv(struct th_builder *b, const char *name, int x, struct th_conv_spec s)
{
    if (failed(b))
        return -1;
    int in = (int)th_shape_at(b, x)->dim[1] / or_one(s.groups);
    int fan_in = in * s.kernel * s.kernel;
    int w = param(b, name, "weight",
        (struct param_spec){.shape = TH_SHAPE(s.out, in, s.kernel, s.kernel),
            .role = TH_ROLE_CONV,
            .bn = -1,
            .fan_in = b->init > 0 || s.init > 0 ? fan_in : 0,
            .init = s.init},
        NULL);
    int bias = !s.bias ? -1
                       : param(b, name, "bias",
                             (struct param_spec){.shape = TH_SHAPE(s.out),
                                 .role = TH_ROLE_BIAS,
                                 .bn = -1,
                                 .fan_in = fan_in,
                                 .init = s.init,
                                 .shift = s.bias_init},
                             NULL);
    union th_attr attr = {.conv = {.stride = {or_one(s.stride), or_one(s.stride)},
                              .dilation = {or_one(s.dilation), or_one(s.dilation)},
                              .groups = or_one(s.groups)}};
    int *pad = attr.conv.pad; /* top, left, bottom, right */
    padding(&s, th_shape_at(b, x)->dim[2], &pad[0], &pad[2]);
    padding(&s, th_shape_at(b, x)->dim[3], &pad[1], &pad[3]);
    struct adapter adapter = adapter_of(b, name, w);
    if (adapter.a >= 0 && attr.conv.groups > 1)
        return refuse_groups(b, name, attr.conv.groups);
    w = merged(b, name, w, adapter);
    int y = th_graph_node(b->graph, TH_OP_conv, &attr, (int[]){x, w, bias, -1}, name);
    return beside(b, name, x, y, adapter, &attr);
}

int th_batchnorm(
    struct th_builder *b, const char *name, int x, float eps, const char *conv_name)
{
    if (failed(b))
        return -1;
    struct th_model *m = b->model;
    int bn = 0;
    while (bn < m->n_bns && strcmp(m->bns[bn].name, name) != 0)
        bn++;
    if (bn == m->n_bns) {
        struct th_bn *row = grow((void **)&m->bns, &m->n_bns, &m->cap_bns, sizeof *row);
        if (!row || !(row->name = th_strdup(name)))
            return stop(b, THAW_E_MEMORY);
        char conv[NAME_SIZE];
        snprintf(conv, sizeof conv, "%s.weight", conv_name ? conv_name : "");
        row->stage = b->stage;
        row->conv = th_model_param(m, conv);
    }
    struct th_shape c = TH_SHAPE(th_shape_at(b, x)->dim[1]);
    struct th_bn row = m->bns[bn];
    int gamma = param(
        b, name, "weight", (struct param_spec){c, TH_ROLE_GAMMA, .bn = bn}, &row.gamma);
    int beta = param(
        b, name, "bias", (struct param_spec){c, TH_ROLE_BETA, .bn = bn}, &row.beta);
    int mean = param(b, name, "running_mean",
        (struct param_spec){c, TH_ROLE_MEAN, .bn = bn}, &row.mean);
    int var = param(b, name, "running_var",
        (struct param_spec){c, TH_ROLE_VAR, .bn = bn}, &row.var);
    m->bns[bn] = row;
    union th_attr attr = {.norm = {.eps = eps}};
    int y = th_graph_node(
        b->graph, TH_OP_batchnorm, &attr, (int[]){x, gamma, beta, mean, var}, name);
    if (y >= 0)
        b->graph->nodes[b->graph->n_nodes - 1].bn = bn;
    return y;
}

int th_relu(struct th_builder *b, int x)
{
    return th_graph_node(b->graph, TH_OP_relu, NULL, &x, "relu");
}

int th_gelu(struct th_builder *b, int x, enum th_gelu kind)
{
    union th_attr attr = {.act = {.kind = kind}};
    return th_graph_node(b->graph, TH_OP_gelu, &attr, &x, "gelu");
}

int th_add(struct th_builder *b, int a, int c)
{
    return th_graph_node(b->graph, TH_OP_add, NULL, (int[]){a, c}, "add");
}

int th_scale(struct th_builder *b, int x, float factor)
{
    union th_attr attr = {.scale = {.factor = factor}};
    return th_graph_node(b->graph, TH_OP_scale, &attr, &x, "scale");
}

static int pool(
    struct th_builder *b, enum th_op op, int x, int kernel, int stride, int pad)
{
    union th_attr attr = {.pool = {.kernel = {kernel, kernel},
                              .stride = {stride, stride},
                              .pad = {pad, pad, pad, pad}}};
    return th_graph_node(b->graph, op, &attr, &x, th_op_rule(op)->name);
}

int th_maxpool(struct th_builder *b, int x, int kernel, int stride, int pad)
{
    return pool(b, TH_OP_maxpool, x, kernel, stride, pad);
}

int th_avgpool(struct th_builder *b, int x, int kernel, int stride, int pad)
{
    return pool(b, TH_OP_avgpool, x, kernel, stride, pad);
}

int th_gap(struct th_builder *b, int x)
{
    return th_graph_node(b->graph, TH_OP_gap, NULL, &x, "avgpool");
}

int th_gmp(struct th_builder *b, int x)
{
    return th_graph_node(b->graph, TH_OP_gmp, NULL, &x, "maxpool");
}

int th_concat(struct th_builder *b, int a, int c)
{
    return th_graph_node(b->graph, TH_OP_concat, NULL, (int[]){a, c}, "concat");
}

int th_linear(struct th_builder *b, const char *name, int x, int out, bool bias)
{
    if (failed(b))
        return -1;
    const struct th_shape *s = th_shape_at(b, x);
    int in = (int)s->dim[s->rank - 1];
    struct param_spec weight = {.shape = TH_SHAPE(out, in),
        .role = TH_ROLE_LINEAR,
        .bn = -1,
        .fan_in = in,
        .init = b->init};
    struct param_spec shift = weight;
    shift.shape = TH_SHAPE(out);
    shift.role = TH_ROLE_BIAS;
    int w = param(b, name, "weight", weight, NULL);
    int c = bias ? param(b, name, "bias", shift, NULL) : -1;
    struct adapter adapter = adapter_of(b, name, w);
    w = merged(b, name, w, adapter);
    int y = th_graph_node(b->graph, TH_OP_linear, NULL, (int[]){x, w, c}, name);
    return beside(b, name, x, y, adapter, NULL);
}

int th_layernorm(struct th_builder *b, const char *name, int x, float eps)
{
    if (failed(b))
        return -1;
    const struct th_shape *s = th_shape_at(b, x);
    struct th_shape c = TH_SHAPE(s->dim[s->rank - 1]);
    int gamma = param(
        b, name, "weight", (struct param_spec){c, TH_ROLE_LN_GAMMA, .bn = -1}, NULL);
    int beta =
        param(b, name, "bias", (struct param_spec){c, TH_ROLE_LN_BETA, .bn = -1}, NULL);
    union th_attr attr = {.norm = {.eps = eps}};
    return th_graph_node(
        b->graph, TH_OP_layernorm, &attr, (int[]){x, gamma, beta}, name);
}

int th_groupnorm(struct th_builder *b, const char *name, int x, int groups, float eps)
{
    if (failed(b))
        return -1;
    struct th_shape c = TH_SHAPE(th_shape_at(b, x)->dim[1]);
    int gamma = param(
        b, name, "weight", (struct param_spec){c, TH_ROLE_LN_GAMMA, .bn = -1}, NULL);
    int beta =
        param(b, name, "bias", (struct param_spec){c, TH_ROLE_LN_BETA, .bn = -1}, NULL);
    union th_attr attr = {.norm = {.eps = eps, .groups = groups}};
    return th_graph_node(
        b->graph, TH_OP_groupnorm, &attr, (int[]){x, gamma, beta}, name);
}

int th_upsample(struct th_builder *b, int x, int finer)
{
    if (failed(b))
        return -1;
    const int64_t *d = th_shape_at(b, finer)->dim;
    union th_attr attr = {.upsample = {.size = {(int)d[2], (int)d[3]}}};
    return th_graph_node(
        b->graph, TH_OP_upsample, &attr, (int[]){x, finer}, "upsample");
}

int th_map_rows(struct th_builder *b, const int *map, int n, int width)
{
    int in[TH_MAX_IN];
    union th_attr attr = {.rows = {.width = width}};
    for (int i = 0; i < TH_MAX_IN; i++)
        in[i] = i < n ? map[i] : -1;
    return th_graph_node(b->graph, TH_OP_map_rows, &attr, in, "rows");
}

static int rows_map(struct th_builder *b, int x, int c, const int64_t grid[2],
    int factor, const char *name)
{
    union th_attr attr = {
        .rows = {.grid = {(int)grid[0], (int)grid[1]}, .factor = factor}};
    return th_graph_node(b->graph, TH_OP_rows_map, &attr, (int[]){x, c}, name);
}

int th_rows_map(struct th_builder *b, int x, int h, int w)
{
    return rows_map(b, x, -1, (int64_t[]){h, w}, 1, "map");
}

int th_pixel_layernorm(struct th_builder *b, const char *name, int x, float eps)
{
    if (failed(b))
        return -1;
    struct th_shape s = *th_shape_at(b, x);
    int rows = th_map_rows(b, &x, 1, (int)s.dim[1]);
    return rows_map(b, th_layernorm(b, name, rows, eps), -1, s.dim + 2, 1, "map");
}

int th_upconv(struct th_builder *b, const char *name, int x, int out)
{
    enum { PLACES = 2 * 2 };
    if (failed(b))
        return -1;
    struct th_shape s = *th_shape_at(b, x);
    int rows = th_map_rows(b, &x, 1, (int)s.dim[1]);
    rows = th_linear(b, name, rows, PLACES * out, false);
    struct param_spec shift = {.shape = TH_SHAPE(out),
        .role = TH_ROLE_BIAS,
        .bn = -1,
        .fan_in = PLACES * out, /* torch's, of a transposed convolution */
        .init = b->init};
    int c = param(b, name, "bias", shift, NULL);
    return rows_map(b, rows, c, s.dim + 2, 2, name);
}

int th_attention(struct th_builder *b, int qkv, int heads)
{
    union th_attr attr = {.attention = {.heads = heads}};
    return th_graph_node(b->graph, TH_OP_attention, &attr, &qkv, "attention");
}

static int random_layer(
    struct th_builder *b, enum th_op op, const char *name, int x, float p)
{
    if (failed(b) || !b->training || p <= 0.0F)
        return x;
    int keys = th_graph_input(
        b->graph, "keys", TH_I32, TH_SHAPE(th_shape_at(b, x)->dim[0], 2));
    union th_attr attr = {.dropout = {.p = p, .layer = th_rng_mix_name(0, name)}};
    int y = th_graph_node(b->graph, op, &attr, (int[]){x, keys}, name);
    if (y >= 0)
        b->graph->nodes[b->graph->n_nodes - 1].stage = b->stage;
    return y;
}

int th_dropout(struct th_builder *b, const char *name, int x, float p)
{
    return random_layer(b, TH_OP_dropout, name, x, p);
}

int th_drop_path(struct th_builder *b, const char *name, int x, float p)
{
    return random_layer(b, TH_OP_drop_path, name, x, p);
}

int th_token(struct th_builder *b, const char *name, int n, int d, float init)
{
    return param(b, name, "",
        (struct param_spec){
            .shape = TH_SHAPE(1, n, d), .role = TH_ROLE_TOKEN, .bn = -1, .init = init},
        NULL);
}

int th_positions(
    struct th_builder *b, const char *name, int before, int patches, int d, float init)
{
    return param(b, name, "",
        (struct param_spec){.shape = TH_SHAPE(1, before + patches, d),
            .role = TH_ROLE_POSITION,
            .bn = -1,
            .init = init,
            .before = before},
        NULL);
}

int th_tokens(struct th_builder *b, int x, int cls, int more, int pos)
{
    union th_attr attr = {.token = {.first = cls >= 0}};
    return th_graph_node(
        b->graph, TH_OP_tokens, &attr, (int[]){x, cls, more, pos}, "tokens");
}

int th_token_mean(struct th_builder *b, int x, int first, int count)
{
    union th_attr attr = {.token = {.first = first, .count = count}};
    return th_graph_node(b->graph, TH_OP_token_mean, &attr, &x, "pool");
}

int th_layerscale(struct th_builder *b, const char *name, int x, float init)
{
    if (failed(b))
        return -1;
    const struct th_shape *s = th_shape_at(b, x);
    int gamma = param(b, name, "gamma",
        (struct param_spec){.shape = TH_SHAPE(s->dim[s->rank - 1]),
            .role = TH_ROLE_SCALE,
            .bn = -1,
            .init = init},
        NULL);
    return th_graph_node(b->graph, TH_OP_layerscale, NULL, (int[]){x, gamma}, name);
}

int th_shortcut_a(struct th_builder *b, int x, int stride, int channels)
{
    if (failed(b))
        return -1;
    int extra = channels - (int)th_shape_at(b, x)->dim[1];
    union th_attr attr = {
        .shortcut = {.stride = stride, .front = extra / 2, .back = extra - extra / 2}};
    return th_graph_node(b->graph, TH_OP_shortcut_a, &attr, &x, "shortcut");
}

/* What is made of weights alone outlives a run, as they do. */
static int unit_rows(struct th_builder *b, const char *name, int x, int scale)
{
    int y = th_graph_node(b->graph, TH_OP_l2norm, NULL, (int[]){x, scale}, name);
    if (y < 0 || b->graph->values[x].kind != TH_VALUE_STATE)
        return y;
    const int *out = b->graph->nodes[b->graph->n_nodes - 1].out;
    b->graph->values[out[0]].kind = b->graph->values[out[1]].kind = TH_VALUE_DERIVED;
    return y;
}

/* Gidaris and Komodakis 2018 (arXiv:1804.09458), equation 5; W. Chen et al. 2019
 * (arXiv:1904.04232), section 3.2. The scale is in the features: the sum is linear. */
int th_cosine(struct th_builder *b, const char *name, int x, int out, float scale)
{
    if (failed(b))
        return -1;
    struct param_spec weight = {.shape = TH_SHAPE(out, th_shape_at(b, x)->dim[1]),
        .role = TH_ROLE_LINEAR,
        .bn = -1,
        .fan_in = (int)th_shape_at(b, x)->dim[1],
        .init = b->init};
    int w = param(b, name, "weight", weight, NULL);
    int s = param(b, name, "scale",
        (struct param_spec){
            .shape = TH_SHAPE(1), .role = TH_ROLE_SCALE, .bn = -1, .init = scale},
        NULL);
    x = unit_rows(b, name, x, s);
    w = unit_rows(b, name, w, -1);
    return th_graph_node(b->graph, TH_OP_linear, NULL, (int[]){x, w, -1}, name);
}
