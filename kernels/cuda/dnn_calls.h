/* SPDX-License-Identifier: Apache-2.0
 * cuDNN's calls for descriptors, with the library's reasons where it refuses one. `graph` is
 * whom it is about, `what` the part of it. */
#ifndef TH_DNN_CALLS_H
#define TH_DNN_CALLS_H

#include "dnn_plan.h"

/* THAW_E_FAIL. */
thaw_status th_cudnn_refused(const char *graph, const char *what, cudnnStatus_t status);
thaw_status th_cudnn_set(const char *graph, const char *what,
    cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
    cudnnBackendAttributeType_t type, int64_t n, const void *value);
thaw_status th_cudnn_set_descriptor(const char *graph, const char *what,
    cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
    cudnnBackendDescriptor_t value);
thaw_status th_cudnn_finalize(
    const char *graph, const char *what, cudnnBackendDescriptor_t d);
/* An attribute that is JSON; for th_free. */
thaw_status th_cudnn_get_text(const char *graph, const char *what,
    cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t attribute, char **text,
    size_t *bytes);

#endif
