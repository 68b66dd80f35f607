/* SPDX-License-Identifier: Apache-2.0
 * From a call of an op (or two calls that follow one another) to the cuDNN graph that
 * computes it.
 *
 * Activations are NHWC: an operand's channel block is its channel count, which is what
 * th_cuda_layout asks for. Activations, and weights as the graph reads them, have the type
 * that the engine computes in; vectors by channel, statistics and gradients of weights are
 * fp32. Weights are read from packed copies (TH_CUDNN_PACKED).
 *
 * A BatchNorm on batch statistics keeps 1 / sqrt(var + eps) in the place of var: cuDNN makes
 * and wants that; only steps of this engine read it. TH_BIT masks are CUDNN_DATA_BOOLEAN:
 * eight a byte, the lowest bit first, in the order of the memory. */
#ifndef TH_CUDA_LOWER_H
#define TH_CUDA_LOWER_H

#include "backend.h"
#include "dnn_graph.h"

/* Of a convolution or a matrix product with something after it: all in one graph; or, for
 * engines that take no epilogue, the product alone, into scratch of the engine's type; and
 * what comes after it, from there. */
enum th_cuda_part { TH_CUDA_WHOLE, TH_CUDA_PRODUCT, TH_CUDA_EPILOGUE };

struct th_cuda_group {
    const struct th_call *calls[2];
    int n;     /* 1 or 2 */
    bool keep; /* of two: others read what the second gets from the first, too */
    enum th_cuda_part part;
};

/* The graph of a group. THAW_E_USAGE: shapes or attributes that do not fit; an op, or a
 * pair, that has no graph (th_cuda_has_graph, th_cuda_pair tell). */
thaw_status th_cuda_graph(const struct th_cuda_group *group, cudnnDataType_t type,
    struct th_cudnn_graph **out);

/* Whether the group has parts. */
bool th_cuda_splits(const struct th_cuda_group *group);

/* Whether the op alone has a graph; else *why says what runs it. */
bool th_cuda_has_graph(enum th_op op, const char **why);

/* Whether the two ops make one graph where value `out` of the first is value `in` of the
 * second; sole: only where nothing else reads that value. */
struct th_cuda_pair {
    enum th_op first, second;
    int out, in;
    bool sole;
};
/* The pairs, in the order in which they are to be looked for. */
const struct th_cuda_pair *th_cuda_pairs(int *n);

/* Activations whole: NHWC. */
void th_cuda_layout(const union th_attr *attr, struct th_operand *in,
    struct th_operand *out, int device_block);

#endif
