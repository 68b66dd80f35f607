/* SPDX-License-Identifier: Apache-2.0
 * Owns what a pickle of PyTorch may refer to: the table of globals, and what calling one
 * of them makes. See pickle.c for the machine.
 *
 * K4 A tensor lies within the storage it names (the class of CVE-2026-24747). */
#include "error.h"
#include "pickle_machine.h"

#include <string.h>

enum { MAX_GLOBAL = 200 }; /* length of a module's or a global's name */

enum global_kind { G_OPAQUE, G_DICT, G_TENSOR, G_PARAMETER, G_STORAGE };

/* All that a pickle may refer to. */
static const struct {
    const char *module, *name;
    enum global_kind kind;
    enum th_number dtype;
} global_table[] = {
    {"collections", "OrderedDict", G_DICT, 0},
    {"torch._utils", "_rebuild_tensor_v2", G_TENSOR, 0},
    {"torch._utils", "_rebuild_tensor", G_TENSOR, 0},
    {"torch._utils", "_rebuild_parameter", G_PARAMETER, 0},
    {"torch", "FloatStorage", G_STORAGE, TH_NUMBER_F32},
    {"torch", "DoubleStorage", G_STORAGE, TH_NUMBER_F64},
    {"torch", "HalfStorage", G_STORAGE, TH_NUMBER_F16},
    {"torch", "BFloat16Storage", G_STORAGE, TH_NUMBER_BF16},
    {"torch", "LongStorage", G_STORAGE, TH_NUMBER_I64},
    {"torch", "IntStorage", G_STORAGE, TH_NUMBER_I32},
    {"torch", "ShortStorage", G_STORAGE, TH_NUMBER_I16},
    {"torch", "CharStorage", G_STORAGE, TH_NUMBER_I8},
    {"torch", "ByteStorage", G_STORAGE, TH_NUMBER_U8},
    {"torch", "BoolStorage", G_STORAGE, TH_NUMBER_U8},
    {"torch.cuda", "FloatStorage", G_STORAGE, TH_NUMBER_F32},
    {"torch.cuda", "HalfStorage", G_STORAGE, TH_NUMBER_F16},
    {"torch.cuda", "LongStorage", G_STORAGE, TH_NUMBER_I64},
    {"torch", "Size", G_OPAQUE, 0},
    {"torch", "device", G_OPAQUE, 0},
    {"torch", "float32", G_OPAQUE, 0},
    {"torch", "float16", G_OPAQUE, 0},
    {"torch", "bfloat16", G_OPAQUE, 0},
    {"torch", "float64", G_OPAQUE, 0},
    {"torch", "int64", G_OPAQUE, 0},
    {"numpy", "dtype", G_OPAQUE, 0},
    {"numpy.core.multiarray", "scalar", G_OPAQUE, 0},
    {"numpy._core.multiarray", "scalar", G_OPAQUE, 0},
    {"_codecs", "encode", G_OPAQUE, 0},
    {"argparse", "Namespace", G_OPAQUE, 0}, /* the "args" of many training scripts */
    {"__builtin__", "set", G_OPAQUE, 0},
    {"builtins", "set", G_OPAQUE, 0},
};

/* ---- tensors ---- */

static thaw_status int_at(const struct th_pickle_machine *m,
    const struct th_pickle_list *l, size_t i, int64_t *number)
{
    const struct th_pickle_value *v = i < l->n ? &m->p->value[l->item[i]] : NULL;
    if (!v || v->kind != TH_PICKLE_INT || v->integer < 0)
        return th_pickle_bad(m, "a tensor or storage without proper numbers");
    *number = v->integer;
    return THAW_OK;
}

/* K4. The last element is at offset + sum of (extent - 1) * stride. */
static thaw_status check_extent(
    const struct th_pickle_machine *m, const struct th_pickle_tensor *t)
{
    int64_t last = t->offset, n = m->p->storage[t->storage].n;
    bool overflow = false;
    for (int i = 0; i < t->shape.rank; i++) {
        int64_t reach = 0;
        if (t->shape.dim[i] == 0)
            return THAW_OK; /* no element at all */
        overflow |= __builtin_mul_overflow(t->shape.dim[i] - 1, t->stride[i], &reach);
        overflow |= __builtin_add_overflow(last, reach, &last);
    }
    return overflow || last >= n ? th_pickle_bad(m, "a tensor larger than its storage")
                                 : THAW_OK;
}

/* _rebuild_tensor[_v2](storage, offset, size, stride, ...). */
static thaw_status new_tensor(
    struct th_pickle_machine *m, const struct th_pickle_list *args)
{
    struct th_pickle *p = m->p;
    struct th_pickle_tensor t = {0};
    if (args->n < 4 || p->value[args->item[0]].kind != TH_PICKLE_STORAGE ||
        p->value[args->item[2]].kind != TH_PICKLE_TUPLE ||
        p->value[args->item[3]].kind != TH_PICKLE_TUPLE)
        return th_pickle_bad(m, "a tensor without storage or shape");
    t.storage = p->value[args->item[0]].index;
    const struct th_pickle_list *size = th_pickle_list_of(m, args->item[2]);
    const struct th_pickle_list *stride = th_pickle_list_of(m, args->item[3]);
    if (size->n > TH_MAX_RANK || stride->n != size->n)
        return th_pickle_bad(m, "a tensor of more than 6 dimensions");
    TRY(int_at(m, args, 1, &t.offset));
    t.shape.rank = (int)size->n;
    for (size_t i = 0; i < size->n; i++) {
        TRY(int_at(m, size, i, &t.shape.dim[i]));
        TRY(int_at(m, stride, i, &t.stride[i]));
    }
    TRY(check_extent(m, &t));
    struct th_pickle_tensor *tensors =
        th_pickle_grown(p->tensor, p->n_tensors, &p->tensor_capacity, sizeof *tensors);
    if (!tensors)
        return THAW_E_MEMORY;
    p->tensor = tensors;
    p->tensor[p->n_tensors++] = t;
    return th_pickle_new_value(m, (struct th_pickle_value){.kind = TH_PICKLE_TENSOR,
                                      .index = (uint32_t)p->n_tensors - 1});
}

/* ("storage", type, key, device, n [, None or (view key, offset, n)]) */
static thaw_status new_storage(
    struct th_pickle_machine *m, const struct th_pickle_list *id)
{
    struct th_pickle *p = m->p;
    struct th_pickle_storage s = {0};
    if (id->n < 5 || !th_pickle_is_text(p, id->item[0], "storage") ||
        p->value[id->item[1]].kind != TH_PICKLE_GLOBAL ||
        p->value[id->item[2]].kind != TH_PICKLE_TEXT)
        return th_pickle_bad(m, "a persistent id that is no storage");
    uint32_t row = p->value[id->item[1]].index;
    if (global_table[row].kind != G_STORAGE)
        return th_pickle_bad(m, "a storage of no known type");
    s.dtype = global_table[row].dtype;
    s.key = id->item[2];
    TRY(int_at(m, id, 4, &s.n));
    s.root_n = s.n;
    if (id->n > 5 && p->value[id->item[5]].kind == TH_PICKLE_TUPLE) {
        int64_t view = 0;
        const struct th_pickle_list *l = th_pickle_list_of(m, id->item[5]);
        TRY(int_at(m, l, 1, &s.offset));
        TRY(int_at(m, l, 2, &view));
        if (s.offset > s.n || view > s.n - s.offset)
            return th_pickle_bad(m, "a view larger than its storage");
        s.n = view;
    }
    struct th_pickle_storage *storages = th_pickle_grown(
        p->storage, p->n_storages, &p->storage_capacity, sizeof *storages);
    if (!storages)
        return THAW_E_MEMORY;
    p->storage = storages;
    p->storage[p->n_storages++] = s;
    return th_pickle_new_value(m, (struct th_pickle_value){.kind = TH_PICKLE_STORAGE,
                                      .index = (uint32_t)p->n_storages - 1});
}

/* ---- globals and calls ---- */

/* Push the table's row for module.name, or refuse. */
static thaw_status new_global(struct th_pickle_machine *m, const char *module,
    size_t module_n, const char *name, size_t name_n)
{
    const size_t n_rows = sizeof global_table / sizeof global_table[0];
    for (size_t i = 0; i < n_rows; i++)
        if (strlen(global_table[i].module) == module_n &&
            memcmp(global_table[i].module, module, module_n) == 0 &&
            strlen(global_table[i].name) == name_n &&
            memcmp(global_table[i].name, name, name_n) == 0)
            return th_pickle_new_value(
                m, (struct th_pickle_value){
                       .kind = TH_PICKLE_GLOBAL, .index = (uint32_t)i});
    for (size_t i = 0; i < module_n + name_n; i++) {
        unsigned char c =
            (unsigned char)(i < module_n ? module[i] : name[i - module_n]);
        if (c < ' ' || c > '~' || module_n > MAX_GLOBAL || name_n > MAX_GLOBAL)
            return th_pickle_bad(m, "a global of impossible name");
    }
    return th_fail(THAW_E_DATA,
        "%s: refers to %.*s.%.*s: refused, nothing was executed; if the file is your "
        "own, "
        "save model.state_dict() alone",
        m->where, (int)module_n, module, (int)name_n, name);
}

thaw_status th_pickle_op_global(struct th_pickle_machine *m, int op)
{
    (void)op;
    const char *part[2];
    size_t n[2];
    for (int i = 0; i < 2; i++) {
        const unsigned char *line = memchr(m->at, '\n', (size_t)(m->end - m->at));
        const unsigned char *bytes = NULL;
        TRY(th_pickle_take(
            m, line ? (uint64_t)(line - m->at) + 1 : UINT64_MAX, &bytes));
        part[i] = (const char *)bytes;
        n[i] = (size_t)(line - bytes);
    }
    return new_global(m, part[0], n[0], part[1], n[1]);
}

thaw_status th_pickle_op_stack_global(struct th_pickle_machine *m, int op)
{
    (void)op;
    uint32_t name = 0, module = 0;
    TRY(th_pickle_pop(m, &name));
    TRY(th_pickle_pop(m, &module));
    const struct th_pickle_value *v = m->p->value;
    if (v[name].kind != TH_PICKLE_TEXT || v[module].kind != TH_PICKLE_TEXT)
        return th_pickle_bad(m, "a global without a name");
    return new_global(
        m, v[module].text.at, v[module].text.n, v[name].text.at, v[name].text.n);
}

/* OrderedDict() or OrderedDict([[key, value], ...]), as Python 2 wrote it. */
static thaw_status new_dict(
    struct th_pickle_machine *m, const struct th_pickle_list *args)
{
    uint32_t pairs = args->n ? args->item[0] : 0, dict = 0;
    TRY(th_pickle_new_list(m, TH_PICKLE_DICT, NULL, 0));
    TRY(th_pickle_top(m, &dict));
    if (!args->n)
        return THAW_OK;
    const struct th_pickle_value *v = m->p->value;
    if (v[pairs].kind != TH_PICKLE_LIST && v[pairs].kind != TH_PICKLE_TUPLE)
        return th_pickle_bad(m, "a dict of unknown making");
    for (size_t i = 0; i < th_pickle_list_of(m, pairs)->n; i++) {
        uint32_t pair = th_pickle_list_of(m, pairs)->item[i];
        if ((v[pair].kind != TH_PICKLE_LIST && v[pair].kind != TH_PICKLE_TUPLE) ||
            th_pickle_list_of(m, pair)->n != 2)
            return th_pickle_bad(m, "a dict of unknown making");
        TRY(th_pickle_append(m, v[dict].index, th_pickle_list_of(m, pair)->item[0]));
        TRY(th_pickle_append(m, v[dict].index, th_pickle_list_of(m, pair)->item[1]));
    }
    return THAW_OK;
}

/* REDUCE and NEWOBJ: a row of the table is "called" with a tuple. */
thaw_status th_pickle_op_call(struct th_pickle_machine *m, int op)
{
    (void)op;
    uint32_t args = 0, callee = 0;
    TRY(th_pickle_pop(m, &args));
    TRY(th_pickle_pop(m, &callee));
    const struct th_pickle_value *v = m->p->value;
    if (v[args].kind != TH_PICKLE_TUPLE || v[callee].kind != TH_PICKLE_GLOBAL)
        return th_pickle_bad(m, "a call of something that is no function");
    /* A copy: making values may move the lists; the items stay where they are. */
    const struct th_pickle_list list = *th_pickle_list_of(m, args);
    switch (global_table[v[callee].index].kind) {
    case G_DICT:
        return new_dict(m, &list);
    case G_TENSOR:
        return new_tensor(m, &list);
    case G_PARAMETER:
        if (list.n == 0 || v[list.item[0]].kind != TH_PICKLE_TENSOR)
            return th_pickle_bad(m, "a parameter without a tensor");
        return th_pickle_push(m, list.item[0]);
    case G_OPAQUE:
        return th_pickle_new_value(
            m, (struct th_pickle_value){.kind = TH_PICKLE_OPAQUE});
    case G_STORAGE:
        break;
    }
    return th_pickle_bad(m, "a storage made by a call");
}

/* object.__setstate__: what it would set (a dict's _metadata) is of no use here. */
thaw_status th_pickle_op_build(struct th_pickle_machine *m, int op)
{
    (void)op;
    uint32_t state = 0, object = 0;
    TRY(th_pickle_pop(m, &state));
    return th_pickle_top(m, &object);
}

thaw_status th_pickle_op_persistent_id(struct th_pickle_machine *m, int op)
{
    (void)op;
    uint32_t id = 0;
    TRY(th_pickle_pop(m, &id));
    if (m->p->value[id].kind != TH_PICKLE_TUPLE)
        return th_pickle_bad(m, "a persistent id that is no storage");
    const struct th_pickle_list list = *th_pickle_list_of(m, id);
    return new_storage(m, &list);
}
