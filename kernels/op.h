/* SPDX-License-Identifier: Apache-2.0
 * Ops: what a step of a plan can be, on any device.
 *
 * An op is one row in ops.def; its shape and gradient rule in kernels/FAMILY.c; its
 * kernels in ref/FAMILY.c, cpu/FAMILY.c, cuda/FAMILY.c; one row of the op sweep test.
 * `dx` and `dw` are ops of their own: what is frozen is a step that is not there. */
#ifndef TH_OP_H
#define TH_OP_H

#include "boxes.h"
#include "error.h"
#include "tensor.h"

enum {
    TH_MAX_IN = 8,
    TH_MAX_OUT = 3,
    TH_MAX_ARGS = TH_MAX_IN + TH_MAX_OUT,
    TH_MAX_GRIDS = 8, /* of proposals */
};

enum th_op {
#define OP(name, ...) TH_OP_##name,
#include "ops.def"
#undef OP
    TH_OP_COUNT
};

/* struct th_args_conv { void *x, *w, *b_, *add_, *y; }; and so on: the operands of a
 * call by name. Absent ones are NULL. */
#define OP(name, family, n_in, n_out, writes, ...)                                     \
    struct th_args_##name {                                                            \
        void *__VA_ARGS__;                                                             \
    };
#include "ops.def"
#undef OP

/* Which function "gelu" is: kernels/act.c. */
enum th_gelu { TH_GELU_ERF, TH_GELU_TANH, TH_GELU_QUICK };

/* How four predicted values are a box, and what is compared: kernels/detect.c. */
enum th_box_loss { TH_BOX_GIOU_SIDES, TH_BOX_GIOU_DELTAS, TH_BOX_SMOOTH_L1 };

/* What the kernels of an op must agree on. Zero where an op has no attribute. */
union th_attr {
    struct th_attr_conv {           /* conv, conv_dx, conv_dw, conv_q */
        int stride[2], dilation[2]; /* h, w */
        int pad[4];                 /* top, left, bottom, right */
        int groups;
        bool relu; /* conv only: y = max(0, conv + b + add) */
    } conv;
    struct
        th_attr_pool { /* maxpool, maxpool_q, avgpool, dx; padding counts in the mean */
        int kernel[2], stride[2], pad[4];
    } pool;
    struct th_attr_norm { /* every norm op */
        float eps;
        float momentum; /* bn_update: weight of the new value */
        int64_t count;  /* bn_update: values per channel, n*h*w */
        bool relu;      /* bn_apply: y = max(0, bn + add), mask of y > 0 */
        int groups;     /* groupnorm */
    } norm;
    struct th_attr_act {
        enum th_gelu kind; /* gelu, gelu_dx */
    } act;
    struct th_attr_dropout { /* dropout, drop_path, dx */
        float p;        /* probability of zero; kept values are scaled by 1/(1-p) */
        uint64_t layer; /* hash of the layer's name, folded into each sample's key */
    } dropout;
    struct th_attr_attention {
        int heads;
    } attention;
    struct th_attr_token {
        int first; /* tokens, dw: 1 with a class token, else 0; token_mean: first read */
        int count; /* token_mean: how many */
    } token;
    struct th_attr_scale {
        float factor;
    } scale;
    struct
        th_attr_shortcut { /* y = x[:, :, ::stride, ::stride], zero channels around */
        int stride, front, back; /* zero channels before and after */
    } shortcut;
    struct th_attr_upsample {
        int size[2]; /* of y: h, w */
    } upsample;
    struct th_attr_rows {
        int width;     /* map_rows: values in a row */
        int64_t first; /* map_rows_dx: the first row of the map */
        int grid[2];   /* rows_map, dx: what the last rows are the places of, h, w */
        int factor;    /* likewise: a row is so many places squared of the map */
    } rows;
    struct th_attr_focal {
        float alpha, gamma;
    } focal;
    struct th_attr_box {
        enum th_box_loss kind;
        float beta; /* smooth L1: where it becomes linear; 0: L1 */
    } box;
    struct th_attr_proposals {
        struct th_grid grid[TH_MAX_GRIDS]; /* of the rows, one behind the other */
        int n_grids;
        struct th_size size;  /* of the input */
        int level_most, most; /* candidates of a grid, boxes of an image */
        float overlap;        /* more is suppressed */
    } proposals;
    struct th_attr_sample {
        int count, positive; /* rows of an image, at most so many with a class */
        float overlap;       /* from here on a box is of the object's class */
    } sample;
    struct th_attr_roi {
        int stride; /* of the first map, a power of 2; of each that follows twice that */
        int n_maps;   /* a box is read from one of them */
        int map;      /* roi_align_dx: whose gradient it is */
        int pooled;   /* y is pooled x pooled */
        int sampling; /* sampling x sampling points make a value */
    } roi;
    struct th_attr_update {
        float lr_scale, weight_decay, momentum;
        bool nesterov;
        float beta1, beta2, eps; /* adamw */
        float clip;              /* guard: largest gradient norm, 0: none */
    } update;
    struct th_attr_lora { /* lora_*, scale_rows */
        float scale;      /* alpha / r */
        float eps;        /* scale_rows: of the BatchNorm */
    } lora;
};

/* One small buffer on the device, written by the host before each step. */
struct th_scalars {
    float lr;
    float
        skip; /* set by guard: 1 when the step is not finite; updates then do nothing */
    float
        clip; /* factor on every gradient: 1, or 1 / (sum of a group's loss_scale); guard
                   makes it smaller where the gradients' norm is too large */
    float loss_scale; /* factor on the loss's gradient: 1; in a group of batches the
                         images of the batch, or the sum of their weights */
    float gathered;   /* batches of the group whose gradients are in the totals */
    float momentum;   /* of sgd, beta1 of adamw, in this step; 0: the optimizer's own */
    float ema_decay;
    float n_skipped; /* incremented by guard */
    float norm;      /* set by guard: the gradients' norm, where it was computed */
};

/* A tensor as an op sees it. Logical shape and type; and, for [n][c][h][w] values, the
 * channel block b: memory is [n][c/b][h][w][b], c a multiple of b; b = 1 is NCHW. */
struct th_operand {
    struct th_shape shape;
    enum th_dtype dtype;
    int block;
    bool present;
};

/* While a gradient rule runs: see th_op_rule.grad. */
struct th_grad {
    const union th_attr *attr;
    const int *in, *out; /* the forward node's values; -1 where absent */
    const int *dout;     /* gradient of each output; -1: nobody needs it */
    const bool *need;    /* per input: something below it trains */
    int *din;            /* the rule sets the gradient's value of each needed input */
    int scalars;         /* value of struct th_scalars */
    const struct th_operand *(*operand)(const struct th_grad *g, int value);
    /* Append a node. out[i] gets a new value with shape and type of value like[i]
     * (like[i] = -1: an output that is not wanted). */
    thaw_status (*emit)(struct th_grad *g, enum th_op op, const union th_attr *attr,
        const int *in, const int *like, int *out);
};

/* An op's rules, in kernels/FAMILY.c as `const struct th_op_fn th_rule_NAME`. */
struct th_op_fn {
    /* Set out[] (shape and dtype) from in[]; THAW_E_USAGE with a sentence if they do not
     * fit. NULL for gradient ops, whose outputs are shaped like the forward inputs. */
    thaw_status (*shape)(
        const union th_attr *attr, const struct th_operand *in, struct th_operand *out);
    /* Emit the gradient nodes that `need` asks for and no others. NULL: no gradient. */
    thaw_status (*grad)(struct th_grad *g);
    /* Multiply-adds of one run; NULL: none worth counting. */
    int64_t (*macs)(const union th_attr *attr, const struct th_operand *in,
        const struct th_operand *out);
    bool
        detached; /* its outputs are constants to whoever reads them (torch's detach) */
};
#define OP(name, ...) extern const struct th_op_fn th_rule_##name;
#include "ops.def"
#undef OP

/* What is known of an op without a device. */
struct th_op_rule {
    const char *name;
    int n_in, n_out;
    unsigned writes; /* bit i: input i is updated in place */
    const struct th_op_fn *fn;
};

const struct th_op_rule *th_op_rule(enum th_op op);

/* Boxes of an image that `proposals` makes at most, in kernels/roi.c. */
int64_t th_proposals_most(const struct th_attr_proposals *p);

/* Draws from the samples' keys: another result in each step, of equal inputs. */
static inline bool th_op_is_random(enum th_op op)
{
    return op == TH_OP_dropout || op == TH_OP_drop_path;
}

#endif
