/* SPDX-License-Identifier: Apache-2.0
 * Owns the hashes that prove frozen tensors unchanged. */
#include "certificate.h"

#include "mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* As text: start and phase hash of each tensor, 16 hexadecimal digits each. */
enum { TH_HASH_DIGITS = 16 };

static thaw_status hash_param(
    const struct th_model *m, const struct th_store *s, int i, uint64_t *hash)
{
    int id = th_store_find(s, m->params[i].name);
    if (id < 0)
        return th_fail(THAW_E_FAIL, "%s: not in the store", m->params[i].name);
    return th_store_hash(s, id, hash);
}

thaw_status th_certificate_init(
    struct th_certificate *c, const struct th_model *m, const struct th_store *s)
{
    size_t n = (size_t)m->n_params;
    *c = (struct th_certificate){
        .n = m->n_params,
        .throughout = th_alloc(n, sizeof(bool)),
        .frozen = th_alloc(n, sizeof(bool)),
        .start = th_alloc(n, sizeof(uint64_t)),
        .phase = th_alloc(n, sizeof(uint64_t)),
    };
    if (!c->throughout || !c->frozen || !c->start || !c->phase)
        return THAW_E_MEMORY;
    for (int i = 0; i < c->n; i++) {
        c->throughout[i] = true;
        TRY(hash_param(m, s, i, &c->start[i]));
        c->phase[i] = c->start[i];
    }
    return THAW_OK;
}

void th_certificate_release(struct th_certificate *c)
{
    th_free(c->throughout);
    th_free(c->frozen);
    th_free(c->start);
    th_free(c->phase);
    *c = (struct th_certificate){0};
}

void th_certificate_restrict(
    struct th_certificate *c, const struct th_model *m, const struct th_freeze *f)
{
    for (int i = 0; i < c->n; i++)
        c->throughout[i] = c->throughout[i] && th_freeze_is_frozen(f, m, i);
}

/* Frozen tensors become read-only, the others writable. */
static thaw_status guard(struct th_certificate *c, const struct th_model *m,
    struct th_store *s, const struct th_freeze *f)
{
    for (int i = 0; i < c->n; i++) {
        c->frozen[i] = th_freeze_is_frozen(f, m, i);
        TRY(th_store_protect(s, th_store_find(s, m->params[i].name), c->frozen[i]));
    }
    return THAW_OK;
}

thaw_status th_certificate_begin(struct th_certificate *c, const struct th_model *m,
    struct th_store *s, const struct th_freeze *f)
{
    for (int i = 0; i < c->n; i++)
        TRY(hash_param(m, s, i, &c->phase[i]));
    return guard(c, m, s, f);
}

static thaw_status verify(const struct th_certificate *c, const struct th_model *m,
    const struct th_store *s, const bool *which, const uint64_t *hashes,
    const char *since)
{
    for (int i = 0; i < c->n; i++) {
        uint64_t now = 0;
        if (!which[i])
            continue;
        TRY(hash_param(m, s, i, &now));
        if (now != hashes[i])
            return th_fail(THAW_E_FAIL,
                "%s: frozen, but it changed since the %s began; the run's results "
                "are not what was asked for",
                m->params[i].name, since);
    }
    return THAW_OK;
}

thaw_status th_certificate_verify(
    const struct th_certificate *c, const struct th_model *m, const struct th_store *s)
{
    return verify(c, m, s, c->frozen, c->phase, "phase");
}

thaw_status th_certificate_continue(struct th_certificate *c, const struct th_model *m,
    struct th_store *s, const struct th_freeze *f)
{
    TRY(guard(c, m, s, f));
    return th_certificate_verify(c, m, s);
}

thaw_status th_certificate_verify_run(const struct th_certificate *c,
    const struct th_model *m, const struct th_store *s, int *n)
{
    *n = 0;
    for (int i = 0; i < c->n; i++)
        *n += c->throughout[i];
    return verify(c, m, s, c->throughout, c->start, "run");
}

char *th_certificate_text(const struct th_certificate *c)
{
    char *text = th_alloc((size_t)c->n * 2 * TH_HASH_DIGITS + 1, 1), *at = text;
    for (int i = 0; text && i < c->n; i++)
        at += sprintf(at, "%016" PRIx64 "%016" PRIx64, c->start[i], c->phase[i]);
    return text;
}

thaw_status th_certificate_read(struct th_certificate *c, const char *text)
{
    size_t digits = strlen(text);
    if (digits != (size_t)c->n * 2 * TH_HASH_DIGITS ||
        strspn(text, "0123456789abcdef") != digits)
        return th_fail(
            THAW_E_DATA, "the hashes of the frozen tensors are not readable");
    for (int i = 0; i < c->n; i++, text += 2 * TH_HASH_DIGITS)
        if (sscanf(text, "%16" SCNx64 "%16" SCNx64, &c->start[i], &c->phase[i]) != 2)
            return th_fail(THAW_E_DATA, "hash %d of the frozen tensors is not one", i);
    return THAW_OK;
}
