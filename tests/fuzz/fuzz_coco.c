/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: a file of COCO's instances. */
#include "boxes.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    make_folder();
    write_file("labels/a.json", bytes, n);
    read_boxes("coco", "labels/a.json", true);
    return 0;
}
