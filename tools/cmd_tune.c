/* SPDX-License-Identifier: Apache-2.0
 * thaw tune: measure which convolution algorithm is the fastest on this machine. */
#include "command.h"

#include <stdio.h>
#include <unistd.h>

static void write_line(void *context, const char *text)
{
    fprintf(context, "%s\n", text);
}

static int run(struct th_call *call)
{
    const char *out = thaw_options_get(call->options, "out");
    if (!out)
        return th_usage("thaw tune wants -o FILE, the table to write");
    if (!thaw_options_get(call->options, "backbone"))
        return th_usage("thaw tune wants --backbone, the network to measure");
    if (access(out, F_OK) == 0)
        return th_usage("%s exists: choose another name", out);
    int code = th_report(thaw_tune(out, call->options, write_line, stdout));
    if (code == 0)
        printf("wrote %s; use it with --conv-table %s\n", out, out);
    return code;
}

const struct th_command th_command_tune = {
    .name = "tune",
    .usage = "--backbone NAME -o FILE [options]",
    .about = "measure the fastest convolution algorithms of this machine",
    .details =
        "Each convolution of the network at --image-size and --batch for which there "
        "is\n"
        "a choice is run forward and backward by every algorithm on an otherwise idle\n"
        "machine; the fastest go into FILE, a table for --conv-table. Without one\n"
        "the built-in table holds. Other algorithms give other bits.\n",
    .bit = THAW_CMD_TUNE,
    .least = 0,
    .most = 0,
    .run = run,
};
