/* SPDX-License-Identifier: Apache-2.0
 * idx:DIR: MNIST's four files, or Fashion-MNIST's, as they are downloaded, gzipped or
 * not: train-images-idx3-ubyte(.gz) and so on; t10k is the test split. Classes are the
 * ten of Fashion-MNIST where the folder's name contains "fashion", else "0", "1", ... */
#include "dataset.h"
#include "error.h"
#include "file.h"
#include "mem.h"

#include <stdio.h>
#include <string.h>

#include <sys/stat.h>
#include <zlib.h>

enum {
    MAX_SIDE = 4096,
    MOST_PACKED =
        1032, /* bytes that deflate makes of one: RFC 1951, a run of 258 in 2 bits */
};
static const int64_t MAX_BYTES = (int64_t)1 << 31;

static const char *const fashion[] = {"T-shirt", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"};

/* An idx file (yann.lecun.com/exdb/mnist): magic 0, 0, 8 (bytes), rank; extents as
 * big-endian 32-bit numbers; data. */
struct idx {
    char *name;
    gzFile file;
    int64_t extent[3];
};

static thaw_status read_exactly(struct idx *idx, void *to, int64_t n)
{
    for (char *at = to; n > 0;) {
        int got = gzread(idx->file, at, n < 1 << 20 ? (unsigned)n : 1u << 20);
        if (got <= 0)
            return th_fail(
                THAW_E_DATA, "%s: the file is damaged or ends early", idx->name);
        at += got;
        n -= got;
    }
    return THAW_OK;
}

static void idx_close(struct idx *idx)
{
    if (idx->file)
        gzclose(idx->file);
    th_free(idx->name);
}

/* Memory is not taken for bytes that a file of this size cannot hold. */
static thaw_status check_size(const struct idx *idx, int64_t bytes)
{
    struct stat st;
    if (bytes > MAX_BYTES)
        return th_fail(THAW_E_DATA, "%s: larger than 2 GiB", idx->name);
    if (stat(idx->name, &st) == 0 &&
        bytes / (gzdirect(idx->file) ? 1 : MOST_PACKED) > st.st_size)
        return th_fail(THAW_E_DATA, "%s: the file is damaged or ends early", idx->name);
    return THAW_OK;
}

static thaw_status read_header(struct idx *idx, int rank)
{
    uint8_t head[4];
    TRY(read_exactly(idx, head, sizeof head));
    if (head[0] || head[1] || head[2] != 8 || head[3] != rank)
        return th_fail(THAW_E_DATA, "%s: not an idx%d file of bytes", idx->name, rank);
    int64_t bytes = 1;
    for (int i = 0; i < rank; i++) {
        TRY(read_exactly(idx, head, sizeof head));
        idx->extent[i] =
            (int64_t)head[0] << 24 | head[1] << 16 | head[2] << 8 | (int64_t)head[3];
        if (idx->extent[i] < 1 || (i > 0 && idx->extent[i] > MAX_SIDE))
            return th_fail(THAW_E_DATA, "%s: an extent of %lld", idx->name,
                (long long)idx->extent[i]);
        bytes *= idx->extent[i]; /* below 2^56 */
    }
    return check_size(idx, bytes);
}

/* Open DIR/STEM-idxR-ubyte, with .gz or without, also with a dot for the first dash.
 * idx_close it also after a failure. */
static thaw_status idx_open(
    struct idx *idx, const char *dir, const char *stem, int rank)
{
    static const char *const forms[] = {"-\0.gz", "-\0", ".\0.gz", ".\0"};
    for (size_t i = 0; i < sizeof forms / sizeof *forms && !idx->file; i++) {
        th_free(idx->name);
        idx->name =
            th_format("%s/%s%sidx%d-ubyte%s", dir, stem, forms[i], rank, forms[i] + 2);
        if (!idx->name)
            return THAW_E_MEMORY;
        if (th_file_exists(idx->name)) {
            TRY(th_file_check(idx->name));
            idx->file = gzopen(idx->name, "rbe");
        }
    }
    if (!idx->file)
        return th_fail(THAW_E_DATA,
            "%s: no file %s-idx%d-ubyte or %s-idx%d-ubyte.gz in it", dir, stem, rank,
            stem, rank);
    return read_header(idx, rank);
}

static thaw_status class_name(const char *dir, int label, char *name, size_t size)
{
    bool has_names = strcasestr(dir, "fashion") != NULL;
    if (has_names && label >= (int)(sizeof fashion / sizeof *fashion))
        return th_fail(
            THAW_E_DATA, "%s: label %d, Fashion-MNIST has 0 to 9", dir, label);
    if (has_names)
        snprintf(name, size, "%s", fashion[label]);
    else
        snprintf(name, size, "%d", label);
    return THAW_OK;
}

static thaw_status add_samples(struct th_dataset *d, enum th_split split,
    const char *dir, const struct idx *images, const uint8_t *labels)
{
    const uint8_t *pixels = d->memory[split];
    struct th_sample sample = {
        .w = (int)images->extent[2], .h = (int)images->extent[1]};
    int64_t bytes = images->extent[1] * images->extent[2];
    char name[16];
    for (int64_t i = 0; i < images->extent[0]; i++) {
        TRY(class_name(dir, labels[i], name, sizeof name));
        TRY(th_dataset_class(d, name, &sample.label));
        sample.pixels = pixels + i * bytes;
        TRY(th_dataset_add_pixels(d, split, &sample));
    }
    return THAW_OK;
}

/* Both files are open and their headers read. */
static thaw_status read_pair(struct th_dataset *d, enum th_split split, const char *dir,
    struct idx *images, struct idx *labels)
{
    int64_t n = images->extent[0];
    if (labels->extent[0] != n)
        return th_fail(THAW_E_DATA, "%s: %lld labels for %lld images", labels->name,
            (long long)labels->extent[0], (long long)n);
    int64_t bytes = n * images->extent[1] * images->extent[2];
    uint8_t *label = th_alloc((size_t)n, 1);
    d->memory[split] = th_alloc((size_t)bytes, 1);
    thaw_status status = label && d->memory[split] ? THAW_OK : THAW_E_MEMORY;
    if (status == THAW_OK)
        status = read_exactly(images, d->memory[split], bytes);
    if (status == THAW_OK)
        status = read_exactly(labels, label, n);
    if (status == THAW_OK)
        status = add_samples(d, split, dir, images, label);
    th_free(label);
    return status;
}

static thaw_status read_split(
    struct th_dataset *d, enum th_split split, const char *dir, const char *prefix)
{
    struct idx images = {0}, labels = {0};
    char stem[32];
    snprintf(stem, sizeof stem, "%s-images", prefix);
    thaw_status status = idx_open(&images, dir, stem, 3);
    snprintf(stem, sizeof stem, "%s-labels", prefix);
    if (status == THAW_OK)
        status = idx_open(&labels, dir, stem, 1);
    if (status == THAW_OK)
        status = read_pair(d, split, dir, &images, &labels);
    idx_close(&labels);
    idx_close(&images);
    return status;
}

static thaw_status read_idx(const char *where, struct th_dataset *d)
{
    TRY(th_file_check_folder(where));
    TRY(read_split(d, TH_SPLIT_TRAIN, where, "train"));
    return read_split(d, TH_SPLIT_TEST, where, "t10k");
}

const struct th_format th_format_idx = {
    .name = "idx",
    .help = "idx:DIR with MNIST's or Fashion-MNIST's four files, gzipped or not",
    .read = read_idx,
};
