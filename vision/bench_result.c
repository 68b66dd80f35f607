/* SPDX-License-Identifier: Apache-2.0
 * Owns what a bench answers: rows in order, the fronts, command lines, JSON. Trains and
 * chooses nothing. */
#include "bench.h"

#include "mem.h"
#include "options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- The command that trains it again ---- */

/* `text` and a blank, as one word of a shell. */
static char *add_word(char *line, const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789_-+=./,:@%";
    if (!line)
        return NULL;
    size_t used = strlen(line), n = strlen(text);
    bool quoted = !n || text[strspn(text, plain)];
    char *to = th_realloc(line, used + 1, used + 4 * n + 4, 1); /* a quote takes four */
    if (!to) {
        th_free(line);
        return NULL;
    }
    char *at = to + used;
    at = quoted ? stpcpy(at, "'") : at;
    for (; *text; text++)
        at = *text == '\'' ? stpcpy(at, "'\\''") : (*at = *text, at + 1);
    strcpy(at, quoted ? "' " : " ");
    return to;
}

static char *add_option(char *line, const thaw_option *row, const char *value)
{
    char name[64];
    snprintf(name, sizeof name, "--%s", row->name);
    if (row->type == THAW_OPTION_FLAG && !strcmp(value, "0"))
        return line;
    line = add_word(line, name);
    return row->type == THAW_OPTION_FLAG ? line : add_word(line, value);
}

/* What a bench sets for itself and a result does not depend on. */
static bool is_ours(const char *name)
{
    return !strcmp(name, "threads") || !strcmp(name, "no-test") ||
           !strcmp(name, "cache") || !strcmp(name, "cache-dir") ||
           !strcmp(name, "plan-cache");
}

static bool user_set(const struct thaw_bench *b, const char *name)
{
    return strcmp(name, "threads") ? thaw_options_is_set(b->options, name)
                                   : b->threads_given;
}

static char *write_command(
    const struct thaw_bench *b, const thaw_options *o, const char *run)
{
    size_t n = 0;
    const thaw_option *table = thaw_option_table(&n);
    char *line = th_strdup("thaw train ");
    line = add_word(line, th_option_text(o, "data"));
    line = add_word(line, "-o");
    line = add_word(line, run);
    for (size_t i = 0; i < n; i++) {
        const char *name = table[i].name;
        bool said = !strcmp(name, "data") || (is_ours(name) && !user_set(b, name));
        if (!said && thaw_options_is_set(o, name))
            line = add_option(line, &table[i], thaw_options_get(o, name));
    }
    if (line)
        line[strlen(line) - 1] = 0; /* the last blank */
    return line;
}

static int best_seed(const struct th_bench_entry *e)
{
    int best = 0;
    for (int s = 1; s < e->n_runs; s++)
        if (e->runs[s].score > e->runs[best].score)
            best = s;
    return best;
}

char *th_bench_command(
    const struct thaw_bench *b, const struct th_bench_entry *e, int seed)
{
    thaw_options *o = NULL;
    if (th_bench_options(b, &e->settings, seed, &o) != THAW_OK)
        return NULL;
    char *line = write_command(b, o, "RUN");
    thaw_options_free(o);
    return line;
}

/* ---- Rows ---- */

static double mean_seconds(const struct th_bench_entry *e)
{
    double sum = 0;
    for (int s = 0; s < e->n_runs; s++)
        sum += e->runs[s].seconds;
    return e->n_runs ? sum / e->n_runs : (double)NAN;
}

static int64_t most_bytes(const struct th_bench_entry *e)
{
    int64_t most = 0;
    for (int s = 0; s < e->n_runs; s++)
        most = e->runs[s].peak_bytes > most ? e->runs[s].peak_bytes : most;
    return most;
}

static double spread(const struct th_bench_entry *e)
{
    enum { MOST_SEEDS = 64 };
    double top1[MOST_SEEDS];
    for (int s = 0; s < e->n_runs; s++)
        top1[s] = e->runs[s].score;
    return th_spread(top1, e->n_runs);
}

/* Images that were read. */
static int64_t images_of(const struct th_bench_entry *e)
{
    int64_t n = 0;
    for (const char *mark = e->n_runs ? e->runs[0].marks : ""; *mark; mark++)
        n += *mark != '-';
    return n;
}

static const char *state_of(
    const struct th_bench_entry *e, const struct th_bench_entry *best)
{
    if (e == best)
        return "winner";
    if (e->settings.missing)
        return "left out";
    if (e->failed)
        return "failed";
    if (e->dropped)
        return "dropped";
    if (e->forecast)
        return "forecast";
    return e->n_runs ? "kept" : "not run";
}

static int n_warm(const struct th_bench_entry *e)
{
    int n = 0;
    for (int s = 0; s < e->n_runs; s++)
        n += e->runs[s].warm;
    return n;
}

static char *note_of(const struct thaw_bench *b, const struct th_bench_entry *e)
{
    const char *early =
        b->over_budget ? "--budget was used up" : "the bench was stopped";
    if (e->settings.missing)
        return th_strdup(e->settings.missing);
    if (e->failed)
        return th_format("seed %lld: %s",
            (long long)th_option_int(b->options, "seed") + e->n_runs,
            e->runs[e->n_runs].reason);
    if (e->dropped)
        return th_format("clearly worse after %d %s", e->dropped,
            e->dropped == 1 ? "seed" : "seeds");
    if (e->n_runs < b->seeds && !e->forecast)
        return th_strdup(early);
    return n_warm(e) ? th_format("features kept by another training in %d of %d",
                           n_warm(e), e->n_runs)
                     : th_strdup("");
}

static void fill_numbers(const struct thaw_bench *b, thaw_bench_row *r,
    const struct th_bench_entry *e, const struct th_bench_entry *best)
{
    r->seeds = e->n_runs;
    r->top1 = th_bench_mean(e);
    r->images = th_wilson(r->top1, b->boxes ? 0 : (double)images_of(e));
    r->spread = spread(e);
    r->trained = e->settings.trained;
    r->seconds = mean_seconds(e);
    r->peak_bytes = most_bytes(e);
    if (e->forecast) {
        r->seconds = e->runs[0].seconds;
        r->peak_bytes = e->runs[0].peak_bytes;
    }
    r->difference = r->difference_interval.low = r->difference_interval.high =
        (double)NAN;
    if (best && e->n_runs && e != best) {
        struct th_difference d = th_bench_difference(b, e, best);
        r->difference = d.mean;
        r->difference_interval = d.interval;
    }
}

static thaw_status fill_row(struct thaw_bench *b, int i, thaw_bench_row *r)
{
    const struct th_bench_entry *e = &b->entries[i], *best = th_bench_best(b);
    const struct th_bench_settings *s = &e->settings;
    *r = (thaw_bench_row){.strategy = s->name,
        .about = s->about,
        .state = state_of(e, best),
        .thaw = s->missing ? NULL
                : s->thaw  ? s->thaw
                           : th_option_text(b->options, "thaw"),
        .bn = s->missing ? NULL
              : s->bn    ? s->bn
                         : th_option_text(b->options, "bn")};
    fill_numbers(b, r, e, best);
    r->note = b->notes[i] = note_of(b, e);
    r->command = b->commands[i] =
        s->missing ? th_strdup("") : th_bench_command(b, e, best_seed(e));
    return r->note && r->command ? THAW_OK : THAW_E_MEMORY;
}

static int rank(const thaw_bench_row *r)
{
    static const char *const states[] = {
        "winner", "kept", "dropped", "forecast", "failed", "not run", "left out"};
    int i = 0;
    while (strcmp(states[i], r->state))
        i++;
    return i;
}

/* Does `a` stand before `b`? Equals stay as they were. */
static bool before(const thaw_bench_row *a, const thaw_bench_row *b)
{
    if (rank(a) != rank(b))
        return rank(a) < rank(b);
    return a->top1 > b->top1;
}

static void insert(thaw_bench_row *rows, int n, const thaw_bench_row *r)
{
    int at = n;
    for (; at > 0 && before(r, &rows[at - 1]); at--)
        rows[at] = rows[at - 1];
    rows[at] = *r;
}

/* ---- Fronts ---- */

static bool beats(double top1, double cost, double other_top1, double other_cost)
{
    return top1 >= other_top1 && cost <= other_cost &&
           (top1 > other_top1 || cost < other_cost);
}

static void find_fronts(thaw_bench_row *rows, int n)
{
    for (int i = 0; i < n; i++) {
        thaw_bench_row *r = &rows[i];
        r->fast = r->small = r->seeds > 0;
        for (int k = 0; k < n; k++) {
            const thaw_bench_row *o = &rows[k];
            r->fast = r->fast && !beats(o->top1, o->seconds, r->top1, r->seconds);
            r->small = r->small && !beats(o->top1, (double)o->peak_bytes, r->top1,
                                       (double)r->peak_bytes);
        }
    }
}

/* The fastest that is not clearly worse than the winner. */
static int find_cheapest(const thaw_bench_row *rows, int n)
{
    int cheapest = n && !strcmp(rows[0].state, "winner") ? 0 : -1;
    for (int i = 1; cheapest >= 0 && i < n; i++)
        if (!strcmp(rows[i].state, "kept") &&
            rows[i].seconds < rows[cheapest].seconds &&
            rows[i].difference_interval.high >= 0)
            cheapest = i;
    return cheapest;
}

thaw_status th_bench_result(struct thaw_bench *b)
{
    th_bench_result_release(b);
    thaw_bench_row *rows = th_alloc((size_t)b->n_entries, sizeof *rows), row;
    b->result = (thaw_bench_result){.rows = rows,
        .winner = -1,
        .cheapest = -1,
        .boxes = b->boxes,
        .val_images = b->data.split[TH_SPLIT_VAL].n};
    if (!rows)
        return THAW_E_MEMORY;
    for (int i = 0; i < b->n_entries; i++) {
        TRY(fill_row(b, i, &row));
        insert(rows, b->result.n_rows++, &row);
    }
    find_fronts(rows, b->result.n_rows);
    const struct th_bench_entry *best = th_bench_best(b);
    if (!best)
        return THAW_OK;
    b->result.winner = 0;
    b->result.cheapest = find_cheapest(rows, b->result.n_rows);
    b->winner_run = th_bench_path(b, best, best_seed(best), "/best.h5");
    b->result.model = b->winner_run;
    return b->winner_run ? THAW_OK : THAW_E_MEMORY;
}

void th_bench_result_release(struct thaw_bench *b)
{
    for (int i = 0; i < TH_MOST_STRATEGIES; i++) {
        th_free(b->commands[i]);
        th_free(b->notes[i]);
        b->commands[i] = b->notes[i] = NULL;
    }
    th_free(b->winner_run);
    b->winner_run = NULL;
    th_free((void *)b->result.rows);
    b->result = (thaw_bench_result){0};
}

/* ---- JSON ---- */

static void put_interval(struct th_json_out *o, const char *key, thaw_interval i)
{
    th_json_key(o, key);
    th_json_open(o, '[');
    th_json_real(o, i.low);
    th_json_real(o, i.high);
    th_json_close(o, ']');
}

static void put_flag(struct th_json_out *o, const char *key, bool value)
{
    th_json_key(o, key);
    th_json_bool(o, value);
}

static void put_text(struct th_json_out *o, const char *key, const char *text)
{
    th_json_key(o, key);
    if (text)
        th_json_string(o, text);
    else
        th_json_null(o);
}

static void put_row(struct th_json_out *o, const thaw_bench_row *r, bool boxes)
{
    th_json_open(o, '{');
    put_text(o, "strategy", r->strategy);
    put_text(o, "state", r->state);
    put_text(o, "note", r->note);
    put_text(o, "thaw", r->thaw);
    put_text(o, "bn", r->bn);
    th_json_put_whole(o, "seeds", r->seeds);
    th_json_put_real(o, boxes ? "ap" : "top1", r->top1);
    if (!boxes)
        put_interval(o, "top1_interval", r->images);
    th_json_put_real(o, boxes ? "ap_spread" : "top1_spread", r->spread);
    th_json_put_real(o, "difference", r->difference);
    put_interval(o, "difference_interval", r->difference_interval);
    th_json_put_whole(o, "trained", r->trained);
    th_json_put_real(o, "seconds", r->seconds);
    th_json_put_whole(o, "peak_bytes", r->peak_bytes);
    put_flag(o, "fast", r->fast);
    put_flag(o, "small", r->small);
    put_text(o, "command", r->command);
    th_json_close(o, '}');
}

static void put_test(struct th_json_out *o, const thaw_bench_result *r)
{
    if (!r->test_images)
        return;
    th_json_key(o, "test");
    th_json_open(o, '{');
    th_json_put_whole(o, "images", r->test_images);
    th_json_put_real(o, r->boxes ? "ap" : "top1", r->test_top1);
    if (!r->boxes)
        put_interval(o, "top1_interval", r->test_interval);
    th_json_close(o, '}');
}

thaw_status th_bench_json(const struct thaw_bench *b, struct th_json_out *o)
{
    const thaw_bench_result *r = &b->result;
    th_json_open(o, '{');
    th_json_put_string(o, "version", thaw_version());
    th_json_put_string(o, "data", th_option_text(b->options, "data"));
    th_json_put_string(o, "data_fingerprint", b->fingerprint);
    th_json_put_whole(o, "val_images", r->val_images);
    th_json_put_string(o, "backbone", b->backbone);
    th_json_put_whole(o, "values", b->n_values);
    th_json_put_string(o, "device", b->device);
    th_json_put_string(o, "threads", th_option_text(b->options, "threads"));
    th_json_put_string(o, "epochs", th_option_text(b->options, "epochs"));
    th_json_put_whole(o, "seeds", b->seeds);
    put_flag(o, "stopped", r->stopped);
    put_text(o, "winner", r->winner < 0 ? NULL : r->rows[r->winner].strategy);
    put_text(o, "cheapest", r->cheapest < 0 ? NULL : r->rows[r->cheapest].strategy);
    put_text(o, "model", r->model);
    put_test(o, r);
    th_json_key(o, "rows");
    th_json_open(o, '[');
    for (int i = 0; i < r->n_rows; i++)
        put_row(o, &r->rows[i], r->boxes);
    th_json_close(o, ']');
    th_json_close(o, '}');
    return th_json_out_status(o);
}
