/* SPDX-License-Identifier: Apache-2.0
 * A CUDA device in software, for tests: the runtime's entry points on the real headers, so
 * that a signature that has changed does not compile, and one that is missing does not link.
 * This header is how a test steers it, and how doubles of libraries enqueue work.
 *
 * Stricter than a device. The host cannot touch device memory (its pages have no access).
 * Nothing runs when it is enqueued: work runs as late as a synchronising call allows, at
 * once, or at random, and a correct program gives the same bits in each order. Whatever the
 * order, two pieces of work that touch the same bytes, one of them writing, without an order
 * between them (stream, event, synchronisation) are a finding, as are leaks and misuse.
 *
 * One host thread; a call from another one is a finding. */
#ifndef EMUCUDA_H
#define EMUCUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cuda_runtime_api.h>

enum emu_order { EMU_LATE, EMU_EARLY, EMU_RANDOM };

struct emu_options {
    enum emu_order order;
    uint64_t seed;        /* of EMU_RANDOM */
    size_t capacity;      /* bytes of device memory; 0: 64 GiB */
    cudaError_t missing;  /* what cudaGetDeviceCount says (34, 35, 100); 0: a device */
    bool any_sum_order;   /* sums in an order of the seed, as other engines would */
    uint64_t approximate; /* how kernels' approximate instructions are off; 0: not */
    /* For tests of the double: each graph has an engine, and tensor cores read all of an
     * fp32 number. */
    bool generous;
    bool no_attention; /* cuDNN has no engine for it, of any type */
};

/* A fresh device without findings. */
void emu_open(const struct emu_options *options);
/* What is still there becomes findings; returns how many there are in all, which stay
 * readable until the next emu_open. */
int emu_close(void);

/* Work on bytes of device (or pinned) memory; the double knows them by this alone. */
struct emu_range {
    const void *at;
    size_t bytes;
    bool writes;
};
enum { EMU_RANGES = 64, EMU_ARGUMENT = 64 };
/* Enqueue run(memory, argument): memory[i] is where the bytes of ranges[i] really are;
 * `argument` is copied, of at most EMU_ARGUMENT bytes. */
cudaError_t emu_launch(cudaStream_t stream, const char *name,
    void (*run)(void *const *memory, const void *argument), const void *argument,
    size_t argument_bytes, const struct emu_range *ranges, int n);

/* The host is about to read or write pinned memory. */
void emu_host_touches(const void *p, size_t bytes, bool writes);

/* From now on a host that touches device memory all the same ends with a sentence on stderr
 * and this status. */
enum { EMU_TRAPPED = 86 };
void emu_trap(void);

/* A program that does not call emu_open gets its device from the environment (program.c), and
 * ends with this status if there are findings. */
enum { EMU_FOUND = 87 };

/* The n-th call of a class from now on fails (n = 1: the next); 0: none. EMU_ASYNC: the n-th
 * piece of work that runs, which the next synchronising call says, and every call after.
 * EMU_PLAN: the n-th finalisation of an execution plan of cuDNN, or question for an algorithm
 * of cuBLASLt; EMU_EXECUTE: the n-th cudnnBackendExecute or cublasLtMatmul. */
enum emu_class {
    EMU_ALLOC,
    EMU_COPY,
    EMU_WORK,
    EMU_EVENT,
    EMU_STREAM,
    EMU_ASYNC,
    EMU_PLAN,
    EMU_EXECUTE,
    EMU_CLASSES
};
void emu_fail(enum emu_class class, int n);
/* How many calls of the class are left until that one. */
int emu_fails_in(enum emu_class class);
/* Whether the failure that was asked for has happened. */
bool emu_failed(void);

/* The n-th wait for an event from now on, of a stream or of the host, is left out, as if its
 * caller had forgotten it: a planted mistake. 0: none. */
enum emu_wait { EMU_STREAM_WAIT, EMU_HOST_WAIT, EMU_WAITS };
void emu_forget(enum emu_wait wait, int n);
/* Whether the wait that was to be left out has been. */
bool emu_forgotten(void);

int emu_findings(void);
const char *emu_finding(int i);
/* Findings whose text has this part. */
int emu_found(const char *part);

/* Since emu_open or emu_reset_counters. */
struct emu_counters {
    int launches;                    /* of all kinds of work but copies */
    int executes, products, kernels; /* of these: cuDNN's, cuBLASLt's, our kernels */
    int copies, syncs, allocations, frees, events;
    int copies_within; /* of copies: from the device to itself */
    int plans;         /* of cuDNN, of a configuration */
    int plans_read;    /* of JSON */
    int graphs;        /* launched; what is in them is not counted again */
    size_t bytes_to_device, bytes_to_host, peak_bytes;
};
struct emu_counters emu_counters(void);
void emu_reset_counters(void);

#endif
