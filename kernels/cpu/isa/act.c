/* SPDX-License-Identifier: Apache-2.0
 * Owns relu and its gradient, and add: value by value, in any layout. */
#include "lanes.h"

static void relu_part(const struct th_call *call, int64_t i)
{
    const struct th_args_relu *a = (const void *)call->args;
    struct span s = span_of(&call->in[0], i);
    const float *x = a->x;
    float *y = a->y;
    uint8_t *mask = a->mask_;
    for (int64_t at = s.from; at < s.end; at += TH_GROUP) {
        int n = v_left(at, s.end);
        v16 v = v_max(v_all(0), v_load_n(x + at, n, v_all(0)));
        if (mask)
            bits_write(mask, at, n, v_positive(v));
        v_store_n(y + at, n, v);
    }
}

TH_OWN(relu)
{
    return run_spans(call, relu_part);
}

static void relu_dx_part(const struct th_call *call, int64_t i)
{
    const struct th_args_relu_dx *a = (const void *)call->args;
    struct span s = span_of(&call->in[0], i);
    const float *dy = a->dy, *add = a->add_;
    float *dx = a->dx;
    for (int64_t at = s.from; at < s.end; at += TH_GROUP) {
        int n = v_left(at, s.end);
        v16 v = v_load_n(dy + at, n, v_all(0));
        if (add)
            v = v_add(v, v_load_n(add + at, n, v_all(0)));
        v_store_n(dx + at, n, v_keep(v, bits_read(a->mask, at, n)));
    }
}

TH_OWN(relu_dx)
{
    return run_spans(call, relu_dx_part);
}

static void add_part(const struct th_call *call, int64_t i)
{
    const struct th_args_add *t = (const void *)call->args;
    struct span s = span_of(&call->in[0], i);
    const float *a = t->a, *b = t->b;
    float *y = t->y;
    for (int64_t at = s.from; at < s.end; at += TH_GROUP) {
        int n = v_left(at, s.end);
        v16 v = v_load_n(a + at, n, v_all(0));
        v_store_n(y + at, n, v_add(v, v_load_n(b + at, n, v_all(0))));
    }
}

TH_OWN(add)
{
    return run_spans(call, add_part);
}
