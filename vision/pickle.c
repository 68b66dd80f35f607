/* SPDX-License-Identifier: Apache-2.0
 * Owns the pickle machine: a stack, a memo, and one function per family of opcodes
 * (CPython's pickletools.py documents them). Reads protocols 2 to 5 as torch.save writes
 * them. What globals and storages mean is pickle_torch.c's business.
 *
 * K1 No opcode and no global outside the two tables; nothing is executed or imported.
 * K2 Every read is checked against the end, every pop against the innermost mark.
 * K3 Values are referred to by index and made only by th_pickle_new_value, at most
 *    MAX_VALUES, in lists of at most MAX_ITEMS together. Nothing walks values recursively, so cycles do no harm. */
#include "bytes.h"
#include "error.h"
#include "mem.h"
#include "pickle_machine.h"

#include <string.h>

enum {
    MAX_VALUES = 1 << 20, /* a large checkpoint with optimizer slots has some 10^5 */
    MAX_STACK = 1 << 20,
    MAX_MEMO = 1 << 20,
    MAX_ITEMS =
        1 << 22 /* of all lists: a call may copy one, so bytes do not bound them */
};

thaw_status th_pickle_bad(const struct th_pickle_machine *m, const char *why)
{
    return th_fail(THAW_E_DATA, "%s: damaged pickle: %s at byte %zu", m->where, why,
        (size_t)(m->at - m->start));
}

/* ---- memory, stack, memo ---- */

void *th_pickle_grown(void *old, size_t n, size_t *capacity, size_t size)
{
    if (n < *capacity)
        return old;
    size_t more = *capacity ? 2 * *capacity : 16;
    void *fresh = th_realloc(old, n, more, size);
    if (fresh)
        *capacity = more;
    return fresh;
}

thaw_status th_pickle_push(struct th_pickle_machine *m, uint32_t value)
{
    if (m->n_stack == MAX_STACK)
        return th_pickle_bad(m, "the stack is too large");
    uint32_t *stack =
        th_pickle_grown(m->stack, m->n_stack, &m->stack_capacity, sizeof *stack);
    if (!stack)
        return THAW_E_MEMORY;
    m->stack = stack;
    m->stack[m->n_stack++] = value;
    return THAW_OK;
}

static size_t floor_of(const struct th_pickle_machine *m)
{
    return m->n_marks ? m->mark[m->n_marks - 1] : 0;
}

thaw_status th_pickle_pop(struct th_pickle_machine *m, uint32_t *value)
{
    if (m->n_stack <= floor_of(m))
        return th_pickle_bad(m, "the stack is empty");
    *value = m->stack[--m->n_stack];
    return THAW_OK;
}

thaw_status th_pickle_top(struct th_pickle_machine *m, uint32_t *value)
{
    TRY(th_pickle_pop(m, value));
    m->n_stack++;
    return THAW_OK;
}

/* Pop all above the innermost mark, and the mark: n indices that stay valid until the
 * next push. */
static thaw_status pop_mark(
    struct th_pickle_machine *m, const uint32_t **item, size_t *n)
{
    if (m->n_marks == 0)
        return th_pickle_bad(m, "no mark is set");
    size_t height = m->mark[--m->n_marks];
    *n = m->n_stack - height;
    *item = *n ? m->stack + height : NULL; /* no stack may be there yet */
    m->n_stack = height;
    return THAW_OK;
}

thaw_status th_pickle_new_value(
    struct th_pickle_machine *m, struct th_pickle_value value)
{
    struct th_pickle *p = m->p;
    if (p->n_values == MAX_VALUES)
        return th_pickle_bad(m, "too many values");
    struct th_pickle_value *values =
        th_pickle_grown(p->value, p->n_values, &p->value_capacity, sizeof *values);
    if (!values)
        return THAW_E_MEMORY;
    p->value = values;
    p->value[p->n_values++] = value;
    return th_pickle_push(m, (uint32_t)(p->n_values - 1));
}

thaw_status th_pickle_append(struct th_pickle_machine *m, uint32_t list, uint32_t value)
{
    struct th_pickle_list *l = &m->p->list[list];
    if (m->n_items == MAX_ITEMS)
        return th_pickle_bad(m, "too many items");
    uint32_t *item = th_pickle_grown(l->item, l->n, &l->capacity, sizeof *item);
    if (!item)
        return THAW_E_MEMORY;
    l->item = item;
    l->item[l->n++] = value;
    m->n_items++;
    return THAW_OK;
}

thaw_status th_pickle_new_list(struct th_pickle_machine *m, enum th_pickle_kind kind,
    const uint32_t *item, size_t n)
{
    struct th_pickle *p = m->p;
    if (n > MAX_ITEMS - m->n_items)
        return th_pickle_bad(m, "too many items");
    struct th_pickle_list *lists =
        th_pickle_grown(p->list, p->n_lists, &p->list_capacity, sizeof *lists);
    if (!lists)
        return THAW_E_MEMORY;
    p->list = lists;
    uint32_t index = (uint32_t)p->n_lists++;
    if (n) {
        p->list[index].item = th_alloc(n, sizeof *item);
        if (!p->list[index].item)
            return THAW_E_MEMORY;
        memcpy(p->list[index].item, item, n * sizeof *item);
        p->list[index].n = p->list[index].capacity = n;
        m->n_items += n;
    }
    return th_pickle_new_value(
        m, (struct th_pickle_value){.kind = kind, .index = index});
}

static thaw_status remember(struct th_pickle_machine *m, size_t slot)
{
    uint32_t value = 0;
    TRY(th_pickle_top(m, &value));
    if (slot >= MAX_MEMO)
        return th_pickle_bad(m, "the memo is too large");
    if (slot >= m->memo_capacity) {
        size_t capacity = slot < 512 ? 1024 : 2 * slot;
        uint32_t *memo = th_realloc(m->memo, m->memo_capacity, capacity, sizeof *memo);
        if (!memo)
            return THAW_E_MEMORY;
        m->memo = memo;
        m->memo_capacity = capacity;
    }
    m->memo[slot] = value + 1;
    return THAW_OK;
}

thaw_status th_pickle_take(
    struct th_pickle_machine *m, uint64_t n, const unsigned char **bytes)
{
    if ((uint64_t)(m->end - m->at) < n)
        return th_fail(THAW_E_DATA,
            "%s: cut short: the pickle ends at byte %zu of it, in the middle: fetch "
            "the "
            "file again",
            m->where, (size_t)(m->end - m->start));
    *bytes = m->at;
    m->at += n;
    return THAW_OK;
}

/* An unsigned number of 1, 2, 4 or 8 bytes. */
static thaw_status take_number(struct th_pickle_machine *m, size_t n, uint64_t *number)
{
    const unsigned char *p = NULL;
    TRY(th_pickle_take(m, n, &p));
    *number = n == 1 ? p[0] : n == 2 ? th_le16(p) : n == 4 ? th_le32(p) : th_le64(p);
    return THAW_OK;
}

const struct th_pickle_list *th_pickle_list_of(
    const struct th_pickle_machine *m, uint32_t value)
{
    return &m->p->list[m->p->value[value].index];
}

/* ---- plain values ---- */

static thaw_status op_constant(struct th_pickle_machine *m, int op)
{
    struct th_pickle_value v = {
        .kind = op == 'N' ? TH_PICKLE_NONE : TH_PICKLE_BOOL, .integer = op == 0x88};
    return th_pickle_new_value(m, v);
}

static thaw_status op_int(struct th_pickle_machine *m, int op)
{
    uint64_t n = 0;
    TRY(take_number(m, op == 'J' ? 4 : op == 'M' ? 2 : 1, &n));
    int64_t integer = op == 'J' ? (int32_t)(uint32_t)n : (int64_t)n;
    return th_pickle_new_value(
        m, (struct th_pickle_value){.kind = TH_PICKLE_INT, .integer = integer});
}

/* LONG1: two's complement of any length; what int64 cannot hold is of no use here. */
static thaw_status op_long(struct th_pickle_machine *m, int op)
{
    (void)op;
    const unsigned char *p = NULL;
    uint64_t n = 0, bits = 0;
    TRY(take_number(m, 1, &n));
    TRY(th_pickle_take(m, n, &p));
    if (n > 8)
        return th_pickle_new_value(
            m, (struct th_pickle_value){.kind = TH_PICKLE_OPAQUE});
    if (n && p[n - 1] & 0x80)
        bits = ~(uint64_t)0;
    for (size_t i = (size_t)n; i-- > 0;)
        bits = bits << 8 | p[i];
    return th_pickle_new_value(
        m, (struct th_pickle_value){.kind = TH_PICKLE_INT, .integer = (int64_t)bits});
}

static thaw_status op_float(struct th_pickle_machine *m, int op)
{
    (void)op;
    const unsigned char *p = NULL;
    TRY(th_pickle_take(m, 8, &p));
    uint64_t bits = 0; /* big-endian, unlike all else */
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | p[i];
    struct th_pickle_value v = {.kind = TH_PICKLE_FLOAT};
    memcpy(&v.real, &bits, sizeof v.real);
    return th_pickle_new_value(m, v);
}

static thaw_status op_text(struct th_pickle_machine *m, int op)
{
    static const unsigned char length_bytes[256] = {['X'] = 4,
        [0x8c] = 1,
        [0x8d] = 8,
        ['U'] = 1,
        ['T'] = 4,
        ['B'] = 4,
        ['C'] = 1,
        [0x8e] = 8};
    const unsigned char *bytes = NULL;
    uint64_t n = 0;
    TRY(take_number(m, length_bytes[op], &n));
    TRY(th_pickle_take(m, n, &bytes));
    bool is_text = op != 'B' && op != 'C' && op != 0x8e;
    return th_pickle_new_value(
        m, (struct th_pickle_value){.kind = is_text ? TH_PICKLE_TEXT : TH_PICKLE_BYTES,
               .text = {(const char *)bytes, (size_t)n}});
}

/* ---- containers ---- */

static thaw_status op_mark(struct th_pickle_machine *m, int op)
{
    (void)op;
    if (m->n_marks == TH_PICKLE_MARKS)
        return th_pickle_bad(m, "values nested too deeply");
    m->mark[m->n_marks++] = m->n_stack;
    return THAW_OK;
}

static thaw_status op_empty(struct th_pickle_machine *m, int op)
{
    if (op == 0x8f) /* a set */
        return th_pickle_new_value(
            m, (struct th_pickle_value){.kind = TH_PICKLE_OPAQUE});
    return th_pickle_new_list(m,
        op == ')'   ? TH_PICKLE_TUPLE
        : op == ']' ? TH_PICKLE_LIST
                    : TH_PICKLE_DICT,
        NULL, 0);
}

/* TUPLE, LIST, DICT from the mark; TUPLE1 to TUPLE3 from the top. */
static thaw_status op_collect(struct th_pickle_machine *m, int op)
{
    const uint32_t *item = NULL;
    size_t n = 0;
    if (op >= 0x85 && op <= 0x87) {
        n = (size_t)(op - 0x84);
        if (m->n_stack - floor_of(m) < n)
            return th_pickle_bad(m, "the stack is empty");
        m->n_stack -= n;
        item = m->stack + m->n_stack;
    } else {
        TRY(pop_mark(m, &item, &n));
    }
    if (op == 'd' && n % 2)
        return th_pickle_bad(m, "a dict with a key and no value");
    return th_pickle_new_list(m,
        op == 'l'   ? TH_PICKLE_LIST
        : op == 'd' ? TH_PICKLE_DICT
                    : TH_PICKLE_TUPLE,
        item, n);
}

/* APPEND, APPENDS, SETITEM, SETITEMS, ADDITEMS: into the container below the items. */
static thaw_status op_add(struct th_pickle_machine *m, int op)
{
    const uint32_t *item = NULL;
    uint32_t target = 0;
    size_t n = op == 'a' ? 1 : 2;
    if (op == 'a' || op == 's') {
        if (m->n_stack - floor_of(m) < n)
            return th_pickle_bad(m, "the stack is empty");
        m->n_stack -= n;
        item = m->stack + m->n_stack;
    } else {
        TRY(pop_mark(m, &item, &n));
    }
    TRY(th_pickle_top(m, &target));
    const struct th_pickle_value *v = &m->p->value[target];
    if (v->kind == TH_PICKLE_OPAQUE)
        return THAW_OK;
    bool is_dict = op == 's' || op == 'u';
    if (v->kind != (is_dict ? TH_PICKLE_DICT : TH_PICKLE_LIST) || (is_dict && n % 2))
        return th_pickle_bad(m, "items for something that takes none");
    for (size_t i = 0; i < n; i++)
        TRY(th_pickle_append(m, v->index, item[i]));
    return THAW_OK;
}

static thaw_status op_pop(struct th_pickle_machine *m, int op)
{
    uint32_t value = 0;
    const uint32_t *item = NULL;
    size_t n = 0;
    if (op == '1')
        return pop_mark(m, &item, &n);
    if (op == '0')
        return th_pickle_pop(m, &value);
    TRY(th_pickle_top(m, &value)); /* DUP */
    return th_pickle_push(m, value);
}

static thaw_status op_get(struct th_pickle_machine *m, int op)
{
    uint64_t slot = 0;
    TRY(take_number(m, op == 'h' ? 1 : 4, &slot));
    if (slot >= m->memo_capacity || !m->memo[slot])
        return th_pickle_bad(m, "the memo has no such value");
    return th_pickle_push(m, m->memo[slot] - 1);
}

static thaw_status op_put(struct th_pickle_machine *m, int op)
{
    uint64_t slot = 0;
    TRY(take_number(m, op == 'q' ? 1 : 4, &slot));
    return remember(m, (size_t)slot);
}

/* MEMOIZE: the next free slot. Slots are filled in order by pickles that use it. */
static thaw_status op_memoize(struct th_pickle_machine *m, int op)
{
    (void)op;
    return remember(m, m->n_memoized++);
}

static thaw_status op_header(struct th_pickle_machine *m, int op)
{
    uint64_t n = 0; /* PROTO: the version. FRAME: a length, of use to streams only */
    TRY(take_number(m, op == 0x80 ? 1 : 8, &n));
    if (op == 0x80 && (n < 2 || n > 5))
        return th_pickle_bad(m, "an unknown protocol");
    return THAW_OK;
}

static thaw_status op_stop(struct th_pickle_machine *m, int op)
{
    (void)op;
    m->is_done = true;
    return th_pickle_pop(m, &m->p->root);
}

/* ---- the machine ---- */

static thaw_status (*const opcode[256])(struct th_pickle_machine *m, int op) = {
    [0x80] = op_header,
    [0x95] = op_header,
    ['('] = op_mark,
    ['.'] = op_stop,
    ['0'] = op_pop,
    ['1'] = op_pop,
    ['2'] = op_pop,
    ['N'] = op_constant,
    [0x88] = op_constant,
    [0x89] = op_constant,
    ['J'] = op_int,
    ['K'] = op_int,
    ['M'] = op_int,
    [0x8a] = op_long,
    ['G'] = op_float,
    ['X'] = op_text,
    [0x8c] = op_text,
    [0x8d] = op_text,
    ['U'] = op_text,
    ['T'] = op_text,
    ['B'] = op_text,
    ['C'] = op_text,
    [0x8e] = op_text,
    [')'] = op_empty,
    [']'] = op_empty,
    ['}'] = op_empty,
    [0x8f] = op_empty,
    ['t'] = op_collect,
    ['l'] = op_collect,
    ['d'] = op_collect,
    [0x85] = op_collect,
    [0x86] = op_collect,
    [0x87] = op_collect,
    ['a'] = op_add,
    ['e'] = op_add,
    ['s'] = op_add,
    ['u'] = op_add,
    [0x90] = op_add,
    ['h'] = op_get,
    ['j'] = op_get,
    ['q'] = op_put,
    ['r'] = op_put,
    [0x94] = op_memoize,
    ['c'] = th_pickle_op_global,
    [0x93] = th_pickle_op_stack_global,
    ['R'] = th_pickle_op_call,
    [0x81] = th_pickle_op_call,
    ['b'] = th_pickle_op_build,
    ['Q'] = th_pickle_op_persistent_id};

static thaw_status run(struct th_pickle_machine *m)
{
    while (!m->is_done) {
        const unsigned char *op = NULL;
        TRY(th_pickle_take(m, 1, &op));
        if (!opcode[*op])
            return th_pickle_bad(m, "an opcode that torch.save does not write");
        TRY(opcode[*op](m, *op));
    }
    return THAW_OK;
}

thaw_status th_pickle_init(struct th_pickle *out, const unsigned char *bytes, size_t n,
    const char *where, size_t *used)
{
    struct th_pickle_machine m = {
        .p = out, .start = bytes, .at = bytes, .end = bytes + n, .where = where};
    *out = (struct th_pickle){0};
    thaw_status status = run(&m);
    if (used)
        *used = (size_t)(m.at - m.start);
    th_free(m.stack);
    th_free(m.memo);
    if (status != THAW_OK)
        th_pickle_release(out);
    return status;
}

void th_pickle_release(struct th_pickle *p)
{
    for (size_t i = 0; i < p->n_lists; i++)
        th_free(p->list[i].item);
    th_free(p->list);
    th_free(p->value);
    th_free(p->storage);
    th_free(p->tensor);
    *p = (struct th_pickle){0};
}

bool th_pickle_is_text(const struct th_pickle *p, uint32_t value, const char *text)
{
    const struct th_pickle_value *v = &p->value[value];
    size_t n = strlen(text);
    return v->kind == TH_PICKLE_TEXT && v->text.n == n &&
           memcmp(v->text.at, text, n) == 0;
}
