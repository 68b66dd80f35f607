/* SPDX-License-Identifier: Apache-2.0
 * Memory: the only place that allocates. 64-byte aligned, zero-filled,
 * overflow-checked. A NULL return has already set the error sentence. */
#ifndef TH_MEM_H
#define TH_MEM_H

#include <stddef.h>

#define TH_ALIGN 64 /* one cache line, one AVX-512 vector */

/* n elements of `size` bytes, zero-filled; NULL and an error sentence on failure. */
void *th_alloc(size_t n, size_t size);

/* Grow (or shrink) `old` from old_n to n elements; new elements are zero. On failure
 * `old` stays valid. */
void *th_realloc(void *old, size_t old_n, size_t n, size_t size);

/* The line at *text, whose newline becomes its end, and *text to the next one; NULL: there is
 * none. */
char *th_next_line(char **text);

/* Copy of a string; NULL stays NULL without an error. */
char *th_strdup(const char *text);

/* printf into a fresh string. */
char *th_format(const char *fmt, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 1, 2)))
#endif
    ;

void th_free(void *p);

/* Memory kept from one use to the next, for work that is done again and again; zero
 * before its first use. */
struct th_block {
    void *p;
    size_t bytes;
};

/* At least `bytes` of it, holding anything; what was taken before is no longer valid.
 * NULL and an error sentence on failure. */
void *th_block_take(struct th_block *block, size_t bytes);
void th_block_release(struct th_block *block);

/* Bytes rounded up to TH_ALIGN. */
static inline size_t th_align_up(size_t bytes)
{
    return (bytes + TH_ALIGN - 1) & ~(size_t)(TH_ALIGN - 1);
}

#endif
