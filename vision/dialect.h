/* SPDX-License-Identifier: Apache-2.0
 * Dialects: what other projects call the tensors that torchvision or timm, and so Thaw,
 * call otherwise, and how they lay them out. After a file is read, its names and numbers
 * become ours; what was done goes to the notes, which the load report shows.
 *
 * A dialect is one file in vision/dialects/ that ends in a const struct: a table of rows.
 *
 *     TH_NAME("encoder.layer.#.output.dense.*", "blocks.#.mlp.fc2.*")
 *     TH_PART("encoder.layer.#.attention.attention.key.*", "blocks.#.attn.qkv.*", SAME, 2)
 *     TH_FITTED("head.kernel", "head.weight", KERNEL)                       transposed
 *     TH_GONE("embeddings.mask_token")
 *
 * In `from`, # is a number and * the rest without a dot; in `to` they stand for what
 * they met, in order, #+ and #- for one more and one less. */
#ifndef TH_DIALECT_H
#define TH_DIALECT_H

#include "weights.h"

enum th_fit {
    TH_FIT_SAME,
    TH_FIT_KERNEL,     /* [h][w][i][o] -> [o][i][h][w]; [i][o] -> [o][i] */
    TH_FIT_KERNEL_BGR, /* likewise, and the input channels turned round */
    TH_FIT_TO_HEADS,   /* [i][heads][d] -> [heads d][i] */
    TH_FIT_OF_HEADS,   /* [heads][d][o] -> [o][heads d] */
    TH_FIT_VECTOR,     /* [heads][d] -> [heads d] */
    TH_FIT_TOKENS,     /* [t][d] or [d] -> [1][t][d] */
    TH_FIT_DROP        /* of no use here */
};

struct th_name_row {
    const char *from, *to;
    enum th_fit fit;
    int part; /* 1, 2, 3: of three that are stacked (query, key, value); 0: whole */
};

/* How those who trained it prepare images, where the file does not say. */
struct th_dialect_input {
    double mean[3], std[3], crop;
    const char *interpolation;
};

struct th_dialect {
    const char *name;         /* for the notes: "Hugging Face ViT" */
    const char *const *signs; /* patterns, "this|or that"; some tensor meets each */
    bool (*recognise)(const struct th_weights *w); /* instead of signs */
    const char *const *wrapped; /* beginnings that go where they stand; may be NULL */
    const struct th_name_row *row;
    size_t n_rows;
    const struct th_dialect_input *input; /* NULL: not known */
    /* Does what rows cannot, before and after them; each may be NULL. */
    thaw_status (*before)(struct th_weights *w, const char *where);
    thaw_status (*after)(struct th_weights *w, const char *where);
};

#define TH_NAME(from, to)                                                              \
    {                                                                                  \
        from, to, TH_FIT_SAME, 0                                                       \
    }
#define TH_FITTED(from, to, fit)                                                       \
    {                                                                                  \
        from, to, TH_FIT_##fit, 0                                                      \
    }
#define TH_PART(from, to, fit, part)                                                   \
    {                                                                                  \
        from, to, TH_FIT_##fit, part                                                   \
    }
#define TH_GONE(from)                                                                  \
    {                                                                                  \
        from, "", TH_FIT_DROP, 0                                                       \
    }
#define TH_ROWS(table) .row = (table), .n_rows = sizeof(table) / sizeof *(table)

extern const struct th_dialect *const th_dialect_list[]; /* NULL at the end */

/* Make names and layouts ours; files that are ours already stay as they are. THAW_E_DATA
 * for a file that is half of something. */
thaw_status th_dialect_apply(struct th_weights *w, const char *where);

/* Does `name` meet the pattern? */
bool th_dialect_meets(const char *pattern, const char *name);

/* Make `t` fit; THAW_E_DATA where its rank does not allow it. */
thaw_status th_dialect_fit(
    struct th_tensor *t, enum th_fit fit, const char *name, const char *where);

/* If any name begins with `prefix`, drop the tensors whose names do not. */
thaw_status th_dialect_keep(
    struct th_weights *w, const char *prefix, const char *where);

/* For `before` and `after`: an empty list with the attributes and notes of w, which loses
 * them; and the way back, which releases what is left in w. */
void th_dialect_begin(struct th_weights *w, struct th_weights *out);
void th_dialect_finish(struct th_weights *w, struct th_weights *out);

#endif
