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
    bool was_bf16;
};

static struct {
    struct ptx_module *modules[MAX_MODULES];
    int n_modules, n_blocks;
    struct block blocks[MAX_BLOCKS];
    struct test_how how;
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

void test_launch_how(struct test_how how)
{
    launch.how = how;
}

void test_launch_block(const void *p, size_t bytes, bool written)
{
    assert_true(launch.n_blocks < MAX_BLOCKS);
    uint8_t *map = th_alloc(bytes + 1, 1);
    assert_non_null(map);
    memset(map, written, bytes);
    launch.blocks[launch.n_blocks++] = (struct block){p, bytes, map, false};
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

bool test_launch_was_bf16(const void *p)
{
    const struct block *b = block_of((uint64_t)(uintptr_t)p);
    return b != NULL && b->was_bf16;
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

/* ---- bf16 ---- */

static uint16_t to_bf16(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float from_bf16(uint16_t v)
{
    uint32_t bits = (uint32_t)v << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* A copy of block b in bf16, as a block of its own at the end of the list. */
static void *narrow(struct block *b)
{
    size_t n = b->bytes / sizeof(float);
    uint16_t *copy = th_alloc(n + 1, sizeof *copy);
    assert_non_null(copy);
    test_launch_block(copy, n * sizeof *copy, false);
    struct block *to = &launch.blocks[launch.n_blocks - 1];
    for (size_t i = 0; i < n; i++) {
        copy[i] = to_bf16(((const float *)(const void *)b->p)[i]);
        memset(to->written + 2 * i, b->written[4 * i], 2);
    }
    b->was_bf16 = true;
    return copy;
}

/* What was written comes back. */
static void widen(struct block *b, struct block *from)
{
    size_t n = b->bytes / sizeof(float);
    for (size_t i = 0; i < n; i++)
        if (from->written[2 * i]) {
            ((float *)(uintptr_t)b->p)[i] =
                from_bf16(((const uint16_t *)(const void *)from->p)[i]);
            memset(b->written + 4 * i, 1, 4);
        }
    th_free((void *)(uintptr_t)from->p);
    th_free(from->written);
}

/* ---- launches ---- */

static bool in(const char *name, const char *const *list)
{
    for (; *list; list++)
        if (strncmp(name, *list, strlen(*list)) == 0)
            return true;
    return false;
}

static void resize(const char *name, struct ptx_launch *l, bool small)
{
    /* a sum a block, or one thread; sums of chunks of rows, a block row each, in whole
     * blocks, as are those of a group */
    static const char *const fixed[] = {"sum_squares", "l2norm_dw", "sum_all", "guard",
        "adamw_begin", "row_weight", NULL};
    static const char *const losses[] = {
        "sigmoid_ce", "focal", "box_loss", "masked_ce", NULL};
    static const char *const chunks[] = {"bn_stats_f32", "bn_stats_bf16", "bn_reduce",
        "layernorm_dw", "groupnorm", "bias_grad", "tokens_dw", "roi_align_dx", NULL};
    if (in(name, fixed) || (in(name, losses) && !strstr(name, "_dx")))
        return;
    l->grid[0] = small ? 1 : l->grid[0] + 1;
    if (in(name, chunks))
        return;
    l->grid[1] = small ? 1 : l->grid[1] + (l->grid[1] > 1);
    if (small)
        l->block[0] = 32;
}

static void run_kernel(
    enum th_cuda_kernel kernel, const struct th_cuda_grid *grid, void *params)
{
    static const struct ptx_host host = {
        .block = find_block, .find = found, .written = written_map};
    size_t bytes = th_cuda_kernel_params(kernel);
    struct ptx_launch l = {.shared = grid->shared,
        .seed = launch.how.order,
        .approximate = launch.how.approximate,
        .args = &params,
        .arg_bytes = &bytes};
    memcpy(l.grid, grid->blocks, sizeof l.grid);
    memcpy(l.block, grid->threads, sizeof l.block);
    if (launch.how.grid != TEST_AS_TOLD)
        resize(th_cuda_kernel_name(kernel), &l, launch.how.grid == TEST_SMALL);
    assert_true(ptx_run(test_launch_kernel(kernel), &l, &host));
}

static void run_in_bf16(
    enum th_cuda_kernel kernel, const struct th_cuda_grid *grid, void *params)
{
    int n = (int)strlen(th_cuda_kernel_pointers(kernel)), first = launch.n_blocks;
    void *pointers[8];
    struct block *of[8] = {0};
    assert_true(n <= 8);
    memcpy(pointers, params, (size_t)n * sizeof *pointers);
    for (int i = 0; i < n; i++)
        if (pointers[i]) {
            of[i] = block_of((uint64_t)(uintptr_t)pointers[i]);
            assert_ptr_equal(of[i]->p, pointers[i]);
            pointers[i] = narrow(of[i]);
        }
    memcpy(params, pointers, (size_t)n * sizeof *pointers);
    run_kernel(kernel + 1, grid, params); /* its row follows that of fp32 */
    for (int i = n - 1; i >= 0; i--)
        if (of[i])
            widen(of[i], &launch.blocks[--launch.n_blocks]);
    assert_int_equal(launch.n_blocks, first);
}

thaw_status th_cuda_launch(struct th_device *device, enum th_cuda_kernel kernel,
    const struct th_cuda_grid *grid, void *const *args)
{
    (void)device;
    char params[4096];
    size_t bytes = th_cuda_kernel_params(kernel);
    assert_true(bytes <= sizeof params);
    memcpy(params, args[0], bytes);
    if (launch.how.bf16 && th_cuda_kernel_pointers(kernel)[0])
        run_in_bf16(kernel, grid, params);
    else
        run_kernel(kernel, grid, params);
    return THAW_OK;
}
