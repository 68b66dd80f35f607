/* SPDX-License-Identifier: Apache-2.0
 * thaw list: backbones, heads, formats. (th_command_list is the registry itself.) */
#include "command.h"

#include <stdio.h>
#include <string.h>

static const char *const kinds[] = {"backbones", "heads", "formats"};

enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

static int run(struct th_call *call)
{
    const char *kind = call->args[0], *name = NULL, *about = NULL;
    bool known = false;
    for (int i = 0; i < N_KINDS; i++)
        known = known || !strcmp(kinds[i], kind);
    if (!known) {
        const char *near = thaw_nearest(kind, kinds, N_KINDS);
        if (near)
            return th_usage("cannot list '%s'; did you mean %s?", kind, near);
        return th_usage("cannot list '%s'; there are backbones, heads, formats", kind);
    }
    for (size_t i = 0; thaw_list(kind, i, &name, &about); i++)
        printf("%-36s %s\n", name, about);
    return 0;
}

const struct th_command th_command_lists = {
    .name = "list",
    .usage = "backbones|heads|formats",
    .about = "what this build knows",
    .details = NULL,
    .bit = 0,
    .least = 1,
    .most = 1,
    .run = run,
};
