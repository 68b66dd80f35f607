/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: BMP, GIF and TGA. */
#include "decoder.h"

extern const struct th_decoder th_decoder_stb;

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    return fuzz_decoder(&th_decoder_stb, bytes, n);
}
