/* SPDX-License-Identifier: Apache-2.0
 * thaw features: what a head would read of images, as numbers in a file. */
#include "command.h"
#include "terminal.h"

#include <inttypes.h>

static void print_json(const thaw_features *f, const char *out)
{
    fputs("{\"file\":", stdout);
    th_json_string(stdout, out);
    printf(",\"images\":%" PRId64 ",\"values\":%" PRId64 ",\"unreadable\":%" PRId64
           "}\n",
        f->images, f->values, f->unreadable);
}

static int run(struct th_call *call)
{
    const char *out = thaw_options_get(call->options, "out");
    struct th_terminal terminal;
    if (!out)
        return th_usage("thaw features wants -o FILE, .npy or .h5");
    th_terminal_init(&terminal, call->options);
    thaw_events events = th_terminal_events(&terminal);
    thaw_features f = {0};
    thaw_model *m = NULL;
    thaw_status status = thaw_model_open(call->args[0], call->options, &m);
    if (status == THAW_OK)
        status = thaw_model_features(m, call->args[1], out, call->options, &events, &f);
    th_terminal_clear(&terminal);
    if (status == THAW_OK && terminal.json)
        print_json(&f, out);
    else if (status == THAW_OK)
        printf("features  %" PRId64 " images, %" PRId64 " values each -> %s\n",
            f.images, f.values, out);
    int code = th_report(status);
    thaw_model_free(m);
    return code;
}

const struct th_command th_command_features = {
    .name = "features",
    .usage = "MODEL DATA -o FILE [options]",
    .about = "the features that a head would read, as .npy or .h5",
    .details =
        "FILE.npy is an array [images][values] of 32-bit floats; FILE.h5 has it as\n"
        "'features', beside 'labels', which index the attribute 'classes'. Beside it\n"
        "FILE.npy.csv or FILE.h5.csv names each row's image, split and class. All\n"
        "splits of DATA are taken, training images first; a folder without folders is\n"
        "images without classes. With --adapter FILE features are those of the model\n"
        "with the adapter on it. An image that cannot be\n"
        "read is told and left out, as long as they are few (--max-bad).\n",
    .bit = THAW_CMD_FEATURES,
    .least = 2,
    .most = 2,
    .run = run,
};
