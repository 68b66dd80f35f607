/* SPDX-License-Identifier: Apache-2.0
 * Between the files of the emulated device. Its state is one global: the runtime's calls have
 * no handle to hang it on. */
#ifndef EMU_H
#define EMU_H

#include "emucuda.h"

#include <pthread.h>

/* Actors of the order: 0 is the host, then each stream that was ever made. */
enum { EMU_ACTORS = 32 };

/* tick[a]: how much of actor a has happened before. */
struct emu_clock {
    uint64_t tick[EMU_ACTORS];
};

/* The clock of one piece of work, for all its accesses. */
struct emu_stamp {
    struct emu_clock clock;
    int references;
};

struct emu_block {
    char *view;   /* what the host knows; of device memory without access */
    char *memory; /* where the bytes are; the view itself, of pinned memory */
    size_t bytes, mapped;
    bool pinned, live, dying; /* dying: its free is enqueued */
    int id;
};

enum emu_kind {
    EMU_OP_WORK,
    EMU_OP_KERNEL, /* what it touches is known when it has run */
    EMU_OP_COPY,
    EMU_OP_SET,
    EMU_OP_RECORD,
    EMU_OP_WAIT,
    EMU_OP_FREE,
    EMU_OP_BORN
};

struct emu_op {
    enum emu_kind kind;
    const char *name;
    int stream;   /* actor */
    uint64_t seq; /* of all enqueued: "#12" in findings */
    struct emu_range ranges[EMU_RANGES];
    int n_ranges;
    void (*run)(void *const *memory, const void *argument);
    void (*release)(void *argument); /* NULL: the argument is in the operation */
    void *owned;
    char argument[EMU_ARGUMENT];
    int index;               /* in emu.ops */
    struct emu_graph *graph; /* of a graph's launch: what is owned is the graph's */
    int value;               /* of a set */
    struct emu_stamp *stamp; /* of a kernel */
    bool hashed;
    uint64_t hash;           /* of a host source, when it was enqueued */
    struct emu_op *awaited;  /* of a wait: the record */
    struct emu_block *block; /* of a free */
    bool done;
    struct emu_op *next; /* in its stream */
};

struct emu_stream {
    bool live;
    struct emu_graph *capture; /* what is enqueued goes there; NULL: it runs */
    struct emu_op *head, *tail;
    struct emu_clock clock;
};

struct emu_event {
    bool live;
    struct emu_op *record; /* the last one; NULL: never */
    struct emu_clock clock;
    uint64_t finished; /* when its record ran, in pieces of work */
};

/* Bytes that some work touched, and when. */
struct emu_access {
    struct emu_range range;
    struct emu_stamp *stamp;
    int actor;
    uint64_t tick, seq;
    const char *name;
};

struct emu_device {
    struct emu_options options;
    pthread_t thread;
    bool open;
    uint64_t seq, ran, random;
    cudaError_t last, sticky, pending; /* pending: sticky at the next synchronisation */
    struct emu_stream streams[EMU_ACTORS]; /* [0]: the host's clock */
    int n_streams;
    struct emu_block **blocks;
    int n_blocks;
    struct emu_event **events;
    int n_events;
    struct emu_op **ops;
    int n_ops;
    struct emu_access *accesses;
    int n_accesses;
    int n_kernels;   /* that are enqueued and have not run */
    bool host_moved; /* its clock, since accesses were last looked through */
    char **findings;
    int n_findings;
    size_t used;
    struct emu_counters counters;
    int fail_in[EMU_CLASSES];
    bool failed;
    int forget_in[EMU_WAITS];
    bool forgotten;
};
extern struct emu_device emu;

/* report.c */
void emu_find(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *emu_grow(void *array, int n, size_t size); /* room for one more */

/* inject.c: every entry point begins with it. Not success: return it. */
cudaError_t emu_enter(enum emu_class class, const char *name);
cudaError_t emu_visit(const char *name); /* of a call that is never asked to fail */
bool emu_fails(enum emu_class class);    /* whether this is the call that is asked to */
bool emu_forgets(enum emu_wait wait);    /* whether this is the wait that is left out */
cudaError_t emu_return(cudaError_t error); /* keeps it for cudaGetLastError */

/* memory.c */
struct emu_block *emu_block_of(const void *p, size_t bytes);
void *emu_translate(const void *p, size_t bytes);
void emu_block_die(struct emu_block *b, const char *name);
void emu_check_zones(void);
void emu_memory_close(void);

/* stream.c */
struct emu_op *emu_op_new(enum emu_kind kind, const char *name, cudaStream_t stream);
void emu_enqueue(struct emu_op *op);
/* As emu_launch, of an argument that is given away: release(argument) after it ran. */
cudaError_t emu_launch_owned(cudaStream_t stream, const char *name,
    void (*run)(void *const *memory, const void *argument), void *argument,
    void (*release)(void *argument), const struct emu_range *ranges, int n);
void emu_ops_close(void);
void emu_run_until(struct emu_op *op);
void emu_run_all(void);
cudaError_t emu_synchronised(
    void); /* counts, checks zones; what went wrong on the way */
int emu_actor(cudaStream_t stream); /* -1: no live stream */

/* program.c: opens the device if the environment says how; false: it does not */
bool emu_program_open(void);

/* capture.c */
bool emu_captures(struct emu_op *op); /* taken: it is not to run */
/* What a call that may not be made while something is captured returns. */
cudaError_t emu_not_captured(const char *name);
void emu_graph_let_go(struct emu_graph *graph); /* NULL is fine */
void emu_graphs_close(void);

/* race.c */
void emu_merge(struct emu_clock *to, const struct emu_clock *from);
void emu_race_check(int actor, const struct emu_clock *now, const char *name,
    uint64_t seq, const struct emu_range *ranges, int n);
/* A kernel, whose accesses come later; one of them; and no more of them. */
void emu_race_later(struct emu_op *op, const struct emu_clock *now);
void emu_race_found(const struct emu_op *op, const struct emu_range *range);
void emu_race_over(struct emu_op *op);
void emu_race_close(void);

/* kernel.c */
void emu_kernel_run(struct emu_op *op);
void emu_kernels_close(void);

/* dnn_state.c, blas.c: handles and descriptors that are left are findings */
void emu_dnn_close(void);
void emu_blas_close(void);

#endif
