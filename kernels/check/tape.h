/* SPDX-License-Identifier: Apache-2.0
 * The op sweep: cases, and a tape that holds a forward node, what its gradient rule
 * emits, and the values of both. Values on the host are row-major, whatever the layout
 * that a device is given. For this folder and for tests (tests/support); what the library
 * makes of it is check.h. */
#ifndef TH_TAPE_H
#define TH_TAPE_H

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
 *   p* above 0   l labels -2..2   y -1 or within 0..1
 *   q quantised, has equals   r constant   + constant, above 0   v above 0
 *   u u8   b i8   W i8 weight   z small, above 0   A affine of conv_q
 *   t targets   k keys   m bits   i window positions (below 4)   1 loss or counter
 *   s scalars   e boxes in 86 pixels, some of them none   n no boxes (-1)
 *   0 keys or labels 0   N labels -1   Q as q, some of them no number */
struct op_case {
    const char *name;
    enum th_op op;
    enum case_mode mode;
    union th_attr attr;
    const char *operands;
};
extern const struct op_case th_op_cases[];
extern const int th_n_op_cases;

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

/* Fill the case's inputs; for a gradient, emit it for inputs that are in `need` (bits).
 * Nothing is held after a failure. */
thaw_status th_tape_init(struct tape *t, const struct op_case *c, int need);
void th_tape_release(struct tape *t);

/* Run nodes begin..end-1 on `ref`, plain, and keep their outputs. */
thaw_status th_tape_run(struct tape *t, struct th_device *ref, int begin, int end);

/* Run one node on a device; THAW_E_FAIL where it writes what it may not, or other bits
 * when it runs again, or what it keeps does not verify. `ref` converts layouts. */
thaw_status th_tape_run_node(const struct tape *t, const struct node *node,
    struct th_device *ref, struct th_device *device, struct layout layout,
    struct result *result);
void th_tape_forget(struct result *r);

/* The node's inputs as the device has them: rounded, where it has them in bf16. */
void th_tape_round(struct tape *t, const struct node *node, struct th_device *device);

/* Whether the node is another one on the device when its inputs come in blocks. */
bool th_tape_blocks(
    const struct tape *t, const struct node *node, struct th_device *device, int block);

/* The operand behind argument i of a node, and whether the node writes it. */
const struct th_operand *th_tape_operand(
    const struct tape *t, const struct node *n, int i);
bool th_tape_writes(const struct node *n, int i);

/* Largest relative error |a - ref|_2 / |ref|_2 of what an op computes. */
double th_op_tolerance(enum th_op op, const struct th_device *device);

struct th_comparison {
    const struct th_device *device; /* that computed it */
    bool exact;                     /* the same bits */
    unsigned opaque;                /* bits: arguments that are left out */
};

/* Everything that the node writes is as the plain C kernel has it: real values within the
 * op's tolerance, bits and positions exactly. THAW_E_FAIL says what differs first. *worst
 * (may be NULL) grows to the largest relative error. */
thaw_status th_tape_compare(const struct tape *t, const struct node *n,
    const struct result *a, const struct result *expected, struct th_comparison how,
    double *worst);

#endif
