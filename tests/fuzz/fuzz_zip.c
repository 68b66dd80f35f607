/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: the directory of a zip archive. */
#include "fuzz.h"
#include "zip.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct th_zip zip;
    thaw_status status = th_zip_init(&zip, bytes, n, "fuzz");
    check_answer(status);
    for (size_t i = 0; status == THAW_OK && i < zip.n; i++) {
        const struct th_zip_entry *e = &zip.entry[i];
        ALWAYS(e->data >= bytes && e->n <= n && e->data + e->n <= bytes + n);
        look_at(e->name, e->name_n);
    }
    if (status == THAW_OK)
        th_zip_release(&zip);
    return 0;
}
