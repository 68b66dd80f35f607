/* SPDX-License-Identifier: Apache-2.0
 * Owns the reading of a hub's JSON. Only files with a hub's names are looked for, and only
 * beside a file with one: the config.json of a run folder is another. */
#include "hub.h"

#include "error.h"
#include "file.h"
#include "json.h"
#include "mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_BYTES = 16 << 20 /* of JSON: 21,000 classes are 2 MB */,
    MAX_CLASSES = 1 << 20
};
enum { PILLOW_BILINEAR = 2, PILLOW_BICUBIC = 3 };

static const char *const weight_files[] = {"model.safetensors", "pytorch_model.bin",
    "open_clip_model.safetensors", "open_clip_pytorch_model.bin", "tf_model.h5"};

enum { N_FILES = sizeof weight_files / sizeof weight_files[0] };

thaw_status th_hub_find(const char *folder, char **path)
{
    *path = NULL;
    for (int i = 0; i < N_FILES; i++) {
        char *tried = th_format("%s/%s", folder, weight_files[i]);
        if (!tried)
            return THAW_E_MEMORY;
        if (th_file_exists(tried)) {
            *path = tried;
            return THAW_OK;
        }
        th_free(tried);
    }
    return THAW_OK;
}

static bool is_number(const struct th_json *j)
{
    return j && j->kind == TH_JSON_NUMBER;
}

static bool is_false(const struct th_json *object, const char *key)
{
    const struct th_json *j = th_json_get(object, key);
    return j && j->kind == TH_JSON_BOOL && !j->is_true;
}

/* Three numbers of an array, times `scale`, as attribute `name`. */
static thaw_status put_channels(struct th_weights *w, const char *name,
    const struct th_json *array, double scale, const char *where)
{
    double x[3];
    const struct th_json *j = array->first;
    if (array->kind != TH_JSON_ARRAY || array->n != 3)
        return th_fail(THAW_E_DATA, "%s: %s is not three numbers", where, array->key);
    for (int c = 0; c < 3; c++, j = j->next) {
        if (!is_number(j) || !isfinite(j->real * scale))
            return th_fail(
                THAW_E_DATA, "%s: %s is not three numbers", where, array->key);
        x[c] = j->real * scale;
    }
    return th_weights_set_floats(w, name, x, 3);
}

/* Pixels of 224, {"shortest_edge": 224} or {"height": 224, "width": 224}; 0: not said. */
static double side(const struct th_json *j)
{
    static const char *const keys[] = {"shortest_edge", "height"};
    for (int i = 0; i < 2 && j && j->kind == TH_JSON_OBJECT; i++)
        if (is_number(th_json_get(j, keys[i])))
            j = th_json_get(j, keys[i]);
    return is_number(j) && j->real >= 1 && j->real <= 1 << 16 ? j->real : 0;
}

/* What the network sees, and which share of the resized picture's side that is. */
static thaw_status put_size(struct th_weights *w, const struct th_json *root)
{
    const struct th_json *share = th_json_get(root, "crop_pct");
    double size = side(th_json_get(root, "size")), crop = 1;
    double cut =
        is_false(root, "do_center_crop") ? 0 : side(th_json_get(root, "crop_size"));
    if (is_number(share) && share->real > 0 && share->real <= 1 && size < 384)
        crop = share->real; /* ConvNeXt's rule, of Hugging Face's ResNets too */
    else if (cut > 0 && size >= cut)
        crop = cut / size;
    int64_t pixels = (int64_t)(cut > 0 ? cut : size);
    if (pixels < 1)
        return THAW_OK;
    TRY(th_weights_set_ints(w, "input_size", &pixels, 1));
    return th_weights_set_floats(w, "crop", &crop, 1);
}

/* preprocessor_config.json: (v f - mean) / std, f = 1 / 255 unless it is said. */
static thaw_status read_preprocessor(
    const struct th_json *root, const char *where, struct th_weights *w)
{
    const struct th_json *mean = th_json_get(root, "image_mean"),
                         *std = th_json_get(root, "image_std"),
                         *factor = th_json_get(root, "rescale_factor"),
                         *filter = th_json_get(root, "resample");
    double f = is_false(root, "do_rescale") ? 1
               : is_number(factor)          ? factor->real
                                            : 1.0 / 255;
    if (mean && std && !is_false(root, "do_normalize")) {
        if (!(f > 0))
            return th_fail(THAW_E_DATA, "%s: rescale_factor is not above 0", where);
        TRY(put_channels(w, "mean", mean, 1 / (255 * f), where));
        TRY(put_channels(w, "std", std, 1 / (255 * f), where));
    }
    if (is_number(filter) &&
        (filter->real == PILLOW_BILINEAR || filter->real == PILLOW_BICUBIC))
        TRY(th_weights_set_string(w, "interpolation",
            filter->real == PILLOW_BICUBIC ? "bicubic" : "bilinear"));
    TRY(put_size(w, root));
    return mean && std ? th_weights_note(w, "preprocessing of preprocessor_config.json")
                       : THAW_OK;
}

/* {"0": "tench", "1": ...}: the names in order, where none is missing. */
static thaw_status read_labels(const struct th_json *labels, struct th_weights *w)
{
    size_t found = 0;
    if (!labels || labels->kind != TH_JSON_OBJECT || !labels->n ||
        labels->n > MAX_CLASSES)
        return THAW_OK;
    const char **name = th_alloc(labels->n, sizeof *name);
    if (!name)
        return THAW_E_MEMORY;
    for (const struct th_json *j = labels->first; j; j = j->next) {
        char *end = NULL;
        unsigned long i = strtoul(j->key, &end, 10);
        if (j->kind == TH_JSON_STRING && *j->key && !*end && i < labels->n &&
            !name[i]) {
            name[i] = j->text;
            found++;
        }
    }
    thaw_status status = found == labels->n
                             ? th_weights_set_strings(w, "classes", name, labels->n)
                             : THAW_OK;
    th_free(name);
    return status;
}

/* timm's: {"mean", "std", "crop_pct", "interpolation", "input_size": [3, h, w]}. */
static thaw_status read_timm(const struct th_json *cfg, const char *where,
    const char *note, struct th_weights *w)
{
    const struct th_json *mean = th_json_get(cfg, "mean"),
                         *std = th_json_get(cfg, "std"),
                         *crop = th_json_get(cfg, "crop_pct"),
                         *filter = th_json_get(cfg, "interpolation"),
                         *size = th_json_get(cfg, "input_size");
    if (!mean || !std)
        return THAW_OK;
    TRY(put_channels(w, "mean", mean, 1, where));
    TRY(put_channels(w, "std", std, 1, where));
    if (is_number(crop))
        TRY(th_weights_set_floats(w, "crop", &crop->real, 1));
    if (filter && filter->kind == TH_JSON_STRING)
        TRY(th_weights_set_string(w, "interpolation", filter->text));
    if (size && size->kind == TH_JSON_ARRAY && size->n == 3 &&
        is_number(size->first->next) && is_number(size->first->next->next)) {
        const int64_t h = size->first->next->whole,
                      pixels[] = {size->first->next->next->whole, h};
        TRY(th_weights_set_ints(w, "input_size", pixels, pixels[0] == h ? 1 : 2));
    }
    return th_weights_note(w, note);
}

static const char *text_of(const struct th_json *object, const char *key)
{
    const struct th_json *j = th_json_get(object, key);
    return j && j->kind == TH_JSON_STRING ? j->text : NULL;
}

/* Which GELU: transformers writes down what differs from a class's own choice, and CLIP's
 * is quick-GELU. */
static thaw_status read_activation(const struct th_json *root, struct th_weights *w)
{
    const struct th_json *tower = th_json_get(root, "vision_config");
    const char *type = text_of(root, "model_type");
    const char *act = text_of(tower ? tower : root, "hidden_act");
    if (!act && type && (!strcmp(type, "clip") || !strcmp(type, "clip_vision_model")))
        act = "quick_gelu";
    return act ? th_weights_set_string(w, "activation", act) : THAW_OK;
}

/* OpenCLIP's: {"model_cfg": {"quick_gelu"}, "preprocess_cfg": {"mean", "std", ...}}. */
static thaw_status read_open_clip(
    const struct th_json *root, const char *where, struct th_weights *w)
{
    const struct th_json *quick =
        th_json_get(th_json_get(root, "model_cfg"), "quick_gelu");
    if (quick && quick->kind == TH_JSON_BOOL && quick->is_true)
        TRY(th_weights_set_string(w, "activation", "quick_gelu"));
    return th_weights_floats(w, "mean", NULL)
               ? THAW_OK
               : read_timm(th_json_get(root, "preprocess_cfg"), where,
                     "preprocessing of open_clip_config.json", w);
}

static thaw_status read_config(
    const struct th_json *root, const char *where, struct th_weights *w)
{
    const char *timm = text_of(root, "architecture");
    if (!th_weights_strings(w, "classes", NULL))
        TRY(read_labels(th_json_get(root, "id2label"), w));
    if (timm)
        TRY(th_weights_set_string(w, "architecture", timm));
    TRY(read_activation(root, w));
    return th_weights_floats(w, "mean", NULL)
               ? THAW_OK
               : read_timm(th_json_get(root, "pretrained_cfg"), where,
                     "preprocessing of config.json", w);
}

/* FOLDER of path and a name, if there is such a file: parsed, and given to `take`. */
static thaw_status read_beside(const char *path, const char *name, struct th_weights *w,
    thaw_status (*take)(
        const struct th_json *root, const char *where, struct th_weights *w))
{
    const char *slash = strrchr(path, '/');
    unsigned char *bytes = NULL;
    size_t n = 0;
    struct th_json *root = NULL;
    char *beside = th_format("%.*s%s", slash ? (int)(slash + 1 - path) : 0, path, name);
    if (!beside)
        return THAW_E_MEMORY;
    thaw_status status = THAW_OK;
    if (th_file_exists(beside)) {
        status = th_file_read(beside, MAX_BYTES, &bytes, &n);
        if (status == THAW_OK)
            status = th_json_parse((char *)bytes, n, beside, &root);
        if (status == THAW_OK)
            status = take(root, beside, w);
    }
    th_json_free(root);
    th_free(bytes);
    th_free(beside);
    return status;
}

thaw_status th_hub_describe(const char *path, struct th_weights *w)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    bool known = false;
    for (int i = 0; i < N_FILES; i++)
        known |= !strcmp(name, weight_files[i]);
    if (!known || th_weights_string(w, "backbone")) /* a model file of ours */
        return THAW_OK;
    if (!th_weights_floats(w, "mean", NULL))
        TRY(read_beside(path, "preprocessor_config.json", w, read_preprocessor));
    TRY(read_beside(path, "config.json", w, read_config));
    return read_beside(path, "open_clip_config.json", w, read_open_clip);
}
