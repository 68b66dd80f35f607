/* SPDX-License-Identifier: Apache-2.0
 * Owns the loaded device code: our kernels by name, and launching them. */
#include "engine.h"

#include "images.h"

/* In whichever library it is. */
static thaw_status find(struct th_cuda *cuda, enum th_cuda_kernel k)
{
    const char *name = th_cuda_kernel_name(k);
    cudaError_t error = cudaErrorSymbolNotFound;
    for (int i = 0; i < cuda->n_libraries && error == cudaErrorSymbolNotFound; i++)
        error = cudaLibraryGetKernel(&cuda->kernels[k], cuda->libraries[i], name);
    return th_cuda_check(error, name);
}

thaw_status th_cuda_kernels_open(struct th_cuda *cuda)
{
    for (const struct th_cuda_image *i = th_cuda_images; i->name; i++) {
        if (cuda->n_libraries == TH_CUDA_LIBRARIES)
            return th_fail(THAW_E_FAIL, "cuda: more than %d parts of device code",
                TH_CUDA_LIBRARIES);
        TRY(th_cuda_check(cudaLibraryLoadData(&cuda->libraries[cuda->n_libraries],
                              i->data, NULL, NULL, 0, NULL, NULL, 0),
            i->name));
        cuda->n_libraries++;
    }
    for (int k = 0; k < TH_K_COUNT; k++)
        TRY(find(cuda, (enum th_cuda_kernel)k));
    cudaGetLastError(); /* a library without some kernel is none */
    return THAW_OK;
}

void th_cuda_kernels_close(struct th_cuda *cuda)
{
    while (cuda->n_libraries > 0)
        cudaLibraryUnload(cuda->libraries[--cuda->n_libraries]);
}

thaw_status th_cuda_launch(struct th_device *device, enum th_cuda_kernel kernel,
    const struct th_cuda_grid *grid, void *const *args)
{
    const struct th_cuda *cuda = th_cuda(device);
    const dim3 blocks = {grid->blocks[0], grid->blocks[1], grid->blocks[2]};
    const dim3 threads = {grid->threads[0], grid->threads[1], grid->threads[2]};
    return th_cuda_check(cudaLaunchKernel((const void *)cuda->kernels[kernel], blocks,
                             threads, (void **)args, grid->shared, cuda->stream),
        th_cuda_kernel_name(kernel));
}
