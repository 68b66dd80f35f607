/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: pickles of PyTorch, read as data. */
#include "fuzz.h"
#include "pickle.h"

/* Every index leads somewhere. */
static void check_value(const struct th_pickle *p, const struct th_pickle_value *v)
{
    switch (v->kind) {
    case TH_PICKLE_TEXT:
    case TH_PICKLE_BYTES:
        look_at(v->text.at, v->text.n);
        break;
    case TH_PICKLE_TUPLE:
    case TH_PICKLE_LIST:
    case TH_PICKLE_DICT:
        ALWAYS(v->index < p->n_lists);
        for (size_t i = 0; i < p->list[v->index].n; i++)
            ALWAYS(p->list[v->index].item[i] < p->n_values);
        break;
    case TH_PICKLE_STORAGE:
        ALWAYS(v->index < p->n_storages);
        break;
    case TH_PICKLE_TENSOR:
        ALWAYS(v->index < p->n_tensors);
        ALWAYS(p->tensor[v->index].storage < p->n_storages);
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct th_pickle p = {0};
    size_t used = 0;
    thaw_status status = th_pickle_init(&p, bytes, n, "fuzz", &used);
    check_answer(status);
    if (status != THAW_OK)
        return 0;
    ALWAYS(used <= n && p.root < p.n_values);
    for (size_t i = 0; i < p.n_values; i++)
        check_value(&p, &p.value[i]);
    th_pickle_release(&p);
    return 0;
}
