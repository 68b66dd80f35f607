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
    .about =
        "the machine: processor, engines, libraries; whether a device computes right",
    .details =
        "With --check or a --device, every op runs on the device and in plain C, on\n"
        "small shapes; a line says how far apart they are, and how far they may be.\n"
        "Then training steps of ResNet-50 and ViT-B are timed, or of smaller networks\n"
        "where these take too long: all of it trained, the last stage and the head, "
        "the\n"
        "head. The lines are what a report of a problem should hold. Exit code 1: an "
        "op\n"
        "computes something else, or a step fails.\n",
    .bit = THAW_CMD_DOCTOR,
    .least = 0,
    .most = 0,
    .run = run,
};
