/* SPDX-License-Identifier: Apache-2.0
 * Opening devices, their memory, and the sentences of shape rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "plugin.h"
#include "support/ops.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const devices[] = {"ref", "far", "cpu"};
enum { N_DEVICES = 3, BYTES = 5000 };

static struct th_device *opened(const char *name)
{
    struct th_device *device = NULL;
    ok(th_device_open(name, 1, &device), name);
    return device;
}

static void assert_fails(thaw_status status, thaw_status expected, const char *part)
{
    assert_int_equal(status, expected);
    if (strstr(thaw_error(), part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", thaw_error(), part);
}

static void unknown_devices_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"", "gpu", "cpu:", "ref:avx2", "cpux",
        "cuda:", "cuda:x", "cuda:-1", "cpu:sse9",
        "cpu:an_instruction_set_with_a_long_name"};
    struct th_device *device = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(th_device_open(names[i], 1, &device), THAW_E_USAGE);
    assert_fails(th_device_open("ref", -1, &device), THAW_E_USAGE, "threads");
    assert_null(device);
    th_device_close(NULL);
}

static void only_a_gpu_computes_in_another_precision(void **state)
{
    (void)state;
    static const char *const names[] = {"cpu:tf32", "ref:tf32", "far:bf16", "cpu:bf16"};
    struct th_device *device = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_fails(th_device_open(names[i], 1, &device), THAW_E_USAGE,
            "computes in fp32 alone");
    ok(th_device_open("cpu:fp32", 1, &device), "cpu:fp32");
    th_device_close(device);
    device = NULL;
    setenv("THAW_CUDA_ENGINE", "/nowhere/libthaw_cuda.so", 1);
    assert_fails(
        th_device_open("auto:tf32", 1, &device), THAW_E_FAIL, "cannot be loaded");
    unsetenv("THAW_CUDA_ENGINE");
    assert_null(device);
}

static void a_plugin_that_cannot_be_used_is_an_error_and_auto_goes_on(void **state)
{
    (void)state;
    struct th_device *device = NULL;
    setenv("THAW_CUDA_ENGINE", "/nowhere/libthaw_cuda.so", 1);
    assert_fails(th_device_open("cuda:0", 1, &device), THAW_E_FAIL, "cannot be loaded");
    assert_non_null(strstr(thaw_error(), "/nowhere/libthaw_cuda.so"));
    assert_fails(th_device_open("cuda", 1, &device), THAW_E_FAIL, "cannot be loaded");
    ok(th_device_open("auto", 1, &device), "auto");
    assert_string_equal(device->backend->name, "cpu");
    assert_non_null(strstr(device->missed, "cannot be loaded"));
    th_device_close(device);
    setenv("THAW_CUDA_ENGINE", "libm.so.6", 1); /* a library, but no plugin of ours */
    assert_fails(
        th_device_open("cuda:0", 1, &device), THAW_E_FAIL, "is not of this thaw");
    unsetenv("THAW_CUDA_ENGINE");
    const struct th_plugin_host host = th_plugin_host();
    struct th_plugin_host other = host;
    assert_true(th_plugin_fits(&host, &other));
    other.call_bytes++;
    assert_false(th_plugin_fits(&host, &other));
}

static void an_open_device_knows_its_threads_and_says_what_it_is(void **state)
{
    (void)state;
    for (int i = 0; i < N_DEVICES; i++) {
        struct th_device *device = NULL;
        ok(th_device_open(devices[i], 0, &device), devices[i]);
        assert_true(device->threads >= 1);
        assert_true(device->block == 1 || device->block == 8 || device->block == 16);
        assert_non_null(strstr(device->backend->describe(device), devices[i]));
        th_device_close(device);
    }
}

static void every_op_has_a_kernel_everywhere(void **state)
{
    (void)state;
    for (int i = 0; i < N_DEVICES; i++) {
        struct th_device *device = opened(devices[i]);
        for (int op = 0; op < TH_OP_COUNT; op++) {
            const struct th_kernel *k = device->backend->kernel((enum th_op)op);
            if ((op == TH_OP_batchnorm) != (k == NULL))
                fail_msg("%s: %s", devices[i], th_op_rule((enum th_op)op)->name);
        }
        th_device_close(device);
    }
}

static void memory_is_zero_and_keeps_what_is_uploaded(void **state)
{
    (void)state;
    for (int i = 0; i < N_DEVICES; i++) {
        struct th_device *device = opened(devices[i]);
        const struct th_backend *b = device->backend;
        char *p = b->alloc(device, BYTES), *q = b->alloc(device, 0), text[16];
        assert_non_null(p);
        assert_non_null(q);
        assert_int_equal((uintptr_t)p % 4096, 0);
        ok(b->download(device, text, p + BYTES - 16, 16), devices[i]);
        for (int k = 0; k < 16; k++)
            assert_int_equal(text[k], 0);
        ok(b->upload(device, p + 77, "hello", 6), devices[i]);
        ok(b->download(device, text, p + 77, 6), devices[i]);
        assert_string_equal(text, "hello");
        assert_null(b->alloc(device, SIZE_MAX - 5));
        b->free(device, q, 0);
        b->free(device, p, BYTES);
        b->free(device, NULL, 0);
        th_device_close(device);
    }
}

/* Whether a child process survives writing (or reading) through the device. */
static bool survives(
    void (*act)(struct th_device *, char *), struct th_device *d, char *p)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL); /* neither cmocka nor a sanitizer shall report it */
        act(d, p);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void host_read(struct th_device *device, char *p)
{
    (void)device;
    _exit(*(volatile char *)p); /* fresh memory: 0 */
}

static void upload_byte(struct th_device *device, char *p)
{
    device->backend->upload(device, p, "x", 1);
}

static void the_host_cannot_touch_far_memory(void **state)
{
    (void)state;
    for (int i = 0; i < N_DEVICES; i++) {
        struct th_device *device = opened(devices[i]);
        char *p = device->backend->alloc(device, BYTES);
        bool far = strcmp(devices[i], "far") == 0;
        assert_int_equal(survives(host_read, device, p), !far);
        device->backend->free(device, p, BYTES);
        th_device_close(device);
    }
}

static void protected_memory_traps_until_it_is_writable_again(void **state)
{
    (void)state;
    for (int i = 0; i < N_DEVICES; i++) {
        struct th_device *device = opened(devices[i]);
        const struct th_backend *b = device->backend;
        char *p = b->alloc(device, BYTES), c;
        ok(b->protect(device, p, BYTES, true), devices[i]);
        assert_false(survives(upload_byte, device, p + BYTES - 1));
        ok(b->download(device, &c, p, 1), devices[i]);
        ok(b->protect(device, p, BYTES, false), devices[i]);
        assert_true(survives(upload_byte, device, p + BYTES - 1));
        b->free(device, p, BYTES);
        th_device_close(device);
    }
}

static void far_refuses_pointers_outside_its_allocations(void **state)
{
    (void)state;
    struct th_device *far = opened("far");
    const struct th_backend *b = far->backend;
    char *p = b->alloc(far, 4096), host[64] = {0};
    assert_fails(b->upload(far, p + 4090, host, 8), THAW_E_FAIL, "not in one live");
    assert_fails(b->download(far, host, host, 8), THAW_E_FAIL, "not in one live");
    assert_fails(b->protect(far, host, 8, true), THAW_E_FAIL, "not in one live");
    struct th_operand o = {
        .shape = TH_SHAPE(4), .dtype = TH_F32, .block = 1, .present = true};
    struct th_call call = {.op = TH_OP_add,
        .device = far,
        .in = {o, o},
        .out = {o},
        .args = {p, p + 64, host}};
    assert_fails(
        b->kernel(TH_OP_add)->run(&call), THAW_E_FAIL, "add is given 16 bytes");
    call.args[2] = p + 128;
    ok(b->kernel(TH_OP_add)->run(&call), "add");
    b->free(far, p, 4096);
    assert_fails(b->upload(far, p, host, 8), THAW_E_FAIL, "not in one live");
    p = b->alloc(far, 4096); /* closing frees it */
    assert_non_null(p);
    th_device_close(far);
}

/* A mask decides the block of what it comes with; a block that does not fit is 1. */
static void shared_layouts_follow_masks_and_channel_counts(void **state)
{
    (void)state;
    struct th_operand in[TH_MAX_IN] = {0}, out[TH_MAX_OUT] = {0};
    union th_attr attr = {0};
    in[0] = (struct th_operand){
        .shape = TH_SHAPE(1, 48, 2, 2), .dtype = TH_F32, .block = 1, .present = true};
    in[1] = out[0] = in[0];
    in[1].dtype = TH_BIT;
    in[1].block = 16;
    th_layout_alike(&attr, in, out, 8);
    assert_int_equal(in[0].block, 16);
    assert_int_equal(out[0].block, 16);
    in[1].dtype = TH_F32;
    in[0].block = 8;
    th_layout_alike(&attr, in, out, 16);
    assert_int_equal(in[1].block, 8);
    out[0].shape.dim[1] = 20;
    th_layout_alike(&attr, in, out, 16);
    assert_int_equal(in[0].block, 1);
    in[0].shape.rank = in[1].shape.rank = 3;
    out[0].shape.dim[1] = 32;
    th_layout_alike(&attr, in, out, 16);
    assert_int_equal(out[0].block, 16);
    th_layout_plain(&attr, in, out, 16);
    assert_int_equal(out[0].block, 1);
}

/* Else a step that is not finite could pass the guard. */
static void not_a_number_survives_relu_and_maxpool(void **state)
{
    (void)state;
    enum { N = 16 * 4 };
    union th_attr attr = {.pool = {.kernel = {2, 2}, .stride = {2, 2}}};
    struct th_operand x = {
        .shape = TH_SHAPE(1, 16, 2, 2), .dtype = TH_F32, .block = 1, .present = true};
    for (int i = 0; i < N_DEVICES * 2; i++) {
        struct th_device *device = opened(devices[i / 2]);
        const struct th_backend *b = device->backend;
        enum th_op op = i % 2 ? TH_OP_maxpool : TH_OP_relu;
        char *p = b->alloc(device, 8192);
        float values[N];
        for (int k = 0; k < N; k++)
            values[k] = k % 4 == 1 ? NAN : (float)k - 20;
        ok(b->upload(device, p, values, sizeof values), devices[i / 2]);
        struct th_call call = {.op = op,
            .attr = attr,
            .device = device,
            .in = {x},
            .out = {x},
            .stale = true,
            .args = {p, p + 1024, NULL},
            .scratch = p + 4096};
        if (op == TH_OP_maxpool)
            call.out[0].shape = TH_SHAPE(1, 16, 1, 1);
        const struct th_kernel *kernel = b->kernel(op);
        if (kernel->prepare != NULL)
            ok(kernel->prepare(&call), devices[i / 2]);
        assert_true(call.scratch_bytes <= 4096);
        ok(kernel->run(&call), devices[i / 2]);
        ok(b->download(device, values, p + 1024, th_operand_bytes(&call.out[0])), "");
        for (int k = 0; k < 16; k++)
            if (!isnan(values[op == TH_OP_maxpool ? k : 4 * k + 1]))
                fail_msg("%s: %s loses NaN", devices[i / 2], th_op_rule(op)->name);
        if (kernel->release != NULL)
            kernel->release(&call);
        b->free(device, p, 8192);
        th_device_close(device);
    }
}

enum { TINY = 1 << 17 }; /* values: parts for every thread */

static void add_to_itself(struct th_device *device, float *p)
{
    struct th_operand x = {
        .shape = TH_SHAPE(TINY), .dtype = TH_F32, .block = 1, .present = true};
    struct th_call call = {.op = TH_OP_add,
        .device = device,
        .in = {x, x},
        .out = {x},
        .args = {p, p, p + TINY}};
    ok(device->backend->kernel(TH_OP_add)->run(&call), "add");
}

/* Each sum of two numbers below 2^-126 is that sum, or 0 where `flushed`. */
static void check_sums(struct th_device *device, float *p, bool flushed)
{
    add_to_itself(device, p);
    for (int i = 0; i < TINY; i++)
        if ((p[TINY + i] == 0) != flushed)
            fail_msg("sum %d is %g", i, (double)p[TINY + i]);
}

static void denormals_are_zeros_between_begin_and_end_on_every_thread(void **state)
{
    (void)state;
    struct th_device *device = NULL;
    ok(th_device_open("cpu", 3, &device), "cpu");
    const struct th_backend *b = device->backend;
    const size_t bytes = (size_t)2 * TINY * sizeof(float);
#ifndef __x86_64__
    skip();
#endif
    if (!b->begin)
        skip();
    float *p = b->alloc(device, bytes);
    for (int i = 0; i < TINY; i++)
        p[i] = 0x1p-140F;
    for (int turn = 0; turn < 2; turn++) {
        check_sums(device, p, false);
        b->begin(device);
        check_sums(device, p, true);
        b->end(device);
    }
    check_sums(device, p, false);
    b->free(device, p, bytes);
    th_device_close(device);
}

static struct th_operand real(struct th_shape s)
{
    return (struct th_operand){
        .shape = s, .dtype = TH_F32, .block = 1, .present = true};
}

static thaw_status shape_of(
    enum th_op op, union th_attr attr, struct th_operand a, struct th_operand b)
{
    struct th_operand in[TH_MAX_IN] = {a, b}, out[TH_MAX_OUT] = {0};
    return th_op_rule(op)->fn->shape(&attr, in, out);
}

static void shapes_that_do_not_fit_are_explained(void **state)
{
    (void)state;
    union th_attr conv = {.conv = {.stride = {1, 1}, .dilation = {1, 1}, .groups = 1}};
    union th_attr pool = {.pool = {.kernel = {16, 16}, .stride = {1, 1}}}, none = {0};
    struct th_operand x = real(TH_SHAPE(2, 3, 7, 7)), absent = {0};
    assert_fails(shape_of(TH_OP_conv, conv, x, real(TH_SHAPE(8, 4, 3, 3))),
        THAW_E_USAGE, "x [2,3,7,7] does not fit w [8,4,3,3]");
    assert_fails(shape_of(TH_OP_conv, conv, x, real(TH_SHAPE(8, 3, 9, 9))),
        THAW_E_USAGE, "a kernel of 9 (dilation 1) does not fit into 7 values");
    conv.conv.groups = 0;
    assert_fails(shape_of(TH_OP_conv, conv, x, real(TH_SHAPE(8, 3, 3, 3))),
        THAW_E_USAGE, "in 0 groups");
    assert_fails(shape_of(TH_OP_conv, conv, real(TH_SHAPE(2, 3)), x), THAW_E_USAGE,
        "x is f32 [2,3], it has to be f32 of rank 4");
    assert_fails(shape_of(TH_OP_maxpool, pool, real(TH_SHAPE(1, 1, 20, 20)), absent),
        THAW_E_USAGE, "more than 255 values");
    pool.pool.kernel[0] = pool.pool.kernel[1] = pool.pool.pad[3] = 2;
    assert_fails(
        shape_of(TH_OP_avgpool, pool, x, absent), THAW_E_USAGE, "padding 0,0,0,2");
    assert_fails(shape_of(TH_OP_bn_stats, none, real(TH_SHAPE(1, 3, 1, 1)), absent),
        THAW_E_USAGE, "one value per channel");
    assert_fails(
        shape_of(TH_OP_linear, none, real(TH_SHAPE(5, 4)), real(TH_SHAPE(2, 3))),
        THAW_E_USAGE, "x [5,4] does not fit w [2,3]");
    assert_fails(shape_of(TH_OP_add, none, real(TH_SHAPE(5)), real(TH_SHAPE(4))),
        THAW_E_USAGE, "b is [4] but a is [5]");
    assert_fails(shape_of(TH_OP_attention, (union th_attr){.attention = {.heads = 5}},
                     real(TH_SHAPE(1, 2, 12)), absent),
        THAW_E_USAGE, "does not split");
    assert_fails(
        shape_of(TH_OP_dropout, (union th_attr){.dropout = {.p = 1}}, x, absent),
        THAW_E_USAGE, "probability 1");
    assert_fails(shape_of(TH_OP_dropout, none, x, real(TH_SHAPE(2, 2))), THAW_E_USAGE,
        "keys are f32 [2,2]");
    assert_fails(
        shape_of(TH_OP_softmax_ce, none, real(TH_SHAPE(2, 3)), real(TH_SHAPE(2, 4))),
        THAW_E_USAGE, "target is [2,4] but logits is [2,3]");
    assert_fails(shape_of(TH_OP_sgd, (union th_attr){.update = {.momentum = 1}},
                     real(TH_SHAPE(2)), real(TH_SHAPE(2))),
        THAW_E_USAGE, "needs a slot");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_devices_are_refused),
        cmocka_unit_test(only_a_gpu_computes_in_another_precision),
        cmocka_unit_test(a_plugin_that_cannot_be_used_is_an_error_and_auto_goes_on),
        cmocka_unit_test(an_open_device_knows_its_threads_and_says_what_it_is),
        cmocka_unit_test(every_op_has_a_kernel_everywhere),
        cmocka_unit_test(memory_is_zero_and_keeps_what_is_uploaded),
        cmocka_unit_test(the_host_cannot_touch_far_memory),
        cmocka_unit_test(protected_memory_traps_until_it_is_writable_again),
        cmocka_unit_test(far_refuses_pointers_outside_its_allocations),
        cmocka_unit_test(shared_layouts_follow_masks_and_channel_counts),
        cmocka_unit_test(not_a_number_survives_relu_and_maxpool),
        cmocka_unit_test(denormals_are_zeros_between_begin_and_end_on_every_thread),
        cmocka_unit_test(shapes_that_do_not_fit_are_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
