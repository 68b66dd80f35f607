/* SPDX-License-Identifier: Apache-2.0
 * thaw doctor: the machine as the library sees it. */
#include "command.h"

#include <stdio.h>

static void write_line(void *context, const char *text)
{
    fprintf(context, "%s\n", text);
}

static int run(struct th_call *call)
{
    return th_report(thaw_doctor(call->options, write_line, stdout));
}

const struct th_command th_command_doctor = {
    .name = "doctor",
    .usage = "[options]",
    .about = "the machine: processor, engine, libraries, threads",
    .details = NULL,
    .bit = THAW_CMD_DOCTOR,
    .least = 0,
    .most = 0,
    .run = run,
};
