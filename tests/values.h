/* SPDX-License-Identifier: Apache-2.0
 * Operands with values for tests of single kernels, and running an op on plain C. */
#ifndef TH_TESTS_VALUES_H
#define TH_TESTS_VALUES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mem.h"
#include "rng.h"
#include "support/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double CLOSE = 1e-6; /* absolute, of values around 1 */

/* An operand and its values. */
struct value {
    struct th_operand o;
    void *data; /* owned */
};

static inline struct value empty(enum th_dtype dtype, struct th_shape s)
{
    struct value v = {{.shape = s, .dtype = dtype, .block = 1, .present = true}, NULL};
    v.data = th_alloc(th_operand_bytes(&v.o), 1);
    assert_non_null(v.data);
    return v;
}

static inline struct value normal(uint64_t key, struct th_shape s)
{
    struct value v = empty(TH_F32, s);
    for (int64_t i = 0; i < th_shape_count(&s); i++)
        ((float *)v.data)[i] = th_rng_normal(key, (uint64_t)i);
    return v;
}

static inline struct value above_zero(uint64_t key, struct th_shape s)
{
    struct value v = normal(key, s);
    for (int64_t i = 0; i < th_shape_count(&s); i++)
        ((float *)v.data)[i] = 0.5f + fabsf(((float *)v.data)[i]);
    return v;
}

static inline struct value numbers(struct th_shape s, const float *from)
{
    struct value v = empty(TH_F32, s);
    memcpy(v.data, from, th_operand_bytes(&v.o));
    return v;
}

static inline float at(const struct value *v, int64_t i)
{
    return ((const float *)v->data)[i];
}

static inline int64_t count(const struct value *v)
{
    return th_shape_count(&v->o.shape);
}

static inline void release(struct value *values, int n)
{
    for (int i = 0; i < n; i++)
        th_free(values[i].data);
}

/* Run an op on ref; v lists its arguments, NULL where absent. */
static inline void run(enum th_op op, const union th_attr *attr, struct value *const *v)
{
    struct th_device *ref = NULL;
    ok(th_device_open("ref", 2, &ref), "ref");
    const struct th_op_rule *rule = th_op_rule(op);
    struct th_call call = {.op = op, .attr = *attr, .device = ref};
    for (int i = 0; i < rule->n_in + rule->n_out; i++)
        if (v[i] != NULL) {
            call.args[i] = v[i]->data;
            *(i < rule->n_in ? &call.in[i] : &call.out[i - rule->n_in]) = v[i]->o;
        }
    const struct th_kernel *kernel = ref->backend->kernel(op);
    if (kernel->prepare)
        ok(kernel->prepare(&call), rule->name);
    void *scratch = call.scratch = calloc(1, call.scratch_bytes + 1);
    ok(kernel->run(&call), rule->name);
    free(scratch);
    th_device_close(ref);
}

static inline void assert_close(const struct value *a, const struct value *b)
{
    assert_int_equal(count(a), count(b));
    for (int64_t i = 0; i < count(a); i++)
        if (!(fabs((double)at(a, i) - (double)at(b, i)) <=
                CLOSE * (1 + fabs((double)at(b, i)))))
            fail_msg("value %lld is %.9g, not %.9g", (long long)i, (double)at(a, i),
                (double)at(b, i));
}

static inline void assert_numbers(const struct value *a, const float *expected)
{
    struct value b = numbers(a->o.shape, expected);
    assert_close(a, &b);
    release(&b, 1);
}

#endif
