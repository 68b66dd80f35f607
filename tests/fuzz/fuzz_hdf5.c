/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: HDF5 files through the sandbox. Blind: libhdf5 is not instrumented, and the
 * child's coverage does not come back. */
#include "fuzz.h"
#include "weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct th_weights w;
    th_weights_init(&w);
    check_answer(th_weights_read_image(bytes, n, "fuzz", &w));
    for (size_t i = 0; i < w.n; i++)
        look_at(w.weight[i].tensor.data,
            th_dtype_bytes(TH_F32, th_shape_count(&w.weight[i].tensor.shape)));
    th_weights_release(&w);
    return 0;
}
