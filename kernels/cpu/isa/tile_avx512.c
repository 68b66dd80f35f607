/* SPDX-License-Identifier: Apache-2.0
 * Owns a tile's products on AVX-512, by name of register: from C, gcc 12 keeps 28 sums in
 * memory beside the registers, and broadcasts values of a by instructions of their own; a core
 * whose other thread is busy cannot issue that many. Of 32 registers, 28 are sums: of row r,
 * zmm(r) and zmm(14 + r). */
#include "tile.h"

enum { FEW = 4 }; /* rows that are worth a smaller tile */

_Static_assert(
    (int)TILE == 14 && (int)PANEL == 32 && (int)SLAB == 272, "what is below");

/* clang-format off */
#define COLUMN_0 "0,1,2,3,4,5,6,7,8,9,10,11,12,13"
#define COLUMN_1 "14,15,16,17,18,19,20,21,22,23,24,25,26,27"

/* The same for every sum of a column; \\s is the sum's register. */
#define EACH(column, instructions) ".irp s," column "\n" instructions ".endr\n"

/* Products of k, counted from where a and b point; in a, a row and a k are so many bytes from
 * the next. */
#define STEP(k, row, next)                                                                \
    "vmovups 128*" #k "(%[b]), %%zmm28\n"                                                 \
    "vmovups 128*" #k "+64(%[b]), %%zmm29\n" EACH(COLUMN_0,                               \
        "vfmadd231ps " next "*" #k "+" row "*\\s(%[a])%{1to16%}, %%zmm28, %%zmm\\s\n")    \
        EACH(COLUMN_1,                                                                    \
            "vfmadd231ps " next "*" #k "+" row                                            \
            "*(\\s-14)(%[a])%{1to16%}, %%zmm29, %%zmm\\s\n")
#define NEXT(n, next) "add $" next "*" #n ", %[a]\nadd $128*" #n ", %[b]\n"

/* All products. c is asked for a row at a time, so that its lines do not hold up those of b. */
#define STEPS(row, next)                                                                  \
    "test %[asking], %[asking]\n"                                                         \
    "jz 2f\n"                                                                             \
    ".p2align 6\n"                                                                        \
    "1:\n" STEP(0, row, next) STEP(1, row, next) "prefetcht0 (%[at])\n"                   \
    STEP(2, row, next) STEP(3, row, next) "prefetcht0 64(%[at])\n"                        \
    "add %[apart], %[at]\n" NEXT(4, next)                                                 \
    "dec %[asking]\n"                                                                     \
    "jnz 1b\n"                                                                            \
    "2:\n"                                                                                \
    "test %[fours], %[fours]\n"                                                           \
    "jz 4f\n"                                                                             \
    ".p2align 6\n"                                                                        \
    "3:\n" STEP(0, row, next) STEP(1, row, next) STEP(2, row, next) STEP(3, row, next)    \
    NEXT(4, next)                                                                         \
    "dec %[fours]\n"                                                                      \
    "jnz 3b\n"                                                                            \
    "4:\n"                                                                                \
    "test %[ones], %[ones]\n"                                                             \
    "jz 6f\n"                                                                             \
    "5:\n" STEP(0, row, next) NEXT(1, next)                                               \
    "dec %[ones]\n"                                                                       \
    "jnz 5b\n"                                                                            \
    "6:\n"

/* c[TILE][PANEL] of whole tiles. */
static void whole(const struct tile *t, bool more, int64_t apart, float *c)
{
    static const float zero[PANEL];
    const float *first = t->start ? t->start : zero, *a = t->a, *b = t->b;
    float *at = c; /* walks down c */
    int64_t fours = t->n / 4, ones = t->n % 4, asking = fours < TILE ? fours : TILE;
    fours -= asking;
    __asm__ volatile(
        EACH(COLUMN_0, "vmovups (%[first]), %%zmm\\s\n")
        EACH(COLUMN_1, "vmovups 64(%[first]), %%zmm\\s\n")
        "cmpl $1, %[left]\n"
        "je 8f\n"
        "ja 9f\n"
        STEPS("4", "56")
        "jmp 10f\n"
        "8:\n"
        STEPS("1088", "4")
        "jmp 10f\n"
        "9:\n"
        STEPS("4", "1088")
        "10:\n"
        "cmpb $0, %[more]\n"
        "je 7f\n"
        "mov %[c], %[at]\n"
        EACH(COLUMN_0, "vaddps (%[at]), %%zmm\\s, %%zmm\\s\nadd %[apart], %[at]\n")
        "lea 64(%[c]), %[at]\n"
        EACH(COLUMN_1, "vaddps (%[at]), %%zmm\\s, %%zmm\\s\nadd %[apart], %[at]\n")
        "7:\n"
        "mov %[c], %[at]\n"
        EACH(COLUMN_0, "vmovups %%zmm\\s, (%[at])\nadd %[apart], %[at]\n")
        "lea 64(%[c]), %[at]\n"
        EACH(COLUMN_1, "vmovups %%zmm\\s, (%[at])\nadd %[apart], %[at]\n")
        : [a] "+&r"(a), [b] "+&r"(b), [at] "+&r"(at), [asking] "+&r"(asking),
        [fours] "+&r"(fours), [ones] "+&r"(ones)
        : [c] "r"(c), [first] "r"(first), [apart] "r"(4 * apart), [more] "m"(more),
        [left] "m"(t->left)
        : "cc", "memory", "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6",
        "zmm7", "zmm8", "zmm9", "zmm10", "zmm11", "zmm12", "zmm13", "zmm14", "zmm15",
        "zmm16", "zmm17", "zmm18", "zmm19", "zmm20", "zmm21", "zmm22", "zmm23",
        "zmm24", "zmm25", "zmm26", "zmm27", "zmm28", "zmm29");
}
/* clang-format on */

/* Few rows, or one vector of columns. */
TH_INLINE void small(const struct tile *t, enum tile_left left)
{
    if (t->rows <= FEW)
        tile_multiply(t, left, FEW, COLUMNS);
    else
        tile_multiply(t, left, TILE, 1);
}

void TH_ISA_NAME(th_tile)(const struct tile *t)
{
    if (t->rows == TILE && t->columns == PANEL)
        whole(t, t->more, t->apart, t->c);
    else if (t->rows > FEW && t->columns > TH_LANES) {
        float out[TILE * PANEL];
        whole(t, false, PANEL, out);
        tile_put(t, out);
    } else if (t->left == TILE_PACKED)
        small(t, TILE_PACKED);
    else if (t->left == TILE_ROWS)
        small(t, TILE_ROWS);
    else
        small(t, TILE_COLUMNS);
}
