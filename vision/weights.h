/* SPDX-License-Identifier: Apache-2.0
 * Weight files: named fp32 tensors and attributes, in memory and in files.
 *
 *     struct th_weights w;
 *     th_weights_init(&w);
 *     TRY(th_weights_read("resnet18.pth", &w));       recognised by content
 *     const struct th_weight *conv = th_weights_find(&w, "conv1.weight");
 *     th_weights_release(&w);
 *
 * A format is one file in vision/weights/. Which parameters a model wants is
 * weights_load's business. */
#ifndef TH_WEIGHTS_H
#define TH_WEIGHTS_H

#include "tensor.h"

struct th_weight {
    char *name;              /* dotted: "layer1.0.conv1.weight" */
    struct th_tensor tensor; /* TH_F32 */
    bool borrowed;           /* the tensor's bytes are somebody else's */
};

enum th_attribute_kind {
    TH_ATTRIBUTE_STRING,  /* one text */
    TH_ATTRIBUTE_STRINGS, /* a list of n texts */
    TH_ATTRIBUTE_FLOATS,  /* n numbers; one alone is a scalar in the file */
    TH_ATTRIBUTE_INTS
};

struct th_attribute {
    char *name;
    enum th_attribute_kind kind;
    size_t n;
    char **strings; /* each owned; for the two kinds of text */
    double *floats;
    int64_t *ints;
};

/* Owns everything it points to but what is borrowed. All fields are for reading only. */
struct th_weights {
    size_t n, capacity;
    struct th_weight *weight; /* in the order of the file, or of adding */
    size_t n_attributes, attribute_capacity;
    struct th_attribute *attribute;
    size_t n_buckets;   /* hash index over the names: a power of two, or 0 */
    uint32_t *bucket;   /* 1 + index into weight; 0 is empty */
    size_t bytes;       /* of all tensors */
    size_t limit;       /* refuse to hold more bytes than this; 0 is no limit */
    const char *where;  /* the file being read, for messages; else "" */
    const char *format; /* name of the file format it was read from, else "" */
    char *notes;        /* "a, b": what reading changed or passed over; NULL: nothing */
};

void th_weights_init(struct th_weights *w);
void th_weights_release(struct th_weights *w);

/* Add a tensor; NULL data leaves zeros. *data_out (may be NULL) is where its numbers
 * are, valid until th_weights_release. A name twice is THAW_E_DATA. */
thaw_status th_weights_add(struct th_weights *w, const char *name,
    struct th_shape shape, const float *data, float **data_out);

/* Likewise numbers that stay where they are, and outlive w. */
thaw_status th_weights_borrow(
    struct th_weights *w, const char *name, struct th_shape shape, const float *data);

/* Likewise a tensor that exists: its bytes move, `from` is empty then. On failure it is
 * as it was. */
thaw_status th_weights_move(
    struct th_weights *w, const char *name, struct th_tensor *from);

/* Add to the notes, which the load report shows. */
thaw_status th_weights_note(struct th_weights *w, const char *fmt, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* NULL where there is no such tensor. */
const struct th_weight *th_weights_find(const struct th_weights *w, const char *name);

/* Set an attribute, replacing one of that name. Values are copied. */
thaw_status th_weights_set_string(
    struct th_weights *w, const char *name, const char *value);
thaw_status th_weights_set_strings(
    struct th_weights *w, const char *name, const char *const *values, size_t n);
thaw_status th_weights_set_floats(
    struct th_weights *w, const char *name, const double *values, size_t n);
thaw_status th_weights_set_ints(
    struct th_weights *w, const char *name, const int64_t *values, size_t n);

/* NULL where there is no such attribute or it is of another kind; *n may be NULL.
 * floats are given for integers too. A single string counts as a list of one. */
const char *th_weights_string(const struct th_weights *w, const char *name);
const char *const *th_weights_strings(
    const struct th_weights *w, const char *name, size_t *n);
const double *th_weights_floats(
    const struct th_weights *w, const char *name, size_t *n);
const int64_t *th_weights_ints(const struct th_weights *w, const char *name, size_t *n);

/* Read a weight file of any known format into an initialised, empty `out`. Names are
 * cleaned: groups become dots, "module.", "model.", "backbone." go where all carry them,
 * num_batches_tracked is dropped. On failure `out` is empty again. Memory: the file, and its tensors as fp32,
 * together at most TH_WEIGHTS_BASE + TH_WEIGHTS_RATIO times the file. */
thaw_status th_weights_read(const char *path, struct th_weights *out);

/* The format that a path's ending names and that can be written; NULL: none. */
const char *th_weights_format_of(const char *path);

/* Write durably (th_file_write_atomic) in `format`; NULL is the one that the ending names,
 * else "hdf5", the model file. */
thaw_status th_weights_write(
    const char *path, const char *format, const struct th_weights *w);

enum { TH_IMAGE_ROOM = 16 };

/* The same in memory, names untouched, for checkpoints: the bytes of an HDF5 file and room
 * for TH_IMAGE_ROOM more, for th_free; equal content gives equal bytes. A name may have groups: "adam.m/fc.weight".
 * Order is kept for names without groups. `where` names the source in messages. */
thaw_status th_weights_to_image(
    const struct th_weights *w, unsigned char **bytes, size_t *n);
thaw_status th_weights_read_image(
    const unsigned char *bytes, size_t n, const char *where, struct th_weights *out);

/* What a file may expand to: half precision doubles, int8 is four times, and compressed
 * zeros (fresh biases) are more. A bomb is a thousand times. */
#define TH_WEIGHTS_BASE ((size_t)64 << 20)
#define TH_WEIGHTS_RATIO 32

/* Registry entry: one file format. */
struct th_weight_format {
    const char *name;
    const char *endings; /* of file names, for writing: "h5 hdf5"; NULL: only read */
    /* Are these the bytes of such a file? All n bytes are given; look at few. */
    bool (*sniff)(const unsigned char *bytes, size_t n);
    /* Add all tensors and attributes to `out`, which the caller releases on failure. */
    thaw_status (*read)(const unsigned char *bytes, size_t n, const char *where,
        struct th_weights *out);
    /* The bytes of such a file, for th_free; NULL where the format is only read. */
    thaw_status (*image)(const struct th_weights *w, unsigned char **bytes, size_t *n);
    /* Name and version of the library that does it; NULL: it has none. */
    void (*library)(char *text, size_t size);
};

extern const struct th_weight_format
    *const th_weight_format_list[]; /* NULL at the end */

#endif
