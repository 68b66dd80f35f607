/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: safetensors, read, written and read again. */
#include "fuzz.h"
#include "mem.h"
#include "weights.h"

extern const struct th_weight_format th_weight_format_safetensors;

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct th_weights w, again;
    if (!th_weight_format_safetensors.sniff(bytes, n))
        return 0;
    th_weights_init(&w);
    th_weights_init(&again);
    w.where = "fuzz";
    w.limit = TH_WEIGHTS_BASE + TH_WEIGHTS_RATIO * n;
    thaw_status status = th_weight_format_safetensors.read(bytes, n, "fuzz", &w);
    check_answer(status);
    for (size_t i = 0; i < w.n; i++)
        look_at(w.weight[i].tensor.data,
            th_dtype_bytes(TH_F32, th_shape_count(&w.weight[i].tensor.shape)));
    if (status == THAW_OK) {
        unsigned char *image = NULL;
        size_t image_n = 0;
        ALWAYS(th_weight_format_safetensors.image(&w, &image, &image_n) == THAW_OK);
        ALWAYS(th_weight_format_safetensors.read(image, image_n, "again", &again) ==
               THAW_OK);
        ALWAYS(again.n == w.n && again.n_attributes == w.n_attributes);
        th_free(image);
    }
    th_weights_release(&w);
    th_weights_release(&again);
    return 0;
}
