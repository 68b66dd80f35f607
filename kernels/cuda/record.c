/* SPDX-License-Identifier: Apache-2.0
 * Owns recordings: what a run enqueues, captured from the stream into a CUDA graph. */
#include "engine.h"

thaw_status th_cuda_record(struct th_device *device)
{
    return th_cuda_check(cudaStreamBeginCapture(
                             th_cuda(device)->stream, cudaStreamCaptureModeThreadLocal),
        "recording a step");
}

thaw_status th_cuda_recorded(struct th_device *device, void **recording)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    cudaError_t error = cudaStreamEndCapture(th_cuda(device)->stream, &graph);
    if (error == cudaSuccess && recording)
        error = cudaGraphInstantiate(&exec, graph, 0);
    if (graph)
        cudaGraphDestroy(graph);
    if (recording)
        *recording = exec;
    cudaGetLastError(); /* what spoilt a recording is none of the next call's */
    return th_cuda_check(error, "recording a step");
}

thaw_status th_cuda_replay(struct th_device *device, void *recording)
{
    return th_cuda_check(
        cudaGraphLaunch(recording, th_cuda(device)->stream), "a recorded step");
}

void th_cuda_forget(struct th_device *device, void *recording)
{
    (void)device;
    cudaGraphExecDestroy(recording);
}
