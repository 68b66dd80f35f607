/* SPDX-License-Identifier: Apache-2.0
 * An interpreter of PTX: runs what nvcc made of our kernels on the host, warp by warp, and
 * finds what a device would not say: accesses out of bounds, misaligned or of what nobody
 * wrote, races in shared and global memory, divergence at barriers and shuffles, launches
 * that no device takes. The first thing found ends the launch.
 *
 * What it does not know is refused when a module is parsed, not when it runs. Any order of
 * blocks and warps, and of the sides of a branch, is one that a device may take. */
#ifndef PTX_H
#define PTX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ptx_module;
struct ptx_kernel;

/* NULL: `why` says what is not understood, and in which line. */
struct ptx_module *ptx_parse(
    const char *text, size_t bytes, char *why, size_t why_size);
void ptx_free(struct ptx_module *); /* NULL is fine */

const struct ptx_kernel *ptx_find(const struct ptx_module *, const char *name);
const struct ptx_kernel *ptx_at(const struct ptx_module *, int i); /* NULL: no more */
const char *ptx_name(const struct ptx_kernel *);
int ptx_n_params(const struct ptx_kernel *);
size_t ptx_param_bytes(const struct ptx_kernel *, int i);

/* The memory that a launch may touch. */
struct ptx_host {
    void *context;
    /* The live block that holds the address, and where its bytes are; false: none. */
    bool (*block)(
        void *context, uint64_t address, uint64_t *start, size_t *bytes, char **memory);
    /* Merged intervals that the launch read or wrote, told once at its end. NULL: nobody
     * wants to know. */
    void (*touched)(void *context, uint64_t address, size_t bytes, bool writes);
    void (*find)(void *context, const char *finding);
    /* A byte for each byte of the block that starts there, 0 where nobody wrote it yet;
     * reading such a byte is a finding, and a write sets it. NULL, or NULL as a result: all
     * of it was written. */
    uint8_t *(*written)(void *context, uint64_t start);
};

struct ptx_launch {
    unsigned grid[3], block[3], shared; /* shared: dynamic bytes */
    uint64_t seed; /* order of blocks, warps and branches; 0: as they are numbered */
    void *const *args;       /* address of each parameter */
    const size_t *arg_bytes; /* what the caller holds there; NULL: not known */
    /* Approximate instructions give the nearest value (0), or one within their bound that
     * is drawn from this and their operand. */
    uint64_t approximate;
};

/* false: something was found. */
bool ptx_run(
    const struct ptx_kernel *, const struct ptx_launch *, const struct ptx_host *);

/* What all runs of a kernel reached. */
struct ptx_coverage {
    int n_instructions, n_reached;
    int n_branches, n_taken, n_passed; /* conditional ones; by any lane */
    uint64_t executed;                 /* instructions times lanes */
};
struct ptx_coverage ptx_coverage(const struct ptx_kernel *);
/* The i-th instruction that was not reached, or branch that always went one way, as text
 * with its line; false: no more. */
bool ptx_missed(const struct ptx_kernel *, int i, char *text, size_t size);

/* The i-th line of source no instruction of which was reached. */
bool ptx_missed_line(const struct ptx_kernel *, int i, char *text, size_t size);

/* How often instructions of this kind ("ld.global.v4.f32") stand in a kernel. */
int ptx_count(const struct ptx_kernel *, const char *opcode);

#endif
