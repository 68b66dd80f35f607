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

/* Seeds of the launches that come. */
void test_launch_seeds(uint64_t order, uint64_t approximate);

/* Memory of the launches that come, until test_launch_forget; `written`: all of it was. */
void test_launch_block(const void *p, size_t bytes, bool written);
/* Whether every byte of the block has been written. */
bool test_launch_all_written(const void *p);
void test_launch_forget(void);

const struct ptx_kernel *test_launch_kernel(enum th_cuda_kernel k);

#endif
