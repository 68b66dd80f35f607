/* SPDX-License-Identifier: Apache-2.0
 * Owns opened models: from a file to a network that classifies. */
#include "model_open.h"

#include "mem.h"
#include "model_file.h"
#include "options.h"
#include "pretrained.h"
#include "recipe.h"

static thaw_status make_network(
    struct thaw_model *m, const struct th_weights *w, const thaw_options *o)
{
    const struct th_device_name device = th_option_device(o);
    struct th_network_spec spec = {.device = device.text,
        .threads = th_option_threads(o, "threads"),
        .conv_table = th_option_text(o, "conv-table")};
    const struct th_load_spec load = {.where = m->path, .head = true};
    bool assumed = false;
    char **names = NULL;
    TRY(th_pretrained_identify(w, o, &spec, &assumed));
    TRY(th_pretrained_classes(w, &spec, &names, &spec.n_classes, &m->named));
    spec.classes = (const char *const *)names;
    thaw_status status = th_network_init(&m->net, &spec);
    th_free(names);
    TRY(status);
    th_model_file_origin(w, &m->net.model);
    return th_pretrained_load(w, &m->net, &load, NULL, 0);
}

static thaw_status open_model(
    struct thaw_model *m, const char *path, const thaw_options *o)
{
    struct th_weights w;
    TRY(th_pretrained_model_path(path, &m->path));
    th_weights_init(&w);
    thaw_status status = th_weights_read(m->path, &w);
    if (status == THAW_OK)
        status = make_network(m, &w, o);
    if (status == THAW_OK && w.notes && !(m->notes = th_strdup(w.notes)))
        status = THAW_E_MEMORY;
    th_weights_release(&w);
    m->batch = (int)th_option_int(o, "batch");
    m->workers = th_option_threads(o, "workers");
    return status;
}

thaw_status thaw_model_open(const char *path, const thaw_options *o, thaw_model **out)
{
    *out = th_alloc(1, sizeof **out);
    if (!*out)
        return THAW_E_MEMORY;
    thaw_status status = open_model(*out, path, o);
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
    th_evaluator_release(&m->evaluator);
    th_network_release(&m->net);
    th_free(m->path);
    th_free(m->notes);
    th_free(m);
}

int thaw_model_n_classes(const thaw_model *m)
{
    return m->net.model.n_classes;
}

const char *thaw_model_class(const thaw_model *m, int i)
{
    return i >= 0 && i < m->net.model.n_classes ? m->net.model.classes[i] : NULL;
}

thaw_status th_model_evaluator(struct thaw_model *m, int batch)
{
    if (m->evaluator.batch == batch)
        return THAW_OK;
    th_evaluator_release(&m->evaluator);
    thaw_status status =
        th_evaluator_init(&m->evaluator, &m->net, &m->net.store, batch);
    if (status != THAW_OK)
        th_evaluator_release(&m->evaluator);
    return status;
}
