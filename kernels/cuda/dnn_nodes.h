/* SPDX-License-Identifier: Apache-2.0
 * Between the files of the graph builder. */
#ifndef TH_CUDNN_NODES_H
#define TH_CUDNN_NODES_H

#include "dnn_graph.h"

/* "x bf16[32,64,56,56]" into text, which it returns. */
const char *th_cudnn_tensor_text(
    const struct th_cudnn_graph *g, int tensor, char *text, size_t size);

/* "conv(x bf16[32,64,56,56], w bf16[64,64,3,3], - f32[32,64,56,56])" into text. */
void th_cudnn_node_text(
    const struct th_cudnn_graph *g, int node, char *text, size_t size);

/* The first failure becomes the graph's, with the tensors' shapes; returns -1. */
int th_cudnn_fail(struct th_cudnn_graph *g, const char *node, const int *tensors, int n,
    const char *why);

#endif
