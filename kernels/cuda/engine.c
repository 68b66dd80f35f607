/* SPDX-License-Identifier: Apache-2.0
 * Owns the device "cuda:N": opening and closing it, and who runs which op. */
#include "engine.h"
#include "groups.h"
#include "halves.h"
#include "lower.h"
#include "own.h"
#include "plugin.h"

#include "mem.h"

#include <stdio.h>
#include <stdlib.h>

thaw_status th_cuda_check(cudaError_t error, const char *what)
{
    if (error == cudaSuccess)
        return THAW_OK;
    return th_fail(error == cudaErrorMemoryAllocation ? THAW_E_MEMORY : THAW_E_FAIL,
        "cuda: %s: %s (%s)", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

static thaw_status check_dnn(cudnnStatus_t status, const char *what)
{
    if (status == CUDNN_STATUS_SUCCESS)
        return THAW_OK;
    return th_fail(
        THAW_E_FAIL, "cuda: %s: cuDNN says %s", what, cudnnGetErrorString(status));
}

static thaw_status check_blas(cublasStatus_t status, const char *what)
{
    if (status == CUBLAS_STATUS_SUCCESS)
        return THAW_OK;
    return th_fail(THAW_E_FAIL, "cuda: %s: cuBLASLt says %s", what,
        cublasLtGetStatusString(status));
}

/* The device's number, if there is such a device. */
static thaw_status choose_device(const struct th_device *device, int *number)
{
    int n = 0;
    char *end = NULL;
    cudaError_t error = cudaGetDeviceCount(&n); /* leaves n alone when it fails */
    if (error != cudaSuccess)
        return th_fail(THAW_E_FAIL,
            "device cuda:%s: no NVIDIA GPU that can be used here: %s (%s); install a "
            "driver, or use --device cpu",
            device->isa, cudaGetErrorString(error), cudaGetErrorName(error));
    long wanted = strtol(device->isa, &end, 10);
    if (wanted >= n)
        return th_fail(THAW_E_FAIL,
            "device cuda:%s: there are %d CUDA devices here, counted from 0",
            device->isa, n);
    *number = (int)wanted;
    return THAW_OK;
}

static thaw_status describe(struct th_cuda *cuda, int number)
{
    struct cudaDeviceProp properties;
    TRY(th_cuda_check(cudaGetDeviceProperties(&properties, number), "the device"));
    snprintf(cuda->text, sizeof cuda->text, "cuda:%d: %s, cuDNN %zu, %s", number,
        properties.name, cudnnGetVersion(),
        cuda->policy.strict              ? "fp32"
        : cuda->type == CUDNN_DATA_FLOAT ? "tf32"
                                         : "bf16");
    return THAW_OK;
}

static thaw_status open_libraries(struct th_cuda *cuda, int number)
{
    TRY(th_cuda_check(cudaSetDevice(number), "choosing the device"));
    TRY(th_cuda_check(
        cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking), "a stream"));
    TRY(check_dnn(cudnnCreate(&cuda->dnn), "opening cuDNN"));
    TRY(check_dnn(cudnnSetStream(cuda->dnn, cuda->stream), "cuDNN's stream"));
    TRY(check_blas(cublasLtCreate(&cuda->blas), "opening cuBLASLt"));
    TRY(th_cudnn_present(cuda->dnn, &cuda->target));
    TRY(th_cuda_kernels_open(cuda));
    TRY(th_cuda_ring_open(&cuda->ring, TH_CUDA_SLOTS, cuda->stream));
    TRY(th_cuda_ahead_open(cuda));
    return describe(cuda, number);
}

static thaw_status cuda_wait(struct th_device *device)
{
    const struct th_cuda *cuda = th_cuda(device);
    const char *what = "work on the device";
    TRY(th_cuda_check(cudaStreamSynchronize(cuda->ahead.stream), what));
    return th_cuda_check(cudaStreamSynchronize(cuda->stream), what);
}

static void cuda_close(struct th_device *device)
{
    struct th_cuda *cuda = th_cuda(device);
    if (cuda->ahead.stream)
        cudaStreamSynchronize(cuda->ahead.stream);
    if (cuda->stream)
        cudaStreamSynchronize(cuda->stream);
    th_cuda_ahead_close(cuda);
    th_cuda_ring_close(&cuda->ring);
    th_cuda_kernels_close(cuda);
    th_plan_cache_close(&cuda->plans);
    th_cudnn_forget(&cuda->target);
    if (cuda->blas)
        cublasLtDestroy(cuda->blas);
    if (cuda->dnn)
        cudnnDestroy(cuda->dnn);
    if (cuda->stream)
        cudaStreamDestroy(cuda->stream);
    th_free(cuda);
    device->state = NULL;
}

static const char *cuda_describe(struct th_device *device)
{
    return th_cuda(device)->text;
}

/* Ops with operands that are parameters: plain, whatever their rank. */
static bool takes_parameters(enum th_op op)
{
    switch (op) {
    case TH_OP_bn_fold:
    case TH_OP_lora_merge:
    case TH_OP_lora_da:
    case TH_OP_lora_db:
    case TH_OP_scale_rows:
    case TH_OP_sum_squares:
    case TH_OP_accumulate:
    case TH_OP_hold:
    case TH_OP_sgd:
    case TH_OP_adamw:
    case TH_OP_ema:
        return true;
    default:
        return false;
    }
}

/* cuDNN where it sums products or windows; cuBLASLt for linear layers; the rest, which moves
 * memory, is ours: cuDNN's engines for it are compiled at run time, a second each. */
static const struct th_kernel *cuda_kernel(enum th_op op)
{
    static const struct th_kernel *const kernels[TH_OP_COUNT] = {
        [TH_OP_conv] = &th_cuda_conv_kernel,
        [TH_OP_conv_dx] = &th_cuda_conv_kernel,
        [TH_OP_conv_dw] = &th_cuda_conv_dw_kernel,
        [TH_OP_maxpool] = &th_cuda_graph_kernel,
        [TH_OP_maxpool_dx] = &th_cuda_graph_kernel,
        [TH_OP_avgpool] = &th_cuda_graph_kernel,
        [TH_OP_avgpool_dx] = &th_cuda_graph_kernel,
        [TH_OP_gap] = &th_cuda_graph_kernel,
        [TH_OP_linear] = &th_cuda_linear_kernel,
        [TH_OP_linear_dx] = &th_cuda_linear_dx_kernel,
        [TH_OP_linear_dw] = &th_cuda_linear_dw_kernel,
        [TH_OP_attention] = &th_cuda_attention_kernel,
        [TH_OP_attention_dx] = &th_cuda_attention_dx_kernel,
        [TH_OP_reorder] = &th_cuda_reorder_kernel,
    };
    const char *why;
    if (kernels[op])
        return kernels[op];
    if (th_own(op) && th_own(op)->run_all)
        return &th_cuda_own_many_kernel;
    if (th_own(op))
        return takes_parameters(op) ? &th_cuda_own_plain_kernel : &th_cuda_own_kernel;
    if (th_cuda_has_graph(op, &why))
        return &th_cuda_graph_kernel;
    return op == TH_OP_batchnorm ? NULL : &th_hosted_kernel; /* int8's */
}

/* cuDNN has attention in bf16, mostly. */
static const struct th_kernel *half_kernel(enum th_op op)
{
    bool attention = op == TH_OP_attention || op == TH_OP_attention_dx;
    return attention ? &th_cuda_attention_half_kernel : cuda_kernel(op);
}

static thaw_status cuda_open(struct th_device *device);

/* All but what the precision decides. */
#define CUDA                                                                           \
    .name = "cuda", .pair = th_cuda_pair_steps, .pair_kernel = &th_cuda_pair_kernel,   \
    .open = cuda_open, .close = cuda_close, .wait = cuda_wait, .alloc = th_cuda_alloc, \
    .free = th_cuda_free, .upload = th_cuda_upload, .download = th_cuda_download,      \
    .download_all = th_cuda_download_all, .send = th_cuda_send, .take = th_cuda_take,  \
    .record = th_cuda_record, .recorded = th_cuda_recorded, .replay = th_cuda_replay,  \
    .forget = th_cuda_forget, .describe = cuda_describe

static const struct th_backend backend = {CUDA, .kernel = cuda_kernel};
static const struct th_backend half_backend = {
    CUDA, .kernel = half_kernel, .halves = th_cuda_halves};

static thaw_status cuda_open(struct th_device *device)
{
    int number = 0;
    TRY(choose_device(device, &number));
    struct th_cuda *cuda = th_alloc(1, sizeof *cuda);
    if (!cuda)
        return THAW_E_MEMORY;
    cuda->type = device->precision == TH_HALF ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    cuda->policy = (struct th_cudnn_policy){
        .strict = device->precision == TH_FP32, .deterministic = true};
    device->state = cuda;
    if (device->precision == TH_HALF)
        device->backend = &half_backend;
    device->block = 16; /* not plain: th_cuda_layout decides */
    thaw_status status = open_libraries(cuda, number);
    if (status != THAW_OK)
        cuda_close(device);
    return status;
}

__attribute__((visibility("default"))) const struct th_backend *th_plugin_entry(
    const struct th_plugin_host *host);

const struct th_backend *th_plugin_entry(const struct th_plugin_host *host)
{
    const struct th_plugin_host own = th_plugin_host();
    if (!th_plugin_fits(host, &own))
        return NULL;
    th_error_borrow(host->sentence);
    return &backend;
}
