/* SPDX-License-Identifier: Apache-2.0
 * Owns handles, the lives of descriptors, and what the last refusal was. */
#include "dnn.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct dnn_state dnn;

cudnnStatus_t dnn_refuse(cudnnStatus_t status, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(dnn.reason, sizeof dnn.reason, format, list);
    va_end(list);
    return status;
}

cudnnStatus_t dnn_stricter(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(dnn.reason, sizeof dnn.reason, format, list);
    va_end(list);
    emu_find("cudnn: %s", dnn.reason);
    return CUDNN_STATUS_BAD_PARAM;
}

bool dnn_is_open(const char *name)
{
    cudaError_t error = emu_visit(name);
    if (error == cudaSuccess)
        return true;
    dnn_refuse(CUDNN_STATUS_NOT_INITIALIZED, "%s: %s", name, cudaGetErrorString(error));
    return false;
}

/* ---- descriptors ---- */

bool dnn_is_live(const struct dnn_descriptor *d, const char *name)
{
    for (int i = dnn.n_all - 1; i >= 0; i--)
        if (dnn.all[i] == d)
            return true;
    dnn_stricter("%s of %s", name, d ? "what is no live descriptor" : "NULL");
    return false;
}

struct dnn_descriptor *dnn_hold(struct dnn_descriptor *d)
{
    d->references++;
    return d;
}

void dnn_let_go(struct dnn_descriptor *d)
{
    if (!d || --d->references > 0)
        return;
    for (int i = 0; i < d->n_values; i++) {
        struct dnn_value *v = &d->values[i];
        for (int64_t k = 0; v->type == CUDNN_TYPE_BACKEND_DESCRIPTOR && k < v->n; k++)
            dnn_let_go(((struct dnn_descriptor **)v->data)[k]);
        free(v->data);
    }
    dnn_let_go(d->graph);
    free(d->operations);
    free(d->values);
    free(d);
}

cudnnStatus_t cudnnBackendCreateDescriptor(
    cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out)
{
    if (!dnn_is_open("cudnnBackendCreateDescriptor"))
        return CUDNN_STATUS_NOT_INITIALIZED;
    if (!out)
        return dnn_refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "descriptor is NULL");
    if (!dnn_is_type(type)) {
        emu_find("unknown: a descriptor of type %d", (int)type);
        return dnn_refuse(CUDNN_STATUS_NOT_SUPPORTED, "descriptor type %d", (int)type);
    }
    struct dnn_descriptor *d = calloc(1, sizeof *d);
    if (!d)
        abort();
    d->type = type;
    d->references = 1;
    dnn.all = emu_grow(dnn.all, dnn.n_all, sizeof *dnn.all);
    dnn.all[dnn.n_all++] = d;
    *out = d;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor)
{
    struct dnn_descriptor *d = descriptor;
    emu_visit("cudnnBackendDestroyDescriptor"); /* works after an error, too */
    if (!dnn_is_live(d, "cudnnBackendDestroyDescriptor"))
        return CUDNN_STATUS_BAD_PARAM;
    for (int i = dnn.n_all - 1; i >= 0; i--)
        if (dnn.all[i] == d) {
            memmove(&dnn.all[i], &dnn.all[i + 1],
                (size_t)(dnn.n_all - i - 1) * sizeof *dnn.all);
            break;
        }
    dnn.n_all--;
    d->destroyed = true;
    dnn_let_go(d);
    return CUDNN_STATUS_SUCCESS;
}

void emu_dnn_close(void)
{
    for (int i = 0; i < dnn.n_handles; i++) {
        if (dnn.handles[i]->live)
            emu_find("leak: a cuDNN handle was not destroyed");
        free(dnn.handles[i]);
    }
    for (int i = 0; i < dnn.n_all; i++) {
        emu_find("leak: a cuDNN descriptor was not destroyed: %s",
            dnn_name(dnn.all[i]->type));
        dnn_let_go(dnn.all[i]);
    }
    free(dnn.all);
    dnn = (struct dnn_state){0};
}

/* ---- handles ---- */

bool dnn_is_handle(const struct cudnnContext *handle)
{
    for (int i = 0; i < dnn.n_handles; i++)
        if (dnn.handles[i] == handle)
            return handle->live;
    return false;
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    enum { MOST = sizeof dnn.handles / sizeof *dnn.handles };
    if (!dnn_is_open("cudnnCreate"))
        return CUDNN_STATUS_NOT_INITIALIZED;
    if (emu.options.missing != cudaSuccess)
        return dnn_refuse(
            CUDNN_STATUS_NOT_INITIALIZED, "cudaGetDeviceCount(&count) != cudaSuccess");
    if (!handle)
        return dnn_refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "handle is NULL");
    if (dnn.n_handles == MOST)
        return dnn_refuse(
            CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED, "too many handles");
    struct cudnnContext *h = calloc(1, sizeof *h);
    if (!h)
        abort();
    h->live = true;
    dnn.handles[dnn.n_handles++] = h;
    *handle = h;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    if (!handle) /* as the library */
        return CUDNN_STATUS_SUCCESS;
    if (!dnn_is_handle(handle))
        return dnn_stricter("cudnnDestroy of what is no live handle");
    handle->live = false;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    if (!dnn_is_open("cudnnSetStream"))
        return CUDNN_STATUS_NOT_INITIALIZED;
    if (!dnn_is_handle(handle))
        return dnn_stricter("cudnnSetStream of what is no live handle");
    if (emu_actor(stream) < 0)
        return dnn_refuse(CUDNN_STATUS_BAD_PARAM, "no live stream");
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

/* ---- words ---- */

size_t cudnnGetVersion(void)
{
    return CUDNN_VERSION;
}

void cudnnGetLastErrorString(char *message, size_t size)
{
    if (message && size > 0)
        snprintf(message, size, "%s", dnn.reason);
    dnn.reason[0] = '\0';
}

#define STATUS(x)                                                                      \
    {                                                                                  \
        CUDNN_STATUS_##x, "CUDNN_STATUS_" #x                                           \
    }
static const struct {
    cudnnStatus_t status;
    const char *name;
} statuses[] = {
    STATUS(SUCCESS),
    STATUS(NOT_INITIALIZED),
    STATUS(BAD_PARAM),
    STATUS(BAD_PARAM_NULL_POINTER),
    STATUS(BAD_PARAM_MISALIGNED_POINTER),
    STATUS(BAD_PARAM_NOT_FINALIZED),
    STATUS(BAD_PARAM_OUT_OF_BOUND),
    STATUS(BAD_PARAM_SIZE_INSUFFICIENT),
    STATUS(BAD_PARAM_SHAPE_MISMATCH),
    STATUS(BAD_PARAM_ATTRIBUTE_TYPE),
    STATUS(BAD_PARAM_DESCRIPTOR_TYPE),
    STATUS(NOT_SUPPORTED),
    STATUS(NOT_SUPPORTED_GRAPH_PATTERN),
    STATUS(NOT_SUPPORTED_ARCH_MISMATCH),
    STATUS(INTERNAL_ERROR),
    STATUS(INTERNAL_ERROR_COMPILATION_FAILED),
    STATUS(INTERNAL_ERROR_HOST_ALLOCATION_FAILED),
    STATUS(EXECUTION_FAILED),
    STATUS(EXECUTION_FAILED_CUDART),
};

const char *cudnnGetErrorString(cudnnStatus_t status)
{
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        if (statuses[i].status == status)
            return statuses[i].name;
    return "CUDNN_STATUS_?";
}
