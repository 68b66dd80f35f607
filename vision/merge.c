/* SPDX-License-Identifier: Apache-2.0
 * Owns the merging of adapters outside plans. */
#include "merge.h"

#include <stdio.h>
#include <string.h>

bool th_merge_find(const struct th_model *m, int i, int *a, int *b)
{
    static const char suffix[] = ".weight";
    char name[160];
    const struct th_param *p = &m->params[i];
    size_t n = strlen(p->name), tail = sizeof suffix - 1;
    bool weight = p->role == TH_ROLE_CONV || p->role == TH_ROLE_LINEAR;
    if (!m->lora.rank || !weight || n <= tail ||
        strcmp(p->name + n - tail, suffix) != 0)
        return false;
    snprintf(name, sizeof name, "%.*s.lora_A.weight", (int)(n - tail), p->name);
    *a = th_model_param(m, name);
    snprintf(name, sizeof name, "%.*s.lora_B.weight", (int)(n - tail), p->name);
    *b = th_model_param(m, name);
    return *a >= 0 && *b >= 0;
}

static thaw_status run(const struct th_store *s, struct th_call *call, float *out)
{
    const struct th_backend *backend = s->device->backend;
    const struct th_kernel *kernel = backend->kernel(TH_OP_lora_merge);
    size_t bytes = th_operand_bytes(&call->out[0]);
    thaw_status status = THAW_OK;
    void *y = backend->alloc(s->device, bytes);
    if (!y)
        return THAW_E_MEMORY;
    call->args[3] = y;
    if (kernel->prepare)
        status = kernel->prepare(call);
    if (status == THAW_OK)
        status = kernel->run(call);
    if (status == THAW_OK)
        status = backend->download(s->device, out, y, bytes);
    if (kernel->release)
        kernel->release(call);
    backend->free(s->device, y, bytes);
    return status;
}

thaw_status th_merge_weight(
    const struct th_model *m, const struct th_store *s, int i, float *out)
{
    int param[3] = {i, -1, -1};
    struct th_call call = {.op = TH_OP_lora_merge,
        .attr = {.lora = {.scale = th_lora_scale(&m->lora)}},
        .device = s->device};
    if (!th_merge_find(m, i, &param[1], &param[2]))
        return th_fail(THAW_E_FAIL, "%s: has no adapter", m->params[i].name);
    for (int k = 0; k < 3; k++) {
        int id = th_store_find(s, m->params[param[k]].name);
        if (id < 0)
            return th_fail(
                THAW_E_FAIL, "%s: not in the store", m->params[param[k]].name);
        call.in[k] = (struct th_operand){
            .shape = s->states[id].shape, .dtype = TH_F32, .block = 1, .present = true};
        call.args[k] = s->states[id].data;
    }
    call.out[0] = call.in[0];
    return run(s, &call, out);
}
