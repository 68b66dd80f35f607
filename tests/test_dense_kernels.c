/* SPDX-License-Identifier: Apache-2.0
 * The CPU's kernels of dense detectors on shapes of several parts, slices and chunks: close
 * to the plain C ones in each block and on each instruction set, the same bits with any
 * number of threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/ops_sweep.h"

#define NORM(n) .attr.norm = {.eps = 1e-5f, .groups = n}
static const struct op_case cases[] = {
    {"groups of 3 of 96", TH_OP_groupnorm, GRADIENT, NORM(32), "x3,96,19,17 c96 c96"},
    {"groups of 8 of 64", TH_OP_groupnorm, GRADIENT, NORM(8), "x2,64,9,13 c64 c64"},
    {"groups of 32, slices", TH_OP_groupnorm, GRADIENT, NORM(1), "x1,32,37,29 c32 c32"},
    {"groups of 5", TH_OP_groupnorm, GRADIENT, NORM(3), "x3,15,7,5 c15 c15"},
    {"upsample", TH_OP_upsample, GRADIENT, .attr.upsample = {{37, 41}},
        .operands = "x3,48,19,20 x3,48,37,41"},
    {"upsample to three times", TH_OP_upsample, GRADIENT, .attr.upsample = {{21, 6}},
        .operands = "x3,32,7,2 -"},
    {"map_rows of many channels", TH_OP_map_rows, GRADIENT, .attr.rows = {.width = 80},
        .operands = "x3,240,9,7 x3,240,4,3 x3,240,1,1 - - - - -"},
    {"map_rows of 12", TH_OP_map_rows, GRADIENT, .attr.rows = {.width = 4},
        .operands = "x3,12,9,7 x3,12,4,3 - - - - - -"},
    {"focal of 3", TH_OP_focal, GRADIENT, .attr.focal = {0.25f, 2},
        .operands = "x3,7000,3 l3,7000 +3"},
    {"focal of 1", TH_OP_focal, GRADIENT, .attr.focal = {0.25f, 2},
        .operands = "x1,33000,1 l1,33000 +1"},
    {"focal of 91, gamma 0.5", TH_OP_focal, GRADIENT, .attr.focal = {0.4f, 0.5f},
        .operands = "x2,400,91 l2,400 +2"},
    {"focal of 20000", TH_OP_focal, GRADIENT, .attr.focal = {0.4f, 1},
        .operands = "x1,3,20000 l1,3 +1"},
};
enum { N_CASES = sizeof cases / sizeof *cases, N_THREADS = 3 };

/* A node on devices of 1, 2 and 3 threads: close to ref, and equal. */
static void check_node(const struct tape *t, const struct node *n,
    struct th_device *ref, struct th_device *const *threads, int block)
{
    struct result expected, first, other;
    struct layout layout = {.block = block};
    node_run(t, n, ref, ref, (struct layout){.block = 1}, &expected);
    node_run(t, n, ref, threads[0], layout, &first);
    check_result(t, n, &first, &expected, (struct th_comparison){.device = threads[0]});
    for (int i = 1; i < N_THREADS; i++) {
        node_run(t, n, ref, threads[i], layout, &other);
        check_result(t, n, &other, &first,
            (struct th_comparison){.device = threads[i], .exact = true});
        result_release(&other);
    }
    result_release(&first);
    result_release(&expected);
}

static void check_case(
    const struct op_case *c, struct th_device *ref, struct th_device *const *threads)
{
    struct tape t;
    tape_init(&t, c, NEED_ALL);
    tape_run(&t, ref, 0, t.n_nodes);
    for (int i = 0; i < t.n_nodes; i++)
        for (int block = 1; block <= 16; block = block == 1 ? 8 : 2 * block)
            if (block == 1 || th_tape_blocks(&t, &t.node[i], threads[0], block))
                check_node(&t, &t.node[i], ref, threads, block);
    tape_release(&t);
}

/* One test per instruction set; skipped where this machine or build lacks it. */
static void parts_are_close_to_ref_with_any_threads(void **state)
{
    const char *name = *state;
    struct th_device *ref, *threads[N_THREADS];
    if (th_device_open(name, 1, &threads[0]) != THAW_OK)
        skip();
    for (int i = 1; i < N_THREADS; i++)
        ok(th_device_open(name, i + 1, &threads[i]), name);
    ok(th_device_open("ref", 2, &ref), "ref");
    for (int k = 0; k < N_CASES; k++)
        check_case(&cases[k], ref, threads);
    th_device_close(ref);
    for (int i = 0; i < N_THREADS; i++)
        th_device_close(threads[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(parts_are_close_to_ref_with_any_threads, "cpu:base"),
        cmocka_unit_test_prestate(parts_are_close_to_ref_with_any_threads, "cpu:avx2"),
        cmocka_unit_test_prestate(
            parts_are_close_to_ref_with_any_threads, "cpu:avx512"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
