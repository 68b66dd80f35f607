/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: config.json. What it sets is written and read again: the same text. */
#include "fuzz.h"
#include "mem.h"
#include "options.h"

static char *read_options(const char *text)
{
    thaw_options *o = NULL;
    char *written = NULL;
    ALWAYS(thaw_options_new(&o) == THAW_OK);
    thaw_status status = th_options_from_json(o, text, "fuzz");
    ALWAYS(status == THAW_OK || status == THAW_E_USAGE || status == THAW_E_MEMORY);
    if (status == THAW_OK) {
        written = th_options_json(o);
        ALWAYS(written != NULL);
    }
    thaw_options_free(o);
    return written;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    char *text = malloc(n + 1); /* th_options_load refuses zeros and ends with one */
    ALWAYS(text != NULL);
    memcpy(text, bytes, n);
    text[n] = 0;
    char *first = read_options(text);
    if (first) {
        char *second = read_options(first);
        ALWAYS(second && strcmp(first, second) == 0);
        th_free(second);
    }
    th_free(first);
    free(text);
    return 0;
}
