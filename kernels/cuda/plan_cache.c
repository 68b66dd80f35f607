/* SPDX-License-Identifier: Apache-2.0
 * Owns the form of an entry, and which entries stay. An entry is
 *
 *     thaw plan 1 HASH KEY_BYTES PLAN_BYTES
 *     the key, then the library's JSON
 *
 * HASH is of both: the library takes a plan with a damaged kernel in it without a word. It is
 * no seal: the folder has to be one's own. */
#include "plan_cache.h"

#include "file.h"
#include "mem.h"
#include "tensor.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_DIGITS = 32, ENTRY_BYTES = 16 << 20, FOLDER_BYTES = 256 << 20 };
#define SUFFIX ".plan"
#define HEAD "thaw plan 1 "

/* The first thing that went wrong; later ones are most often the same. */
static void warn(struct th_plan_cache *c, const char *path, const char *what)
{
    if (!c->told && c->room)
        snprintf(c->warning, c->room, "%s: %s", path, what);
    c->told = true;
}

void th_plan_cache_open(struct th_plan_cache *c, const char *folder,
    const struct th_cudnn_target *target, char *warning, size_t room)
{
    size_t n = 0;
    *c = (struct th_plan_cache){.most = FOLDER_BYTES, .warning = warning, .room = room};
    if (!folder)
        return;
    thaw_status status = th_cudnn_device_text(target, &c->device, &n);
    if (status == THAW_OK)
        status = th_file_mkdir(folder);
    if (status == THAW_OK && !(c->folder = th_strdup(folder)))
        status = THAW_E_MEMORY;
    if (status != THAW_OK)
        warn(c, "cuDNN's plans are not kept", thaw_error());
}

void th_plan_cache_close(struct th_plan_cache *c)
{
    th_free(c->folder);
    th_free(c->device);
    *c = (struct th_plan_cache){.folder = NULL};
}

/* ---- keys ---- */

/* A plan, and its entry (NULL: there is none). */
struct wanted {
    const struct th_cudnn_graph *graph;
    const struct th_cudnn_target *target;
    const struct th_cudnn_policy *policy;
    char *key, *path;
};

/* What a plan depends on; alignments are not in a graph's text. */
static char *key_of(const struct th_plan_cache *c, const struct wanted *w)
{
    const struct th_cudnn_graph *g = w->graph;
    char alignments[4 * TH_CUDNN_TENSORS + 1] = "";
    size_t used = 0;
    char *graph = th_cudnn_graph_text(g);
    for (int i = 0; i < g->n_tensors; i++)
        used += (size_t)snprintf(alignments + used, sizeof alignments - used, " %d",
            th_cudnn_alignment(&g->tensors[i]));
    char *key = graph ? th_format("cuDNN %zu\nstrict %d, deterministic %d\n%s"
                                  "aligned%s\n%s\n",
                            cudnnGetVersion(), w->policy->strict,
                            w->policy->deterministic, graph, alignments, c->device)
                      : NULL;
    th_free(graph);
    return key;
}

static char *path_of(const struct th_plan_cache *c, const char *key)
{
    size_t n = strlen(key);
    return th_format("%s/%016" PRIx64 "%016" PRIx64 SUFFIX, c->folder,
        th_hash(key, n, 1), th_hash(key, n, 2));
}

/* ---- reading ---- */

struct entry {
    const char *key, *plan;
    size_t key_bytes, plan_bytes;
};

/* NULL, or what is wrong with the n bytes, which have a zero behind them. */
static const char *parse(const char *text, size_t n, struct entry *e)
{
    uint64_t hash = 0;
    int used = 0;
    if (sscanf(text, HEAD "%16" SCNx64 " %9zu %9zu%n", &hash, &e->key_bytes,
            &e->plan_bytes, &used) != 3 ||
        text[used] != '\n')
        return "is not a plan of this thaw";
    size_t head = (size_t)used + 1;
    if (n - head != e->key_bytes + e->plan_bytes || e->plan_bytes == 0)
        return "is not whole";
    if (th_hash(text + head, n - head, 0) != hash)
        return "is damaged";
    e->key = text + head;
    e->plan = e->key + e->key_bytes;
    return NULL;
}

/* What is wrong, or NULL with the plan. */
static const char *use(
    const char *text, size_t n, const struct wanted *w, struct th_cudnn_plan **out)
{
    struct entry e;
    const char *wrong = parse(text, n, &e);
    if (wrong)
        return wrong;
    if (e.key_bytes != strlen(w->key) || memcmp(e.key, w->key, e.key_bytes) != 0)
        return "is of another graph or device";
    thaw_status status =
        th_cudnn_plan_read(w->graph, w->target, w->policy, e.plan, e.plan_bytes, out);
    return status == THAW_OK ? NULL : thaw_error();
}

static void look(
    struct th_plan_cache *c, const struct wanted *w, struct th_cudnn_plan **out)
{
    unsigned char *text = NULL;
    size_t n = 0;
    if (!th_file_exists(w->path))
        return;
    const char *wrong = th_file_read(w->path, ENTRY_BYTES, &text, &n) == THAW_OK
                            ? use((const char *)text, n, w, out)
                            : thaw_error();
    if (wrong) {
        char what[256];
        snprintf(what, sizeof what, "%.200s; the plan is made again", wrong);
        warn(c, w->path, what);
    }
    th_free(text);
}

/* ---- which entries stay ---- */

struct file {
    char *path;
    size_t bytes;
    struct timespec written;
};

struct files {
    struct file *all;
    int n, cap;
};

/* An entry of ours, or what a process that was killed left of one (.NAME.tmp.PID.K). */
static bool is_ours(const char *name)
{
    name += *name == '.';
    for (int i = 0; i < NAME_DIGITS; i++)
        if (!isxdigit((unsigned char)name[i]))
            return false;
    return strncmp(name + NAME_DIGITS, SUFFIX, strlen(SUFFIX)) == 0;
}

static void add_file(struct files *f, const char *folder, const char *name)
{
    struct stat s;
    char *path = th_format("%s/%s", folder, name);
    bool there = path && lstat(path, &s) == 0 && S_ISREG(s.st_mode);
    if (there && f->n == f->cap) {
        int cap = 2 * f->cap + 64;
        struct file *all =
            th_realloc(f->all, (size_t)f->cap, (size_t)cap, sizeof *f->all);
        there = all != NULL;
        f->all = all ? all : f->all;
        f->cap = all ? cap : f->cap;
    }
    if (there)
        f->all[f->n++] = (struct file){path, (size_t)s.st_size, s.st_mtim};
    else
        th_free(path);
}

static int older(const void *a, const void *b)
{
    const struct timespec *x = &((const struct file *)a)->written,
                          *y = &((const struct file *)b)->written;
    if (x->tv_sec != y->tv_sec)
        return x->tv_sec < y->tv_sec ? -1 : 1;
    return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

/* Counts; beyond the bound the oldest go, until it is half full. */
static void tidy(struct th_plan_cache *c)
{
    struct files f = {0};
    DIR *folder = opendir(c->folder);
    for (struct dirent *d = folder ? readdir(folder) : NULL; d; d = readdir(folder))
        if (is_ours(d->d_name))
            add_file(&f, c->folder, d->d_name);
    if (folder)
        closedir(folder);
    c->counted = true;
    c->bytes = 0;
    for (int i = 0; i < f.n; i++)
        c->bytes += f.all[i].bytes;
    bool full = c->bytes > c->most;
    if (full)
        qsort(f.all, (size_t)f.n, sizeof *f.all, older);
    for (int i = 0; i < f.n; i++) {
        if (full && c->bytes > c->most / 2 && unlink(f.all[i].path) == 0)
            c->bytes -= f.all[i].bytes;
        th_free(f.all[i].path);
    }
    th_free(f.all);
}

/* ---- writing ---- */

static thaw_status write_entry(const char *path, const char *key, const char *json,
    size_t json_bytes, size_t *bytes)
{
    char head[80];
    size_t key_bytes = strlen(key), body = key_bytes + json_bytes;
    char *text = th_alloc(sizeof head + body, 1);
    if (!text)
        return THAW_E_MEMORY;
    memcpy(text + sizeof head, key, key_bytes);
    memcpy(text + sizeof head + key_bytes, json, json_bytes);
    int n = snprintf(head, sizeof head, HEAD "%016" PRIx64 " %zu %zu\n",
        th_hash(text + sizeof head, body, 0), key_bytes, json_bytes);
    char *from = text + sizeof head - n;
    memcpy(from, head, (size_t)n);
    *bytes = (size_t)n + body;
    thaw_status status = *bytes > ENTRY_BYTES
                             ? THAW_OK /* too large to be read again */
                             : th_file_write_atomic(path, from, *bytes, NULL);
    th_free(text);
    return status;
}

/* A failure ends the keeping. */
static void keep(
    struct th_plan_cache *c, const struct wanted *w, const struct th_cudnn_plan *plan)
{
    char *json = NULL;
    size_t n = 0, bytes = 0;
    thaw_status status = th_cudnn_plan_text(plan, &json, &n);
    if (status == THAW_OK)
        status = write_entry(w->path, w->key, json, n, &bytes);
    th_free(json);
    if (status != THAW_OK) {
        warn(c, "cuDNN's plans are not kept", thaw_error());
        th_free(c->folder);
        c->folder = NULL;
        return;
    }
    c->bytes += bytes;
    if (!c->counted || c->bytes > c->most)
        tidy(c);
}

thaw_status th_plan_cache_get(struct th_plan_cache *c,
    const struct th_cudnn_graph *graph, const struct th_cudnn_target *target,
    const struct th_cudnn_policy *policy, struct th_cudnn_plan **out)
{
    struct th_cudnn_plan *plan = NULL;
    struct wanted w = {graph, target, policy, NULL, NULL};
    thaw_status status = THAW_OK;
    w.key = c->folder ? key_of(c, &w) : NULL;
    w.path = w.key ? path_of(c, w.key) : NULL;
    if (w.path)
        look(c, &w, &plan);
    c->n_read += plan != NULL;
    if (!plan) {
        status = th_cudnn_plan_new(graph, target, policy, &plan);
        c->n_made += plan != NULL;
        if (w.path && plan)
            keep(c, &w, plan);
    }
    *out = plan;
    th_free(w.key);
    th_free(w.path);
    return status;
}
