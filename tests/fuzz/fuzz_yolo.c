/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: YOLO's data. The input is two bytes, how long data.yaml is (big-endian), that
 * file, and the labels of one image; data.yaml may name them as a list of images, too. */
#include "boxes.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    if (n < 2)
        return 0;
    size_t n_yaml = (size_t)bytes[0] << 8 | bytes[1];
    n_yaml = n_yaml > n - 2 ? n - 2 : n_yaml;
    make_folder();
    write_file("data.yaml", bytes + 2, n_yaml);
    write_file("labels/a.txt", bytes + 2 + n_yaml, n - 2 - n_yaml);
    read_boxes("yolo", "", true);
    return 0;
}
