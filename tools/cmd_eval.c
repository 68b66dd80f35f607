/* SPDX-License-Identifier: Apache-2.0
 * thaw eval: top-1, top-5, loss and recall by class on a data set. */
#include "command.h"
#include "terminal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void print_json(const thaw_model *m, const thaw_evaluation *e)
{
    printf("{\"images\":%" PRId64 ",\"unreadable\":%" PRId64 ",\"loss\":", e->images,
        e->unreadable);
    th_json_real(stdout, e->loss);
    fputs(",\"top1\":", stdout);
    th_json_real(stdout, e->top1);
    fputs(",\"top5\":", stdout);
    th_json_real(stdout, e->top5);
    fputs(",\"classes\":", stdout);
    for (int c = 0; c < e->n_classes; c++) {
        fputc(c ? ',' : '[', stdout);
        th_json_string(stdout, thaw_model_class(m, c));
    }
    fputs("],\"confusion\":", stdout);
    for (int c = 0; c < e->n_classes; c++)
        for (int p = 0; p < e->n_classes; p++)
            printf("%s%" PRId64,
                p   ? ","
                : c ? "],["
                    : "[[",
                e->confusion[(int64_t)c * e->n_classes + p]);
    puts("]]}");
}

/* Images of a class, and the wrong class that most of them went to (-1: none). */
static int64_t sum_row(const int64_t *row, int n, int right, int *mistaken)
{
    int64_t sum = 0;
    *mistaken = -1;
    for (int p = 0; p < n; p++) {
        sum += row[p];
        bool more = row[p] > (*mistaken < 0 ? 0 : row[*mistaken]);
        if (p != right && more)
            *mistaken = p;
    }
    return sum;
}

static void print_table(const thaw_model *m, const thaw_evaluation *e)
{
    int width = 5;
    for (int c = 0; c < e->n_classes; c++) {
        int length = (int)strlen(thaw_model_class(m, c));
        width = length > width ? length : width;
    }
    width = width > 40 ? 40 : width;
    printf(
        "\n%-*s %9s %8s  most often taken for\n", width, "class", "images", "recall");
    for (int c = 0; c < e->n_classes; c++) {
        const int64_t *row = e->confusion + (int64_t)c * e->n_classes;
        int mistaken = -1;
        int64_t sum = sum_row(row, e->n_classes, c, &mistaken);
        if (!sum)
            continue;
        printf("%-*s %9" PRId64 " %6.1f %%", width, thaw_model_class(m, c), sum,
            100.0 * (double)row[c] / (double)sum);
        if (mistaken >= 0)
            printf("  %s (%" PRId64 ")", thaw_model_class(m, mistaken), row[mistaken]);
        putchar('\n');
    }
}

static void print_text(const thaw_model *m, const thaw_evaluation *e)
{
    char images[32], bad[32];
    printf("images    %s", th_thousands(e->images, images));
    if (e->unreadable)
        printf(" (%s unreadable)", th_thousands(e->unreadable, bad));
    printf("\nloss      %.4f\ntop-1     %.2f %%\n", e->loss, 100 * e->top1);
    if (e->n_classes > 5)
        printf("top-5     %.2f %%\n", 100 * e->top5);
    print_table(m, e);
}

static int run(struct th_call *call)
{
    struct th_terminal terminal;
    th_terminal_init(&terminal, call->options);
    thaw_events events = th_terminal_events(&terminal);
    thaw_evaluation e = {0};
    thaw_model *m = NULL;
    thaw_status status = thaw_model_open(call->args[0], call->options, &m);
    if (status == THAW_OK)
        status = thaw_model_eval(m, call->args[1], call->options, &events, &e);
    th_terminal_clear(&terminal);
    if (status == THAW_OK && terminal.json)
        print_json(m, &e);
    else if (status == THAW_OK)
        print_text(m, &e);
    int code = th_report(status);
    thaw_evaluation_release(&e);
    thaw_model_free(m);
    return code;
}

const struct th_command th_command_eval = {
    .name = "eval",
    .usage = "MODEL DATA [options]",
    .about = "accuracy, loss and recall by class on a data set",
    .details =
        "MODEL is a model file, a weights file or a run folder (its best.h5). Classes\n"
        "are matched by name. --json prints one object with images, loss, top1,\n"
        "top5, classes and confusion (rows: the true class).\n",
    .bit = THAW_CMD_EVAL,
    .least = 2,
    .most = 2,
    .run = run,
};
