/* SPDX-License-Identifier: Apache-2.0
 * rename_layers IN OUT FROM TO: a weights file whose tensor names that begin with FROM
 * begin with TO instead; the attributes are not copied. */
#include "weights.h"

#include <stdio.h>
#include <string.h>

static thaw_status rename_all(const struct th_weights *in, const char *from,
    const char *to, struct th_weights *out)
{
    char name[256];
    size_t n = strlen(from);
    for (size_t i = 0; i < in->n; i++) {
        const struct th_weight *w = &in->weight[i];
        bool renamed = !strncmp(w->name, from, n);
        snprintf(
            name, sizeof name, "%s%s", renamed ? to : "", w->name + (renamed ? n : 0));
        thaw_status status =
            th_weights_add(out, name, w->tensor.shape, w->tensor.data, NULL);
        if (status != THAW_OK)
            return status;
    }
    return THAW_OK;
}

int main(int argc, char **argv)
{
    struct th_weights in, out;
    th_weights_init(&in);
    th_weights_init(&out);
    if (argc != 5) {
        fputs("usage: rename_layers IN OUT FROM TO\n", stderr);
        return 2;
    }
    thaw_status status = th_weights_read(argv[1], &in);
    if (status == THAW_OK)
        status = rename_all(&in, argv[3], argv[4], &out);
    if (status == THAW_OK)
        status = th_weights_write(argv[2], NULL, &out);
    if (status != THAW_OK)
        fprintf(stderr, "%s\n", thaw_error());
    th_weights_release(&in);
    th_weights_release(&out);
    return -status;
}
