/* SPDX-License-Identifier: Apache-2.0
 * Asks the real cuDNN for a plan of every distinct graph that training builds, for a device
 * that is described in JSON and not there, and compares the answers with the table that is
 * checked in.
 *
 *   plancheck FOLDER DEVICE NUMERICS [--full | --write | --all]
 *
 * FOLDER holds DEVICE.json and support/DEVICE-NUMERICS.txt. Of each kind of graph (label) the
 * first shape that training meets is in the table. --write: the table anew. --all: every
 * shape has to go the way of its kind. --full and --all only where THAW_TEST_FULL is set.
 * Exit 77: not now, or another cuDNN than the table's. */
#include "calls.h"
#include "file.h"
#include "mem.h"
#include "prepare.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 32, PINNED = 919, SKIPPED = 77 }; /* cuDNN 9.19 */

/* What training builds: each freeze state and BatchNorm mode of two families. */
static const struct plan_case cases[] = {
    {"resnet50", "all", "train", TH_TRAIN},
    {"resnet50", "all", "frozen", TH_TRAIN},
    {"resnet50", "all", "affine", TH_TRAIN},
    {"resnet50", "all", "stats", TH_TRAIN},
    {"resnet50", "all", "stats-running", TH_TRAIN},
    {"resnet50", "stage4,head", "auto", TH_TRAIN},
    {"resnet50", "stage4,head", "frozen", TH_TRAIN},
    {"resnet50", "head", "auto", TH_TRAIN},
    {"resnet50", "bn", "auto", TH_TRAIN},
    {"resnet50", "none", "train", TH_CALIBRATE},
    {"resnet50", "none", "frozen", TH_EVAL},
    {"resnet18", "all", "train", TH_TRAIN},
    {"resnet18", "all", "frozen", TH_TRAIN},
    {"resnet18", "all", "affine", TH_TRAIN},
    {"resnet18", "stage4,head", "auto", TH_TRAIN},
    {"vit_base_patch16_224", "all", "auto", TH_TRAIN},
    {"vit_base_patch16_224", "block11,norm,head", "auto", TH_TRAIN},
    {"vit_base_patch16_224", "head", "auto", TH_TRAIN},
    {"vit_base_patch16_224", "none", "auto", TH_EVAL},
    {"vit_small_patch16_224", "all", "auto", TH_TRAIN},
    {"vit_small_patch16_224", "block11,norm,head", "auto", TH_TRAIN},
};

struct numerics {
    const char *name;
    cudnnDataType_t type;
    struct th_cudnn_policy policy;
};
static const struct numerics all_numerics[] = {
    {"fp32", CUDNN_DATA_FLOAT, {.strict = true, .deterministic = true}},
    {"tf32", CUDNN_DATA_FLOAT, {.deterministic = true}},
    {"bf16", CUDNN_DATA_BFLOAT16, {.deterministic = true}},
    {"fp16", CUDNN_DATA_HALF, {.deterministic = true}},
};

struct check {
    const struct numerics *numerics;
    struct th_cudnn_target target;
    struct th_plan_cache cache; /* keeps nothing: what is asked is the library */
    struct distinct_list list;
    char *table; /* as it comes out now */
    size_t used, cap;
    int n_none; /* kinds without any graph */
};

static thaw_status append(struct check *c, const char *text)
{
    size_t n = strlen(text);
    if (c->used + n + 1 > c->cap) {
        size_t grown = 2 * c->cap + n + 4096;
        char *p = th_realloc(c->table, c->cap, grown, 1);
        if (!p)
            return THAW_E_MEMORY;
        c->table = p;
        c->cap = grown;
    }
    memcpy(c->table + c->used, text, n + 1);
    c->used += n;
    return THAW_OK;
}

static thaw_status append_engine(struct check *c, const struct th_cudnn_engine *e)
{
    static const struct {
        bool numerical;
        int bit;
        const char *word;
    } words[] = {
        {true, CUDNN_NUMERICAL_NOTE_TENSOR_CORE, ", tensor cores"},
        {true, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS, ", inputs converted down"},
        {true, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION,
            ", sums of less precision"},
        {true, CUDNN_NUMERICAL_NOTE_FFT, ", FFT"},
        {true, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC, ", nondeterministic"},
        {true, CUDNN_NUMERICAL_NOTE_WINOGRAD, ", Winograd"},
        {false, CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION, ", compiled at run time"},
        {false, CUDNN_BEHAVIOR_NOTE_SUPPORTS_CUDA_GRAPH_NATIVE_API, ", CUDA graph"},
    };
    char text[96];
    snprintf(text, sizeof text, "  engine %lld, workspace %lld", (long long)e->index,
        (long long)e->workspace);
    TRY(append(c, text));
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if ((words[i].numerical ? e->numerical : e->behaviour) >> words[i].bit & 1)
            TRY(append(c, words[i].word));
    return append(c, "\n");
}

static const char *const ways[] = {"one graph", "two parts", "apart", "NO GRAPH"};

static thaw_status write_row(
    struct check *c, const struct distinct *d, const struct th_cuda_prepared *p)
{
    char text[768];
    snprintf(text, sizeof text, "%s: %s\n", d->label, ways[p->way]);
    TRY(append(c, text));
    for (int i = 0; i < p->n; i++)
        TRY(append_engine(c, th_cudnn_plan_engine(p->plans[i])));
    snprintf(text, sizeof text, "  because %s\n", p->reason);
    c->n_none += p->way == TH_CUDA_NO_GRAPH;
    return p->reason[0] ? append(c, text) : THAW_OK;
}

static thaw_status prepare(
    struct check *c, const struct distinct *d, struct th_cuda_prepared *p)
{
    struct th_cuda_group g = distinct_group(d);
    return th_cuda_prepare(
        &g, c->numerics->type, &c->target, &c->numerics->policy, &c->cache, p);
}

/* The first of the label. */
static int kind_of(const struct distinct_list *l, int i)
{
    int k = 0;
    while (strcmp(l->all[k].label, l->all[i].label) != 0)
        k++;
    return k;
}

/* A row a kind; what goes apart puts its calls at the end of the list. */
static thaw_status make_table(struct check *c, const char *device)
{
    char head[256];
    snprintf(head, sizeof head,
        "# cuDNN %d.%d on %s in %s: %d distinct graphs of %d plans, the first of each "
        "kind\n",
        PINNED / 100, PINNED % 100, device, c->numerics->name, c->list.n,
        c->list.n_plans);
    TRY(append(c, head));
    for (int i = 0; i < c->list.n; i++) {
        struct th_cuda_prepared p;
        if (kind_of(&c->list, i) != i)
            continue;
        TRY(prepare(c, &c->list.all[i], &p));
        thaw_status status = write_row(c, &c->list.all[i], &p);
        th_cuda_prepared_release(&p);
        if (status == THAW_OK && p.way == TH_CUDA_APART)
            status = distinct_add_calls(&c->list, i);
        TRY(status);
    }
    return THAW_OK;
}

/* Every shape goes the way of the first of its kind; the table says which. */
static thaw_status check_shapes(struct check *c, int *n_bad)
{
    enum th_cuda_way *way = th_alloc((size_t)c->list.n, sizeof *way);
    if (!way)
        return THAW_E_MEMORY;
    thaw_status status = THAW_OK;
    for (int i = 0; status == THAW_OK && i < c->list.n; i++) {
        struct th_cuda_prepared p;
        int kind = kind_of(&c->list, i);
        status = prepare(c, &c->list.all[i], &p);
        if (status != THAW_OK)
            break;
        way[i] = p.way;
        if (p.way != way[kind]) {
            printf("%s: %s, where the first of its kind goes %s: %s\n%s",
                c->list.all[i].label, ways[p.way], ways[way[kind]], p.reason,
                c->list.all[i].text);
            ++*n_bad;
        }
        th_cuda_prepared_release(&p);
    }
    printf("%d distinct graphs, %d of them off their kind's way\n", c->list.n, *n_bad);
    th_free(way);
    return status;
}

/* ---- the table that is checked in ---- */

static size_t line_length(const char *s)
{
    size_t n = strcspn(s, "\n");
    return n + (s[n] == '\n');
}

/* Prints the first lines that differ. */
static int compare(const char *want, const char *have, const char *path)
{
    int shown = 0;
    for (int line = 1; *want || *have; line++) {
        size_t w = line_length(want), h = line_length(have);
        if ((w != h || memcmp(want, have, w) != 0) && shown++ < 20)
            printf("%s:%d\n- %.*s+ %.*s", path, line, (int)w, w ? want : "\n", (int)h,
                h ? have : "\n");
        want += w;
        have += h;
    }
    if (shown)
        printf(
            "%d lines differ from %s: if that is meant, cmake --build BUILD --target "
            "plancheck_tables\n",
            shown, path);
    return shown > 0;
}

static thaw_status conclude(
    const struct check *c, const char *path, bool write, int *bad)
{
    unsigned char *want = NULL;
    size_t n;
    if (write)
        return th_file_write_atomic(path, c->table, c->used, NULL);
    TRY(th_file_read(path, 1U << 20, &want, &n));
    *bad = compare((const char *)want, c->table, path);
    if (!*bad)
        printf("%s holds; %d kinds have no graph\n", path, c->n_none);
    th_free(want);
    return THAW_OK;
}

static thaw_status check(
    struct check *c, const char *folder, const char *device, const char *mode, int *bad)
{
    unsigned char *json = NULL;
    size_t n = 0;
    char *path = th_format("%s/%s.json", folder, device);
    char *table = th_format("%s/support/%s-%s.txt", folder, device, c->numerics->name);
    thaw_status status = path && table ? THAW_OK : THAW_E_MEMORY;
    if (status == THAW_OK)
        status = th_file_read(path, 1U << 16, &json, &n);
    if (status == THAW_OK)
        status = th_cudnn_described((const char *)json, n, &c->target);
    for (size_t i = 0; status == THAW_OK && i < sizeof cases / sizeof *cases; i++)
        status = distinct_collect(&c->list, &cases[i], BATCH);
    if (status == THAW_OK && strcmp(mode, "--all") == 0)
        status = check_shapes(c, bad);
    else if (status == THAW_OK) {
        status = make_table(c, device);
        if (status == THAW_OK)
            status = conclude(c, table, strcmp(mode, "--write") == 0, bad);
    }
    th_free(json);
    th_free(path);
    th_free(table);
    return status;
}

/* With the machine's own driver, or none, engines that are compiled would be refused. */
static bool has_stand_in(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    return driver && dlsym(driver, "thaw_stand_in");
}

int main(int argc, char **argv)
{
    struct check c = {0};
    int bad = 0;
    for (size_t i = 0; argc >= 4 && i < sizeof all_numerics / sizeof *all_numerics; i++)
        if (strcmp(argv[3], all_numerics[i].name) == 0)
            c.numerics = &all_numerics[i];
    if (!c.numerics) {
        puts("usage: plancheck FOLDER DEVICE fp32|tf32|bf16|fp16 [--full | --write | "
             "--all]");
        return 2;
    }
    const char *mode = argc > 4 ? argv[4] : "";
    bool full = strcmp(mode, "--full") == 0 || strcmp(mode, "--all") == 0;
    if (full && !getenv("THAW_TEST_FULL")) {
        puts("skipped: minutes of compiling; set THAW_TEST_FULL=1");
        return SKIPPED;
    }
    if (cudnnGetVersion() / 100 != PINNED) {
        printf("skipped: the tables are of cuDNN %d.%d, this is version %zu\n",
            PINNED / 100, PINNED % 100, cudnnGetVersion());
        return SKIPPED;
    }
    if (!has_stand_in()) {
        puts("the stand-in for libcuda.so.1 is not on LD_LIBRARY_PATH: run by ctest");
        return 1;
    }
    thaw_status status = check(&c, argv[1], argv[2], mode, &bad);
    if (status != THAW_OK)
        printf("%s\n", thaw_error());
    th_cudnn_forget(&c.target);
    distinct_release(&c.list);
    th_free(c.table);
    return status != THAW_OK || bad;
}
