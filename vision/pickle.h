/* SPDX-License-Identifier: Apache-2.0
 * Pickles of PyTorch, read as data. Nothing is ever executed: a global is a row of a
 * fixed table or the file is refused, and calling one makes a dict, a tensor's
 * description, or an opaque thing without content. */
#ifndef TH_PICKLE_H
#define TH_PICKLE_H

#include "number.h"
#include "tensor.h"

enum th_pickle_kind {
    TH_PICKLE_OPAQUE, /* allowed, of no use here: numpy scalars, devices, sets */
    TH_PICKLE_NONE,
    TH_PICKLE_BOOL,
    TH_PICKLE_INT,
    TH_PICKLE_FLOAT,
    TH_PICKLE_TEXT,
    TH_PICKLE_BYTES,
    TH_PICKLE_TUPLE,
    TH_PICKLE_LIST,
    TH_PICKLE_DICT, /* items are key, value, key, value, ... */
    TH_PICKLE_GLOBAL,
    TH_PICKLE_STORAGE,
    TH_PICKLE_TENSOR
};

struct th_pickle_value {
    enum th_pickle_kind kind;
    uint32_t index; /* into lists (TUPLE, LIST, DICT), storages, tensors, globals */
    union {
        int64_t integer; /* BOOL too */
        double real;
        struct {
            const char *at; /* into the pickle's bytes, not terminated */
            size_t n;
        } text; /* TEXT, BYTES */
    };
};

struct th_pickle_list {
    uint32_t *item; /* indices into value */
    size_t n, capacity;
};

struct th_pickle_storage {
    enum th_number dtype;
    uint32_t key;   /* a TEXT value: names the bytes */
    int64_t n;      /* elements that tensors may use */
    int64_t root_n; /* elements stored; more than n where this is a view, as in files */
    int64_t offset; /* of before 2017: elements before the view's own */
};

struct th_pickle_tensor {
    uint32_t storage;
    int64_t offset; /* elements; all extents are >= 0 and checked for overflow, */
    struct th_shape shape;
    int64_t stride[TH_MAX_RANK]; /* and lie within the storage's n elements */
};

/* One pickle, run to its end. */
struct th_pickle {
    struct th_pickle_value *value;
    struct th_pickle_list *list;
    struct th_pickle_storage *storage;
    struct th_pickle_tensor *tensor;
    size_t n_values, n_lists, n_storages, n_tensors;
    size_t value_capacity, list_capacity, storage_capacity, tensor_capacity;
    uint32_t root; /* index of the result */
};

/* Run the pickle at the start of n bytes, which must outlive `out`. *used (may be NULL)
 * is its length. */
thaw_status th_pickle_init(struct th_pickle *out, const unsigned char *bytes, size_t n,
    const char *where, size_t *used);
void th_pickle_release(struct th_pickle *p);

/* Is this value the text (or Python 2 string) `text`? */
bool th_pickle_is_text(const struct th_pickle *p, uint32_t value, const char *text);

#endif
