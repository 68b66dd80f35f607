/* SPDX-License-Identifier: Apache-2.0
 * Owns the launch of kernels in tests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test_launch.h"

#include "images.h"
#include "mem.h"

#include <string.h>

enum { MAX_MODULES = 32, MAX_BLOCKS = 32 };

struct block {
    const char *p;
    size_t bytes;
    uint8_t *written; /* owned */
};

static struct {
    struct ptx_module *modules[MAX_MODULES];
    int n_modules, n_blocks;
    struct block blocks[MAX_BLOCKS];
    uint64_t order, approximate;
} launch;

void test_launch_open(void)
{
    char why[512];
    for (const struct th_cuda_image *i = th_cuda_images; i->name; i++) {
        assert_true(launch.n_modules < MAX_MODULES);
        struct ptx_module *m =
            ptx_parse(i->data, (size_t)(i->end - i->data), why, sizeof why);
        if (!m)
            fail_msg("%s.ptx: %s", i->name, why);
        launch.modules[launch.n_modules++] = m;
    }
}

void test_launch_close(void)
{
    test_launch_forget();
    while (launch.n_modules > 0)
        ptx_free(launch.modules[--launch.n_modules]);
}

void test_launch_seeds(uint64_t order, uint64_t approximate)
{
    launch.order = order;
    launch.approximate = approximate;
}

void test_launch_block(const void *p, size_t bytes, bool written)
{
    assert_true(launch.n_blocks < MAX_BLOCKS);
    uint8_t *map = th_alloc(bytes + 1, 1);
    assert_non_null(map);
    memset(map, written, bytes);
    launch.blocks[launch.n_blocks++] = (struct block){p, bytes, map};
}

static struct block *block_of(uint64_t address)
{
    for (int i = 0; i < launch.n_blocks; i++)
        if (address - (uint64_t)(uintptr_t)launch.blocks[i].p < launch.blocks[i].bytes)
            return &launch.blocks[i];
    return NULL;
}

bool test_launch_all_written(const void *p)
{
    const struct block *b = block_of((uint64_t)(uintptr_t)p);
    return b != NULL && memchr(b->written, 0, b->bytes) == NULL;
}

void test_launch_forget(void)
{
    while (launch.n_blocks > 0)
        th_free(launch.blocks[--launch.n_blocks].written);
}

const struct ptx_kernel *test_launch_kernel(enum th_cuda_kernel k)
{
    const struct ptx_kernel *found = NULL;
    for (int i = 0; i < launch.n_modules && !found; i++)
        found = ptx_find(launch.modules[i], th_cuda_kernel_name(k));
    if (!found)
        fail_msg("no module has %s", th_cuda_kernel_name(k));
    return found;
}

static bool find_block(
    void *context, uint64_t address, uint64_t *start, size_t *bytes, char **memory)
{
    (void)context;
    const struct block *b = block_of(address);
    if (!b)
        return false;
    *start = (uint64_t)(uintptr_t)b->p;
    *memory = (char *)(uintptr_t)b->p;
    *bytes = b->bytes;
    return true;
}

static uint8_t *written_map(void *context, uint64_t start)
{
    (void)context;
    return block_of(start)->written;
}

static void found(void *context, const char *finding)
{
    (void)context;
    fail_msg("%s", finding);
}

thaw_status th_cuda_launch(struct th_device *device, enum th_cuda_kernel kernel,
    const struct th_cuda_grid *grid, void *const *args)
{
    (void)device;
    static const struct ptx_host host = {
        .block = find_block, .find = found, .written = written_map};
    size_t bytes = th_cuda_kernel_params(kernel);
    struct ptx_launch l = {.shared = grid->shared,
        .seed = launch.order,
        .approximate = launch.approximate,
        .args = args,
        .arg_bytes = &bytes};
    memcpy(l.grid, grid->blocks, sizeof l.grid);
    memcpy(l.block, grid->threads, sizeof l.block);
    assert_true(ptx_run(test_launch_kernel(kernel), &l, &host));
    return THAW_OK;
}
