/* SPDX-License-Identifier: Apache-2.0
 * Gradients of low-rank adapters without the gradient of the weight. A layer runs on
 * w + s B A (a folded BatchNorm's D = diag(gamma / sqrt(var + eps)) or LayerScale's
 * D = diag(gamma) before that); with
 * r rows in A and x, y what it reads and makes (Hu et al. 2021, arXiv:2106.09685, eq. 3):
 *
 *   h = A x               dB = s D sum dy h^T
 *   g = (s D B)^T dy      dA = sum g x^T
 *
 * sums over rows of a linear layer, over pixels of a convolution, whose A has its kernel,
 * stride and padding and whose B is 1x1. Costs 2 r (inputs + outputs) multiply-adds a row in
 * place of inputs * outputs. Where that is no less, or the device has nothing fast for r
 * channels, and where the weight trains as well, the rules of the layer, of bn_fold and of
 * lora_merge do it: dw, then products with A and B. */
#include "pass.h"

/* What a layer reads in place of its weight. */
struct adapter {
    int w, a, b;    /* states */
    int gamma, var; /* of a folded BatchNorm, gamma of a folded LayerScale; -1 */
    float scale, eps;
};

static bool find_adapter(struct th_graph *g, int weight, struct adapter *r)
{
    const struct th_node *n = th_graph_maker(g, weight);
    *r = (struct adapter){.gamma = -1, .var = -1};
    if (n && n->op == TH_OP_bn_fold) {
        r->gamma = n->in[2];
        r->var = n->in[5];
        r->eps = n->attr.norm.eps;
        n = th_graph_maker(g, n->in[0]);
    } else if (n && n->op == TH_OP_linear_fold) {
        r->gamma = n->in[2];
        n = th_graph_maker(g, n->in[0]);
    }
    if (!n || n->op != TH_OP_lora_merge)
        return false;
    r->w = n->in[0];
    r->a = n->in[1];
    r->b = n->in[2];
    r->scale = n->attr.lora.scale;
    return true;
}

static bool is_cheaper(
    const struct th_lowering *l, const struct th_node *n, const struct adapter *r)
{
    const struct th_shape *w = &l->graph.values[r->w].o.shape;
    int64_t ranks = l->graph.values[r->a].o.shape.dim[0], outputs = w->dim[0];
    int64_t inputs = th_shape_count(w) / outputs;
    if (2 * ranks * (inputs + outputs) >= inputs * outputs)
        return false;
    return n->op == TH_OP_linear || ranks % l->device->block == 0;
}

/* One backward node with one output of the shape. */
static int emit(struct th_lowering *l, enum th_op op, const union th_attr *attr,
    const int *in, struct th_shape shape, const char *name)
{
    const struct th_operand o = {
        .shape = shape, .dtype = TH_F32, .block = 1, .present = true};
    int out[TH_MAX_OUT] = {th_graph_value(&l->graph, &o), -1, -1};
    th_graph_emit(&l->graph, op, TH_BACKWARD, attr, in, out, name);
    return out[0];
}

/* s D x by rows. */
static int scaled(
    struct th_lowering *l, const struct adapter *r, int x, const char *name)
{
    union th_attr attr = {.lora = {.scale = r->scale, .eps = r->eps}};
    bool one = !(r->scale < 1.0F || r->scale > 1.0F) && r->gamma < 0;
    if (x < 0 || one)
        return x;
    return emit(l, TH_OP_scale_rows, &attr, (int[]){x, r->gamma, r->var},
        l->graph.values[x].o.shape, name);
}

/* s D B is a derived value: kernels pack it as a weight, and have to know when it is
 * another one. */
static int scaled_weight(
    struct th_lowering *l, const struct adapter *r, const char *name)
{
    struct th_graph *g = &l->graph;
    int y = scaled(l, r, r->b, name);
    if (y >= 0 && y != r->b) {
        g->values[y].kind = TH_VALUE_DERIVED;
        g->nodes[g->n_nodes - 1].phase = TH_FORWARD;
    }
    return y;
}

/* The three products of a layer's kind, and the attributes of B's. */
struct kind {
    enum th_op forward, dx, dw;
    union th_attr one;
};

static struct kind kind_of(const struct th_node *n)
{
    if (n->op == TH_OP_linear)
        return (struct kind){
            .forward = TH_OP_linear, .dx = TH_OP_linear_dx, .dw = TH_OP_linear_dw};
    return (struct kind){.forward = TH_OP_conv,
        .dx = TH_OP_conv_dx,
        .dw = TH_OP_conv_dw,
        .one.conv = {.stride = {1, 1}, .dilation = {1, 1}, .groups = 1}};
}

thaw_status th_pass_lora(struct th_lowering *l, const struct th_node *n, int dy,
    const bool *needs, struct th_low_rank *out)
{
    struct th_graph *g = &l->graph;
    struct adapter r;
    *out = (struct th_low_rank){.a = -1, .b = -1, .da = -1, .db = -1};
    if ((n->op != TH_OP_linear && n->op != TH_OP_conv) ||
        !find_adapter(g, n->in[1], &r) || needs[r.w] || !is_cheaper(l, n, &r))
        return THAW_OK;
    const struct kind k = kind_of(n);
    int x = n->in[0], a = r.a, b = r.b;
    struct th_shape as = g->values[a].o.shape, bs = g->values[b].o.shape;
    struct th_shape h = g->values[dy].o.shape; /* [rows][r], [n][r][oh][ow] */
    h.dim[n->op == TH_OP_linear ? h.rank - 1 : 1] = as.dim[0];
    *out = (struct th_low_rank){.done = true, .a = a, .b = b, .da = -1, .db = -1};
    if (needs[b]) {
        int hx = emit(l, k.forward, &n->attr, (int[]){x, a, -1, -1}, h, n->name);
        int db = emit(l, k.dw, &k.one, (int[]){hx, dy}, bs, n->name);
        out->db = scaled(l, &r, db, n->name);
    }
    if (needs[a]) {
        int sb = scaled_weight(l, &r, n->name);
        int gy = emit(l, k.dx, &k.one, (int[]){dy, sb}, h, n->name);
        out->da = emit(l, k.dw, &n->attr, (int[]){x, gy}, as, n->name);
    }
    return g->status;
}
