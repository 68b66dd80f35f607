/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: PNM. */
#include "decoder.h"

extern const struct th_decoder th_decoder_pnm;

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    return fuzz_decoder(&th_decoder_pnm, bytes, n);
}
