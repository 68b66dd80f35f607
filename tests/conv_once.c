/* SPDX-License-Identifier: Apache-2.0
 * One 3x3 convolution (stride 1, padding 1) by a given algorithm, for peers/winograd.py,
 * which compares it with sums in double:
 *
 *     conv_once DEVICE ALGORITHM OP N C H W O FIRST SECOND OUT
 *
 * Files are raw floats, row-major; FIRST and SECOND are the op's inputs (conv: x, w;
 * conv_dx: dy, w; conv_dw: x, dy). Exit code 3: the device has no such algorithm. */
#include "backend.h"
#include "mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die(const char *what)
{
    fprintf(stderr, "conv_once: %s %s\n", what, thaw_error());
    exit(1);
}

static void must(thaw_status status)
{
    if (status != THAW_OK)
        die("failed:");
}

static void *zeros(size_t bytes)
{
    void *p = calloc(1, bytes + 64);
    if (!p)
        die("no memory");
    return p;
}

/* Between the device's blocks and row-major memory. */
static void convert(struct th_device *ref, const struct th_operand *o, int from, int to,
    void *src, void *dst)
{
    struct th_call call = {.op = TH_OP_reorder, .device = ref, .args = {src, dst}};
    call.in[0] = call.out[0] = *o;
    call.in[0].block = from;
    call.out[0].block = to;
    must(ref->backend->kernel(TH_OP_reorder)->run(&call));
}

static void *read_operand(
    struct th_device *ref, const struct th_operand *o, const char *path)
{
    size_t bytes = th_operand_bytes(o);
    void *plain = zeros(bytes), *blocked = zeros(bytes);
    FILE *f = fopen(path, "rb");
    if (!f || fread(plain, 1, bytes, f) != bytes)
        die(path);
    fclose(f);
    convert(ref, o, 1, o->block, plain, blocked);
    free(plain);
    return blocked;
}

static void write_operand(
    struct th_device *ref, const struct th_operand *o, void *blocked, const char *path)
{
    size_t bytes = th_operand_bytes(o);
    void *plain = zeros(bytes);
    convert(ref, o, o->block, 1, blocked, plain);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(plain, 1, bytes, f) != bytes || fclose(f) != 0)
        die(path);
    free(plain);
}

static int find(const char *name, const char *(*names)(int), int n)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(name, names(i)))
            return i;
    die(name);
    return 0;
}

static const char *op_name(int i)
{
    return th_op_rule((enum th_op)i)->name;
}

static const char *algorithm_name(int i)
{
    return th_conv_algorithm_name((enum th_conv_algorithm)i);
}

static void prepare(struct th_call *call, const struct th_kernel *kernel, char **arg)
{
    int64_t n = atoll(arg[0]), c = atoll(arg[1]), h = atoll(arg[2]), w = atoll(arg[3]);
    int64_t o = atoll(arg[4]);
    struct th_operand x = {
        .shape = TH_SHAPE(n, c, h, w), .dtype = TH_F32, .block = 1, .present = true};
    struct th_operand y = x, weight = x;
    y.shape = TH_SHAPE(n, o, h, w);
    weight.shape = TH_SHAPE(o, c, 3, 3);
    call->attr.conv = (struct th_attr_conv){
        .stride = {1, 1}, .dilation = {1, 1}, .pad = {1, 1, 1, 1}, .groups = 1};
    call->in[0] = call->op == TH_OP_conv_dx ? y : x;
    call->in[1] = call->op == TH_OP_conv_dw ? y : weight;
    call->out[0] = call->op == TH_OP_conv ? y : call->op == TH_OP_conv_dx ? x : weight;
    th_layout(kernel, &call->attr, call->in, call->out, call->device->block);
}

int main(int argc, char **argv)
{
    struct th_device *device, *ref;
    if (argc != 12)
        die("DEVICE ALGORITHM OP N C H W O FIRST SECOND OUT are wanted");
    must(th_device_open(argv[1], 0, &device));
    must(th_device_open("ref", 1, &ref));
    struct th_call call = {.device = device, .stale = true};
    call.op = (enum th_op)find(argv[3], op_name, TH_OP_COUNT);
    const struct th_kernel *kernel = device->backend->kernel(call.op);
    prepare(&call, kernel, argv + 4);
    struct th_conv_choice choice = th_conv_choice_of(&call);
    choice.algorithm =
        (enum th_conv_algorithm)find(argv[2], algorithm_name, TH_CONV_ALGORITHMS);
    device->choices = &choice;
    device->n_choices = 1;
    must(kernel->prepare(&call));
    if (call.algorithm != choice.algorithm)
        return 3;
    int n_in = th_op_rule(call.op)->n_in;
    call.args[0] = read_operand(ref, &call.in[0], argv[9]);
    call.args[1] = read_operand(ref, &call.in[1], argv[10]);
    call.args[n_in] = zeros(th_operand_bytes(&call.out[0]));
    call.scratch = aligned_alloc(64, th_align_up(call.scratch_bytes + 1));
    call.kept =
        call.kept_bytes ? aligned_alloc(64, th_align_up(call.kept_bytes)) : NULL;
    must(kernel->run(&call));
    write_operand(ref, &call.out[0], call.args[n_in], argv[11]);
    return 0;
}
