/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: WebP. */
#include "decoder.h"

extern const struct th_decoder th_decoder_webp;

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    return fuzz_decoder(&th_decoder_webp, bytes, n);
}
