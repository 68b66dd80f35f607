/* SPDX-License-Identifier: Apache-2.0
 * What the files of the shim share: the step from within. The only header that includes
 * dnnl.h; nobody but dnnl_shim*.c includes it. */
#ifndef TH_DNNL_STEP_H
#define TH_DNNL_STEP_H

#include "dnnl_shim.h"

#include <oneapi/dnnl/dnnl.h>

struct th_dnnl {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    enum th_isa_level cap;
    int threads;
    char version[24];
};

enum { TH_DNNL_MOST_ARGS = 12 };

struct th_dnnl_step {
    struct th_dnnl *dnnl;
    dnnl_primitive_t primitive;
    int n_args;
    dnnl_exec_arg_t arg[TH_DNNL_MOST_ARGS];
    enum th_dnnl_role role[TH_DNNL_MOST_ARGS];
    dnnl_memory_desc_t weights;
    size_t scratch_bytes;
    char implementation[64];
};

/* The error of a call that failed. */
thaw_status th_dnnl_failed(const char *what, dnnl_status_t status);

/* Return from the caller, which holds nothing, when a oneDNN call fails. */
#define TRY_DNNL(what, call)                                                           \
    do {                                                                               \
        dnnl_status_t dnnl_status_ = (call);                                           \
        if (dnnl_status_ != dnnl_success)                                              \
            return th_dnnl_failed(what, dnnl_status_);                                 \
    } while (0)

/* oneDNN reads OpenMP's thread count of the calling thread, both when a primitive is
 * made and when it runs; the caller's own setting is put back. */
int th_dnnl_enter(const struct th_dnnl *d);
void th_dnnl_leave(const struct th_dnnl *d, int before);

/* The first acceptable implementation of an operation; NULL: there is none. */
thaw_status th_dnnl_choose(struct th_dnnl *d, const_dnnl_op_desc_t op,
    const_dnnl_primitive_attr_t attr, const_dnnl_primitive_desc_t hint,
    dnnl_primitive_desc_t *out);

/* A step around pd, which it keeps only while it is called; arguments come after. */
thaw_status th_dnnl_step_new(
    struct th_dnnl *d, const_dnnl_primitive_desc_t pd, struct th_dnnl_step **out);
thaw_status th_dnnl_add_arg(struct th_dnnl_step *s, enum th_dnnl_role role, int arg,
    const dnnl_memory_desc_t *md);

/* From X to Y; 2.x needs no attributes for what the two descriptions say. */
thaw_status th_dnnl_reorder_between(struct th_dnnl *d, const dnnl_memory_desc_t *from,
    const dnnl_memory_desc_t *to, struct th_dnnl_step **out);

#endif
