/* SPDX-License-Identifier: Apache-2.0
 * A model: which backbone, which head, and the catalogue of its parameters, buffers,
 * BatchNorms and stages, in the order in which the graph names them. Values live in the
 * store. Building the same model for another batch size gives the same catalogue.
 *
 * Adding a backbone is one file in backbones/ that ends with a `const struct th_backbone
 * th_backbone_STEM`; adding a head is one file in heads/ ending with th_head_STEM. */
#ifndef TH_MODEL_H
#define TH_MODEL_H

#include "detector.h"
#include "fingerprint.h"
#include "graph.h"
#include "lora.h"
#include "weights.h"

enum th_role {
    TH_ROLE_CONV,   /* weight of a convolution [o][i/groups][kh][kw] */
    TH_ROLE_LINEAR, /* weight of a linear layer [o][i] */
    TH_ROLE_BIAS,   /* bias of either */
    TH_ROLE_GAMMA,  /* scale of a BatchNorm */
    TH_ROLE_BETA,   /* shift of a BatchNorm */
    TH_ROLE_MEAN,   /* running mean, a buffer */
    TH_ROLE_VAR,    /* running variance, a buffer */
    TH_ROLE_LN_GAMMA,
    TH_ROLE_LN_BETA,
    TH_ROLE_SCALE,    /* gamma of a LayerScale */
    TH_ROLE_TOKEN,    /* class, distillation, register tokens [1][n][d]: no decay */
    TH_ROLE_POSITION, /* position embeddings [1][before + grid^2][d]: no decay */
    TH_ROLE_LORA_A,   /* [r][i] or [r][i][kh][kw], beside a weight [o][i]... */
    TH_ROLE_LORA_B,   /* [o][r] or [o][r][1][1] */
};

struct th_param {
    char *name; /* torchvision's or timm's */
    struct th_shape shape;
    enum th_role role;
    int stage; /* index into th_model.stages */
    int bn;    /* the BatchNorm it belongs to, -1 */
    int fan_in; /* for random initial values: of a bias, of its layer; of a convolution, 0
                   for He's */
    int before;  /* of positions: rows before those of the grid */
    float init;  /* for random initial values: the deviation, LayerScale's value; 0:
                   torchvision's */
    float shift; /* likewise, with init: what a bias is */
};

struct th_bn {
    char *name;
    int stage;
    int gamma, beta, mean, var; /* parameters */
    int conv;                   /* weight of the convolution before it, -1 */
};

/* What the model wants of its input. */
struct th_input {
    struct th_size size;
    struct th_sizes others; /* of a detector: those of inputs that have not that one */
    float mean[3], std[3];
    float crop; /* evaluation: what covers floor(size / crop) */
    int bicubic;
};

/* Values of one image, [3][h][w]. */
static inline size_t th_input_values(const struct th_input *in)
{
    return 3 * th_size_pixels(in->size);
}

/* All sizes of it, its own first. */
static inline struct th_sizes th_input_sizes(const struct th_input *in)
{
    struct th_sizes s = {.n = 1, .at = {in->size}};
    for (int i = 0; i < in->others.n && s.n < TH_MAX_SIZES; i++)
        s.at[s.n++] = in->others.at[i];
    return s;
}

static inline void th_input_set_sizes(struct th_input *in, struct th_sizes all)
{
    in->size = all.at[0];
    in->others.n = 0;
    for (int i = 1; i < all.n; i++)
        in->others.at[in->others.n++] = all.at[i];
}

/* What a backbone hands to a head. */
struct th_taps {
    int n;
    int value[8], stride[8]; /* feature maps [n][c][h][w], finest first */
    int pooled;              /* [n][c], what a classifier reads */
    bool distilled;          /* a second classifier, HEAD_dist, reads: */
    int pooled_dist;         /* [n][c]; the answer is the mean of both */
    /* Where the head reads patches, and the network has a class token: the last tokens
     * [n][t][c], normalised, the class token first, the patches the last `patches` ones. */
    int patches, tokens;
};

enum { TH_MAX_STAGES = 40 };

struct th_model {
    const struct th_backbone *backbone;
    const struct th_variant *variant;
    const struct th_head *head;
    int head_width;     /* values in the hidden layer of heads that have one */
    bool reads_patches; /* the head reads the backbone's tokens: th_taps.patches */
    struct th_pyramid pyramid; /* of a detector, set by the head's build */
    struct th_input input;
    struct th_lora lora; /* rank 0: no adapters */
    float dropout;       /* on the head's input while training; 0: none */
    float drop_path;     /* of the last residual branch while training; 0: none */
    char **classes;
    int n_classes;
    struct th_param *params;
    int n_params, cap_params;
    struct th_bn *bns;
    int n_bns, cap_bns;
    char *stages[TH_MAX_STAGES]; /* from the input up; the last is "head" */
    int n_stages;
    /* Where the values come from; no images, and "", where nobody knows. */
    struct th_fingerprint trained_on;
    char adapted_on[TH_FINGERPRINT_TEXT];
    /* Of the base that the adapters belong to (adapter.h): hashes of its tensors, those of
     * the head 0, and its path; NULL: not noted. */
    int64_t *base_hash;
    int n_base;
    char *base_path;
    /* Models whose heads stand on this backbone too (model_share.c), borrowed; their
     * parameters are in the store under the scope's names. For evaluation alone. */
    const struct th_model **others;
    int n_others;
};

/* Of other head k: "head1/", before its parameters' names and those of what it answers. */
struct th_scope {
    char text[24];
};
struct th_scope th_model_scope(int other);

/* Layers append nodes to the graph and their parameters to the model's catalogue (first
 * build) or find them there (later builds). */
struct th_builder {
    struct th_graph *graph;
    struct th_model *model;
    const char *scope; /* before the graph's names of parameters and answers; NULL:
                          nothing */
    int stage;         /* of what is built now */
    bool training;     /* dropout and the like exist */
    float init;        /* deviation of random linear weights, biases then being zero; 0:
                      torchvision's */
};

/* A row of a backbone's table. */
struct th_variant {
    const char *name, *about;
    const void *config; /* the backbone file's own */
    struct th_input input;
    bool
        input_known; /* of every such file: there are no others, so nothing is assumed */
    int n_classes;   /* of the published weights */
    const char *const *classes; /* their names, NULL: not kept here */
    /* What a file of such tensors may also be, NULL: nothing else. To be said where only
     * the tensors told. */
    const char *unsure;
};

struct th_backbone {
    const char *name, *about;
    const struct th_variant *variants;
    int n_variants;
    /* Prefix of the classifier's parameters: "fc", "linear". */
    const char *(*head_name)(const struct th_variant *v);
    /* Append the network on image [n][3][h][w]; errors are the graph's. */
    void (*build)(struct th_builder *b, const struct th_variant *v, int image,
        struct th_taps *taps);
    /* The variant whose tensors these are, NULL if none. */
    const struct th_variant *(*recognise)(const struct th_weights *w);
    /* The name of a tensor of ours in a file that says it otherwise, NULL: the same. */
    const char *(*file_name)(const struct th_variant *v, const char *name);
};

struct th_head {
    const char *name, *about;
    /* Append the head; returns its output, [n][classes] logits for a classifier. */
    int (*build)(struct th_builder *b, const struct th_taps *taps);
    /* Append the loss on that output, reading inputs of its own; returns a [1] value. */
    int (*loss)(struct th_builder *b, int output);
    /* What its last layers read, [n][values]; NULL: th_pooled. */
    int (*features)(struct th_builder *b, const struct th_taps *taps);
    const char *answer; /* of its parameters NAME.ANSWER.weight has a row a class; NULL:
                           NAME.weight has, NAME being the backbone's head_name; of a
                           detector, ANSWER.weight */
    bool hidden;        /* it has a hidden layer */
    int width;          /* values in it, where nobody says; 0: TH_HEAD_WIDTH */
    bool patches;       /* it reads th_taps.tokens */
    bool many; /* an image may have any number of classes: probabilities are sigmoids */
    const struct th_detector *detector; /* it finds boxes; NULL: it classifies images */
    const void *config; /* what tells it from others with the same functions */
};

extern const struct th_backbone *const th_backbone_list[]; /* NULL at the end */
extern const struct th_head *const th_head_list[];

/* By variant name; THAW_E_USAGE with the nearest names. */
thaw_status th_variant_find(const char *name, const struct th_backbone **backbone,
    const struct th_variant **variant);
const struct th_variant *th_variant_recognise(
    const struct th_weights *w, const struct th_backbone **backbone);

enum { TH_HEAD_WIDTH = 512 };

/* A model with its catalogue (built once with batch 1), without values. head_width 0:
 * TH_HEAD_WIDTH. */
thaw_status th_model_init(struct th_model *m, const struct th_backbone *backbone,
    const struct th_variant *variant, const struct th_head *head, int head_width,
    const struct th_input *input, const char *const *classes, int n_classes);
/* Give the layers that `lora` names their adapters, at the end of the catalogue; in one
 * without targets, those of attention, or all convolutions where there is none. The text
 * of the targets is then in m->lora. THAW_E_USAGE where a word names no layer. */
thaw_status th_model_adapt(struct th_model *m, const struct th_lora *lora);
void th_model_release(struct th_model *m);

/* The same model on inputs of another size. It borrows all that m owns, which outlives it, so
 * that parameters and values are m's; its own are the input's size and the pyramid. It is not
 * released. THAW_E_USAGE where the network cannot have inputs of that size, or its values are
 * of one size only. */
thaw_status th_model_view(
    const struct th_model *m, struct th_size size, struct th_model *view);

/* Append the forward graph for a batch of n. Inputs: "image" [n][3][h][w], "keys"
 * [n][2] i32 where random layers exist; with `loss` also "target", and "pos_weight"
 * [classes] where the head's classes do not exclude each other. Wanted: "logits",
 * "loss" [1], and without a loss what other heads answer, under their scopes. Returns the
 * loss (or the logits without one) in *out. */
thaw_status th_model_build(
    struct th_model *m, struct th_graph *g, int n, bool training, bool loss, int *out);

int th_model_param(const struct th_model *m, const char *name); /* -1: none */
int th_model_stage(const struct th_model *m, const char *name); /* -1: none */
bool th_param_is_buffer(const struct th_param *p);
bool th_param_is_lora(const struct th_param *p);

/* Initial value: torchvision's, He normal (fan out) for convolutions, uniform
 * +-1/sqrt(fan in) for linear layers and biases, 1 and 0 for norms; where `init` says so
 * timm's for Vision Transformers; of adapters PEFT's, A
 * uniform +-1/sqrt(fan in) and B zero. Element k is a function of (seed, name, k). */
void th_param_random(const struct th_param *p, uint64_t seed, float *value);

#endif
