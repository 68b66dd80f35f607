/* SPDX-License-Identifier: Apache-2.0
 * Owns thaw_model_share: the head of one model on the backbone of another that is the same,
 * bit for bit. One graph has both heads, so that the plan has the backbone's steps once. */
#include "mem.h"
#include "model_open.h"

#include <string.h>

static bool same_input(const struct th_input *a, const struct th_input *b)
{
    const struct th_sizes x = th_input_sizes(a), y = th_input_sizes(b);
    bool same = x.n == y.n && memcmp(x.at, y.at, (size_t)x.n * sizeof *x.at) == 0 &&
                !a->bicubic == !b->bicubic &&
                memcmp(&a->crop, &b->crop, sizeof a->crop) == 0;
    return same && memcmp(a->mean, b->mean, sizeof a->mean) == 0 &&
           memcmp(a->std, b->std, sizeof a->std) == 0;
}

/* *same: both stores have the same bits there. */
static thaw_status compare(const struct th_store *a, const struct th_store *b,
    const struct th_param *p, bool *same)
{
    size_t n = (size_t)th_shape_count(&p->shape);
    float *x = th_alloc(n, sizeof *x), *y = th_alloc(n, sizeof *y);
    thaw_status status = x && y ? THAW_OK : THAW_E_MEMORY;
    if (status == THAW_OK)
        status = th_store_get(a, th_store_find(a, p->name), x);
    if (status == THAW_OK)
        status = th_store_get(b, th_store_find(b, p->name), y);
    *same = status == THAW_OK && memcmp(x, y, n * sizeof *x) == 0;
    th_free(x);
    th_free(y);
    return status;
}

static thaw_status refuse(
    const struct thaw_model *m, const struct thaw_model *other, const char *what)
{
    return th_fail(THAW_E_DATA,
        "%s: %s is not as in %s: its head needs its own backbone", other->path, what,
        m->path);
}

/* All but the heads, which may differ in everything but in which tokens they read: the last
 * block of a ViT computes others for each, in other steps. */
static thaw_status check(const struct thaw_model *m, const struct thaw_model *other)
{
    const struct th_model *a = &m->net.model, *b = &other->net.model;
    if (m->n_adapters || other->n_adapters || a->lora.rank || b->lora.rank)
        return th_fail(THAW_E_USAGE, "--adapter: adapters are switched on one model, "
                                     "of which several models have "
                                     "none: name one, or merge them (thaw merge)");
    if (a->variant != b->variant)
        return refuse(m, other, b->variant->name);
    if (!same_input(&a->input, &b->input))
        return refuse(m, other, "the input (size, crop, mean, std)");
    if (!a->head->detector != !b->head->detector)
        return refuse(m, other, "how images are shown (a detector sees the whole)");
    if (a->reads_patches != b->reads_patches)
        return refuse(m, other, "what the head reads of the last block");
    for (int i = 0; i < b->n_params; i++) {
        bool same = false;
        if (th_network_in_head(&other->net, i))
            continue;
        TRY(compare(&m->net.store, &other->net.store, &b->params[i], &same));
        if (!same)
            return refuse(m, other, b->params[i].name);
    }
    return THAW_OK;
}

/* The head's parameters into m's store, under the scope's names. */
static thaw_status copy_head(struct thaw_model *m, const struct thaw_model *other)
{
    const struct th_model *b = &other->net.model;
    struct th_scope scope = th_model_scope(m->n_others);
    for (int i = 0; i < b->n_params; i++) {
        int id = -1;
        const struct th_param *p = &b->params[i];
        if (!th_network_in_head(&other->net, i))
            continue;
        char *name = th_format("%s%s", scope.text, p->name);
        float *x = th_alloc((size_t)th_shape_count(&p->shape), sizeof *x);
        thaw_status status = name && x ? THAW_OK : THAW_E_MEMORY;
        if (status == THAW_OK)
            status = th_store_add(&m->net.store, name, p->shape, &id);
        if (status == THAW_OK)
            status = th_store_get(
                &other->net.store, th_store_find(&other->net.store, p->name), x);
        if (status == THAW_OK)
            status = th_store_put(&m->net.store, id, x);
        th_free(name);
        th_free(x);
        TRY(status);
    }
    return THAW_OK;
}

thaw_status thaw_model_share(thaw_model *m, thaw_model *other)
{
    size_t n = (size_t)m->n_others;
    TRY(check(m, other));
    thaw_model **others = th_realloc(m->others, n, n + 1, sizeof *others);
    if (!others)
        return THAW_E_MEMORY;
    m->others = others;
    const struct th_model **models =
        th_realloc(m->net.model.others, n, n + 1, sizeof(void *));
    if (!models)
        return THAW_E_MEMORY;
    m->net.model.others = models;
    TRY(copy_head(m, other));
    th_evaluators_release(&m->evaluators); /* its plan has a head less */
    m->others[n] = other;
    models[n] = &other->net.model;
    m->n_others = m->net.model.n_others = (int)n + 1;
    return THAW_OK;
}
