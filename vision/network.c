/* SPDX-License-Identifier: Apache-2.0
 * Owns a model's device and store for as long as the network lives. */
#include "network.h"

#include "mem.h"
#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static thaw_status add_params(const struct th_model *m, struct th_store *s)
{
    for (int i = 0; i < m->n_params; i++) {
        int id = -1;
        TRY(th_store_add(s, m->params[i].name, m->params[i].shape, &id));
    }
    return THAW_OK;
}

/* Where a device keeps its plans: XDG's folder for what may be deleted at any time. NULL where
 * there is none, as for a user without a home. */
static thaw_status find_plans(const char *asked, char **folder)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (!asked || !strcmp(asked, "off"))
        return THAW_OK;
    if (strcmp(asked, "auto") != 0)
        *folder = th_strdup(asked);
    else if (cache && *cache == '/') /* others are to be ignored, says the standard */
        *folder = th_format("%s/thaw/plans", cache);
    else if (home && *home == '/')
        *folder = th_format("%s/.cache/thaw/plans", home);
    else
        return THAW_OK;
    return *folder ? THAW_OK : THAW_E_MEMORY;
}

/* A detector's views can all be made. */
static thaw_status check_sizes(const struct th_network *n)
{
    struct th_model view;
    const struct th_sizes sizes = th_input_sizes(&n->model.input);
    if (sizes.n > 1 && !n->model.head->detector)
        return th_fail(THAW_E_USAGE,
            "--image-size %s: a classifier's inputs have one size: give one",
            th_sizes_text(&sizes).text);
    for (int i = 1; i < sizes.n; i++)
        TRY(th_network_view(n, i, &view));
    return THAW_OK;
}

thaw_status th_network_init(struct th_network *n, const struct th_network_spec *spec)
{
    *n = (struct th_network){0};
    TRY(th_conv_table_read(&n->conv_table, spec->conv_table));
    TRY(th_device_open(spec->device, spec->threads, &n->device));
    n->device->choices = n->conv_table.rows;
    n->device->n_choices = n->conv_table.n;
    TRY(find_plans(spec->plan_cache, &n->plans));
    n->device->plans = n->plans;
    th_store_init(&n->store, n->device);
    th_arena_init(&n->arena, n->device);
    TRY(th_model_init(&n->model, spec->backbone, spec->variant, spec->head,
        spec->head_width, &spec->input, spec->classes, spec->n_classes));
    if (spec->lora && spec->lora->rank)
        TRY(th_model_adapt(&n->model, spec->lora));
    TRY(check_sizes(n));
    return add_params(&n->model, &n->store);
}

void th_network_release(struct th_network *n)
{
    th_model_release(&n->model);
    if (n->device) {
        th_arena_release(&n->arena);
        th_store_release(&n->store);
    }
    th_device_close(n->device);
    th_conv_table_release(&n->conv_table);
    th_free(n->plans);
    *n = (struct th_network){0};
}

struct th_network_choices th_network_choices(const struct th_network *n)
{
    struct th_network_choices c;
    const char *isa = n->device->isa;
    snprintf(
        c.text, sizeof c.text, "%s%s%s", isa, *isa ? ", " : "", n->conv_table.hash);
    return c;
}

void th_network_warn(struct th_network *n, const thaw_events *events)
{
    if (n->device->warning[0])
        th_say(events, "warning", "%s", n->device->warning);
    n->device->warning[0] = '\0';
}

thaw_status th_network_mirror(struct th_network *n, struct th_store *s)
{
    th_store_init(s, n->device);
    return add_params(&n->model, s);
}

bool th_network_in_head(const struct th_network *n, int param)
{
    return n->model.params[param].stage == n->model.n_stages - 1;
}

thaw_status th_network_randomise(struct th_network *n, uint64_t seed, bool head_only)
{
    for (int i = 0; i < n->model.n_params; i++) {
        const struct th_param *p = &n->model.params[i];
        if (head_only && !th_network_in_head(n, i) && !th_param_is_lora(p))
            continue;
        float *value = th_alloc((size_t)th_shape_count(&p->shape), sizeof *value);
        if (!value)
            return THAW_E_MEMORY;
        th_param_random(p, seed, value);
        thaw_status status =
            th_store_put(&n->store, th_store_find(&n->store, p->name), value);
        th_free(value);
        TRY(status);
    }
    return THAW_OK;
}

thaw_status th_head_find(const char *name, const struct th_head **head)
{
    const char *names[64];
    size_t n = 0;
    for (; th_head_list[n] && n < 64; n++) {
        names[n] = th_head_list[n]->name;
        *head = th_head_list[n];
        if (!strcmp(names[n], name))
            return THAW_OK;
    }
    const char *near = thaw_nearest(name, names, n);
    return th_fail(THAW_E_USAGE, "no head is called '%s'%s%s%s", name,
        near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

thaw_status th_model_reader(const struct th_model *m, struct th_reader *r)
{
    return th_reader_init(
        r, m->head->detector, &m->pyramid, m->input.size, m->n_classes);
}

thaw_status th_network_view(
    const struct th_network *n, int bucket, struct th_model *view)
{
    const struct th_sizes sizes = th_input_sizes(&n->model.input);
    return th_model_view(&n->model, sizes.at[bucket], view);
}

struct th_preprocess th_network_preprocess(const struct th_network *n)
{
    const struct th_input *in = &n->model.input;
    struct th_preprocess p = {.size = in->size,
        .crop = (double)in->crop,
        .fit = n->model.head->detector != NULL,
        .filter = in->bicubic ? TH_BICUBIC : TH_BILINEAR};
    memcpy(p.mean, in->mean, sizeof p.mean);
    memcpy(p.std, in->std, sizeof p.std);
    return p;
}
