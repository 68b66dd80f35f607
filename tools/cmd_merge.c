/* SPDX-License-Identifier: Apache-2.0
 * thaw merge: an adapter into its base, and out of it again. */
#include "command.h"
#include "terminal.h"

#include <stddef.h>

static int run(struct th_call *call)
{
    struct th_terminal terminal;
    const char *out = thaw_options_get(call->options, "out");
    const char *unmerge = thaw_options_get(call->options, "unmerge");
    bool back = unmerge && *unmerge == '1';
    if (!out)
        return th_usage("thaw merge wants -o OUT.h5, the model to write");
    if (back && call->n_args != 1)
        return th_usage("thaw merge --unmerge wants one file, which thaw merge wrote");
    if (!back && call->n_args != 2)
        return th_usage("thaw merge wants a base and an adapter");
    th_terminal_init(&terminal, call->options);
    thaw_events events = th_terminal_events(&terminal);
    thaw_status status =
        back ? thaw_unmerge(call->args[0], out, &events)
             : thaw_merge(call->args[0], call->args[1], out, call->options, &events);
    th_terminal_clear(&terminal);
    return th_report(status);
}

const struct th_command th_command_merge = {
    .name = "merge",
    .usage = "MODEL ADAPTER -o OUT | --unmerge MERGED -o OUT",
    .about = "a base and its adapter to one model, and back",
    .details =
        "MODEL is the base: the weights that the training with --lora began with.\n"
        "ADAPTER is its best.adapter.h5, its run folder, or a folder of PEFT's\n"
        "(adapter_model.safetensors). OUT (.h5, .safetensors) is a whole model. It\n"
        "keeps apart what it changed of the base, so that --unmerge gives the base\n"
        "again, bit for bit; thaw convert OUT SMALL.h5 leaves that out.\n",
    .bit = THAW_CMD_MERGE,
    .least = 1,
    .most = 2,
    .run = run,
};
