/* SPDX-License-Identifier: Apache-2.0
 * Owns the attributes of model files. */
#include "model_file.h"

#include "mem.h"
#include "merge.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TH_MODEL_FORMAT = 1 };

thaw_status th_model_file_add(
    struct th_weights *w, const struct th_store *s, int id, const char *name)
{
    const struct th_state *state = &s->states[id];
    const float *data = th_store_view(s, id);
    float *copy = NULL;
    name = name ? name : state->name;
    if (data) {
        TRY(th_weights_borrow(w, name, state->shape, data));
    } else {
        TRY(th_weights_add(w, name, state->shape, NULL, &copy));
        TRY(th_store_get(s, id, copy));
        data = copy;
    }
    int64_t at = th_not_finite(data, th_shape_count(&state->shape));
    if (at < 0)
        return THAW_OK;
    return th_fail(THAW_E_DIVERGED, "%s: value %lld is not finite any more",
        state->name, (long long)at);
}

/* The double that people mean by a float: 0.485, not 0.48500001. */
static double as_written(float x)
{
    char text[32];
    snprintf(text, sizeof text, "%.7g", (double)x);
    return strtod(text, NULL);
}

/* All sizes, where there are several: w, h, w, h, ... */
static thaw_status describe_sizes(const struct th_input *in, struct th_weights *w)
{
    const struct th_sizes all = th_input_sizes(in);
    int64_t side[2 * TH_MAX_SIZES];
    for (int i = 0; i < all.n; i++) {
        side[2 * i] = all.at[i].w;
        side[2 * i + 1] = all.at[i].h;
    }
    return all.n > 1 ? th_weights_set_ints(w, "input_sizes", side, 2 * (size_t)all.n)
                     : THAW_OK;
}

static thaw_status describe_input(const struct th_input *in, struct th_weights *w)
{
    const int64_t size[2] = {in->size.w, in->size.h};
    const double crop = as_written(in->crop);
    double mean[3], std[3];
    for (int c = 0; c < 3; c++) {
        mean[c] = as_written(in->mean[c]);
        std[c] = as_written(in->std[c]);
    }
    TRY(th_weights_set_ints(w, "input_size", size, size[0] == size[1] ? 1 : 2));
    TRY(describe_sizes(in, w));
    TRY(th_weights_set_floats(w, "mean", mean, 3));
    TRY(th_weights_set_floats(w, "std", std, 3));
    TRY(th_weights_set_floats(w, "crop", &crop, 1));
    return th_weights_set_string(
        w, "interpolation", in->bicubic ? "bicubic" : "bilinear");
}

static thaw_status describe_origin(const struct th_model *m, struct th_weights *w)
{
    const struct th_fingerprint *f = &m->trained_on;
    int64_t hashes[TH_N_SPLITS];
    char text[TH_FINGERPRINT_TEXT];
    memcpy(hashes, f->split, sizeof hashes); /* the same 64 bits */
    if (*m->adapted_on)
        TRY(th_weights_set_string(w, "adapted_on", m->adapted_on));
    if (f->images[TH_SPLIT_TRAIN] == 0)
        return THAW_OK;
    TRY(th_weights_set_string(w, "data_fingerprint", th_fingerprint_text(f, text)));
    TRY(th_weights_set_ints(w, "data_hashes", hashes, TH_N_SPLITS));
    return th_weights_set_ints(w, "data_images", f->images, TH_N_SPLITS);
}

bool th_model_file_trained_on(const struct th_weights *w, struct th_fingerprint *f)
{
    size_t n_hashes = 0, n_images = 0;
    const int64_t *hashes = th_weights_ints(w, "data_hashes", &n_hashes);
    const int64_t *images = th_weights_ints(w, "data_images", &n_images);
    if (!hashes || !images || n_hashes != TH_N_SPLITS || n_images != TH_N_SPLITS)
        return false;
    memcpy(f->split, hashes, sizeof f->split);
    memcpy(f->images, images, sizeof f->images);
    return true;
}

void th_model_file_origin(const struct th_weights *w, struct th_model *m)
{
    const char *adapted = th_weights_string(w, "adapted_on");
    th_model_file_trained_on(w, &m->trained_on);
    if (adapted)
        snprintf(m->adapted_on, sizeof m->adapted_on, "%s", adapted);
}

thaw_status th_model_file_describe(const struct th_model *m, struct th_weights *w)
{
    const int64_t format = TH_MODEL_FORMAT;
    TRY(th_weights_set_ints(w, "thaw_format", &format, 1));
    TRY(th_weights_set_string(w, "backbone", m->variant->name));
    const int64_t width = m->head_width;
    TRY(th_weights_set_string(w, "head", m->head->name));
    if (m->head->hidden)
        TRY(th_weights_set_ints(w, "head_width", &width, 1));
    TRY(th_weights_set_strings(
        w, "classes", (const char *const *)m->classes, (size_t)m->n_classes));
    TRY(describe_origin(m, w));
    return describe_input(&m->input, w);
}

/* A weight with its adapter in it. */
static thaw_status add_merged(
    struct th_weights *w, const struct th_model *m, const struct th_store *s, int i)
{
    const struct th_param *p = &m->params[i];
    float *data = NULL;
    TRY(th_weights_add(w, p->name, p->shape, NULL, &data));
    TRY(th_merge_weight(m, s, i, data));
    if (th_not_finite(data, th_shape_count(&p->shape)) < 0)
        return THAW_OK;
    return th_fail(
        THAW_E_DIVERGED, "%s: it is not finite any more with its adapter", p->name);
}

/* A model file is complete: adapters are merged into the weights that they are of. */
thaw_status th_model_file_fill(
    struct th_weights *w, const struct th_model *m, const struct th_store *s)
{
    TRY(th_model_file_describe(m, w));
    for (int i = 0; i < m->n_params; i++) {
        int a = -1, b = -1;
        if (th_param_is_lora(&m->params[i]))
            continue;
        if (th_merge_find(m, i, &a, &b)) {
            TRY(add_merged(w, m, s, i));
            continue;
        }
        int id = th_store_find(s, m->params[i].name);
        if (id < 0)
            return th_fail(THAW_E_FAIL, "%s: not in the store", m->params[i].name);
        TRY(th_model_file_add(w, s, id, NULL));
    }
    return THAW_OK;
}

thaw_status th_model_file_image(const struct th_model *m, const struct th_store *s,
    unsigned char **bytes, size_t *n)
{
    struct th_weights w;
    th_weights_init(&w);
    thaw_status status = th_model_file_fill(&w, m, s);
    if (status == THAW_OK)
        status = th_weights_to_image(&w, bytes, n);
    th_weights_release(&w);
    return status;
}

thaw_status th_model_file_write(
    const char *path, const struct th_model *m, const struct th_store *s)
{
    struct th_weights w;
    th_weights_init(&w);
    thaw_status status = th_model_file_fill(&w, m, s);
    if (status == THAW_OK)
        status = th_weights_write(path, NULL, &w);
    th_weights_release(&w);
    return status;
}

/* Three channels from an attribute of that many numbers. */
static thaw_status read_channels(
    const struct th_weights *w, const char *name, float out[3], bool *said)
{
    size_t n = 0;
    const double *x = th_weights_floats(w, name, &n);
    if (!x)
        return THAW_OK;
    if (n != 3)
        return th_fail(THAW_E_DATA, "attribute %s has %zu numbers, not 3", name, n);
    for (int c = 0; c < 3; c++)
        out[c] = (float)x[c];
    *said = true;
    return THAW_OK;
}

/* One number within limits. */
static thaw_status read_number(const struct th_weights *w, const char *name, double low,
    double high, double *out, bool *said)
{
    size_t n = 0;
    const double *x = th_weights_floats(w, name, &n);
    if (!x)
        return THAW_OK;
    if (n != 1 || !(x[0] >= low && x[0] <= high))
        return th_fail(THAW_E_DATA, "attribute %s is not one number from %g to %g",
            name, low, high);
    *out = x[0];
    *said = true;
    return THAW_OK;
}

thaw_status th_model_file_head_width(const struct th_weights *w, int *width)
{
    bool said;
    double x = 0;
    TRY(read_number(w, "head_width", 1, TH_MOST_HEAD_WIDTH, &x, &said));
    *width = (int)x;
    return THAW_OK;
}

enum { MOST = 1 << 16 }; /* pixels of a side */

/* One number, of a square, or width and height; false where it is neither. */
static bool size_of(const struct th_weights *w, struct th_size *out)
{
    size_t n = 0;
    const double *x = th_weights_floats(w, "input_size", &n);
    if (!x || n < 1 || n > 2)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!(x[i] >= 1 && x[i] <= MOST))
            return false;
    *out = (struct th_size){(int)x[0], (int)x[n - 1]};
    return true;
}

struct th_size th_model_file_shape(const struct th_weights *w)
{
    struct th_size size = {1, 1};
    size_of(w, &size);
    return size;
}

static thaw_status read_size(
    const struct th_weights *w, struct th_size *out, bool *said)
{
    if (!th_weights_floats(w, "input_size", NULL))
        return THAW_OK;
    if (!size_of(w, out))
        return th_fail(THAW_E_DATA,
            "attribute input_size is not one number from 1 to 65536, nor two (width, "
            "height)");
    *said = true;
    return THAW_OK;
}

/* Beside input_size, the sizes of which it is the first. */
static thaw_status read_sizes(const struct th_weights *w, struct th_input *input)
{
    struct th_sizes all = {0};
    size_t n = 0;
    const double *x = th_weights_floats(w, "input_sizes", &n);
    input->others.n = 0;
    if (!x)
        return THAW_OK;
    bool good = n % 2 == 0 && n / 2 >= 1 && n / 2 <= TH_MAX_SIZES;
    for (size_t i = 0; good && i < n; i++)
        good = x[i] >= 1 && x[i] <= MOST;
    for (size_t i = 0; good && i < n / 2; i++)
        all.at[all.n++] = (struct th_size){(int)x[2 * i], (int)x[2 * i + 1]};
    if (!good || !th_size_same(all.at[0], input->size))
        return th_fail(THAW_E_DATA,
            "attribute input_sizes is not widths and heights of at most %d sizes, "
            "input_size the first",
            TH_MAX_SIZES);
    th_input_set_sizes(input, all);
    return THAW_OK;
}

thaw_status th_model_file_input(
    const struct th_weights *w, struct th_input *input, bool *said)
{
    double crop = (double)input->crop;
    const char *filter = th_weights_string(w, "interpolation");
    *said = filter != NULL;
    TRY(read_size(w, &input->size, said));
    TRY(read_sizes(w, input));
    TRY(read_number(w, "crop", 0.01, 1, &crop, said));
    TRY(read_channels(w, "mean", input->mean, said));
    TRY(read_channels(w, "std", input->std, said));
    for (int c = 0; c < 3; c++)
        if (!(isfinite(input->mean[c]) && isfinite(input->std[c]) && input->std[c] > 0))
            return th_fail(THAW_E_DATA, "attributes mean and std are not usable");
    if (filter)
        input->bicubic = strcmp(filter, "bicubic") == 0;
    input->crop = (float)crop;
    return THAW_OK;
}
