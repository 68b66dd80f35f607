/* SPDX-License-Identifier: Apache-2.0
 * A stand-in for libcuda.so.1, for the check of plans alone: on the path of libraries of
 * that test, never installed. cuDNN compiles some engines for a device that is not there;
 * it wants to load what it has compiled, and is told that this went well. Nothing can run.
 *
 * The prototypes are those of cuda.h: a signature that has changed does not compile. */
#include <cuda.h>

#include <stdlib.h>

#undef cuGetProcAddress

/* By which the check knows that it is not a real driver. */
const char thaw_stand_in[] = "thaw plancheck";

/* What any library, kernel or module is here: never looked into. */
static char loaded[1];

CUresult CUDAAPI cuInit(unsigned flags)
{
    (void)flags;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDriverGetVersion(int *version)
{
    *version = CUDA_VERSION;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuLibraryLoadData(CUlibrary *library, const void *code,
    CUjit_option *jit, void **jit_values, unsigned n_jit, CUlibraryOption *options,
    void **option_values, unsigned n_options)
{
    (void)code, (void)jit, (void)jit_values, (void)n_jit;
    (void)options, (void)option_values, (void)n_options;
    *library = (CUlibrary)loaded;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuLibraryUnload(CUlibrary library)
{
    (void)library;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuLibraryGetKernel(
    CUkernel *kernel, CUlibrary library, const char *name)
{
    (void)library, (void)name;
    *kernel = (CUkernel)loaded;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuLibraryGetModule(CUmodule *module, CUlibrary library)
{
    (void)library;
    *module = (CUmodule)loaded;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuKernelGetFunction(CUfunction *function, CUkernel kernel)
{
    (void)kernel;
    *function = (CUfunction)loaded;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuKernelSetAttribute(
    CUfunction_attribute attribute, int value, CUkernel kernel, CUdevice device)
{
    (void)attribute, (void)value, (void)kernel, (void)device;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuKernelGetAttribute(
    int *value, CUfunction_attribute attribute, CUkernel kernel, CUdevice device)
{
    (void)attribute, (void)kernel, (void)device;
    *value = 0;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuFuncSetAttribute(
    CUfunction function, CUfunction_attribute attribute, int value)
{
    (void)function, (void)attribute, (void)value;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuFuncGetAttribute(
    int *value, CUfunction_attribute attribute, CUfunction function)
{
    (void)attribute, (void)function;
    *value = 0;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuModuleLoadData(CUmodule *module, const void *image)
{
    (void)image;
    *module = (CUmodule)loaded;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned n,
    CUjit_option *options, void **values)
{
    (void)n, (void)options, (void)values;
    return cuModuleLoadData(module, image);
}

CUresult CUDAAPI cuModuleGetFunction(
    CUfunction *function, CUmodule module, const char *name)
{
    (void)module, (void)name;
    *function = (CUfunction)loaded;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuModuleUnload(CUmodule module)
{
    (void)module;
    return CUDA_SUCCESS;
}

/* Guesses: an H100 holds 66 clusters of two blocks, and a cluster at most eight. They can
 * move the choice of an engine, not whether there is one. */
CUresult CUDAAPI cuOccupancyMaxActiveClusters(
    int *n, CUfunction function, const CUlaunchConfig *config)
{
    (void)function, (void)config;
    *n = 66;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuOccupancyMaxPotentialClusterSize(
    int *size, CUfunction function, const CUlaunchConfig *config)
{
    (void)function, (void)config;
    *size = 8;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGetErrorString(CUresult error, const char **text)
{
    (void)error;
    *text = "the stand-in for libcuda cannot do that";
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGetErrorName(CUresult error, const char **text)
{
    (void)error;
    *text = "STAND_IN";
    return CUDA_SUCCESS;
}
