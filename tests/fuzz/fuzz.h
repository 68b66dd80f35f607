/* SPDX-License-Identifier: Apache-2.0
 * What the fuzz targets share. A target is one file fuzz_NAME.c with the function below,
 * run by libFuzzer (CMake option THAW_FUZZ) or, over its checked-in corpus, by replay.c.
 * Bytes may be anything; they are in a block of exactly their size. */
#ifndef FUZZ_H
#define FUZZ_H

#include "error.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Returns 0; what it finds, it finds by abort() or a sanitizer. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#define ALWAYS(held)                                                                   \
    do {                                                                               \
        if (!(held)) {                                                                 \
            fprintf(stderr, "%s:%d: not so: %s (last error: %s)\n", __FILE__,          \
                __LINE__, #held, thaw_error());                                        \
            abort();                                                                   \
        }                                                                              \
    } while (0)

/* What a reader may answer to bytes of strangers; a refusal says why. */
static inline void check_answer(thaw_status status)
{
    ALWAYS(status == THAW_OK || status == THAW_E_DATA || status == THAW_E_MEMORY);
    ALWAYS(status == THAW_OK || *thaw_error());
}

/* Reads every byte, so that a sanitizer sees those that were never written or freed. */
static inline void look_at(const void *bytes, size_t n)
{
    volatile unsigned sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((const unsigned char *)bytes)[i];
    (void)sum;
}

#endif
