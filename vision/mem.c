/* SPDX-License-Identifier: Apache-2.0
 * Owns every allocation of the library: checked for overflow, aligned, zeroed. */
#include "mem.h"

#include "error.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *th_alloc(size_t n, size_t size)
{
    size_t bytes = 0;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > (size_t)1 << 46) {
        th_fail(THAW_E_MEMORY, "cannot allocate %zu x %zu bytes: too large", n, size);
        return NULL;
    }
    bytes = th_align_up(bytes ? bytes : 1);
    void *p = aligned_alloc(TH_ALIGN, bytes);
    if (!p) {
        th_fail(THAW_E_MEMORY, "out of memory: %zu bytes were refused", bytes);
        return NULL;
    }
    memset(p, 0, bytes);
    return p;
}

void *th_realloc(void *old, size_t old_n, size_t n, size_t size)
{
    void *p = th_alloc(n, size);
    if (!p)
        return NULL;
    if (old) {
        memcpy(p, old, (old_n < n ? old_n : n) * size);
        th_free(old);
    }
    return p;
}

char *th_strdup(const char *text)
{
    if (!text)
        return NULL;
    size_t bytes = strlen(text) + 1;
    char *copy = th_alloc(bytes, 1);
    if (copy)
        memcpy(copy, text, bytes);
    return copy;
}

char *th_format(const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *text = n < 0 ? NULL : th_alloc((size_t)n + 1, 1);
    if (text)
        vsnprintf(text, (size_t)n + 1, fmt, again);
    va_end(again);
    return text;
}

void th_free(void *p)
{
    free(p);
}

void *th_block_take(struct th_block *block, size_t bytes)
{
    if (block->p && bytes <= block->bytes)
        return block->p;
    /* When it grows an eighth more, so that sizes which creep up soon fit. */
    size_t more = block->p && bytes < SIZE_MAX / 2 ? bytes + bytes / 8 : bytes;
    th_block_release(block);
    block->p = th_alloc(more, 1);
    block->bytes = block->p ? more : 0;
    return block->p;
}

void th_block_release(struct th_block *block)
{
    th_free(block->p);
    *block = (struct th_block){0};
}

char *th_next_line(char **text)
{
    char *line = *text, *end = line ? strchr(line, '\n') : NULL;
    if (end)
        *end = '\0';
    *text = end ? end + 1 : NULL;
    return line;
}
