/* SPDX-License-Identifier: Apache-2.0
 * Owns what the device is: an H100, by its public numbers. */
#include "emu.h"

#include <stdio.h>

/* Whether there is one. */
static cudaError_t look(const char *name)
{
    cudaError_t error = emu_visit(name);
    if (error == cudaSuccess && emu.options.missing != cudaSuccess)
        error = emu_return(emu.options.missing);
    return error;
}

/* *n is not touched where there is none, as by the real one. */
cudaError_t cudaGetDeviceCount(int *n)
{
    cudaError_t error = look("cudaGetDeviceCount");
    if (error == cudaSuccess)
        *n = 1;
    return error;
}

cudaError_t cudaSetDevice(int device)
{
    cudaError_t error = look("cudaSetDevice");
    if (error != cudaSuccess)
        return error;
    return emu_return(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaDeviceGetAttribute(
    int *value, enum cudaDeviceAttr attribute, int device)
{
    static const struct {
        enum cudaDeviceAttr attribute;
        int value;
    } known[] = {
        {cudaDevAttrComputeCapabilityMajor, 9},
        {cudaDevAttrComputeCapabilityMinor, 0},
        {cudaDevAttrMultiProcessorCount, 132},
        {cudaDevAttrMaxThreadsPerBlock, 1024},
        {cudaDevAttrMaxSharedMemoryPerBlock, 49152},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, 232448},
        {cudaDevAttrWarpSize, 32},
    };
    if (device != 0)
        return emu_return(cudaErrorInvalidDevice);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].attribute == attribute) {
            *value = known[i].value;
            return cudaSuccess;
        }
    emu_find("unknown: device attribute %d", (int)attribute);
    return emu_return(cudaErrorInvalidValue);
}

cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int device)
{
    cudaError_t error = look("cudaGetDeviceProperties");
    if (error != cudaSuccess)
        return error;
    if (device != 0)
        return emu_return(cudaErrorInvalidDevice);
    *prop = (struct cudaDeviceProp){.totalGlobalMem = emu.options.capacity,
        .sharedMemPerBlock = 49152,
        .sharedMemPerBlockOptin = 232448,
        .sharedMemPerMultiprocessor = 233472,
        .regsPerBlock = 65536,
        .warpSize = 32,
        .maxThreadsPerBlock = 1024,
        .maxThreadsPerMultiProcessor = 2048,
        .maxThreadsDim = {1024, 1024, 64},
        .maxGridSize = {2147483647, 65535, 65535},
        .major = 9,
        .multiProcessorCount = 132,
        .l2CacheSize = 52428800,
        .asyncEngineCount = 3,
        .unifiedAddressing = 1,
        .concurrentKernels = 1};
    snprintf(prop->name, sizeof prop->name, "emulated device");
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = emu.options.missing == cudaSuccess ? CUDART_VERSION : 0;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}
