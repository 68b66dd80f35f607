/* SPDX-License-Identifier: Apache-2.0
 * A network: a model on a device with values in a store, ready to be planned. Where the
 * values come from is pretrained.h's business. */
#ifndef TH_NETWORK_H
#define TH_NETWORK_H

#include "conv_table.h"
#include "plan.h"
#include "preprocess.h"

struct th_network {
    struct th_device *device;
    struct th_model model;
    struct th_store store;
    struct th_arena arena; /* shared by all plans of the network */
    struct th_conv_table conv_table;
    char *plans; /* folder of --plan-cache; NULL: none */
};

struct th_network_spec {
    const struct th_backbone *backbone;
    const struct th_variant *variant;
    const struct th_head *head;
    int head_width; /* 0: TH_HEAD_WIDTH */
    struct th_input input;
    const char *const *classes; /* copied */
    int n_classes;
    const struct th_lora *lora; /* NULL or rank 0: no adapters */
    const char *device;
    int threads;
    const char *conv_table; /* path; NULL or "built-in": none */
    const char *plan_cache; /* a folder, or "auto"; NULL or "off": none */
};

/* All parameters and buffers are in the store, zero. Release after failure, too. */
thaw_status th_network_init(struct th_network *n, const struct th_network_spec *spec);
void th_network_release(struct th_network *n);

/* Instruction set and table by which convolutions are chosen: "avx2, built-in". With the
 * thread count they decide the bits that a build computes. */
struct th_network_choices {
    char text[64];
};
struct th_network_choices th_network_choices(const struct th_network *n);

/* What went wrong on the device and is no error, as a warning. */
void th_network_warn(struct th_network *n, const thaw_events *events);

/* Initial values drawn from the seed, of everything, or of the head and adapters alone. */
thaw_status th_network_randomise(struct th_network *n, uint64_t seed, bool head_only);
bool th_network_in_head(const struct th_network *n, int param);

/* A second store with the model's parameters and buffers, zero. */
thaw_status th_network_mirror(struct th_network *n, struct th_store *s);

/* "classify"; THAW_E_USAGE for an unknown name, with the nearest. */
thaw_status th_head_find(const char *name, const struct th_head **head);

/* Of a detector, which outlives it. */
thaw_status th_model_reader(const struct th_model *m, struct th_reader *r);

/* The model on inputs of its size number `bucket` (th_input_sizes): a th_model_view. */
thaw_status th_network_view(
    const struct th_network *n, int bucket, struct th_model *view);

/* How images become the model's input, of its own size. */
struct th_preprocess th_network_preprocess(const struct th_network *n);

#endif
