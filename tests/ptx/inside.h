/* SPDX-License-Identifier: Apache-2.0
 * Between the files of the interpreter: a module as it is parsed, a launch as it runs.
 *
 * A register file is an array of units of 32 lanes of 32 bits. A register of 64 bits has two
 * units (64 bits a lane), any other one; a predicate is one bit a lane, in word 0 of its
 * unit. Immediates and special registers (%tid.x) are registers that are full before the
 * first instruction. written[unit]: which lanes were. */
#ifndef PTX_INSIDE_H
#define PTX_INSIDE_H

#include "ptx.h"

enum { LANES = 32, MAX_SOURCES = 6, MAX_RESULTS = 4 };

static const uint32_t ALL = 0xffffffff; /* lanes */

typedef uint32_t lane32 __attribute__((may_alias));
typedef uint64_t lane64 __attribute__((may_alias));
typedef float lane_float __attribute__((may_alias));
typedef uint32_t lane_unit[LANES];

/* How an instruction takes part in the schedule of its warp. */
enum kind {
    PLAIN,
    BRANCH,
    END,       /* ret, exit */
    WARP_WIDE, /* waits for the lanes of its member mask, its last source */
    WARP_SYNC, /* the same, and orders memory */
    BARRIER,   /* of the block */
};

enum space { GLOBAL, SHARED, PARAM };

struct warp;
struct insn;
typedef void step(struct warp *, const struct insn *, uint32_t active);

/* One row a kind of instruction. The signature names results, "=" and sources: p predicate,
 * h 16 bits, r 32 bits, d 64 bits; a "|" result may be left out. NULL: it is parsed by hand
 * (memory, branches). */
struct op {
    const char *text, *signature;
    step *run;
    enum kind kind;
};
extern const struct op ptx_int_ops[], ptx_float_ops[], ptx_convert_ops[],
    ptx_warp_ops[];

struct insn {
    step *run;
    const char *text; /* the opcode, owned by the module */
    uint8_t kind, space, n_results, n_sources;
    uint8_t width, vector; /* of memory: bytes of one value, how many */
    bool sign;             /* of a load: extend it */
    bool narrow;           /* of memory: the address is in a register of 32 bits */
    bool wide;             /* of memory: values are in registers of 64 bits */
    bool guard_negated;
    int guard;  /* unit of a predicate, -1: none */
    int target; /* of a branch */
    int result[MAX_RESULTS], source[MAX_SOURCES];
    int64_t offset; /* of memory; source[0] is the address */
    int line, file, source_line;
};

struct param {
    size_t at, bytes;
};

struct constant {
    int unit;
    uint64_t value;
    char type;    /* letter of a signature */
    bool dynamic; /* the value becomes where dynamic shared memory starts */
};

/* %tid.x and so on. */
enum special {
    TID_X,
    TID_Y,
    TID_Z,
    NTID_X,
    NTID_Y,
    NTID_Z,
    CTAID_X,
    CTAID_Y,
    CTAID_Z,
    NCTAID_X,
    NCTAID_Y,
    NCTAID_Z,
    LANEID,
    N_SPECIALS
};

struct seen { /* of an instruction, over all runs */
    bool reached, taken, passed;
};

struct ptx_kernel {
    char *name;
    struct ptx_module *module;
    struct param *params;
    int n_params;
    size_t param_bytes, shared_bytes; /* shared: static */
    unsigned max_threads;             /* .maxntid, or 1024 */
    struct insn *code;
    int n_code, n_units;
    struct constant *constants;
    int n_constants;
    int special[N_SPECIALS]; /* unit, -1: not used */
    struct seen *seen;
    uint64_t *executed;
};

struct ptx_module {
    char *text; /* copy, without comments; opcodes are strings in it */
    struct ptx_kernel **kernels;
    int n_kernels;
    char *files[64]; /* of .loc, by number */
};

/* ---- a launch ---- */

/* Who wrote and read 4 bytes (or one, of a page that is accessed by less than 4) last. Blocks
 * count from 1; 0: nobody. epoch: see epoch_of. */
struct cell {
    uint32_t w_block, r_block, w_epoch, r_epoch;
    uint16_t w_thread, r_thread;
};
enum { MANY_BLOCKS = 0xffffffff, MANY_WARPS = 0xffff, OF_WARP = 0x8000 };

enum { PAGE = 4096 };
struct page {
    int granule;                                /* bytes of a cell: 4 or 1 */
    uint64_t read[PAGE / 64], wrote[PAGE / 64]; /* a bit a byte */
    struct cell *cells;
};

struct region { /* a block of the host's that this launch has touched */
    uint64_t start;
    size_t bytes;
    char *memory;
    uint8_t *written;
    struct page **pages;
};

struct group { /* lanes of a warp that are at the same instruction */
    int pc;
    uint32_t lanes;
    uint8_t waits; /* enum kind: WARP_WIDE or BARRIER; PLAIN: runs */
};

struct warp {
    struct run *run;
    lane_unit *units;
    uint32_t *written, *at_start; /* at_start: constants and special registers */
    int index;
    uint32_t lanes, live; /* that there are; that have not ended */
    struct group group[LANES];
    int n_groups;
    uint16_t syncs; /* bar.warp.sync so far */
    int pc;         /* of the instruction that runs */
    uint64_t draws; /* state of its random choices */
};

enum { MAX_REGIONS = 256 };
struct run {
    const struct ptx_kernel *kernel;
    const struct ptx_launch *launch;
    const struct ptx_host *host;
    struct region region[MAX_REGIONS];
    int n_regions,
        recent[4]; /* recent: by width of the access, likely the same again */
    char *params;  /* packed as the kernel reads them */
    char *shared;
    size_t shared_bytes;
    struct page **shared_pages;
    uint64_t block; /* linear, from 1 */
    unsigned block_at[3];
    uint16_t barriers; /* of the block so far */
    struct warp *warps;
    int n_warps;
    bool failed;
    uint64_t executed;
};

/* Say what was found at the instruction of the warp, by a lane (-1: all), and end the
 * launch. */
void ptx_found(struct warp *w, int lane, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Of the launch as a whole. */
void ptx_refuse(struct run *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

step ptx_load, ptx_store, ptx_load_param;
/* Tell the host what was touched, and free the shadows. */
void ptx_memory_release(struct run *run);

uint64_t ptx_mix(uint64_t a, uint64_t b);

/* Barriers of the block and syncs of the warp that came before: two accesses of a block are
 * ordered where the first differ, and of a warp also where the second do. */
static inline uint32_t epoch_of(const struct warp *w)
{
    return (uint32_t)w->run->barriers << 16 | w->syncs;
}

static inline int lowest(uint32_t lanes)
{
    return __builtin_ctz(lanes);
}

/* Every active lane l runs `statement`; all lanes may, where that cannot fail. */
#define EACH(active, statement)                                                        \
    do {                                                                               \
        if ((active) == 0xffffffff)                                                    \
            _Pragma("GCC ivdep") for (int l = 0; l < LANES; l++)                       \
            {                                                                          \
                statement;                                                             \
            }                                                                          \
        else                                                                           \
            for (uint32_t rest_ = (active); rest_; rest_ &= rest_ - 1) {               \
                int l = lowest(rest_);                                                 \
                statement;                                                             \
            }                                                                          \
    } while (0)

/* A step that computes each lane alone: d is the result, a, b, c the sources. */
#define LANE_STEP(name, D, A, B, C, expression)                                        \
    static void name(struct warp *w, const struct insn *in, uint32_t active)           \
    {                                                                                  \
        D *d = (void *)w->units[in->result[0]];                                        \
        const A *a = (const void *)w->units[in->source[0]];                            \
        const B *b = (const void *)w->units[in->source[1]];                            \
        const C *c = (const void *)w->units[in->source[2]];                            \
        (void)a, (void)b, (void)c;                                                     \
        EACH(active, d[l] = (D)(expression));                                          \
    }

/* The same where the result is a predicate. */
#define LANE_TEST(name, A, expression)                                                 \
    static void name(struct warp *w, const struct insn *in, uint32_t active)           \
    {                                                                                  \
        uint32_t *d = w->units[in->result[0]], bits = 0;                               \
        const A *a = (const void *)w->units[in->source[0]];                            \
        const A *b = (const void *)w->units[in->source[1]];                            \
        (void)b;                                                                       \
        for (int l = 0; l < LANES; l++)                                                \
            bits |= (uint32_t)(expression) << l;                                       \
        *d = (*d & ~active) | (bits & active);                                         \
    }

#endif
