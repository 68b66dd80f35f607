/* SPDX-License-Identifier: Apache-2.0
 * Owns failures, those that are asked for and those that stay, and waits that are left out. */
#include "emu.h"

#include <string.h>

void emu_fail(enum emu_class class, int n)
{
    memset(emu.fail_in, 0, sizeof emu.fail_in);
    emu.fail_in[class] = n;
    emu.failed = false;
}

int emu_fails_in(enum emu_class class)
{
    return emu.fail_in[class];
}

bool emu_failed(void)
{
    return emu.failed;
}

void emu_forget(enum emu_wait wait, int n)
{
    memset(emu.forget_in, 0, sizeof emu.forget_in);
    emu.forget_in[wait] = n;
    emu.forgotten = false;
}

bool emu_forgotten(void)
{
    return emu.forgotten;
}

bool emu_forgets(enum emu_wait wait)
{
    bool now = emu.forget_in[wait] > 0 && --emu.forget_in[wait] == 0;
    emu.forgotten = emu.forgotten || now;
    return now;
}

static cudaError_t error_of(enum emu_class class)
{
    switch (class) {
    case EMU_ALLOC:
        return cudaErrorMemoryAllocation;
    case EMU_COPY:
        return cudaErrorInvalidValue;
    case EMU_WORK:
        return cudaErrorLaunchOutOfResources;
    case EMU_EVENT:
    case EMU_STREAM:
        return cudaErrorUnknown;
    default:
        return cudaErrorLaunchFailure;
    }
}

cudaError_t emu_return(cudaError_t error)
{
    if (error != cudaSuccess && error != cudaErrorNotReady)
        emu.last = error;
    return error;
}

bool emu_fails(enum emu_class class)
{
    bool now = emu.fail_in[class] > 0 && --emu.fail_in[class] == 0;
    emu.failed = emu.failed || now;
    return now;
}

cudaError_t emu_visit(const char *name)
{
    if (!emu.open && !emu_program_open())
        return cudaErrorInitializationError;
    if (!pthread_equal(emu.thread, pthread_self()))
        emu_find(
            "thread: %s from another thread than the one that opened the device", name);
    return emu.sticky == cudaSuccess ? cudaSuccess : emu_return(emu.sticky);
}

cudaError_t emu_enter(enum emu_class class, const char *name)
{
    cudaError_t error = emu_visit(name);
    if (error == cudaSuccess && emu_fails(class))
        error = emu_return(error_of(class));
    return error;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = emu.sticky != cudaSuccess ? emu.sticky : emu.last;
    emu.last = cudaSuccess;
    return error;
}

/* Of the errors that the double gives. */
static const struct {
    cudaError_t error;
    const char *name, *text;
} errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError",
        "initialization error"},
    {cudaErrorStubLibrary, "cudaErrorStubLibrary", "CUDA driver is a stub library"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
        "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
        "invalid configuration argument"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction",
        "invalid device function"},
    {cudaErrorInvalidPtx, "cudaErrorInvalidPtx", "a PTX JIT compilation failed"},
    {cudaErrorSymbolNotFound, "cudaErrorSymbolNotFound", "named symbol not found"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle",
        "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
        "an illegal memory access was encountered"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
        "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
        "operation failed due to a previous error during capture"},
    {cudaErrorIllegalState, "cudaErrorIllegalState",
        "the operation cannot be performed in the present state"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources",
        "too many resources requested for launch"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
};

const char *cudaGetErrorName(cudaError_t error)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].error == error)
            return errors[i].name;
    return "cudaErrorUnknown";
}

const char *cudaGetErrorString(cudaError_t error)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].error == error)
            return errors[i].text;
    return "unknown error";
}
