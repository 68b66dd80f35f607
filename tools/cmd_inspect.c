/* SPDX-License-Identifier: Apache-2.0
 * thaw inspect: what a model is, and what would run for a freeze state. */
#include "command.h"

#include <stdio.h>

static void write_line(void *context, const char *text)
{
    fprintf(context, "%s\n", text);
}

static int run(struct th_call *call)
{
    thaw_model *m = NULL;
    thaw_status status = thaw_model_open(call->args[0], call->options, &m);
    if (status == THAW_OK)
        status = thaw_model_inspect(m, call->options, write_line, stdout);
    int code = th_report(status);
    thaw_model_free(m);
    return code;
}

const struct th_command th_command_inspect = {
    .name = "inspect",
    .usage = "MODEL [options]",
    .about = "what a model is, and the plan for --thaw, --bn and --batch",
    .details =
        "The plan is that of these options, not of the run that MODEL is from: give\n"
        "its --thaw, --bn and --batch to see that. A line a step: its kind (derived:\n"
        "only when what it is made of changed; commit: updates), op, layer, shape,\n"
        "memory layout. Below the cut nothing has a backward step. --json prints one\n"
        "object: each phase's figures, and each step with its multiply-adds and "
        "bytes.\n",
    .bit = THAW_CMD_INSPECT,
    .least = 1,
    .most = 1,
    .run = run,
};
