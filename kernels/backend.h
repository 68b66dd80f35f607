/* SPDX-License-Identifier: Apache-2.0
 * Devices: memory, and one kernel per op.
 *
 * Invariants: a pointer of a device is only ever dereferenced by that device's kernels
 * and copied by upload and download (the `far` device proves it: the host cannot touch
 * its memory). `run` allocates nothing. A kernel writes its outputs, the inputs that the
 * op's row marks as written, its scratch, and nothing else.
 *
 * A prepared step goes through: layout (which blocks it wants) -> prepare (chooses an
 * algorithm, allocates `state`, says scratch_bytes) -> the planner sets args and scratch
 * -> run, any number of times -> release. */
#ifndef TH_BACKEND_H
#define TH_BACKEND_H

#include "conv_choice.h"

struct th_device;

/* One prepared step. */
struct th_call {
    enum th_op op;
    union th_attr attr;
    struct th_operand in[TH_MAX_IN], out[TH_MAX_OUT];
    struct th_device *device;
    void *args
        [TH_MAX_ARGS]; /* struct th_args_NAME: inputs, then outputs, device pointers */
    void *scratch;     /* scratch_bytes of device memory, 64-byte aligned */
    size_t scratch_bytes;
    void *state; /* the kernel's own, from prepare to release */
    /* kept_bytes of device memory, which prepare asks for: what a kernel makes from inputs
     * that outlive the step (packed weights). `stale`: make it again, for such an input
     * changed, or the planner used the memory for something else; true on the first run. */
    void *kept;
    size_t kept_bytes;
    bool stale;
    unsigned packs; /* inputs, as bits, that are read for that alone: set by prepare */
    /* For forecasts, set by prepare: time of the call over that of as many multiply-adds
     * (or bytes, for an op without any) in the device's matrix product (or sum of two
     * tensors); 0 stands for 1. */
    double effort;
    enum th_conv_algorithm algorithm; /* of a convolution, set by prepare */
    /* The other call of a pair that runs as one, or NULL; `keep`: others read, too, what that
     * one reads of this one. */
    struct th_call *second;
    bool keep;
};

/* A step of a plan, when a device says which two may run as one: its call, and the ids of
 * the values that it reads and makes (-1: none). */
struct th_pair_step {
    const struct th_call *call;
    int in[TH_MAX_IN], out[TH_MAX_OUT];
    bool wanted; /* the host reads an output of it */
    bool alone;  /* takes no part */
    /* Set by the device: */
    int partner; /* the other step of its pair; -1 */
    bool second; /* of the pair */
    bool
        early; /* the pair runs where its first step stands, else where its second does */
    bool keep; /* as th_call.keep */
};

struct th_kernel {
    /* Set `block` of each [n][c][h][w] operand to what this kernel wants, given what the
     * inputs have now and the device's own block. NULL: th_layout_alike. */
    void (*layout)(const union th_attr *attr, struct th_operand *in,
        struct th_operand *out, int device_block);
    thaw_status (*prepare)(struct th_call *call); /* NULL: nothing to prepare */
    thaw_status (*run)(const struct th_call *call);
    /* Calls of one op that follow one another, as if one by one, in fewer launches; what
     * only they hand to each other need not be written. Called for n of 2 and more. NULL: no
     * such way. A device that has it for the optimizer's op gets its calls in a row. */
    thaw_status (*run_all)(const struct th_call *const *calls, int n);
    void (*release)(struct th_call *call); /* NULL: nothing to release */
    /* Make what is in `kept` again and compare; a difference is THAW_E_FAIL. NULL: keeps
     * nothing. May allocate. */
    thaw_status (*verify)(const struct th_call *call);
    bool on_host;  /* runs there, and waits: no recording can have it */
    bool in_place; /* out[0] may be the memory of in[0] where that is its last reader */
};

/* Layouts that kernels share. Unused and absent operands (present is false) get block 1.
 * plain: NCHW everywhere. alike: one block for all, that of a mask or index among the
 * inputs (which are never reordered), else of the first [n][c][h][w] input, else the
 * device's, also for one above 16; 1 where it does not divide every channel count. reorder: as it is, the
 * planner has set both sides. */
void th_layout_plain(const union th_attr *attr, struct th_operand *in,
    struct th_operand *out, int device_block);
void th_layout_alike(const union th_attr *attr, struct th_operand *in,
    struct th_operand *out, int device_block);
void th_layout_reorder(const union th_attr *attr, struct th_operand *in,
    struct th_operand *out, int device_block);

/* Types of a call's real operands on the device: fp32 or bf16. A reorder and a view have
 * what their values have. */
void th_types(const struct th_device *device, enum th_op op, struct th_operand *in,
    struct th_operand *out);

/* The kernel's layout, whether it has one of its own or not. */
void th_layout(const struct th_kernel *kernel, const union th_attr *attr,
    struct th_operand *in, struct th_operand *out, int device_block);

/* One of several copies that go together. */
struct th_copy {
    const void *src;
    void *dst;
    size_t bytes;
};

struct th_backend {
    const char *name;                                 /* "ref", "far", "cpu" */
    const struct th_kernel *(*kernel)(enum th_op op); /* NULL: no such op */
    /* A letter an argument, inputs and then outputs: `h` for one that is bf16, anything else
     * as it is ("h..hh"); NULL: as they are. The member is NULL where all are fp32. */
    const char *(*halves)(enum th_op op);
    /* Which steps may run as one; NULL: none do. Such a pair is prepared and run by
     * pair_kernel, with the first's call; a prepare that sets call->second to NULL has done
     * nothing: the two run apart. Scratch, kept memory and staleness are the first's. */
    void (*pair)(struct th_pair_step *steps, int n);
    const struct th_kernel *pair_kernel;
    thaw_status (*open)(struct th_device *device);
    void (*close)(struct th_device *device);
    thaw_status (*wait)(struct th_device *device); /* NULL: nothing to wait for */
    /* Around a row of runs, on the thread that calls them: the processor computes as this
     * device wants it to, and afterwards as it did before. NULL members: nothing to do. */
    void (*begin)(struct th_device *device);
    void (*end)(struct th_device *device);
    /* Page-aligned, zeroed; NULL with a sentence on failure. */
    void *(*alloc)(struct th_device *device, size_t bytes);
    void (*free)(struct th_device *device, void *p, size_t bytes);
    thaw_status (*upload)(
        struct th_device *device, void *dst, const void *host, size_t bytes);
    thaw_status (*download)(
        struct th_device *device, void *host, const void *src, size_t bytes);
    /* Downloads of which all are waited for at once; NULL: one after the other. */
    thaw_status (*download_all)(
        struct th_device *device, const struct th_copy *copies, int n);
    /* send: each copy's src, the host's, goes to the device beside what runs, into memory of
     * the device's own; one lot at a time, a later one in the place of an earlier one that
     * nobody took. *lot: its number; 0: there is no room. take: the lot goes to where each
     * copy's dst says, as if uploaded now, once; THAW_E_USAGE where it is not that lot, or of
     * other sizes. NULL members: no such way. */
    thaw_status (*send)(
        struct th_device *device, const struct th_copy *copies, int n, uint64_t *lot);
    thaw_status (*take)(
        struct th_device *device, const struct th_copy *copies, int n, uint64_t lot);
    /* What is enqueued between `record` and `recorded` does not run, but becomes a recording
     * that `replay` enqueues, any number of times: the same kernels on the same arguments.
     * `recorded` with NULL gives it up. NULL members: cannot. */
    thaw_status (*record)(struct th_device *device);
    thaw_status (*recorded)(struct th_device *device, void **recording);
    thaw_status (*replay)(struct th_device *device, void *recording);
    void (*forget)(struct th_device *device, void *recording);
    /* Make pages read-only or writable again; a write then traps. NULL: cannot. */
    thaw_status (*protect)(
        struct th_device *device, void *p, size_t bytes, bool readonly);
    /* The contents are not needed any more; the memory is again when it is next touched, and
     * until then others may use it. NULL: cannot. */
    void (*discard)(struct th_device *device, void *p, size_t bytes);
    /* One line for people: engine, version, instruction set. */
    const char *(*describe)(struct th_device *device);
};

/* fp32 as fp32; TF32: products of fp32 on operands of 10 bits, summed in fp32; HALF (bf16): what
 * lives within a step is bf16 where `halves` says so, computed with in fp32. Parameters,
 * their gradients, statistics and losses are always fp32. */
enum th_precision { TH_FP32, TH_TF32, TH_HALF };

struct th_device {
    const struct th_backend *backend;
    int threads; /* at least 1 */
    enum th_precision precision;
    char isa
        [16]; /* what followed "cpu:" ("" for the best; open checks it, and names what
                     is in force), or the number after "cuda:" */
    char missed[320]; /* of "auto": why it is not cuda:0; else "" */
    int block;        /* preferred channel block: 1, 8 or 16; set by open */
    bool int8;        /* conv_q is faster than conv here; set by open */
    void *state;      /* the backend's own */
    /* Convolution algorithms that go before the backend's own table; set by who opened the
     * device, before calls are prepared, and as long as they are. */
    const struct th_conv_choice *choices;
    size_t n_choices;
    /* Folder in which the device keeps plans that are slow to make; NULL: none. Set likewise. */
    const char *plans;
    char warning[320]; /* what went wrong and is no error; who tells it empties it */
};

/* Runs any op in plain C on the host, between a download and an upload. */
extern const struct th_kernel th_hosted_kernel;

extern const struct th_backend th_backend_ref, th_backend_far, th_backend_cpu;

/* "auto" (cuda:0 where it can be used, else cpu), "cpu" or "cpu:avx2" (an instruction set at most: base, avx2, avx512), "cuda:0" (a plugin:
 * plugin.h), "ref", "far"; behind any of them a precision, "cuda:0:tf32". threads 0: all
 * cores. THAW_E_USAGE for an unknown name, an instruction set that this machine lacks, or a
 * precision that the device does not have; THAW_E_FAIL where there is no such device. */
thaw_status th_device_open(const char *name, int threads, struct th_device **out);
void th_device_close(struct th_device *device); /* NULL is fine */
/* Until all that was enqueued is done, with the error of what failed and nobody has heard of:
 * closing could not say it. */
thaw_status th_device_wait(struct th_device *device);

/* Bytes that an operand occupies: blocked or not, the element count is the same. */
size_t th_operand_bytes(const struct th_operand *o);

#endif
