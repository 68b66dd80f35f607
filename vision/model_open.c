/* SPDX-License-Identifier: Apache-2.0
 * Owns opened models: from a file to a network that classifies. */
#include "model_open.h"

#include "mem.h"
#include "model_file.h"
#include "options.h"
#include "pretrained.h"
#include "recipe.h"

#include <string.h>

/* A network of these weights, with an adapter (NULL: none) on them. */
static thaw_status make_network(const struct thaw_model *m, const struct th_weights *w,
    const struct th_adapter *a, const thaw_options *o, struct th_network *net,
    bool *named)
{
    const struct th_device_name device = th_option_device(o);
    struct th_network_spec spec = {.device = device.text,
        .threads = th_option_threads(o, "threads"),
        .conv_table = th_option_text(o, "conv-table"),
        .plan_cache = th_option_text(o, "plan-cache")};
    bool assumed = false;
    char **names = NULL;
    spec.lora = &m->lora;
    TRY(th_pretrained_identify(w, o, &spec, &assumed));
    if (a)
        TRY(th_adapter_describe(a, &spec));
    th_pretrained_input_options(o, &spec.input);
    bool new_head = a && th_adapter_has_head(a, &spec);
    const struct th_load_spec load = {.where = m->path, .head = !new_head};
    TRY(th_pretrained_classes(
        new_head ? &a->w : w, &spec, &names, &spec.n_classes, named));
    spec.classes = (const char *const *)names;
    thaw_status status = th_network_init(net, &spec);
    th_free(names);
    TRY(status);
    net->model.lora.by_word = th_freeze_says_lora(th_option_text(o, "thaw"));
    th_model_file_origin(a && !a->foreign ? &a->w : w, &net->model);
    TRY(th_pretrained_load(w, net, &load, NULL, 0));
    if (!a)
        return THAW_OK;
    TRY(th_adapter_note_base(net, m->path));
    return th_adapter_load(a, net, new_head);
}

/* ---- Adapters ---- */

static thaw_status copy_options(const thaw_options *o, thaw_options **out)
{
    size_t n = 0;
    const thaw_option *table = thaw_option_table(&n);
    TRY(thaw_options_new(out));
    for (size_t i = 0; i < n; i++)
        if (thaw_options_is_set(o, table[i].name) && strcmp(table[i].name, "config"))
            TRY(thaw_options_set(
                *out, table[i].name, thaw_options_get(o, table[i].name)));
    return THAW_OK;
}

/* The paths of --adapter, between commas. */
static thaw_status split_adapters(struct thaw_model *m, const char *list)
{
    char path[4096];
    size_t n = 1;
    for (const char *at = list; *at; at++)
        n += *at == ',';
    m->adapters = th_alloc(n, sizeof *m->adapters);
    if (!m->adapters)
        return THAW_E_MEMORY;
    while (th_next_word(&list, path, sizeof path)) {
        m->adapters[m->n_adapters] = th_strdup(path);
        if (!m->adapters[m->n_adapters++])
            return THAW_E_MEMORY;
    }
    return THAW_OK;
}

int thaw_model_n_adapters(const thaw_model *m)
{
    return m->n_adapters;
}

const char *thaw_model_adapter(const thaw_model *m, int i)
{
    return i >= 0 && i < m->n_adapters ? m->adapters[i] : NULL;
}

/* What is there stays until the new one is whole. */
thaw_status thaw_model_use(thaw_model *m, int i)
{
    struct th_network net = {0};
    struct th_adapter a = {.path = NULL};
    bool named = false;
    if (i < -1 || i >= m->n_adapters)
        return th_fail(
            THAW_E_USAGE, "adapter %d: the model was opened with %d", i, m->n_adapters);
    if (m->n_others)
        return th_fail(THAW_E_USAGE, "%s: other heads stand on its backbone", m->path);
    if (i == m->used)
        return THAW_OK;
    thaw_status status = i < 0 ? THAW_OK : th_adapter_read(&a, m->adapters[i]);
    if (status == THAW_OK)
        status = make_network(m, &m->base, i < 0 ? NULL : &a, m->options, &net, &named);
    th_adapter_release(&a);
    if (status != THAW_OK) {
        th_network_release(&net);
        return status;
    }
    th_evaluators_release(&m->evaluators);
    th_network_release(&m->net);
    m->net = net;
    m->named = named;
    m->used = i;
    return THAW_OK;
}

static thaw_status open_adapted(struct thaw_model *m, const thaw_options *o)
{
    m->used = -2; /* neither an adapter nor the base */
    TRY(copy_options(o, &m->options));
    TRY(split_adapters(m, th_option_text(o, "adapter")));
    return thaw_model_use(m, 0);
}

enum th_split th_option_split(const thaw_options *o)
{
    const char *name = th_option_text(o, "split");
    enum th_split split = TH_SPLIT_VAL;
    for (int i = 0; i < TH_N_SPLITS; i++)
        if (!strcmp(name, th_split_name((enum th_split)i)))
            split = (enum th_split)i;
    return split;
}

thaw_status th_split_choose(
    const struct th_dataset *d, enum th_split wanted, enum th_split *split)
{
    *split = wanted;
    if (d->split[wanted].n > 0)
        return THAW_OK;
    if (wanted != TH_SPLIT_VAL)
        return th_fail(THAW_E_DATA, "the data has no %s images", th_split_name(wanted));
    *split = TH_SPLIT_TRAIN;
    return THAW_OK;
}

static thaw_status open_model(
    struct thaw_model *m, const char *path, const thaw_options *o)
{
    TRY(th_pretrained_model_path(path, &m->path));
    if (th_option_text(o, "lora"))
        TRY(th_lora_parse(&m->lora, th_option_text(o, "lora")));
    m->batch = (int)th_option_int(o, "batch");
    m->workers = th_option_threads(o, "workers");
    m->threshold = th_option_real(o, "threshold");
    m->split = th_option_split(o);
    m->split_said = thaw_options_is_set(o, "split");
    thaw_status status = th_weights_read(m->path, &m->base);
    if (status == THAW_OK && m->base.notes && !(m->notes = th_strdup(m->base.notes)))
        status = THAW_E_MEMORY;
    if (status == THAW_OK && th_option_text(o, "adapter"))
        return open_adapted(m, o);
    if (status == THAW_OK)
        status = make_network(m, &m->base, NULL, o, &m->net, &m->named);
    th_weights_release(&m->base);
    th_weights_init(&m->base);
    return status;
}

static thaw_status check_threshold(const struct thaw_model *m, const thaw_options *o)
{
    if (m->net.model.head->many || !thaw_options_is_set(o, "threshold"))
        return THAW_OK;
    return th_fail(THAW_E_USAGE,
        "--threshold: the classes of %s exclude each other, the most probable one is "
        "the "
        "answer: leave it out",
        m->path);
}

thaw_status thaw_model_open(const char *path, const thaw_options *o, thaw_model **out)
{
    *out = th_alloc(1, sizeof **out);
    if (!*out)
        return THAW_E_MEMORY;
    th_weights_init(&(*out)->base);
    thaw_status status = open_model(*out, path, o);
    if (status == THAW_OK)
        status = check_threshold(*out, o);
    const struct th_head *head = status == THAW_OK ? (*out)->net.model.head : NULL;
    if (head && head->detector && !thaw_options_is_set(o, "threshold"))
        (*out)->threshold = (double)head->detector->score;
    if (status != THAW_OK) {
        thaw_model_free(*out);
        *out = NULL;
    }
    return status;
}

void thaw_model_free(thaw_model *m)
{
    if (!m)
        return;
    th_evaluators_release(&m->evaluators);
    th_network_release(&m->net);
    th_weights_release(&m->base);
    thaw_options_free(m->options);
    th_lora_release(&m->lora);
    for (int i = 0; i < m->n_adapters; i++)
        th_free(m->adapters[i]);
    th_free(m->adapters);
    th_free(m->others);
    th_free(m->path);
    th_free(m->notes);
    th_free(m);
}

const char *thaw_model_warning(const thaw_model *m)
{
    return m->net.device->warning[0] ? m->net.device->warning : NULL;
}

int thaw_model_n_classes(const thaw_model *m)
{
    return m->net.model.n_classes;
}

const char *thaw_model_class(const thaw_model *m, int i)
{
    return i >= 0 && i < m->net.model.n_classes ? m->net.model.classes[i] : NULL;
}

thaw_status th_model_evaluator(struct thaw_model *m, int bucket, int batch)
{
    struct th_evaluator *e = &m->evaluators.of[bucket];
    m->evaluators.n = th_input_sizes(&m->net.model.input).n;
    if (e->batch == batch)
        return THAW_OK;
    th_evaluator_release(e);
    thaw_status status = th_evaluator_init(e, &m->net, &m->net.store, bucket, batch);
    if (status != THAW_OK)
        th_evaluator_release(e);
    return status;
}

thaw_status th_model_evaluators(struct thaw_model *m, int batch)
{
    for (int k = 0; k < th_input_sizes(&m->net.model.input).n; k++)
        TRY(th_model_evaluator(m, k, batch));
    return THAW_OK;
}
