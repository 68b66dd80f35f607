/* SPDX-License-Identifier: Apache-2.0
 * thaw score: which weights will transfer best to a folder, before any training. */
#include "command.h"
#include "terminal.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static const int column[THAW_N_SCORES] = {11, 10, 14, 11, 10, 16}; /* characters */

static void print_json(const thaw_score_row *r)
{
    fputs("{\"weights\":", stdout);
    th_json_string(stdout, r->weights);
    const char *quote = strchr(r->image_size, 'x') ? "\"" : "";
    printf(",\"network\":\"%s\",\"image_size\":%s%s%s,\"images\":%" PRId64
           ",\"unreadable\":%" PRId64 ",\"values\":%" PRId64,
        r->network, quote, r->image_size, quote, r->images, r->unreadable, r->values);
    for (int k = 0; k < THAW_N_SCORES; k++) {
        const char *name = thaw_score_name((thaw_score_kind)k, NULL);
        printf(",\"%s\":", name);
        th_json_real(stdout, r->score[k]);
        printf(",\"%s_rank\":", name);
        if (r->rank[k])
            printf("%d", r->rank[k]);
        else
            fputs("null", stdout);
    }
    fputs(",\"probe_error\":", stdout);
    th_json_real(stdout, r->probe_error);
    fputs(",\"feature_seconds\":", stdout);
    th_json_real(stdout, r->feature_seconds);
    fputs(",\"score_seconds\":", stdout);
    th_json_real(stdout, r->score_seconds);
    fputs("}\n", stdout);
}

/* "62.0 +-2.2 % (1)" */
static void format_score(const thaw_score_row *r, int kind, char text[32])
{
    double x = r->score[kind];
    if (isnan(x))
        snprintf(text, 32, "-");
    else if (kind == THAW_SCORE_PROBE)
        snprintf(text, 32, "%.1f +-%.1f %% (%d)", 100 * x, 100 * r->probe_error,
            r->rank[kind]);
    else if (kind == THAW_SCORE_KNN)
        snprintf(text, 32, "%.1f %% (%d)", 100 * x, r->rank[kind]);
    else
        snprintf(text, 32, "%.4f (%d)", x, r->rank[kind]);
}

static void print_table(const thaw_score_result *result)
{
    int width = (int)strlen("weights"), network = (int)strlen("network");
    for (int i = 0; i < result->n_rows; i++) {
        int n = (int)strlen(result->rows[i].weights);
        int m = (int)strlen(result->rows[i].network);
        width = n > width ? n : width;
        network = m > network ? m : network;
    }
    printf("   %-*s  %-*s    px  images  values", width, "weights", network, "network");
    for (int k = 0; k < THAW_N_SCORES; k++)
        printf("  %*s", column[k], thaw_score_name((thaw_score_kind)k, NULL));
    putchar('\n');
    for (int i = 0; i < result->n_rows; i++) {
        const thaw_score_row *r = &result->rows[i];
        printf("%2d ", r->rank[THAW_SCORE_LOGME]);
        th_print_text(stdout, r->weights);
        printf("%*s  %-*s  %4s  %6" PRId64 "  %6" PRId64,
            width - (int)strlen(r->weights), "", network, r->network, r->image_size,
            r->images, r->values);
        for (int k = 0; k < THAW_N_SCORES; k++) {
            char text[32];
            format_score(r, k, text);
            printf("  %*s", column[k], text);
        }
        putchar('\n');
    }
}

static int run(struct th_call *call)
{
    struct th_terminal terminal;
    thaw_score_result result = {0};
    thaw_status status = thaw_options_set(call->options, "data", call->args[0]);
    for (int i = 1; i < call->n_args && status == THAW_OK; i++)
        status = th_add_option(call->options, "weights", call->args[i]);
    th_terminal_init(&terminal, call->options);
    thaw_events events = th_terminal_events(&terminal);
    if (status == THAW_OK)
        status = thaw_score_run(call->options, &events, &result);
    th_terminal_clear(&terminal);
    if (status == THAW_OK && !terminal.json)
        print_table(&result);
    for (int i = 0; i < result.n_rows && terminal.json; i++)
        print_json(&result.rows[i]);
    thaw_score_release(&result);
    return th_report(status);
}

const struct th_command th_command_score = {
    .name = "score",
    .usage = "DATA --weights FILE... [options]",
    .about = "which weights will transfer best to DATA, before any training",
    .details =
        "Each file's features of the training images of DATA are computed once; scores "
        "say\n"
        "how well they tell the classes apart, the rank by each in brackets. Rows are\n"
        "ranked by LogME (docs/score.md says why, and how far it can be trusted). A "
        "file\n"
        "may be 'random': random values of the first file's network, as a floor.\n"
        "  logme           log evidence of a Bayesian linear model, per image\n"
        "  h_score         variance between classes over variance; says nothing with\n"
        "                  fewer images than values, where h_score_shrunk still does\n"
        "  leep            log likelihood of the labels given the file's own head\n"
        "  knn             accuracy of the five nearest neighbours by cosine\n"
        "  probe           accuracy of a linear classifier and its standard error\n"
        "Validation and test images are not looked at. Nothing is written.\n",
    .bit = THAW_CMD_SCORE,
    .least = 1,
    .most = -1,
    .gathers = "weights",
    .run = run,
};
