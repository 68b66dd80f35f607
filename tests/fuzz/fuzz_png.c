/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: PNG, as it comes and with the checksums of its chunks repaired. Without
 * that nearly every changed file ends at the first of them. */
#include "decoder.h"

#include <zlib.h>

extern const struct th_decoder th_decoder_png;

static size_t read_be32(const uint8_t *p)
{
    return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

/* A chunk: size of its data, name, data, checksum of name and data. */
static void repair(uint8_t *bytes, size_t n)
{
    enum { SIGNATURE = 8, SIZE = 4, NAME = 4, CHECKSUM = 4 };
    for (size_t at = SIGNATURE; n >= at && n - at >= SIZE + NAME + CHECKSUM;) {
        size_t size = read_be32(bytes + at);
        if (size > n - at - (SIZE + NAME + CHECKSUM))
            return;
        uint32_t crc = (uint32_t)crc32_z(0, bytes + at + SIZE, NAME + size);
        at += SIZE + NAME + size;
        for (int i = 0; i < CHECKSUM; i++)
            bytes[at++] = (uint8_t)(crc >> 8 * (CHECKSUM - 1 - i));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    ALWAYS(copy != NULL);
    fuzz_decoder(&th_decoder_png, bytes, n);
    memcpy(copy, bytes, n);
    repair(copy, n);
    fuzz_decoder(&th_decoder_png, copy, n);
    free(copy);
    return 0;
}
