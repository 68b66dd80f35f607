/* SPDX-License-Identifier: Apache-2.0
 * Owns calls of cuDNN's descriptors, with the library's reasons where it refuses, and the
 * description of a device. */
#include "dnn_calls.h"

#include "mem.h"

#include <stdio.h>

thaw_status th_cudnn_refused(const char *graph, const char *what, cudnnStatus_t status)
{
    char reason[512] = "";
    cudnnGetLastErrorString(reason, sizeof reason);
    for (char *c = reason; *c; c++)
        if (*c == '\n')
            *c = ' ';
    return th_fail(THAW_E_FAIL, "%s: cuDNN refuses %s: %s%s%s", graph, what,
        cudnnGetErrorString(status), reason[0] ? ": " : "", reason);
}

thaw_status th_cudnn_set(const char *graph, const char *what,
    cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
    cudnnBackendAttributeType_t type, int64_t n, const void *value)
{
    cudnnStatus_t status = cudnnBackendSetAttribute(d, name, type, n, value);
    if (status == CUDNN_STATUS_SUCCESS)
        return THAW_OK;
    char text[576];
    snprintf(text, sizeof text, "attribute %d of %s", (int)name, what);
    return th_cudnn_refused(graph, text, status);
}

thaw_status th_cudnn_set_descriptor(const char *graph, const char *what,
    cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
    cudnnBackendDescriptor_t value)
{
    return th_cudnn_set(graph, what, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

thaw_status th_cudnn_finalize(
    const char *graph, const char *what, cudnnBackendDescriptor_t d)
{
    cudnnStatus_t status = cudnnBackendFinalize(d);
    return status == CUDNN_STATUS_SUCCESS ? THAW_OK
                                          : th_cudnn_refused(graph, what, status);
}

thaw_status th_cudnn_get_text(const char *name, const char *what,
    cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t attribute, char **text,
    size_t *bytes)
{
    int64_t n = 0;
    cudnnStatus_t status =
        cudnnBackendGetAttribute(d, attribute, CUDNN_TYPE_CHAR, 0, &n, NULL);
    if (status != CUDNN_STATUS_SUCCESS || n < 1)
        return th_cudnn_refused(name, what, status);
    char *out = th_alloc((size_t)n + 1, 1);
    if (!out)
        return THAW_E_MEMORY;
    status = cudnnBackendGetAttribute(d, attribute, CUDNN_TYPE_CHAR, n, &n, out);
    if (status != CUDNN_STATUS_SUCCESS) {
        th_free(out);
        return th_cudnn_refused(name, what, status);
    }
    *text = out;
    *bytes = (size_t)n;
    return THAW_OK;
}

/* ---- a device ---- */

static thaw_status describe(cudnnBackendAttributeName_t attribute,
    cudnnBackendAttributeType_t type, int64_t n, const void *value,
    struct th_cudnn_target *target)
{
    const char *name = "the device", *what = "its description";
    cudnnBackendDescriptor_t d = NULL;
    *target = (struct th_cudnn_target){0};
    cudnnStatus_t made =
        cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &d);
    if (made != CUDNN_STATUS_SUCCESS)
        return th_cudnn_refused(name, what, made);
    thaw_status status = th_cudnn_set(name, what, d, attribute, type, n, value);
    if (status == THAW_OK)
        status = th_cudnn_finalize(name, what, d);
    if (status == THAW_OK)
        target->description = d;
    else
        cudnnBackendDestroyDescriptor(d);
    return status;
}

thaw_status th_cudnn_present(cudnnHandle_t handle, struct th_cudnn_target *target)
{
    return describe(
        CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle, target);
}

thaw_status th_cudnn_described(
    const char *json, size_t bytes, struct th_cudnn_target *target)
{
    return describe(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
        (int64_t)bytes, json, target);
}

void th_cudnn_forget(struct th_cudnn_target *target)
{
    if (target->description)
        cudnnBackendDestroyDescriptor(target->description);
    *target = (struct th_cudnn_target){0};
}

thaw_status th_cudnn_device_text(
    const struct th_cudnn_target *target, char **json, size_t *bytes)
{
    return th_cudnn_get_text("the device", "to describe it", target->description,
        CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, json, bytes);
}
