/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: what a sandboxed reader that was taken over might hand over, and what the
 * network finder makes of the tensors and attributes. */
#include "mem.h"
#include "pretrained.h"
#include "weights_stream.h"

#include "fuzz.h"

/* The questions that every user of a weights file asks first. */
static void identify(const struct th_weights *w)
{
    struct th_network_spec spec = {.device = "cpu", .threads = 1};
    bool assumed = false, named = false;
    char **classes = NULL;
    int n_classes = 0;
    if (th_pretrained_identify(w, NULL, &spec, &assumed) != THAW_OK)
        return;
    thaw_status status = th_pretrained_classes(w, &spec, &classes, &n_classes, &named);
    check_answer(status);
    for (int i = 0; status == THAW_OK && i < n_classes; i++)
        look_at(classes[i], strlen(classes[i]));
    if (status == THAW_OK)
        th_free(classes);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct th_weights w;
    thaw_status status = THAW_OK;
    bool more = true;
    unsigned char *copy = th_alloc(n, 1); /* aligned, as shared memory is */
    ALWAYS(copy != NULL);
    memcpy(copy, bytes, n);
    struct th_stream s = {.bytes = copy, .n = n, .where = "fuzz"};
    th_weights_init(&w);
    w.where = "fuzz";
    w.limit = (size_t)1 << 24;
    while (status == THAW_OK && more) {
        size_t before = s.at;
        status = th_stream_next(&s, &w, &more);
        check_answer(status);
        ALWAYS(s.at <= n && (s.at > before || !more || status != THAW_OK));
    }
    ALWAYS(w.bytes <= w.limit);
    for (size_t i = 0; i < w.n; i++)
        look_at(w.weight[i].tensor.data,
            th_dtype_bytes(TH_F32, th_shape_count(&w.weight[i].tensor.shape)));
    if (status == THAW_OK)
        identify(&w);
    th_weights_release(&w);
    th_free(copy);
    return 0;
}
