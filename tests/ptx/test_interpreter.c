/* SPDX-License-Identifier: Apache-2.0
 * The interpreter itself: instructions give what the PTX manual says, in full warps and in
 * parts of one; each planted mistake of mistakes.cu is found, in whatever order it runs, and
 * nothing is found where there is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "images.h"
#include "ptx.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- memory: blocks of the test, each of them exact ---- */

enum { MAX_BLOCKS = 4, ROOM = 256 };

static struct {
    _Alignas(64) char memory[ROOM * 8];
    uint8_t written[ROOM * 8];
    size_t bytes;
} blocks[MAX_BLOCKS];
static char finding[1024];
static size_t n_read, n_written;

static bool find_block(
    void *context, uint64_t address, uint64_t *start, size_t *bytes, char **memory)
{
    (void)context;
    for (int i = 0; i < MAX_BLOCKS; i++) {
        uint64_t at = (uint64_t)(uintptr_t)blocks[i].memory;
        if (address - at >= blocks[i].bytes)
            continue;
        *start = at;
        *bytes = blocks[i].bytes;
        *memory = blocks[i].memory;
        return true;
    }
    return false;
}

static uint8_t *written_map(void *context, uint64_t start)
{
    (void)context;
    for (int i = 0; i < MAX_BLOCKS; i++)
        if (start == (uint64_t)(uintptr_t)blocks[i].memory)
            return blocks[i].written;
    return NULL;
}

static void touched(void *context, uint64_t address, size_t bytes, bool writes)
{
    (void)context, (void)address;
    *(writes ? &n_written : &n_read) += bytes;
}

static void found(void *context, const char *text)
{
    (void)context;
    snprintf(finding, sizeof finding, "%s", text);
}

static const struct ptx_host host = {
    .block = find_block, .touched = touched, .find = found, .written = written_map};

/* A block of `bytes`, written as far as `value` says. */
static void *block(int i, size_t bytes, bool written)
{
    blocks[i].bytes = bytes;
    memset(blocks[i].written, written, bytes);
    return blocks[i].memory;
}

static struct ptx_module *parse(const char *text, size_t bytes)
{
    char why[512];
    struct ptx_module *m = ptx_parse(text, bytes, why, sizeof why);
    if (!m)
        fail_msg("%s", why);
    return m;
}

/* ---- instructions ---- */

/* %rd3..5 are a, b, c in 64 bits, %r3..5 and %f3..5 in 32, %rs3..5 in 16; the result is in
 * %rd6, %r6, %f6 or %rs6, as `to` says; p: predicate %p6. */
struct row {
    const char *code;
    char to;
    uint64_t a, b, c, expected;
};

#define ONE 0x3F800000
#define TWO 0x40000000
#define THREE 0x40400000
#define HALF 0x3F000000
#define MINUS 0x80000000
#define NOT_A_NUMBER 0x7FC00000
#define INFINITE 0x7F800000

static const struct row rows[] = {
    {"add.s32 %r6, %r3, %r4;", 'r', 0xffffffff, 2, 0, 1},
    {"sub.s32 %r6, %r3, 5;", 'r', 3, 0, 0, 0xfffffffe},
    {"mul.lo.s32 %r6, %r3, %r4;", 'r', 0x10001, 0x10001, 0, 0x20001},
    {"mad.lo.s32 %r6, %r3, %r4, %r5;", 'r', 7, 6, 5, 47},
    {"mul.hi.u32 %r6, %r3, %r4;", 'r', 0xffffffff, 0xffffffff, 0, 0xfffffffe},
    {"mul.wide.u32 %rd6, %r3, %r4;", 'd', 0xffffffff, 2, 0, 0x1fffffffe},
    {"mul.wide.s32 %rd6, %r3, %r4;", 'd', 0xffffffff, 2, 0, 0xfffffffffffffffe},
    {"div.s32 %r6, %r3, %r4;", 'r', 0xfffffff9, 2, 0, 0xfffffffd},
    {"rem.s32 %r6, %r3, %r4;", 'r', 0xfffffff9, 2, 0, 0xffffffff},
    {"div.u32 %r6, %r3, %r4;", 'r', 0xfffffff9, 2, 0, 0x7ffffffc},
    {"rem.u32 %r6, %r3, %r4;", 'r', 17, 5, 0, 2},
    {"min.s32 %r6, %r3, %r4;", 'r', 0xffffffff, 1, 0, 0xffffffff},
    {"max.u32 %r6, %r3, %r4;", 'r', 0xffffffff, 1, 0, 0xffffffff},
    {"add.s64 %rd6, %rd3, %rd4;", 'd', 0xffffffffffffffff, 3, 0, 2},
    {"mul.lo.s64 %rd6, %rd3, %rd4;", 'd', 0x100000001, 3, 0, 0x300000003},
    {"div.s64 %rd6, %rd3, %rd4;", 'd', 0xfffffffffffffff9, 2, 0, 0xfffffffffffffffd},
    {"rem.u64 %rd6, %rd3, %rd4;", 'd', 17, 5, 0, 2},
    {"and.b32 %r6, %r3, %r4;", 'r', 0xf0f0, 0xff00, 0, 0xf000},
    {"xor.b64 %rd6, %rd3, %rd4;", 'd', 0xf0f0f0f0f0, 0xff, 0, 0xf0f0f0f00f},
    {"not.b32 %r6, %r3;", 'r', 0xf0f0f0f0, 0, 0, 0x0f0f0f0f},
    {"shl.b32 %r6, %r3, %r4;", 'r', 1, 32, 0, 0},
    {"shl.b64 %rd6, %rd3, %r4;", 'd', 1, 40, 0, 0x10000000000},
    {"shr.u32 %r6, %r3, %r4;", 'r', 0x80000000, 31, 0, 1},
    {"shr.s32 %r6, %r3, %r4;", 'r', 0x80000000, 40, 0, 0xffffffff},
    {"shr.s64 %rd6, %rd3, 60;", 'd', 0x8000000000000000, 0, 0, 0xfffffffffffffff8},
    {"shf.l.wrap.b32 %r6, %r3, %r4, %r5;", 'r', 0x80000000, 1, 1, 3},
    {"bfe.u32 %r6, %r3, 8, 4;", 'r', 0xabcd, 0, 0, 0xb},
    {"bfi.b32 %r6, %r3, %r4, 8, 4;", 'r', 0xf, 0, 0, 0xf00},
    {"bfi.b64 %rd6, %rd3, %rd4, 32, 32;", 'd', 0x12345678, 1, 0, 0x1234567800000001},
    {"prmt.b32 %r6, %r3, %r4, 0x5410;", 'r', 0x33221100, 0x77665544, 0, 0x55441100},
    {"lop3.b32 %r6, %r3, %r4, %r5, 0x96;", 'r', 0xff00, 0xf0f0, 0xcccc, 0xc33c},
    {"popc.b32 %r6, %r3;", 'r', 0xff01, 0, 0, 9},
    {"clz.b32 %r6, %r3;", 'r', 0, 0, 0, 32},
    {"mov.b32 {%rs6, %rs1}, %r3;", 'h', 0xabcd1234, 0, 0, 0x1234},
    {"mov.b32 %r6, {%rs3, %rs4};", 'r', 0x1234, 0xabcd, 0, 0xabcd1234},
    {"mov.b64 %rd6, {%r3, %r4};", 'd', 1, 2, 0, 0x200000001},
    {"add.s16 %rs6, %rs3, %rs4;", 'h', 0xffff, 2, 0, 1},
    {"setp.lt.s32 %p6, %r3, %r4;", 'p', 0xffffffff, 0, 0, 1},
    {"setp.lt.u32 %p6, %r3, %r4;", 'p', 0xffffffff, 0, 0, 0},
    {"setp.ge.s64 %p6, %rd3, %rd4;", 'p', 0xffffffffffffffff, 0, 0, 0},
    {"setp.eq.s16 %p6, %rs3, %rs4;", 'p', 0x10005, 0x20005, 0, 1},
    {"setp.ne.s32 %p1, %r3, 0;\n selp.b32 %r6, %r4, %r5, %p1;", 'r', 1, 7, 8, 7},
    {"setp.ne.s32 %p1, %r3, 0;\n setp.ne.s32 %p2, %r4, 0;\n and.pred %p6, %p1, %p2;",
        'p', 1, 0, 0, 0},
    {"mov.u32 %r6, 5;\n setp.ne.s32 %p1, %r3, 0;\n @!%p1 mov.u32 %r6, 6;", 'r', 0, 0, 0,
        6},

    {"add.f32 %f6, %f3, %f4;", 'f', ONE, 0x33800000, 0, ONE}, /* 2^-24: to even */
    {"add.rz.f32 %f6, %f3, %f4;", 'f', ONE, 0x337fffff | MINUS, 0, 0x3F7FFFFF},
    /* (1 + 3e)^2 - (1 + 6e) = 9e^2: of the product nothing is rounded away */
    {"fma.rn.f32 %f6, %f3, %f4, %f5;", 'f', 0x3F800003, 0x3F800003, MINUS | 0x3F800006,
        0x2A100000},
    {"fma.rm.f32 %f6, %f3, %f4, %f5;", 'f', ONE, MINUS | 0x33000000, ONE, 0x3F7FFFFF},
    {"mul.f32 %f6, %f3, %f4;", 'f', 0x00800000, HALF, 0, 0x00400000}, /* subnormal */
    {"div.rn.f32 %f6, %f3, %f4;", 'f', ONE, THREE, 0, 0x3EAAAAAB},
    {"sqrt.rn.f32 %f6, %f3;", 'f', TWO, 0, 0, 0x3FB504F3},
    {"rcp.rn.f32 %f6, %f3;", 'f', 0, 0, 0, INFINITE},
    {"min.f32 %f6, %f3, %f4;", 'f', NOT_A_NUMBER, ONE, 0, ONE},
    {"max.f32 %f6, %f3, %f4;", 'f', MINUS, 0, 0, 0},
    {"min.f32 %f6, %f3, %f4;", 'f', 0, MINUS, 0, MINUS},
    {"neg.f32 %f6, %f3;", 'f', ONE, 0, 0, MINUS | ONE},
    {"abs.f32 %f6, %f3;", 'f', MINUS | ONE, 0, 0, ONE},
    {"copysign.f32 %f6, %f3, %f4;", 'f', MINUS, TWO, 0, MINUS | TWO},
    {"setp.gt.f32 %p6, %f3, %f4;", 'p', NOT_A_NUMBER, ONE, 0, 0},
    {"setp.gtu.f32 %p6, %f3, %f4;", 'p', NOT_A_NUMBER, ONE, 0, 1},
    {"setp.ne.f32 %p6, %f3, %f4;", 'p', NOT_A_NUMBER, ONE, 0, 0},
    {"setp.neu.f32 %p6, %f3, %f4;", 'p', NOT_A_NUMBER, ONE, 0, 1},
    {"ex2.approx.ftz.f32 %f6, %f3;", 'f', THREE, 0, 0, 0x41000000},
    {"rsqrt.approx.f32 %f6, %f3;", 'f', 0x40800000, 0, 0, HALF},

    {"cvt.s64.s32 %rd6, %r3;", 'd', 0xffffffff, 0, 0, 0xffffffffffffffff},
    {"cvt.u32.u16 %r6, %rs3;", 'r', 0x1ffff, 0, 0, 0xffff},
    {"cvt.rn.f32.s32 %f6, %r3;", 'f', 0x1000001, 0, 0, 0x4B800000},
    {"cvt.rn.f32.s64 %f6, %rd3;", 'f', 0xffffffffffffffff, 0, 0, MINUS | ONE},
    {"cvt.rzi.s32.f32 %r6, %f3;", 'r', 0x4F800000, 0, 0, 0x7fffffff},
    {"cvt.rzi.s32.f32 %r6, %f3;", 'r', NOT_A_NUMBER, 0, 0, 0},
    {"cvt.rzi.u32.f32 %r6, %f3;", 'r', MINUS | ONE, 0, 0, 0},
    {"cvt.rni.f32.f32 %f6, %f3;", 'f', 0x40200000, 0, 0, TWO},
    {"cvt.sat.f32.f32 %f6, %f3;", 'f', TWO, 0, 0, ONE},
    {"cvt.rn.bf16.f32 %rs6, %f3;", 'h', 0x3F808000, 0, 0, 0x3F80},
    {"cvt.rn.bf16.f32 %rs6, %f3;", 'h', 0x3F818000, 0, 0, 0x3F82},
    {"cvt.f32.bf16 %f6, %rs3;", 'f', 0xBF80, 0, 0, MINUS | ONE},
    {"cvt.rn.bf16x2.f32 %r6, %f3, %f4;", 'r', ONE, TWO, 0, 0x3F804000},
};

static const char head[] =
    ".version 9.0\n.target sm_90\n.address_size 64\n"
    ".visible .entry k(.param .u64 in, .param .u64 out)\n{\n"
    ".reg .pred %p<8>; .reg .b16 %rs<8>; .reg .b32 %r<16>; .reg .f32 %f<8>;\n"
    ".reg .b64 %rd<16>;\n"
    "ld.param.u64 %rd1, [in];\nld.param.u64 %rd2, [out];\n"
    "mov.u32 %r1, %tid.x;\nmul.wide.u32 %rd7, %r1, 8;\nadd.s64 %rd2, %rd2, %rd7;\n"
    "ld.global.u64 %rd3, [%rd1];\nld.global.v2.u64 {%rd4, %rd5}, [%rd1+16];\n"
    "cvt.u32.u64 %r3, %rd3;\ncvt.u32.u64 %r4, %rd4;\ncvt.u32.u64 %r5, %rd5;\n"
    "mov.b32 %f3, %r3;\nmov.b32 %f4, %r4;\nmov.b32 %f5, %r5;\n"
    "cvt.u16.u32 %rs3, %r3;\ncvt.u16.u32 %rs4, %r4;\ncvt.u16.u32 %rs5, %r5;\n";

static const char *tail_of(char to)
{
    switch (to) {
    case 'r':
        return "cvt.u64.u32 %rd6, %r6;\n";
    case 'f':
        return "mov.b32 %r6, %f6;\ncvt.u64.u32 %rd6, %r6;\n";
    case 'h':
        return "cvt.u64.u16 %rd6, %rs6;\n";
    case 'p':
        return "selp.u64 %rd6, 1, 0, %p6;\n";
    default:
        return "";
    }
}

static void run_row(const struct row *row, unsigned threads)
{
    char text[4096];
    int n =
        snprintf(text, sizeof text, "%s%s\n%sst.global.u64 [%%rd2], %%rd6;\nret;\n}\n",
            head, row->code, tail_of(row->to));
    struct ptx_module *m = parse(text, (size_t)n);
    uint64_t *in = block(0, 32, true), *out = block(1, threads * 8, false);
    in[0] = row->a;
    in[2] = row->b;
    in[3] = row->c;
    struct ptx_launch launch = {
        .grid = {1, 1, 1}, .block = {threads, 1, 1}, .args = (void *[]){&in, &out}};
    if (!ptx_run(ptx_find(m, "k"), &launch, &host))
        fail_msg("%s: %s", row->code, finding);
    for (unsigned t = 0; t < threads; t++)
        if (out[t] != row->expected)
            fail_msg("%s gives 0x%llx, not 0x%llx", row->code,
                (unsigned long long)out[t], (unsigned long long)row->expected);
    ptx_free(m);
}

static void instructions_give_what_the_manual_says(void **state)
{
    (void)state;
    static const unsigned threads[] = {1, 5, 32, 70};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int k = 0; k < 4; k++)
            run_row(&rows[i], threads[k]);
}

static void shuffles_and_votes_go_between_lanes(void **state)
{
    (void)state;
    static const struct {
        const char *code;
        unsigned at[4]; /* results in lanes 0, 5, 16 and 31 */
    } cases[] = {
        {"shfl.sync.bfly.b32 %r6, %r1, 16, 31, -1;", {16, 21, 0, 15}},
        {"shfl.sync.down.b32 %r6, %r1, 1, 31, -1;", {1, 6, 17, 31}},
        {"shfl.sync.up.b32 %r6, %r1, 1, 0, -1;", {0, 4, 15, 30}},
        {"shfl.sync.idx.b32 %r6, %r1, 7, 31, -1;", {7, 7, 7, 7}},
        {"shfl.sync.down.b32 %r6|%p6, %r1, 1, 31, -1;\nselp.u32 %r6, 1, 0, %p6;",
            {1, 1, 1, 0}},
        /* segments of 8 lanes */
        {"shfl.sync.bfly.b32 %r6, %r1, 4, 6175, -1;", {4, 1, 20, 27}},
        {"setp.lt.u32 %p1, %r1, 6;\nvote.sync.ballot.b32 %r6, %p1, -1;",
            {63, 63, 63, 63}},
        {"setp.lt.u32 %p1, %r1, 6;\nvote.sync.any.pred %p6, %p1, -1;\n"
         "selp.u32 %r6, 1, 0, %p6;",
            {1, 1, 1, 1}},
        {"setp.lt.u32 %p1, %r1, 6;\nvote.sync.all.pred %p6, %p1, -1;\n"
         "selp.u32 %r6, 1, 0, %p6;",
            {0, 0, 0, 0}},
    };
    static const int lanes[4] = {0, 5, 16, 31};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[4096];
        int n = snprintf(text, sizeof text,
            "%s%s\ncvt.u64.u32 %%rd6, %%r6;\nst.global.u64 [%%rd2], %%rd6;\nret;\n}\n",
            head, cases[i].code);
        struct ptx_module *m = parse(text, (size_t)n);
        uint64_t *in = block(0, 32, true), *out = block(1, 32 * 8, false);
        struct ptx_launch launch = {
            .grid = {1, 1, 1}, .block = {32, 1, 1}, .args = (void *[]){&in, &out}};
        if (!ptx_run(ptx_find(m, "k"), &launch, &host))
            fail_msg("%s: %s", cases[i].code, finding);
        for (int k = 0; k < 4; k++)
            if (out[lanes[k]] != cases[i].at[k])
                fail_msg("%s gives %u in lane %d", cases[i].code,
                    (unsigned)out[lanes[k]], lanes[k]);
        ptx_free(m);
    }
}

static void what_is_not_known_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *code, *why;
    } cases[] = {
        {"sin.approx.f32 %f6, %f3;", "unknown opcode sin.approx.f32"},
        {"add.s32 %r6, %r3, %rd4;", "operands that do not fit"},
        {"bra nowhere;", "a branch to nowhere"},
        {"ld.param.u64 %rd6, [in+8];", "reads 8 bytes at 8 of a parameter of 8"},
        {"ld.local.u32 %r6, [%rd1];", "unknown opcode ld.local.u32"},
        {"@%r3 mov.u32 %r6, 0;", "a guard that is no predicate"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[4096], why[512] = "";
        int n = snprintf(text, sizeof text, "%s%s\nret;\n}\n", head, cases[i].code);
        struct ptx_module *m = ptx_parse(text, (size_t)n, why, sizeof why);
        if (m || !strstr(why, cases[i].why) || !strstr(why, "in kernel k"))
            fail_msg("%s: %s", cases[i].code, m ? "taken" : why);
    }
}

/* ---- mistakes ---- */

static struct ptx_module *mistakes;

/* Two blocks of 64 threads; x is written, y and sum are not. */
static bool run(const char *name, unsigned threads, uint64_t seed, uint64_t approximate,
    const size_t *bytes)
{
    const struct ptx_kernel *k = ptx_find(mistakes, name);
    if (!k)
        fail_msg("there is no %s", name);
    float *x = block(0, 128 * sizeof(float), true);
    float *y = block(1, 128 * sizeof(float), false);
    float *sum = block(2, 2 * sizeof(float), false);
    for (int i = 0; i < 128; i++)
        x[i] = 0.25F * (float)(i % 13) - 1;
    struct ptx_launch launch = {.grid = {2, 1, 1},
        .block = {threads, 1, 1},
        .seed = seed,
        .approximate = approximate,
        .args = (void *[]){&x, &y, &sum},
        .arg_bytes = bytes};
    finding[0] = '\0';
    n_read = n_written = 0;
    return ptx_run(k, &launch, &host);
}

/* Whether the finding has one of the texts, "this|or that". */
static bool says(const char *texts)
{
    char copy[256], *save = NULL;
    snprintf(copy, sizeof copy, "%s", texts);
    for (char *t = strtok_r(copy, "|", &save); t; t = strtok_r(NULL, "|", &save))
        if (strstr(finding, t))
            return true;
    return false;
}

static void each_planted_mistake_is_found_in_any_order(void **state)
{
    (void)state;
    static const struct {
        const char *name, *what;
    } cases[] = {
        {"missing_barrier", "which no thread wrote|race: reads"},
        {"one_buffer_for_two_sums", "race: "},
        {"behind_the_end", "reach past a block|which is no memory"},
        {"behind_shared_memory", "of shared memory of 256 bytes"},
        {"misaligned_vector", "misaligned: 16 bytes"},
        {"half_of_shared_memory", "which no thread wrote"},
        {"register_never_written", "is a register that was never written"},
        {"memory_never_written", "which nobody wrote"},
        {"blocks_write_the_same", "race: writes"},
        {"block_reads_another", "race: |which nobody wrote"},
        {"threads_of_a_block", "race: |which nobody wrote"},
        {"barrier_in_a_branch", "barrier"},
        {"barrier_after_a_return", "barrier that warp 1 never comes to"},
        {"two_barriers", "a barrier, while warp"},
        {"shuffle_in_a_branch", "waits for this inactive lane"},
        {"warp_not_synced", "race: "},
        {"shuffle_from_outside", "from lane 20, which is inactive"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (uint64_t seed = 0; seed < 20; seed++) {
            if (run(cases[i].name, 64, seed, 0, NULL))
                fail_msg("%s: nothing found with seed %d", cases[i].name, (int)seed);
            if (!says(cases[i].what))
                fail_msg("%s: %s", cases[i].name, finding);
            if (!strstr(finding, "mistakes.cu:") && !strstr(finding, ".hpp:"))
                fail_msg("%s: no place in: %s", cases[i].name, finding);
        }
}

static void wrong_launches_are_refused(void **state)
{
    (void)state;
    assert_false(run("made_for_64_threads", 128, 0, 0, NULL));
    assert_non_null(strstr(finding, "128 threads a block, it is made for 64 at most"));
    assert_false(run("right", 2048, 0, 0, NULL));
    assert_non_null(strstr(finding, "of 2048 x 1 x 1 threads"));
    assert_false(run("right", 64, 0, 0, (size_t[]){8, 4, 8}));
    assert_non_null(strstr(finding, "parameter 1 has 8 bytes, the caller has 4"));
    assert_true(run("right", 64, 0, 0, (size_t[]){8, 8, 8}));
}

static void a_right_kernel_gives_the_same_bits_in_any_order(void **state)
{
    (void)state;
    static const char *const names[] = {"right", "branches", "synced_warp"};
    for (int k = 0; k < 3; k++) {
        char first[128 * sizeof(float)];
        for (uint64_t seed = 0; seed < 50; seed++) {
            if (!run(names[k], 64, seed, 0, NULL))
                fail_msg("%s", finding);
            if (seed == 0)
                memcpy(first, blocks[1].memory, sizeof first);
            assert_memory_equal(first, blocks[1].memory, sizeof first);
        }
    }
    assert_true(run("right", 64, 0, 0, NULL));
    assert_int_equal(n_read, 128 * sizeof(float));
    assert_int_equal(n_written, 130 * sizeof(float));
    struct ptx_coverage c = ptx_coverage(ptx_find(mistakes, "right"));
    assert_int_equal(c.n_reached, c.n_instructions);
    assert_int_equal(c.n_taken, c.n_branches);
    assert_int_equal(c.n_passed, c.n_branches);
}

/* exp(x) = ex2(x * log2 e): two roundings and the bound of ex2.approx */
static void approximations_stay_within_their_bound(void **state)
{
    (void)state;
    const float *y = (const float *)(const void *)blocks[1].memory;
    const float *x = (const float *)(const void *)blocks[0].memory;
    float exact[128], drawn[128];
    int differ = 0;
    assert_true(run("exponentials", 64, 0, 0, NULL));
    memcpy(exact, y, sizeof exact);
    assert_true(run("exponentials", 64, 0, 9, NULL));
    memcpy(drawn, y, sizeof drawn);
    for (int i = 0; i < 128; i++) {
        double e = exp((double)x[i]);
        assert_true(fabs((double)drawn[i] - e) <= e * (0x1p-22 + 0x1p-22));
        differ += drawn[i] != exact[i];
    }
    assert_true(differ > 16);
    assert_true(run("exponentials", 64, 5, 9, NULL));
    assert_memory_equal(drawn, y, sizeof drawn);
}

static int open_mistakes(void **state)
{
    (void)state;
    mistakes = parse(th_cuda_images[0].data,
        (size_t)(th_cuda_images[0].end - th_cuda_images[0].data));
    return 0;
}

static int close_mistakes(void **state)
{
    (void)state;
    ptx_free(mistakes);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(instructions_give_what_the_manual_says),
        cmocka_unit_test(shuffles_and_votes_go_between_lanes),
        cmocka_unit_test(what_is_not_known_is_refused),
        cmocka_unit_test(each_planted_mistake_is_found_in_any_order),
        cmocka_unit_test(wrong_launches_are_refused),
        cmocka_unit_test(a_right_kernel_gives_the_same_bits_in_any_order),
        cmocka_unit_test(approximations_stay_within_their_bound),
    };
    return cmocka_run_group_tests(tests, open_mistakes, close_mistakes);
}
