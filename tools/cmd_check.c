/* SPDX-License-Identifier: Apache-2.0
 * thaw check: what is in a data set, and what is wrong with it. */
#include "command.h"

#include <stdio.h>

static void write_line(void *context, const char *text)
{
    fprintf(context, "%s\n", text);
}

static int run(struct th_call *call)
{
    thaw_status status = thaw_options_set(call->options, "data", call->args[0]);
    if (status == THAW_OK)
        status = thaw_check(call->options, write_line, stdout);
    return th_report(status);
}

const struct th_command th_command_check = {
    .name = "check",
    .usage = "DATA [options]",
    .about = "what is in DATA, and what is wrong with it, before any training",
    .details =
        "Every image is read and decoded. Named are images that cannot be read or are\n"
        "damaged, copies, copies across splits (which make validation look better "
        "than\n"
        "it is), and classes with few training images; of boxes those that were left\n"
        "out, that are drawn twice or reach over the edge, how large objects are, and\n"
        "how many the anchors of RetinaNet fit. Nothing is written. Exit code 3 where\n"
        "training would refuse the data, else 0, whatever was found.\n"
        "  thaw check photos\n"
        "  thaw check voc:cells --image-size 320 --json\n",
    .bit = THAW_CMD_CHECK,
    .least = 1,
    .most = 1,
    .run = run,
};
