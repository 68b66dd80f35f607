/* SPDX-License-Identifier: Apache-2.0
 * thaw eval: how good a model is on a data set, in all and by class. */
#include "command.h"
#include "terminal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A longer table is cut to the classes that are worst. */
enum { MOST_ROWS = 40, WORST_ROWS = 20 };

static void write_line(void *context, const char *text)
{
    fprintf(context, "%s\n", text);
}

/* The wrong class that most images of class c went to, -1: none. */
static int mistaken_for(const thaw_evaluation *e, int c)
{
    const int64_t *row = e->confusion + (int64_t)c * e->n_classes;
    int most = -1;
    for (int p = 0; p < e->n_classes; p++)
        if (p != c && row[p] > (most < 0 ? 0 : row[most]))
            most = p;
    return most;
}

static void print_class(const thaw_evaluation *e, int c, int width)
{
    const thaw_class_scores *s = &e->classes[c];
    int most = mistaken_for(e, c);
    char name[64]; /* as wide as a column gets, cut */
    snprintf(name, sizeof name, "%-*.*s", width, width, s->name);
    th_print_text(stdout, name);
    printf(" %9" PRId64 " %9.1f %% %6.1f %% %8.3f", s->images,
        100 * s->scores.precision, 100 * s->scores.recall, s->scores.f1);
    if (most >= 0) {
        fputs("  ", stdout);
        th_print_text(stdout, e->classes[most].name);
        printf(" (%" PRId64 ")", e->confusion[(int64_t)c * e->n_classes + most]);
    }
    putchar('\n');
}

static void print_average(const char *name, const thaw_scores *s, int width)
{
    printf("%-*s %9s %9.1f %% %6.1f %% %8.3f\n", width, name, "", 100 * s->precision,
        100 * s->recall, s->f1);
}

static int by_f1(const void *a, const void *b)
{
    const thaw_class_scores *x = *(const thaw_class_scores *const *)a;
    const thaw_class_scores *y = *(const thaw_class_scores *const *)b;
    if (x->scores.f1 < y->scores.f1 || x->scores.f1 > y->scores.f1)
        return x->scores.f1 < y->scores.f1 ? -1 : 1;
    return x < y ? -1 : 1;
}

/* Classes that have images into rows; how many. */
static int choose_rows(const thaw_evaluation *e, const thaw_class_scores **rows)
{
    int n = 0;
    for (int c = 0; c < e->n_classes; c++)
        if (e->classes[c].images)
            rows[n++] = &e->classes[c];
    if (n > MOST_ROWS)
        qsort(rows, (size_t)n, sizeof *rows, by_f1);
    return n;
}

static void print_table(const thaw_evaluation *e)
{
    const thaw_class_scores **rows = calloc((size_t)e->n_classes, sizeof(void *));
    int n = rows ? choose_rows(e, rows) : 0, width = 8;
    int shown = n > MOST_ROWS ? WORST_ROWS : n;
    for (int i = 0; i < shown; i++) {
        int length = (int)strlen(rows[i]->name);
        width = length > width ? length : width;
    }
    width = width > 40 ? 40 : width;
    printf("\n%-*s %9s %11s %8s %8s  most often taken for\n", width, "class", "images",
        "precision", "recall", "F1");
    for (int i = 0; i < shown; i++)
        print_class(e, (int)(rows[i] - e->classes), width);
    if (shown < n)
        printf("(the %d worst of %d classes by F1; --json has all)\n", shown, n);
    print_average("macro", &e->macro, width);
    print_average("weighted", &e->weighted, width);
    free(rows);
}

/* Of images with any number of classes: by class, and what would be a good threshold. */
static void print_many_table(const thaw_evaluation *e)
{
    int width = 8;
    for (int c = 0; c < e->n_classes; c++) {
        int length = (int)strlen(e->classes[c].name);
        width = length > width ? length : width;
    }
    width = width > 40 ? 40 : width;
    printf("\n%-*s %9s %9s %11s %8s %8s  %9s %8s\n", width, "class", "images", "AP",
        "precision", "recall", "F1", "threshold", "F1 there");
    for (int c = 0; c < e->n_classes; c++) {
        const thaw_class_scores *s = &e->classes[c];
        char name[64];
        if (!s->images)
            continue;
        snprintf(name, sizeof name, "%-*.*s", width, width, s->name);
        th_print_text(stdout, name);
        printf(" %9" PRId64 " %7.1f %% %9.1f %% %6.1f %% %8.3f  %9.3f %8.3f\n",
            s->images, 100 * s->ap, 100 * s->scores.precision, 100 * s->scores.recall,
            s->scores.f1, s->threshold, s->best_f1);
    }
    print_average("macro", &e->macro, width + 10);
    print_average("weighted", &e->weighted, width + 10);
}

static void print_many(const thaw_evaluation *e)
{
    printf("loss      %.4f\nmAP       %.2f %%\nmacro F1  %.4f (from probability %g "
           "on)\nmicro F1  %.4f\n",
        e->loss, 100 * e->map, e->macro.f1, e->threshold, e->micro_f1);
    print_many_table(e);
}

static void print_percent(double x)
{
    if (isnan(x))
        printf("       -");
    else
        printf(" %5.1f %%", 100 * x);
}

/* COCO's figures, each class's, and what is wrong. */
static void print_boxes(const thaw_evaluation *e)
{
    static const char *const row[] = {"AP", "AP of small, medium, large",
        "AR with 1, 10, 100", "AR of small, medium, large"};
    printf("AP        %.2f %%\nAP50      %.2f %%\nAP75      %.2f %%\n",
        100 * e->coco[0], 100 * e->coco[1], 100 * e->coco[2]);
    for (int r = 1; r < 4; r++) {
        printf("%-26s", row[r]);
        for (int k = 0; k < 3; k++)
            print_percent(e->coco[3 * r + k]);
        putchar('\n');
    }
    printf("VOC's AP50, 11 points, area");
    print_percent(e->voc07);
    print_percent(e->voc_area);
    printf("\n\n%-24s %8s %8s %8s  %9s %8s\n", "class", "objects", "AP", "AP50",
        "threshold", "F1 there");
    for (int c = 0; c < e->n_classes; c++) {
        const thaw_class_scores *s = &e->classes[c];
        char name[64];
        snprintf(name, sizeof name, "%-24.24s", s->name);
        th_print_text(stdout, name);
        printf(" %8" PRId64 " ", s->images);
        print_percent(s->ap);
        printf(" ");
        print_percent(s->ap50);
        printf("  %9.3f %8.3f\n", s->threshold, s->best_f1);
    }
    printf("\nwrong at IoU 0.5, and AP50 without it\n");
    for (int i = 0; i < e->n_errors; i++)
        printf("%-14s %8" PRId64 "  + %.1f\n", e->error_name[i], e->error_count[i],
            100 * e->error_cost[i]);
}

static void print_text(const thaw_evaluation *e)
{
    char images[32], bad[32];
    printf("images    %s", th_thousands(e->images, images));
    if (e->unreadable)
        printf(" (%s unreadable)", th_thousands(e->unreadable, bad));
    if (e->many) {
        putchar('\n');
        (e->boxes ? print_boxes : print_many)(e);
        return;
    }
    printf("\nloss      %.4f\ntop-1     %.2f %% (%.1f to %.1f)\n", e->loss,
        100 * e->top1, 100 * e->top1_interval.low, 100 * e->top1_interval.high);
    if (e->n_classes > 5)
        printf("top-5     %.2f %%\n", 100 * e->top5);
    printf("balanced  %.2f %%\nmacro F1  %.4f (%.3f to %.3f)\nECE       %.2f %%\n",
        100 * e->balanced_accuracy, e->macro.f1, e->macro_f1_interval.low,
        e->macro_f1_interval.high, 100 * e->ece);
    print_table(e);
}

/* What is on the model now. */
static thaw_status evaluate(
    struct th_call *call, struct th_terminal *terminal, thaw_model *m)
{
    thaw_events events = th_terminal_events(terminal);
    thaw_evaluation e = {0};
    thaw_status status = thaw_model_eval(m, call->args[1], call->options, &events, &e);
    th_terminal_clear(terminal);
    if (status == THAW_OK && terminal->json)
        status = thaw_evaluation_json(&e, write_line, stdout);
    else if (status == THAW_OK)
        print_text(&e);
    thaw_evaluation_release(&e);
    return status;
}

static int run(struct th_call *call)
{
    struct th_terminal terminal;
    th_terminal_init(&terminal, call->options);
    thaw_model *m = NULL;
    thaw_status status = thaw_model_open(call->args[0], call->options, &m);
    int n = status == THAW_OK ? thaw_model_n_adapters(m) : 0;
    if (status == THAW_OK && n < 2)
        status = evaluate(call, &terminal, m);
    for (int i = 0; status == THAW_OK && n > 1 && i < n; i++) {
        status = thaw_model_use(m, i);
        if (status == THAW_OK && !terminal.json)
            printf("%sadapter   %s\n", i ? "\n" : "", thaw_model_adapter(m, i));
        if (status == THAW_OK)
            status = evaluate(call, &terminal, m);
    }
    int code = th_report(status);
    thaw_model_free(m);
    return code;
}

const struct th_command th_command_eval = {
    .name = "eval",
    .usage = "MODEL DATA [options]",
    .about = "accuracy with its interval, scores by class, calibration",
    .details =
        "MODEL is a model file, a weights file or a run folder (its best.h5). Of DATA\n"
        "the validation images are taken, all of them where it has none. Classes\n"
        "are matched by name. In brackets: 95 % intervals of the bootstrap over "
        "images\n"
        "(1,000 resamples, always the same). Precision and recall without images are "
        "0;\n"
        "macro is the mean over the classes that occur, weighted that by their "
        "images,\n"
        "balanced the mean recall. ECE is the expected calibration error (15 bins of\n"
        "the top probability). --json prints one object, with the confusion counts\n"
        "too (rows: the true class). Of a model with any number of classes an image:\n"
        "average precision by class (scikit-learn's) and its mean, scores from\n"
        "--threshold on, and for each class the threshold at which its F1 would be\n"
        "largest on these images.\n",
    .bit = THAW_CMD_EVAL,
    .least = 2,
    .most = 2,
    .run = run,
};
