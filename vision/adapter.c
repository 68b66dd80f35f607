/* SPDX-License-Identifier: Apache-2.0
 * Owns adapter files: what is in them, and whether they belong to a base. */
#include "adapter.h"

#include "file.h"
#include "mem.h"
#include "model_file.h"
#include "pretrained.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { ADAPTER_FORMAT = 1 };

/* ---- Reading ---- */

static bool is_folder(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* A run folder's best adapter, a folder of PEFT's as it is, a file. */
static thaw_status find_path(struct th_adapter *a, const char *path)
{
    char *best = is_folder(path) ? th_format("%s/best.adapter.h5", path) : NULL;
    char *peft =
        is_folder(path) ? th_format("%s/adapter_model.safetensors", path) : NULL;
    bool has_best = best && th_file_exists(best),
         has_peft = peft && th_file_exists(peft);
    bool folder = best || peft;
    a->foreign = has_peft || (!folder && ends_with(path, ".safetensors"));
    a->path = has_best ? best : has_peft ? peft : th_strdup(path);
    if (!has_best)
        th_free(best);
    if (has_best || !has_peft)
        th_free(peft);
    if (!a->path)
        return THAW_E_MEMORY;
    if (folder && !has_best && !has_peft)
        return th_fail(THAW_E_USAGE,
            "--adapter %s: a folder with neither best.adapter.h5 nor "
            "adapter_model.safetensors: was that run trained with --lora?",
            path);
    return th_file_check(a->path);
}

static thaw_status read_own(struct th_adapter *a)
{
    size_t n = 0;
    TRY(th_weights_read(a->path, &a->w));
    const int64_t *format = th_weights_ints(&a->w, "thaw_adapter", &n);
    const char *lora = th_weights_string(&a->w, "lora");
    if (!format || n != 1 || !lora)
        return th_fail(THAW_E_DATA,
            "%s: not an adapter file (attributes thaw_adapter and lora are not there)",
            a->path);
    if (*format != ADAPTER_FORMAT)
        return th_fail(THAW_E_DATA, "%s: adapter format %lld, this version reads %d",
            a->path, (long long)*format, ADAPTER_FORMAT);
    if (th_lora_parse(&a->lora, lora) == THAW_OK && a->lora.targets)
        return THAW_OK;
    return th_fail(
        THAW_E_DATA, "%s: attribute lora '%.200s' is not one of Thaw's", a->path, lora);
}

thaw_status th_adapter_read(struct th_adapter *a, const char *path)
{
    *a = (struct th_adapter){.path = NULL};
    th_weights_init(&a->w);
    TRY(find_path(a, path));
    return a->foreign ? th_adapter_read_peft(a) : read_own(a);
}

void th_adapter_release(struct th_adapter *a)
{
    th_weights_release(&a->w);
    th_lora_release(&a->lora);
    th_free(a->path);
    *a = (struct th_adapter){.path = NULL};
    th_weights_init(&a->w);
}

/* ---- The network that it is for ---- */

bool th_adapter_has_head(const struct th_adapter *a, const struct th_network_spec *spec)
{
    const char *head = spec->backbone->head_name(spec->variant);
    size_t n = strlen(head);
    for (size_t i = 0; i < a->w.n; i++)
        if (!strncmp(a->w.weight[i].name, head, n) && a->w.weight[i].name[n] == '.')
            return true;
    return false;
}

thaw_status th_adapter_describe(
    const struct th_adapter *a, struct th_network_spec *spec)
{
    const char *backbone = th_weights_string(&a->w, "backbone");
    const char *head = th_weights_string(&a->w, "head");
    bool said = false;
    spec->lora = &a->lora;
    if (a->foreign)
        return THAW_OK;
    if (!backbone || strcmp(backbone, spec->variant->name) != 0)
        return th_fail(THAW_E_DATA, "%s: an adapter of %s, and the base is %s", a->path,
            backbone ? backbone : "an unknown network", spec->variant->name);
    if (head)
        TRY(th_head_find(head, &spec->head));
    if (head && spec->head->hidden)
        TRY(th_model_file_head_width(&a->w, &spec->head_width));
    return th_model_file_input(&a->w, &spec->input, &said);
}

/* ---- The base ---- */

/* Parameters without adapters: these stand at the end of the catalogue. */
static int n_base(const struct th_model *m)
{
    int n = 0;
    while (n < m->n_params && !th_param_is_lora(&m->params[n]))
        n++;
    return n;
}

static thaw_status base_hash(
    const struct th_model *m, const struct th_store *s, int i, int64_t *hash)
{
    uint64_t h = 0;
    if (m->params[i].stage != m->n_stages - 1)
        TRY(th_store_hash(s, th_store_find(s, m->params[i].name), &h));
    memcpy(hash, &h, sizeof h);
    return THAW_OK;
}

thaw_status th_adapter_note_base(struct th_network *net, const char *path)
{
    struct th_model *m = &net->model;
    int n = n_base(m);
    th_free(m->base_hash);
    th_free(m->base_path);
    m->base_path = th_strdup(path);
    m->base_hash = th_alloc((size_t)n, sizeof *m->base_hash);
    if (!m->base_hash)
        return THAW_E_MEMORY;
    m->n_base = n;
    for (int i = 0; i < n; i++)
        TRY(base_hash(m, &net->store, i, &m->base_hash[i]));
    return THAW_OK;
}

thaw_status th_adapter_put_base(const struct th_model *m, struct th_weights *w)
{
    if (!m->base_hash)
        return THAW_OK;
    if (m->base_path)
        TRY(th_weights_set_string(w, "base", m->base_path));
    return th_weights_set_ints(w, "base_hashes", m->base_hash, (size_t)m->n_base);
}

thaw_status th_adapter_get_base(const struct th_weights *w, struct th_model *m)
{
    size_t n = 0;
    const int64_t *hashes = th_weights_ints(w, "base_hashes", &n);
    const char *path = th_weights_string(w, "base");
    if (!m->lora.rank)
        return THAW_OK;
    if (!hashes || n != (size_t)n_base(m))
        return th_fail(THAW_E_DATA, "base_hashes: the base's hashes are not in it");
    m->base_hash = th_alloc(n, sizeof *m->base_hash);
    m->base_path = th_strdup(path);
    if (!m->base_hash)
        return THAW_E_MEMORY;
    m->n_base = (int)n;
    memcpy(m->base_hash, hashes, n * sizeof *hashes);
    return THAW_OK;
}

static thaw_status check_base(const struct th_adapter *a, const struct th_model *m)
{
    size_t n = 0;
    const int64_t *hashes = th_weights_ints(&a->w, "base_hashes", &n);
    const char *path = th_weights_string(&a->w, "base");
    if (a->foreign)
        return THAW_OK;
    if (!hashes || n != (size_t)m->n_base)
        return th_fail(THAW_E_DATA, "%s: made for a base of %zu tensors, this has %d",
            a->path, n, m->n_base);
    for (int i = 0; i < m->n_base; i++)
        if (hashes[i] != m->base_hash[i])
            return th_fail(THAW_E_DATA,
                "%s: belongs to another base: %s has other values there; give the "
                "weights that its training began with%s%s%s",
                a->path, m->params[i].name, path ? " (" : "", path ? path : "",
                path ? ")" : "");
    return THAW_OK;
}

/* ---- Into a network ---- */

/* Whether tensor t of the file is taken, and its parameter; THAW_E_DATA where it does not
 * fit. */
static thaw_status match(const struct th_adapter *a, const struct th_network *net,
    const struct th_weight *t, bool head, int *param)
{
    const struct th_model *m = &net->model;
    char have[96], want[96];
    int i = th_model_param(m, t->name);
    *param = -1;
    if (i < 0)
        return th_fail(THAW_E_DATA, "%s: %s is no tensor of %s with --lora %s", a->path,
            t->name, m->variant->name, m->lora.targets);
    if (th_network_in_head(net, i) && !head)
        return THAW_OK;
    if (!th_shape_equal(&t->tensor.shape, &m->params[i].shape))
        return th_fail(THAW_E_DATA, "%s: %s is %s, the model has %s", a->path, t->name,
            th_shape_text(&t->tensor.shape, have, sizeof have),
            th_shape_text(&m->params[i].shape, want, sizeof want));
    if (th_not_finite(t->tensor.data, th_shape_count(&t->tensor.shape)) >= 0)
        return th_fail(
            THAW_E_DATA, "%s: %s is not finite: the file is damaged", a->path, t->name);
    *param = i;
    return THAW_OK;
}

/* Every A and B, and all of the head where it is taken. */
static thaw_status check_complete(
    const struct th_adapter *a, const struct th_network *net, bool head)
{
    for (int i = 0; i < net->model.n_params; i++) {
        const struct th_param *p = &net->model.params[i];
        bool wanted = th_param_is_lora(p) || (head && th_network_in_head(net, i));
        if (wanted && !th_weights_find(&a->w, p->name))
            return th_fail(THAW_E_DATA, "%s: %s is not in it", a->path, p->name);
    }
    return THAW_OK;
}

thaw_status th_adapter_load(const struct th_adapter *a, struct th_network *n, bool head)
{
    TRY(check_base(a, &n->model));
    TRY(check_complete(a, n, head));
    for (int put = 0; put < 2; put++) /* all fit, then all are put */
        for (size_t t = 0; t < a->w.n; t++) {
            int i = -1;
            TRY(match(a, n, &a->w.weight[t], head, &i));
            if (put && i >= 0)
                TRY(th_store_put(&n->store,
                    th_store_find(&n->store, n->model.params[i].name),
                    a->w.weight[t].tensor.data));
        }
    return THAW_OK;
}

/* ---- Writing ---- */

/* Adapters, the head, and what is no longer the base's. */
static thaw_status is_of_adapter(
    const struct th_model *m, const struct th_store *s, int i, bool *is)
{
    int64_t hash = 0;
    *is = i >= m->n_base || m->params[i].stage == m->n_stages - 1;
    if (*is)
        return THAW_OK;
    TRY(base_hash(m, s, i, &hash));
    *is = hash != m->base_hash[i];
    return THAW_OK;
}

static thaw_status describe(const struct th_model *m, struct th_weights *w)
{
    const int64_t format = ADAPTER_FORMAT;
    char *lora = th_lora_text(&m->lora);
    thaw_status status = lora ? th_weights_set_string(w, "lora", lora) : THAW_E_MEMORY;
    th_free(lora);
    TRY(status);
    TRY(th_weights_set_ints(w, "thaw_adapter", &format, 1));
    TRY(th_adapter_put_base(m, w));
    return th_model_file_describe(m, w);
}

static thaw_status fill(
    struct th_weights *w, const struct th_model *m, const struct th_store *s)
{
    TRY(describe(m, w));
    for (int i = 0; i < m->n_params; i++) {
        bool is = false;
        TRY(is_of_adapter(m, s, i, &is));
        if (is)
            TRY(th_model_file_add(w, s, th_store_find(s, m->params[i].name), NULL));
    }
    return THAW_OK;
}

thaw_status th_adapter_image(const struct th_model *m, const struct th_store *s,
    unsigned char **bytes, size_t *n)
{
    struct th_weights w;
    if (!m->base_hash)
        return th_fail(THAW_E_FAIL, "the base of the adapters was not noted");
    th_weights_init(&w);
    thaw_status status = fill(&w, m, s);
    if (status == THAW_OK)
        status = th_weights_to_image(&w, bytes, n);
    th_weights_release(&w);
    return status;
}
