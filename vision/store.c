/* SPDX-License-Identifier: Apache-2.0
 * Owns the store: named tensors in pages of a device, their versions and protection. */
#include "store.h"

#include "host.h"
#include "mem.h"

#include <string.h>

void th_store_init(struct th_store *s, struct th_device *device)
{
    *s = (struct th_store){.device = device};
}

static void state_release(struct th_store *s, struct th_state *t)
{
    if (t->data)
        s->device->backend->free(s->device, t->data, t->bytes);
    th_free(t->name);
    *t = (struct th_state){0};
}

void th_store_release(struct th_store *s)
{
    for (int i = 0; i < s->n; i++)
        state_release(s, &s->states[i]);
    th_free(s->states);
    *s = (struct th_store){0};
}

int th_store_find(const struct th_store *s, const char *name)
{
    for (int i = 0; i < s->n; i++)
        if (s->states[i].name && strcmp(s->states[i].name, name) == 0)
            return i;
    return -1;
}

/* A free row: one that was dropped, or a new one. */
static thaw_status free_row(struct th_store *s, int *id)
{
    for (*id = 0; *id < s->n; ++*id)
        if (!s->states[*id].name)
            return THAW_OK;
    if (s->n == s->cap) {
        int grown = s->cap ? s->cap * 2 : 256;
        void *p =
            th_realloc(s->states, (size_t)s->cap, (size_t)grown, sizeof *s->states);
        if (!p)
            return THAW_E_MEMORY;
        s->states = p;
        s->cap = grown;
    }
    *id = s->n++;
    return THAW_OK;
}

thaw_status th_store_add(
    struct th_store *s, const char *name, struct th_shape shape, int *id)
{
    *id = th_store_find(s, name);
    if (*id >= 0 && !th_shape_equal(&s->states[*id].shape, &shape)) {
        char have[96], want[96];
        return th_fail(THAW_E_FAIL, "%s: kept as %s, wanted as %s", name,
            th_shape_text(&s->states[*id].shape, have, sizeof have),
            th_shape_text(&shape, want, sizeof want));
    }
    if (*id >= 0)
        return THAW_OK;
    TRY(free_row(s, id));
    struct th_state *t = &s->states[*id];
    *t = (struct th_state){.shape = shape,
        .bytes = th_dtype_bytes(TH_F32, th_shape_count(&shape)),
        .version = 1,
        .name = th_strdup(name)};
    t->data = s->device->backend->alloc(s->device, t->bytes);
    if (!t->name || !t->data) {
        state_release(s, t);
        return THAW_E_MEMORY;
    }
    return THAW_OK;
}

thaw_status th_store_put(struct th_store *s, int id, const float *host)
{
    struct th_state *t = &s->states[id];
    bool readonly = t->readonly;
    TRY(th_store_protect(s, id, false));
    TRY(s->device->backend->upload(s->device, t->data, host, t->bytes));
    t->version++;
    return th_store_protect(s, id, readonly);
}

thaw_status th_store_get(const struct th_store *s, int id, float *host)
{
    const struct th_state *t = &s->states[id];
    return s->device->backend->download(s->device, host, t->data, t->bytes);
}

const float *th_store_view(const struct th_store *s, int id)
{
    bool reads = s->device->backend->download == th_host_copy;
    return reads ? s->states[id].data : NULL;
}

thaw_status th_store_protect(struct th_store *s, int id, bool readonly)
{
    struct th_state *t = &s->states[id];
    if (t->readonly == readonly)
        return THAW_OK;
    if (s->device->backend->protect)
        TRY(s->device->backend->protect(s->device, t->data, t->bytes, readonly));
    t->readonly = readonly;
    return THAW_OK;
}

thaw_status th_store_hash(const struct th_store *s, int id, uint64_t *hash)
{
    const struct th_state *t = &s->states[id];
    float *host = th_alloc(t->bytes, 1);
    if (!host)
        return THAW_E_MEMORY;
    thaw_status status = th_store_get(s, id, host);
    *hash = th_hash(host, t->bytes, 0);
    th_free(host);
    return status;
}

void th_store_drop(struct th_store *s, int id)
{
    state_release(s, &s->states[id]);
}
