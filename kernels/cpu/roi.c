/* SPDX-License-Identifier: Apache-2.0
 * Owns the layouts of roi_align on the CPU: maps in blocks, what is read of boxes as a linear
 * layer reads it. */
#include "cpu.h"

static void roi_align_layout(const union th_attr *attr, struct th_operand *in,
    struct th_operand *out, int device_block)
{
    th_layout_alike(attr, in, out, device_block);
    out[0].block = 1;
}

static void roi_align_dx_layout(const union th_attr *attr, struct th_operand *in,
    struct th_operand *out, int device_block)
{
    th_layout_plain(attr, in, out, device_block);
    if (out[0].shape.dim[1] % device_block == 0)
        out[0].block = device_block;
}

const struct th_kernel th_cpu_roi_align = {
    .layout = roi_align_layout, .run = th_cpu_run_own};
const struct th_kernel th_cpu_roi_align_dx = {
    .layout = roi_align_dx_layout, .run = th_cpu_run_own};
