/* SPDX-License-Identifier: Apache-2.0
 * The one intermediate form: a static graph of values and nodes, by id.
 *
 * Backbones and heads append forward nodes; passes lower them, append gradient and update
 * nodes, and rewrite. Invariants: nodes stand in an order in which they can run; a value
 * has at most one node that makes it; shapes were checked when the node was added; after
 * the first failure every call does nothing and returns -1 (sticky error), so that a
 * backbone reads like the paper and is checked once, at its end. */
#ifndef TH_GRAPH_H
#define TH_GRAPH_H

#include "op.h"

enum th_value_kind {
    TH_VALUE_TEMP,  /* made and read within one run */
    TH_VALUE_INPUT, /* uploaded before each run */
    TH_VALUE_STATE, /* lives in the store: parameter, buffer, optimizer slot, scalars */
    TH_VALUE_DERIVED, /* made only from states and derived values: kept between runs */
};

struct th_value {
    struct th_operand o;
    enum th_value_kind kind;
    char *name;     /* inputs, states and wanted outputs; else NULL */
    int view_of;    /* shares the memory of this value; -1 */
    bool wanted;    /* read by the host after a run */
    bool trainable; /* a state that the optimizer moves: set by the freeze state */
    bool moves;     /* derived from such a state: set by the planner */
};

enum th_phase { TH_FORWARD, TH_BACKWARD, TH_COMMIT };

struct th_node {
    enum th_op op;
    enum th_phase phase;
    union th_attr attr;
    int in[TH_MAX_IN], out[TH_MAX_OUT]; /* value ids; -1 absent */
    char *name;                         /* layer, for reports and errors */
    int bn;                             /* batchnorm: its index in the model */
    int stage;                          /* dropout: that it belongs to */
    bool host; /* runs on the host, between a download and an upload */
    bool removed;
};

struct th_graph {
    struct th_value *values;
    struct th_node *nodes;
    int n_values, n_nodes, cap_values, cap_nodes;
    thaw_status status; /* sticky */
};

void th_graph_init(struct th_graph *g);
void th_graph_release(struct th_graph *g);

/* New values; -1 once the graph has failed. A state or input of the same name is one
 * value. */
int th_graph_value(struct th_graph *g, const struct th_operand *o);
int th_graph_input(
    struct th_graph *g, const char *name, enum th_dtype dtype, struct th_shape shape);
int th_graph_state(struct th_graph *g, const char *name, struct th_shape shape);
int th_graph_find(const struct th_graph *g, const char *name); /* -1: none */

/* Append a node with checked shapes; returns its first output (all outputs are new).
 * in: one id for each input of the op, -1 where absent. */
int th_graph_node(struct th_graph *g, enum th_op op, const union th_attr *attr,
    const int *in, const char *name);

/* x under another shape with as many elements: shares its memory. */
int th_graph_view(struct th_graph *g, int x, struct th_shape shape);

/* Append a node that makes or updates existing values (passes). NULL on failure. */
struct th_node *th_graph_emit(struct th_graph *g, enum th_op op, enum th_phase phase,
    const union th_attr *attr, const int *in, const int *out, const char *name);

/* For rewriting passes: take all nodes out, to be freed with th_free once each was pushed
 * again (push moves the node, name and all) or its name freed. */
struct th_node *th_graph_take(struct th_graph *g, int *n);
void th_graph_push(struct th_graph *g, const struct th_node *node);

/* The node that makes the value; NULL for inputs and states. */
struct th_node *th_graph_maker(struct th_graph *g, int value);

/* Run the node that makes `value` on the host, in plain C, whatever the device: for ops
 * that a device has no kernel for, or that only make sense there (proposals, matching).
 * A synchronisation on a device with its own memory. */
void th_graph_on_host(struct th_graph *g, int value);

/* The host will read this value after a run, under this name. */
void th_graph_want(struct th_graph *g, int value, const char *name);

/* Bit i of the op's `writes` row. */
bool th_node_writes(const struct th_node *n, int input);

/* Number of live nodes that read the value (through itself, not through views). */
int th_graph_readers(const struct th_graph *g, int value);

/* Drop removed nodes, and nodes whose outputs nobody reads and that write nothing;
 * outputs that nobody reads become -1 where the op allows their absence. */
void th_graph_sweep(struct th_graph *g);

#endif
