/* SPDX-License-Identifier: Apache-2.0
 * thaw bench: which layers to freeze, by trying. */
#include "command.h"
#include "running.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Trainings are processes of this very program. */
static const char this_program[] = "/proc/self/exe";

static void write_line(void *context, const char *text)
{
    fprintf(context, "%s\n", text);
}

static void stop(void *bench)
{
    thaw_bench_stop(bench);
}

/* ---- The table ---- */

static void print_percent(double x, int width)
{
    if (isfinite(x))
        printf(" %*.1f", width, 100 * x);
    else
        printf(" %*s", width, "-");
}

static void print_interval(thaw_interval x, int width)
{
    char text[32] = "-";
    if (isfinite(x.low))
        snprintf(text, sizeof text, "%.1f to %.1f", 100 * x.low, 100 * x.high);
    printf(" %*s", width, text);
}

static void print_row(const thaw_bench_row *r)
{
    char trained[32] = "-", seconds[32] = "-", peak[32] = "-";
    if (r->thaw)
        th_thousands(r->trained, trained);
    if (r->peak_bytes) {
        snprintf(seconds, sizeof seconds, "%.1f", r->seconds);
        snprintf(peak, sizeof peak, "%.0f", (double)r->peak_bytes * 1e-6);
    }
    printf("%-9s", r->strategy);
    print_percent(r->top1, 6);
    print_interval(r->images, 13);
    print_percent(r->spread, 6);
    print_percent(r->difference, 6);
    print_interval(r->difference_interval, 14);
    printf(" %9s %8s %11s %5d  %s", seconds, peak, trained, r->seeds, r->state);
    if (*r->note) {
        fputs(": ", stdout);
        th_print_text(stdout, r->note);
    }
    putchar('\n');
}

static void print_winner(const thaw_bench_result *r)
{
    if (r->winner < 0)
        return;
    const thaw_bench_row *w = &r->rows[r->winner], *c = &r->rows[r->cheapest];
    if (c != w)
        printf("cheapest  %s: not clearly worse than %s, in %.2f of its time\n",
            c->strategy, w->strategy, c->seconds / w->seconds);
    printf("winner    %s: ", w->strategy);
    th_print_text(stdout, w->command);
    fputs("\nmodel     ", stdout);
    th_print_text(stdout, r->model);
    putchar('\n');
    if (r->test_images && r->boxes)
        printf("test      AP %.2f %% on %" PRId64 " images, with that model, once\n",
            100 * r->test_top1, r->test_images);
    else if (r->test_images)
        printf("test      %.2f %% (%.1f to %.1f) of %" PRId64
               " images, with that model, once\n",
            100 * r->test_top1, 100 * r->test_interval.low, 100 * r->test_interval.high,
            r->test_images);
}

static void print_text(const thaw_bench_result *r, const char *out)
{
    printf("%-9s %6s %13s %6s %6s %14s %9s %8s %11s %5s\n", "strategy",
        r->boxes ? "AP" : "top-1", "95 % images", "+-seed", "diff", "95 % paired",
        "seconds", "peak MB", "trained", "seeds");
    for (int i = 0; i < r->n_rows; i++)
        print_row(&r->rows[i]);
    print_winner(r);
    if (r->winner >= 0)
        printf("page      %s/bench.html\n", out);
}

/* ---- The command ---- */

static int finish(struct th_call *call, thaw_bench *b, struct th_terminal *terminal)
{
    const thaw_bench_result *result = NULL;
    const char *out = thaw_options_get(call->options, "out");
    th_catch_signals(stop, b);
    thaw_status status = thaw_bench_run(b, &result);
    th_terminal_clear(terminal);
    if (result && terminal->json)
        thaw_bench_json(b, write_line, stdout);
    else if (result)
        print_text(result, out);
    if (status != THAW_OK)
        return th_report(status);
    if (!result->stopped)
        return 0;
    fprintf(stderr, "saved %s; the same command goes on\n", out);
    return th_caught_signal() ? 128 + th_caught_signal() : 0;
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
        return th_usage("bench wants DATA, a folder of images: thaw bench DATA -o DIR");
    if (!thaw_options_is_set(o, "out"))
        return th_usage("bench wants -o DIR, the folder to create for all trainings");
    struct th_terminal terminal;
    th_terminal_init(&terminal, o);
    thaw_events events = th_terminal_events(&terminal);
    thaw_bench *b = NULL;
    thaw_status status = thaw_bench_new(o, this_program, &events, &b);
    th_terminal_clear(&terminal);
    int code = status == THAW_OK ? finish(call, b, &terminal) : th_report(status);
    thaw_bench_free(b);
    return code;
}

const struct th_command th_command_bench = {
    .name = "bench",
    .usage = "DATA -o DIR [options]",
    .about = "which layers to freeze: strategies compared over several seeds",
    .details =
        "Trains each strategy with one seed, drops what is clearly worse, and gives "
        "the\n"
        "others more seeds. All are judged by the same validation images; test images\n"
        "are evaluated once, with the winner. DIR receives bench.html, bench.json and\n"
        "every training's run folder. The same command goes on where it was stopped.\n"
        "Strategies: head, bn, bias, last1, last2 ..., gradual, lpft, all, stats, "
        "first,\n"
        "own (--thaw and --bn as given); docs/bench.md says what they are.\n",
    .bit = THAW_CMD_BENCH,
    .least = 0,
    .most = 1,
    .run = run,
};
