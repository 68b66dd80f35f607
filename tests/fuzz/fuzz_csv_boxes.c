/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: objects as csv. Its paths may lead anywhere, and are not opened. */
#include "boxes.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    make_folder();
    write_file("a.csv", bytes, n);
    read_boxes("csv", "a.csv", false);
    return 0;
}
