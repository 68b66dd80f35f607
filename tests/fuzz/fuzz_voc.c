/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: one annotation of Pascal VOC. */
#include "boxes.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    make_folder();
    write_file("labels/a.xml", bytes, n);
    read_boxes("voc", "", true);
    return 0;
}
