/* SPDX-License-Identifier: Apache-2.0
 * Owns plans as JSON: version, device, engine and graph, the latter attribute by attribute in
 * one string. As the library, it takes a plan of its own version and for the same device alone;
 * other than the library, which asks for the same architecture, of the same description. */
#include "dnn.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 22 };

/* ---- writing ---- */

struct text {
    char *at;
    size_t used, room;
};

static void append(struct text *t, const char *format, ...)
{
    va_list list, again;
    va_start(list, format);
    va_copy(again, list);
    size_t n = (size_t)vsnprintf(NULL, 0, format, list);
    va_end(list);
    if (t->used + n + 1 > t->room) {
        t->room = 2 * t->room + n + 4096;
        t->at = realloc(t->at, t->room);
        if (!t->at)
            abort();
    }
    vsnprintf(t->at + t->used, t->room - t->used, format, again);
    va_end(again);
    t->used += n;
}

/* "TYPE N_VALUES", and of each value "NAME TYPE N" with N descriptors, or bytes. */
static void append_descriptor(struct text *t, const struct dnn_descriptor *d)
{
    append(t, "%d %d ", (int)d->type, d->n_values);
    for (int i = 0; i < d->n_values; i++) {
        const struct dnn_value *v = &d->values[i];
        append(t, "%d %d %lld ", (int)v->name, (int)v->type, (long long)v->n);
        const unsigned char *bytes = v->data;
        size_t n = (size_t)v->n * dnn_size(v->type);
        if (v->type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
            for (int64_t k = 0; k < v->n; k++)
                append_descriptor(t, ((struct dnn_descriptor **)v->data)[k]);
        else
            for (size_t k = 0; k < n; k++)
                append(t, k + 1 < n ? "%u " : "%u  ", bytes[k]);
    }
}

/* What the description was made of; of a handle's, that there is one device. */
static struct text device_text(const struct dnn_descriptor *d)
{
    struct text t = {0};
    const struct dnn_value *json =
        dnn_value(d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION);
    if (json)
        append(&t, "%.*s", (int)json->n, (const char *)json->data);
    else
        append(&t, "{\"deviceVer\":900,\"deviceName\":\"emulated device\"}");
    return t;
}

static uint64_t device_hash(const struct dnn_descriptor *device)
{
    struct text t = device_text(device);
    uint64_t hash = 14695981039346656037U; /* FNV-1a */
    for (size_t i = 0; i < t.used; i++)
        hash = (hash ^ (unsigned char)t.at[i]) * 1099511628211U;
    free(t.at);
    return hash;
}

#define HEAD "{\"emulated\":%d,\"device\":%llu,\"engine\":%d,\"graph\":\""

static struct text plan_text(const struct dnn_descriptor *d)
{
    struct text t = {0};
    const struct dnn_descriptor *device =
        dnn_inner(d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
    append(&t, HEAD, CUDNN_VERSION, (unsigned long long)device_hash(device), d->engine);
    append_descriptor(&t, d->graph);
    append(&t, "\"}");
    return t;
}

cudnnStatus_t dnn_json(
    const struct dnn_descriptor *d, int64_t room, int64_t *n, char *out)
{
    struct text t = d->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR ? plan_text(d)
                                                                       : device_text(d);
    *n = (int64_t)t.used;
    if (room > 0)
        memcpy(out, t.at, room < *n ? (size_t)room : t.used);
    free(t.at);
    return CUDNN_STATUS_SUCCESS;
}

/* ---- reading ---- */

struct reader {
    const char *at;
    bool wrong;
};

static long long number(struct reader *r, long long least, long long most)
{
    char *end;
    long long n = strtoll(r->at, &end, 10);
    if (end == r->at || *end != ' ' || n < least || n > most) {
        r->wrong = true;
        return least;
    }
    r->at = end + 1;
    return n;
}

static struct dnn_descriptor *read_descriptor(struct reader *r, int depth);

static void *read_value(struct reader *r, const struct dnn_value *v, int depth)
{
    size_t size = dnn_size(v->type);
    unsigned char *data = calloc((size_t)v->n + 1, size);
    if (!data)
        abort();
    for (int64_t i = 0; i < v->n; i++)
        if (v->type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
            ((struct dnn_descriptor **)(void *)data)[i] = read_descriptor(r, depth + 1);
        else
            for (size_t k = 0; k < size; k++)
                data[(size_t)i * size + k] = (unsigned char)number(r, 0, 255);
    if (v->type != CUDNN_TYPE_BACKEND_DESCRIPTOR)
        r->at += *r->at == ' ';
    return data;
}

/* The caller's; with NULL inside where the text is wrong. */
static struct dnn_descriptor *read_descriptor(struct reader *r, int depth)
{
    if (r->wrong || depth > 4) {
        r->wrong = true;
        return NULL;
    }
    struct dnn_descriptor *d = calloc(1, sizeof *d);
    if (!d)
        abort();
    d->references = 1;
    d->type = (cudnnBackendDescriptorType_t)number(r, 0, 1 << 20);
    int n = (int)number(r, 0, 64);
    for (int i = 0; i < n && !r->wrong; i++) {
        struct dnn_value v = {
            .name = (cudnnBackendAttributeName_t)number(r, 0, 1 << 20)};
        v.type = (cudnnBackendAttributeType_t)number(r, 0, 1 << 20);
        v.n = number(r, 0, 8192);
        const struct dnn_rule *rule = r->wrong ? NULL : dnn_rule(d->type, v.name);
        if (!rule || rule->type != v.type || v.n > rule->most) {
            r->wrong = true;
            break;
        }
        v.data = read_value(r, &v, depth);
        d->values = emu_grow(d->values, d->n_values, sizeof *d->values);
        d->values[d->n_values++] = v;
    }
    r->wrong = r->wrong || dnn_check(d) != CUDNN_STATUS_SUCCESS;
    d->final = true;
    return d;
}

cudnnStatus_t dnn_plan_read(struct dnn_descriptor *d)
{
    const struct dnn_value *json =
        dnn_value(d, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION);
    const struct dnn_descriptor *device =
        dnn_inner(d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
    int version, engine, used = 0;
    unsigned long long hash;
    char *text = calloc((size_t)json->n + 1, 1);
    if (!text)
        abort();
    memcpy(text, json->data, (size_t)json->n);
    struct reader r = {text, false};
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
    if (json->n > MOST_BYTES ||
        sscanf(text, HEAD "%n", &version, &hash, &engine, &used) != 3 || used == 0 ||
        version != CUDNN_VERSION)
        status = dnn_refuse(CUDNN_STATUS_BAD_PARAM, "!d.IsObject()");
    else if (hash != device_hash(device))
        status = dnn_refuse(
            CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH, "a plan for another device");
    if (status == CUDNN_STATUS_SUCCESS) {
        r.at += used;
        d->graph = read_descriptor(&r, 0);
        d->engine = engine;
        if (r.wrong || strcmp(r.at, "\"}") != 0 ||
            d->graph->type != CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)
            status = dnn_refuse(CUDNN_STATUS_BAD_PARAM, "the plan's graph is none");
    }
    free(text);
    return status;
}
