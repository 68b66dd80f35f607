/* SPDX-License-Identifier: Apache-2.0
 * Work on bytes of strangers in a process that can do nothing but compute: a fork of this
 * one, with bounds on memory and time, without files and (Linux) almost without system
 * calls. It answers through memory shared with it; what crashes, hangs or takes over is
 * that process, and becomes a sentence here.
 *
 *     struct th_sandbox s;
 *     TRY(th_sandbox_run(&job, &s));      job.run(job.context, shared, n) ran in the child
 *     ... s.bytes: what it wrote, which nobody vouches for ...
 *     th_sandbox_release(&s);
 *
 * The child is a copy of a process that may have other threads: it may compute and use
 * malloc and th_fail, but no threads and no locks that another thread could hold. What it
 * changes is gone with it, but for the shared memory. Nothing in this process changes: no
 * signal handler, no descriptor; its SIGCHLD handler, if any, sees one more child. */
#ifndef TH_SANDBOX_H
#define TH_SANDBOX_H

#include "thaw.h"

#include <stddef.h>
#include <sys/types.h>

struct th_sandbox_job {
    const char *where; /* the file, for sentences */
    /* n bytes at `shared`, zero at first. A failure's sentence comes back too. */
    thaw_status (*run)(void *context, unsigned char *shared, size_t n);
    void *context;
    size_t shared_bytes; /* a bound: only what is written takes memory */
    size_t memory_bytes; /* that the child may add to what is there now */
    double seconds;      /* of computing; ten times that by the clock */
};

/* What a child left. */
struct th_sandbox {
    unsigned char *bytes; /* shared_bytes of the job, after its header */
    size_t n, released;
    void *map;
};

/* THAW_OK after job.run said so. THAW_E_DATA where the child crashed, took too long or
 * tried what it may not; THAW_E_MEMORY, THAW_E_FAIL where no child could be had; else
 * what job.run returned. Release only after success. */
thaw_status th_sandbox_run(const struct th_sandbox_job *job, struct th_sandbox *out);
void th_sandbox_release(struct th_sandbox *s);

/* The first n bytes will not be read again: their memory goes back (where it can). */
void th_sandbox_consume(struct th_sandbox *s, size_t n);

/* For sandbox.c, in the file that the system has: called in the child. */
void th_sandbox_close_files(void);
void th_sandbox_follow_parent(pid_t parent); /* end when it ends; no core dumps */
void th_sandbox_filter_calls(void);          /* from here on, what its tables allow */
/* For sandbox.c, in the parent: no later child gets these pages; give them back. */
void th_sandbox_keep_pages(void *pages, size_t n);
void th_sandbox_drop_pages(void *pages, size_t n);

#endif
