/* SPDX-License-Identifier: Apache-2.0
 * Inside of the pickle machine, shared by pickle.c and pickle_torch.c only. */
#ifndef TH_PICKLE_MACHINE_H
#define TH_PICKLE_MACHINE_H

#include "pickle.h"

enum { TH_PICKLE_MARKS = 64 }; /* open containers */

struct th_pickle_machine {
    struct th_pickle *p;
    const unsigned char *start, *at, *end;
    const char *where;
    uint32_t *stack;
    size_t n_stack, stack_capacity;
    uint32_t *memo; /* 1 + index of the value; 0 is nothing */
    size_t memo_capacity, n_memoized;
    size_t n_items;               /* of all lists */
    size_t mark[TH_PICKLE_MARKS]; /* heights of the stack */
    int n_marks;
    bool is_done;
};

/* Fail with "damaged pickle: WHY at byte N". */
thaw_status th_pickle_bad(const struct th_pickle_machine *m, const char *why);

/* Room for one more in an array that owns *capacity elements; NULL when out of memory. */
void *th_pickle_grown(void *old, size_t n, size_t *capacity, size_t size);

/* The next n bytes of the pickle. */
thaw_status th_pickle_take(
    struct th_pickle_machine *m, uint64_t n, const unsigned char **bytes);

thaw_status th_pickle_push(struct th_pickle_machine *m, uint32_t value);
thaw_status th_pickle_pop(struct th_pickle_machine *m, uint32_t *value);
thaw_status th_pickle_top(struct th_pickle_machine *m, uint32_t *value);

/* Make a value and push it. */
thaw_status th_pickle_new_value(
    struct th_pickle_machine *m, struct th_pickle_value value);

/* Make a tuple, list or dict of n items and push it. The items may lie on the stack,
 * above its top: they are copied before the push. */
thaw_status th_pickle_new_list(struct th_pickle_machine *m, enum th_pickle_kind kind,
    const uint32_t *item, size_t n);
thaw_status th_pickle_append(
    struct th_pickle_machine *m, uint32_t list, uint32_t value);

/* The items of a tuple, list or dict; moves when another one is made. */
const struct th_pickle_list *th_pickle_list_of(
    const struct th_pickle_machine *m, uint32_t value);

/* Opcodes about globals: GLOBAL, STACK_GLOBAL, REDUCE and NEWOBJ, BUILD, BINPERSID. */
thaw_status th_pickle_op_global(struct th_pickle_machine *m, int op);
thaw_status th_pickle_op_stack_global(struct th_pickle_machine *m, int op);
thaw_status th_pickle_op_call(struct th_pickle_machine *m, int op);
thaw_status th_pickle_op_build(struct th_pickle_machine *m, int op);
thaw_status th_pickle_op_persistent_id(struct th_pickle_machine *m, int op);

#endif
