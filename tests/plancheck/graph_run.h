/* SPDX-License-Identifier: Apache-2.0
 * Runs a graph of the builder in plain C, by what cuDNN's documentation says of each node:
 * whether a lowering means its op can be seen without cuDNN. In double, rounding nowhere. */
#ifndef PLANCHECK_GRAPH_RUN_H
#define PLANCHECK_GRAPH_RUN_H

#include "dnn_graph.h"

/* args: as th_call.args, of the group's calls in one row. Real tensors are fp32, masks bits,
 * indices bytes; packed weights are read and written in the plain order. `scratch` of the
 * graph's scratch_bytes, which the two parts of a group share. A node that the interpreter
 * does not know is a failure. */
thaw_status graph_run(const struct th_cudnn_graph *g, void *const *args, void *scratch);

#endif
