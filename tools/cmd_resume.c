/* SPDX-License-Identifier: Apache-2.0
 * thaw resume: continue a run from its newest sound checkpoint. */
#include "command.h"
#include "running.h"

#include <stddef.h>

static int run(struct th_call *call)
{
    struct th_terminal terminal;
    th_terminal_init(&terminal, call->options);
    thaw_events events = th_terminal_events(&terminal);
    thaw_trainer *trainer = NULL;
    thaw_status status =
        thaw_trainer_resume(call->args[0], call->options, &events, &trainer);
    th_terminal_clear(&terminal);
    int code = status == THAW_OK ? th_run_trainer(trainer, call->args[0], &terminal)
                                 : th_report(status);
    thaw_trainer_free(trainer);
    return code;
}

const struct th_command th_command_resume = {
    .name = "resume",
    .usage = "RUN [options]",
    .about = "continue a run from its newest checkpoint, bit for bit",
    .details = "Everything comes from the run folder. --epochs +N adds N epochs.\n",
    .bit = THAW_CMD_RESUME,
    .least = 1,
    .most = 1,
    .run = run,
};
