/* SPDX-License-Identifier: Apache-2.0
 * The op sweep: cases, and a tape that holds a forward node, what its gradient rule
 * emits, and the values of both. Values on the host are row-major, whatever the layout
 * that a device is given. */
#ifndef OPS_H
#define OPS_H

#include "backend.h"

enum { MAX_VALUES = 40, MAX_NODES = 6, NEED_ALL = ~0 };

enum case_mode {
    FORWARD, /* one node, no gradient */
    GRADIENT,
    BATCH_STATISTICS /* bn_stats, then bn_apply with its outputs; gradient */
};

/* `operands` names a kind and a shape for each input, and behind ">" for each output of
 * ops without a shape rule: "x2,3,7,5 w16,3,3,3 c16 -". Kinds (those marked * need a
 * gradient):
 *   x* normal   w* weight   c* vector   o* not near 0   d* all different   - absent
 *   q quantised, has equals   r constant   + constant, above 0   v above 0
 *   u u8   b i8   W i8 weight   z small, above 0   A affine of conv_q
 *   t targets   k keys   m bits   i window positions (below 4)   1 loss or counter
 *   s scalars */
struct op_case {
    const char *name;
    enum th_op op;
    enum case_mode mode;
    union th_attr attr;
    const char *operands;
};
extern const struct op_case op_cases[];
extern const int n_op_cases;

struct node {
    enum th_op op;
    union th_attr attr;
    int in[TH_MAX_IN], out[TH_MAX_OUT]; /* values; -1: absent */
};

struct tape {
    const char *name;
    struct th_operand value[MAX_VALUES];
    char kind[MAX_VALUES];   /* 0: computed */
    bool weight[MAX_VALUES]; /* never blocked */
    void *data[MAX_VALUES];  /* row-major; NULL until filled or computed */
    struct node node[MAX_NODES];
    int n_values, n_nodes, n_forward; /* the last forward node is the case's */
    bool need[TH_MAX_IN];
    int dout[TH_MAX_OUT], din[TH_MAX_IN];
};

/* Every argument of a node after it ran, row-major. */
struct result {
    void *arg[TH_MAX_ARGS];
};

/* How to lay out a node's operands. */
struct layout {
    int block; /* of [n][c][h][w] inputs where it divides the channels */
    bool
        force; /* convolutions on the plain C engine: outputs too, the kernel not asked */
    bool choose; /* convolutions: the algorithm is not the table's, but: */
    enum th_conv_algorithm algorithm;
};

/* Fails the test with the case's name and the library's sentence. */
void ok(thaw_status status, const char *name);

/* Fill the case's inputs; for a gradient, emit it for inputs that are in `need` (bits). */
void tape_init(struct tape *t, const struct op_case *c, int need);
void tape_release(struct tape *t);

/* Run nodes begin..end-1 on `ref`, plain, and keep their outputs. */
void tape_run(struct tape *t, struct th_device *ref, int begin, int end);

/* Run one node on a device; checks that it wrote only what it may, that running again
 * gives the same bits, and what it verifies. `ref` converts layouts. */
void node_run(const struct tape *t, const struct node *node, struct th_device *ref,
    struct th_device *device, struct layout layout, struct result *result);
void result_release(struct result *r);

/* The operand behind argument i of a node, and whether the node writes it. */
const struct th_operand *node_operand(
    const struct tape *t, const struct node *n, int i);
bool node_writes(const struct node *n, int i);

#endif
