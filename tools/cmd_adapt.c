/* SPDX-License-Identifier: Apache-2.0
 * thaw adapt: running statistics anew, from images without labels. */
#include "command.h"
#include "terminal.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

static void print_json(const thaw_adaptation *a, const char *out)
{
    fputs("{\"model\":", stdout);
    th_json_string(stdout, out);
    printf(",\"images\":%" PRId64 ",\"unreadable\":%" PRId64
           ",\"layers\":%d,\"passes\":%d,"
           "\"shift\":",
        a->images, a->unreadable, a->layers, a->passes);
    th_json_real(stdout, a->shift);
    fputs(",\"scale\":", stdout);
    th_json_real(stdout, a->scale);
    puts("}");
}

static void print_text(const thaw_adaptation *a, const char *out)
{
    char images[32];
    printf("adapted   %d BatchNorms to %s images: means moved by %.2f deviations, "
           "deviations by a factor of %.2f -> %s\n",
        a->layers, th_thousands(a->images, images), a->shift, a->scale, out);
}

/* What can be refused before the images are looked at. */
static int check(const char *out)
{
    size_t n = out ? strlen(out) : 0;
    if (!out)
        return th_usage("thaw adapt wants -o OUT.h5, the model to write");
    if (n < 4 || strcmp(out + n - 3, ".h5"))
        return th_usage("%s: models are written as .h5", out);
    if (access(out, F_OK) == 0)
        return th_usage("%s exists: choose another name", out);
    return 0;
}

static int run(struct th_call *call)
{
    const char *out = thaw_options_get(call->options, "out");
    struct th_terminal terminal;
    int code = check(out);
    if (code)
        return code;
    th_terminal_init(&terminal, call->options);
    thaw_events events = th_terminal_events(&terminal);
    thaw_adaptation a = {0};
    thaw_model *m = NULL;
    thaw_status status = thaw_model_open(call->args[0], call->options, &m);
    if (status == THAW_OK)
        status = thaw_model_adapt(m, call->args[1], call->options, &events, &a);
    if (status == THAW_OK)
        status = thaw_model_write(m, out);
    th_terminal_clear(&terminal);
    if (status == THAW_OK && terminal.json)
        print_json(&a, out);
    else if (status == THAW_OK)
        print_text(&a, out);
    code = th_report(status);
    thaw_model_free(m);
    return code;
}

const struct th_command th_command_adapt = {
    .name = "adapt",
    .usage = "MODEL DATA -o OUT.h5 [options]",
    .about = "fit BatchNorm's running statistics to images without labels (AdaBN)",
    .details =
        "Every BatchNorm gets the exact mean and variance that its input has over the\n"
        "images, those below it being on their new statistics already; nothing else\n"
        "of the model changes. Takes a pass over the images for each BatchNorm on the\n"
        "way (19 for resnet20, 49 for resnet50); a few hundred images are enough.\n"
        "DATA: its training images where it has a train folder or is FORMAT:PATH,\n"
        "else every image below the folder. Their classes are not looked at.\n",
    .bit = THAW_CMD_ADAPT,
    .least = 2,
    .most = 2,
    .run = run,
};
