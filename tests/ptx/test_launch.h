/* SPDX-License-Identifier: Apache-2.0
 * The double of th_cuda_launch: runs kernels as PTX on host memory, in the blocks that the
 * test has named, and fails the test at the first finding. */
#ifndef TEST_LAUNCH_H
#define TEST_LAUNCH_H

#include "launch.h"
#include "ptx.h"

/* Parses all images. */
void test_launch_open(void);
void test_launch_close(void);

enum { TEST_AS_TOLD, TEST_SMALL, TEST_LARGE, TEST_GRIDS };

/* How the launches that come are run. */
struct test_how {
    uint64_t order, approximate; /* seeds */
    /* Of grids where the kernel takes any: one block, of one warp, so that loops over the
     * grid come round; blocks more than needed, so that some have nothing to do. */
    int grid; /* TEST_AS_TOLD and so on */
    /* The bf16 form of a kernel that has one, on copies of its operands. */
    bool bf16;
};
void test_launch_how(struct test_how how);

/* Memory of the launches that come, until test_launch_forget; `written`: all of it was. */
void test_launch_block(const void *p, size_t bytes, bool written);
/* Whether every byte of the block has been written. */
bool test_launch_all_written(const void *p);
/* Whether a launch took the block as bf16. */
bool test_launch_was_bf16(const void *p);
void test_launch_forget(void);

/* Tests of test_kernels.c. */
void weights_are_packed_and_unpacked(void **state);
void the_softmax_of_attention_and_its_gradient(void **state);
void of_boxes_drawn_alike_the_lower_row_comes_first(void **state);

const struct ptx_kernel *test_launch_kernel(enum th_cuda_kernel k);

#endif
