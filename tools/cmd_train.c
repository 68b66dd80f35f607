/* SPDX-License-Identifier: Apache-2.0
 * thaw train: fine-tune a model on a folder of images. */
#include "command.h"
#include "running.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

enum { FORECAST_ITERATIONS = 20 };

static int forecast(thaw_trainer *t, struct th_terminal *terminal)
{
    thaw_forecast f = {0};
    thaw_status status = thaw_trainer_forecast(t, FORECAST_ITERATIONS, &f);
    th_terminal_clear(terminal);
    if (status != THAW_OK)
        return th_report(status);
    if (!terminal->json) {
        printf("forecast  %.1f s, peak memory %.0f MB\n", f.seconds,
            (double)f.peak_bytes * 1e-6);
        return 0;
    }
    fputs("{\"event\":\"forecast\",\"seconds\":", stdout);
    th_json_real(stdout, f.seconds);
    printf(",\"peak_bytes\":%" PRId64 "}\n", f.peak_bytes);
    return 0;
}

static bool wants_forecast(const thaw_options *o)
{
    const char *value = thaw_options_get(o, "forecast");
    return value && !strcmp(value, "1");
}

static int run(struct th_call *call)
{
    thaw_options *o = call->options;
    if (call->n_args) {
        thaw_status status = thaw_options_set(o, "data", call->args[0]);
        if (status != THAW_OK)
            return th_report(status);
    }
    if (!thaw_options_is_set(o, "data"))
        return th_usage("train wants DATA, a folder of images: thaw train DATA -o RUN");
    if (!thaw_options_is_set(o, "out"))
        return th_usage("train wants -o RUN, the folder to create for the run");
    struct th_terminal terminal;
    th_terminal_init(&terminal, o);
    thaw_events events = th_terminal_events(&terminal);
    thaw_trainer *trainer = NULL;
    thaw_status status = thaw_trainer_new(o, &events, &trainer);
    th_terminal_clear(&terminal);
    int code = th_report(status);
    if (status == THAW_OK && wants_forecast(o))
        code = forecast(trainer, &terminal);
    else if (status == THAW_OK)
        code = th_run_trainer(trainer, thaw_options_get(o, "out"), &terminal);
    thaw_trainer_free(trainer);
    return code;
}

const struct th_command th_command_train = {
    .name = "train",
    .usage = "DATA -o RUN [options]",
    .about = "fine-tune a model on a folder of images",
    .details =
        "DATA is DIR/train/CLASS/*.jpg with DIR/val/..., or DIR/CLASS/*.jpg, or\n"
        "csv:FILE with the columns path,label. With --head multilabel an image has "
        "any\n"
        "number of classes: label is a list as cat|dog (or cat;dog), empty for none, "
        "and\n"
        "rows of one path count together. Everything but the head is frozen unless\n"
        "--thaw says otherwise. RUN receives config.json, metrics.jsonl,\n"
        "best.h5, last.h5, report.html and checkpoints. Ctrl-C saves; thaw resume RUN\n"
        "goes on.\n",
    .bit = THAW_CMD_TRAIN,
    .least = 0,
    .most = 1,
    .run = run,
};
