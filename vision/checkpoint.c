/* SPDX-License-Identifier: Apache-2.0
 * Owns the files in RUN/checkpoints: their content, their names, how many stay. */
#include "checkpoint.h"

#include "adapter.h"
#include "file.h"
#include "mem.h"
#include "model_file.h"
#include "report.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TH_KEPT = 2 };

/* After the image: a mark, then the hash of the image. */
static const char mark[8] = {'T', 'H', 'A', 'W', 'S', 'U', 'M', '1'};
enum { TH_TRAILER = 16 };

#define TH_CHECKPOINT_LIMIT ((size_t)1 << 40)

/* ---- Content ---- */

static thaw_status set_position(struct th_weights *w, const struct th_checkpoint *c)
{
    const struct th_position *p = &c->at;
    const int64_t ints[] = {p->epoch, p->step, p->global, p->phase, p->images,
        p->skipped, p->in_a_row, p->epoch_skipped, p->best_epoch, c->data_hash,
        c->log_bytes};
    const double reals[] = {p->loss_sum, p->last_loss, p->best_score};
    TRY(th_weights_set_ints(w, "position", ints, sizeof ints / sizeof ints[0]));
    return th_weights_set_floats(w, "sums", reals, sizeof reals / sizeof reals[0]);
}

/* A hash says that a file is as it was written, not that Thaw wrote it. Phase and best
 * epoch are -1 where there is none. */
static bool is_position(const int64_t *ints)
{
    enum { PHASE = 3, BEST_EPOCH = 8, N = 9 };
    bool fits = true;
    for (int i = 0; i < N; i++) {
        int64_t least = i == PHASE || i == BEST_EPOCH ? -1 : 0;
        fits = fits && ints[i] >= least && ints[i] < (int64_t)1 << 53;
    }
    return fits;
}

static thaw_status get_position(const struct th_weights *w, struct th_checkpoint *c)
{
    size_t n_ints = 0, n_reals = 0;
    const int64_t *i = th_weights_ints(w, "position", &n_ints);
    const double *r = th_weights_floats(w, "sums", &n_reals);
    if (!i || !r || n_ints != 11 || n_reals != 3 || !is_position(i))
        return th_fail(THAW_E_DATA, "no position of a run is in it");
    c->at = (struct th_position){.epoch = i[0],
        .step = i[1],
        .global = i[2],
        .phase = i[3],
        .images = i[4],
        .skipped = i[5],
        .in_a_row = i[6],
        .epoch_skipped = i[7],
        .best_epoch = i[8],
        .loss_sum = r[0],
        .last_loss = r[1],
        .best_score = r[2]};
    c->data_hash = i[9];
    c->log_bytes = i[10];
    return THAW_OK;
}

/* A row may be empty; the scalars, and what a group of batches gathers and holds, are
 * written anew before they are read. */
static bool is_saved(const struct th_state *s)
{
    return s->name && strcmp(s->name, "scalars") != 0 &&
           strncmp(s->name, "total/", 6) != 0 && strncmp(s->name, "kept/", 5) != 0;
}

static thaw_status fill(struct th_weights *w, const struct th_model *m,
    const struct th_store *s, const struct th_checkpoint *c)
{
    TRY(th_model_file_describe(m, w));
    TRY(th_adapter_put_base(m, w));
    TRY(set_position(w, c));
    TRY(th_weights_set_string(w, "config", c->config));
    TRY(th_weights_set_string(w, "certificate", c->certificate));
    for (int i = 0; i < s->n; i++)
        if (is_saved(&s->states[i]))
            TRY(th_model_file_add(w, s, i, NULL));
    return THAW_OK;
}

/* The file's bytes: image, mark, hash. */
static thaw_status encode(const struct th_weights *w, unsigned char **bytes, size_t *n)
{
    _Static_assert((int)TH_TRAILER <= (int)TH_IMAGE_ROOM, "it follows in place");
    TRY(th_weights_to_image(w, bytes, n));
    uint64_t hash = th_hash(*bytes, *n, 0);
    memcpy(*bytes + *n, mark, sizeof mark);
    memcpy(*bytes + *n + sizeof mark, &hash, sizeof hash);
    *n += TH_TRAILER;
    return THAW_OK;
}

static thaw_status decode(const unsigned char *bytes, size_t n, const char *where,
    struct th_checkpoint *c, struct th_weights *w)
{
    uint64_t hash = 0;
    if (n <= TH_TRAILER || memcmp(bytes + n - TH_TRAILER, mark, sizeof mark))
        return th_fail(THAW_E_DATA, "%s: cut short", where);
    memcpy(&hash, bytes + n - sizeof hash, sizeof hash);
    n -= TH_TRAILER;
    if (hash != th_hash(bytes, n, 0))
        return th_fail(
            THAW_E_DATA, "%s: its bytes changed since it was written", where);
    thaw_status status = th_weights_read_image(bytes, n, where, w);
    if (status == THAW_E_DATA) /* a bound of this process, or of its sandbox */
        return th_fail(THAW_E_FAIL, "%s (its bytes are as they were written: it stays)",
            thaw_error());
    TRY(status);
    TRY(get_position(w, c));
    const char *config = th_weights_string(w, "config");
    const char *certificate = th_weights_string(w, "certificate");
    if (!config || !certificate)
        return th_fail(THAW_E_DATA, "%s: config or certificate is not in it", where);
    c->config = th_strdup(config);
    c->certificate = th_strdup(certificate);
    return c->config && c->certificate ? THAW_OK : THAW_E_MEMORY;
}

void th_checkpoint_release(struct th_checkpoint *c)
{
    th_free(c->config);
    th_free(c->certificate);
    *c = (struct th_checkpoint){0};
}

/* ---- Files ---- */

static char *file_path(const struct th_run_folder *f, int64_t step)
{
    return th_format("%s/checkpoints/step-%08" PRId64 ".h5", f->path, step);
}

/* Largest step below `below` that has a file; -1: none. */
static int64_t newest_below(const struct th_run_folder *f, int64_t below)
{
    int64_t best = -1;
    char *path = th_run_folder_path(f, "checkpoints");
    DIR *folder = path ? opendir(path) : NULL;
    th_free(path);
    if (!folder)
        return -1;
    for (struct dirent *e = readdir(folder); e; e = readdir(folder)) {
        int64_t step = 0;
        int end = 0;
        if (sscanf(e->d_name, "step-%" SCNd64 ".h5%n", &step, &end) == 1 && end &&
            !e->d_name[end] && step < below && step > best)
            best = step;
    }
    closedir(folder);
    return best;
}

char *th_checkpoint_before(const struct th_run_folder *f, int64_t step)
{
    int64_t found = newest_below(f, step);
    return found < 0 ? NULL : file_path(f, found);
}

/* Everything but the newest TH_KEPT goes; called after the newest is durable. */
static void remove_old(const struct th_run_folder *f)
{
    int64_t step = newest_below(f, INT64_MAX);
    for (int i = 0; step >= 0; i++, step = newest_below(f, step)) {
        char *path = i < TH_KEPT ? NULL : file_path(f, step);
        if (path)
            unlink(path);
        th_free(path);
    }
}

thaw_status th_checkpoint_write(const struct th_run_folder *f, const struct th_model *m,
    const struct th_store *s, const struct th_checkpoint *c)
{
    struct th_weights w;
    unsigned char *bytes = NULL;
    size_t n = 0;
    char *path = file_path(f, c->at.global);
    th_weights_init(&w);
    thaw_status status = path ? fill(&w, m, s, c) : THAW_E_MEMORY;
    if (status == THAW_OK)
        status = encode(&w, &bytes, &n);
    th_weights_release(&w);
    if (status == THAW_OK)
        status = th_file_write_atomic(path, bytes, n, NULL);
    th_free(bytes);
    th_free(path);
    if (status == THAW_OK)
        remove_old(f);
    return status;
}

static thaw_status read_one(
    const char *path, struct th_checkpoint *c, struct th_weights *w)
{
    unsigned char *bytes = NULL;
    size_t n = 0;
    thaw_status status = th_file_read(path, TH_CHECKPOINT_LIMIT, &bytes, &n);
    if (status == THAW_OK)
        status = decode(bytes, n, path, c, w);
    th_free(bytes);
    if (status != THAW_OK) {
        th_checkpoint_release(c);
        th_weights_release(w);
        th_weights_init(w);
    }
    return status;
}

/* Out of the way of later ones, but still there to be looked at. */
static void set_aside(const char *path, const thaw_events *events)
{
    char *aside = th_format("%s.damaged", path);
    th_say(events, "warning", "checkpoint is damaged, taking the one before: %s",
        thaw_error());
    if (aside)
        rename(path, aside);
    th_free(aside);
}

thaw_status th_checkpoint_read(const struct th_run_folder *f, const thaw_events *events,
    struct th_checkpoint *c, struct th_weights *w, bool *found)
{
    *found = false;
    *c = (struct th_checkpoint){0};
    for (int64_t step = newest_below(f, INT64_MAX); step >= 0;
         step = newest_below(f, step)) {
        char *path = file_path(f, step);
        if (!path)
            return THAW_E_MEMORY;
        thaw_status status = read_one(path, c, w);
        if (status == THAW_E_DATA)
            set_aside(path, events);
        th_free(path);
        *found = status == THAW_OK;
        if (status != THAW_E_DATA)
            return status;
    }
    return THAW_OK;
}
