/* SPDX-License-Identifier: Apache-2.0
 * Faults on order: the n-th system call on files under a prefix fails, is cut short, or is
 * the process's last; the n-th allocation of the library is refused.
 *
 * Built twice from shim.c: linked into test programs, which use the calls below, and as a
 * module for LD_PRELOAD, which reads THAW_FAULT="PREFIX:KIND:N[:CALLS[:forever]]"; KIND is
 * ENOSPC, EIO, EROFS, EINTR, EMFILE, short, kill, stop or interrupt; CALLS words joined by +, as
 * in fsync+rename, or all. */
#ifndef TH_TESTS_SHIM_H
#define TH_TESTS_SHIM_H

#include <stdbool.h>

enum fault_kind {
    FAULT_NONE,
    FAULT_ERRNO,
    FAULT_SHORT,
    FAULT_KILL,
    FAULT_STOP,
    FAULT_INTERRUPT
};

enum fault_call {
    FAULT_OPEN = 1, /* for writing, or of a folder */
    FAULT_WRITE = 2,
    FAULT_FSYNC = 4,
    FAULT_CLOSE = 8,
    FAULT_RENAME = 16,
    FAULT_FALLOCATE = 32,
    FAULT_TRUNCATE = 64,
    FAULT_MKDIR = 128,
    FAULT_LIST = 256, /* opendir */
    FAULT_SAVE = 255  /* all that a save or a run's folder needs */
};

struct fault {
    enum fault_kind kind;
    int cause;      /* errno of FAULT_ERRNO */
    char path[512]; /* prefix of the paths that count */
    unsigned calls; /* fault_call bits */
    int at;         /* the n-th of them, from 1 */
    bool forever;   /* and all after it */
};

void fault_arm(const struct fault *f); /* NULL: no more */
int fault_seen(void);                  /* calls that counted since */
bool fault_met(void);

/* Refuse the n-th aligned_alloc from now on (vision/mem.c's, so the library's own), once
 * or for good; 0: none. */
void fault_refuse(int n, bool forever);
bool fault_refused(void);
int fault_allocations(void); /* calls of it since then */
void fault_allow(void);      /* refuse and count no more; what was counted stays */

/* fsync reports success and does nothing: for speed, where no power will be cut. */
void fault_skip_sync(void);

#endif
