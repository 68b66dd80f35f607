/* SPDX-License-Identifier: Apache-2.0
 * Owns the layouts that kernels share. Knows no device. */
#include "backend.h"

size_t th_operand_bytes(const struct th_operand *o)
{
    return th_dtype_bytes(o->dtype, th_shape_count(&o->shape));
}

static bool blockable(const struct th_operand *o)
{
    return o->present && o->shape.rank == 4;
}

static void set_blocks(struct th_operand *in, struct th_operand *out, int block)
{
    for (int i = 0; i < TH_MAX_IN; i++)
        in[i].block = blockable(&in[i]) ? block : 1;
    for (int i = 0; i < TH_MAX_OUT; i++)
        out[i].block = blockable(&out[i]) ? block : 1;
}

static bool divides(int block, const struct th_operand *operands, int n)
{
    for (int i = 0; i < n; i++)
        if (blockable(&operands[i]) && operands[i].shape.dim[1] % block != 0)
            return false;
    return true;
}

void th_layout_plain(const union th_attr *attr, struct th_operand *in,
    struct th_operand *out, int device_block)
{
    (void)attr, (void)device_block;
    set_blocks(in, out, 1);
}

void th_layout_reorder(const union th_attr *attr, struct th_operand *in,
    struct th_operand *out, int device_block)
{
    (void)attr, (void)in, (void)out, (void)device_block;
}

/* Blocks of more channels are those of integer convolutions: no other kernel has them. */
enum { LARGEST_BLOCK = 16 };

/* The block that the others follow: of a mask or index, which came with it and are never
 * reordered, else of the first input. */
static int leading_block(const struct th_operand *in, int device_block)
{
    int block = 0;
    for (int i = 0; i < TH_MAX_IN; i++) {
        if (!blockable(&in[i]))
            continue;
        if (in[i].dtype != TH_F32)
            return in[i].block;
        if (block == 0)
            block = in[i].block;
    }
    return block > 0 && block <= LARGEST_BLOCK ? block : device_block;
}

void th_layout_alike(const union th_attr *attr, struct th_operand *in,
    struct th_operand *out, int device_block)
{
    (void)attr;
    int block = leading_block(in, device_block);
    bool fits =
        block > 1 && divides(block, in, TH_MAX_IN) && divides(block, out, TH_MAX_OUT);
    set_blocks(in, out, fits ? block : 1);
}

void th_types(const struct th_device *device, enum th_op op, struct th_operand *in,
    struct th_operand *out)
{
    const struct th_backend *backend = device->backend;
    const char *halves = backend->halves ? backend->halves(op) : NULL;
    int n_in = th_op_rule(op)->n_in, n = n_in + th_op_rule(op)->n_out;
    for (int i = 0; i < n && op != TH_OP_reorder && op != TH_OP_view; i++) {
        struct th_operand *o = i < n_in ? &in[i] : &out[i - n_in];
        if (th_dtype_is_real(o->dtype))
            o->dtype = halves && halves[i] == 'h' ? TH_BF16 : TH_F32;
    }
}

void th_layout(const struct th_kernel *kernel, const union th_attr *attr,
    struct th_operand *in, struct th_operand *out, int device_block)
{
    if (kernel->layout != NULL)
        kernel->layout(attr, in, out, device_block);
    else
        th_layout_alike(attr, in, out, device_block);
}
