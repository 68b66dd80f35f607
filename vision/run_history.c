/* SPDX-License-Identifier: Apache-2.0
 * Owns the reading of metrics.jsonl. Its writing is run_log.c's. */
#include "run_history.h"

#include "json.h"
#include "mem.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Of steps: when there are so many, every second one goes. */
enum { MOST_STEPS = 4096, LINE = 4096 };

enum { STEP_COLUMNS = 4, EPOCH_COLUMNS = 6 };

/* Grow every column; all of them have the same length. */
static thaw_status reserve(double **const *columns, int n_columns, int n, int *capacity)
{
    if (n < *capacity)
        return THAW_OK;
    int grown = *capacity ? 2 * *capacity : 64;
    for (int c = 0; c < n_columns; c++) {
        double *p = th_realloc(*columns[c], (size_t)n, (size_t)grown, sizeof *p);
        if (!p)
            return THAW_E_MEMORY;
        *columns[c] = p;
    }
    *capacity = grown;
    return THAW_OK;
}

static double number(const struct th_json *line, const char *key)
{
    const struct th_json *value = th_json_get(line, key);
    return value && value->kind == TH_JSON_NUMBER ? value->real : (double)NAN;
}

static void thin_out(struct th_step_history *s, double **const *columns)
{
    for (int i = 0; 2 * i < s->n; i++)
        for (int c = 0; c < STEP_COLUMNS; c++)
            (*columns[c])[i] = (*columns[c])[2 * i];
    s->n = (s->n + 1) / 2;
}

static thaw_status add_step(struct th_step_history *s, const struct th_json *line,
    int64_t *every, int64_t *seen)
{
    double **const columns[STEP_COLUMNS] = {&s->step, &s->epoch, &s->loss, &s->lr};
    static const char *const keys[STEP_COLUMNS] = {"step", "epoch", "loss", "lr"};
    if ((*seen)++ % *every)
        return THAW_OK;
    TRY(reserve(columns, STEP_COLUMNS, s->n, &s->capacity));
    for (int c = 0; c < STEP_COLUMNS; c++)
        (*columns[c])[s->n] = number(line, keys[c]);
    s->epoch[s->n]++;
    if (++s->n == MOST_STEPS) {
        thin_out(s, columns);
        *every *= 2;
    }
    return THAW_OK;
}

static thaw_status add_epoch(struct th_epoch_history *e, const struct th_json *line)
{
    double **const columns[EPOCH_COLUMNS] = {&e->epoch, &e->train_loss, &e->val_loss,
        &e->val_top1, &e->images_per_s, &e->seconds};
    static const char *const keys[EPOCH_COLUMNS] = {
        "epoch", "train_loss", "val_loss", "val_top1", "images_per_s", "seconds"};
    const struct th_json *thawed = th_json_get(line, "thawed");
    int before = e->capacity;
    TRY(reserve(columns, EPOCH_COLUMNS, e->n, &e->capacity));
    if (e->capacity > before) {
        char **grown =
            th_realloc(e->thawed, (size_t)e->n, (size_t)e->capacity, sizeof *grown);
        if (!grown)
            return THAW_E_MEMORY;
        e->thawed = grown;
    }
    for (int c = 0; c < EPOCH_COLUMNS; c++)
        (*columns[c])[e->n] = number(line, keys[c]);
    if (isnan(e->val_top1[e->n])) /* what judges where an image has many classes */
        e->val_top1[e->n] = number(line, "val_map");
    if (isnan(e->val_top1[e->n])) /* or boxes */
        e->val_top1[e->n] = number(line, "val_ap");
    e->epoch[e->n]++;
    e->thawed[e->n] =
        th_strdup(thawed && thawed->kind == TH_JSON_STRING ? thawed->text : "");
    return e->thawed[e->n++] ? THAW_OK : THAW_E_MEMORY;
}

static thaw_status add_line(
    struct th_run_history *h, const char *text, int64_t *every, int64_t *seen)
{
    struct th_json *line = NULL;
    if (th_json_parse(text, strlen(text), "metrics.jsonl", &line) != THAW_OK)
        return THAW_OK;
    const struct th_json *event = th_json_get(line, "event");
    const char *kind = event && event->kind == TH_JSON_STRING ? event->text : "";
    thaw_status status = THAW_OK;
    h->peak_bytes = fmax(h->peak_bytes, number(line, "peak_bytes"));
    if (!strcmp(kind, "step"))
        status = add_step(&h->steps, line, every, seen);
    else if (!strcmp(kind, "epoch"))
        status = add_epoch(&h->epochs, line);
    else if (!strcmp(kind, "end")) {
        h->ended = true;
        h->test_top1 = number(line, "test_top1");
        if (isnan(h->test_top1))
            h->test_top1 = number(line, "test_map");
        if (isnan(h->test_top1))
            h->test_top1 = number(line, "test_ap");
        h->test_loss = number(line, "test_loss");
    }
    th_json_free(line);
    return status;
}

thaw_status th_run_history_read(
    const struct th_run_folder *f, struct th_run_history *history)
{
    char line[LINE];
    int64_t every = 1, seen = 0;
    thaw_status status = THAW_OK;
    *history =
        (struct th_run_history){.test_top1 = (double)NAN, .test_loss = (double)NAN};
    FILE *file = fopen(f->metrics, "r");
    if (!file)
        return errno == ENOENT
                   ? THAW_OK
                   : th_fail_errno(THAW_E_IO, "%s: cannot be read", f->metrics);
    while (status == THAW_OK && fgets(line, sizeof line, file))
        status = add_line(history, line, &every, &seen);
    fclose(file);
    return status;
}

void th_run_history_release(struct th_run_history *h)
{
    for (int i = 0; i < h->epochs.n; i++)
        th_free(h->epochs.thawed[i]);
    th_free(h->epochs.thawed);
    double *const columns[] = {h->steps.step, h->steps.epoch, h->steps.loss,
        h->steps.lr, h->epochs.epoch, h->epochs.train_loss, h->epochs.val_loss,
        h->epochs.val_top1, h->epochs.images_per_s, h->epochs.seconds};
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
        th_free(columns[i]);
    *h = (struct th_run_history){0};
}
