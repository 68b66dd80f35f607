/* SPDX-License-Identifier: Apache-2.0
 * Hugging Face's tf_model.h5: the names of its PyTorch files behind TensorFlow's scopes,
 * with Keras's words and layouts. The dialect of those names goes on from here.
 *
 *   vit.tf_vi_t_for_image_classification.vit.encoder.layer_._0.output.dense.kernel:0
 *   -> vit.encoder.layer.0.output.dense.weight, transposed */
#include "dialect.h"
#include "error.h"

#include <stdio.h>
#include <string.h>

enum { MAX_NAME = 512 };

static bool recognise(const struct th_weights *w)
{
    for (size_t i = 0; i < w->n; i++)
        if (!strncmp(w->weight[i].name, "tf_", 3) || strstr(w->weight[i].name, ".tf_"))
            return !strcmp(w->format, "hdf5");
    return false;
}

/* What follows the scope "tf_...", "_._" as a dot. */
static bool without_scope(const char *name, char *text)
{
    const char *scope = strncmp(name, "tf_", 3) ? strstr(name, ".tf_") : name;
    const char *at = scope ? strchr(scope + 1, '.') : NULL;
    size_t n = 0;
    for (at = at ? at + 1 : name; *at && *at != ':'; at++) {
        if (n + 1 >= MAX_NAME)
            return false;
        bool joint = !strncmp(at, "_._", 3);
        text[n++] = joint ? '.' : *at;
        at += joint ? 2 : 0;
    }
    text[n] = 0;
    return n > 0;
}

/* Keras's word at the end of text as PyTorch's; whether it is a kernel's. */
static bool translate(char *text)
{
    static const char *const words[][2] = {{".kernel", ".weight"},
        {".gamma", ".weight"}, {".beta", ".bias"}, {".moving_mean", ".running_mean"},
        {".moving_variance", ".running_var"}, {".embeddings", ".weight"}};
    char *dot = strrchr(text, '.');
    bool kernel = dot && !strcmp(dot, ".kernel");
    for (size_t i = 0; dot && i < sizeof words / sizeof words[0]; i++)
        if (!strcmp(dot, words[i][0])) {
            snprintf(dot, MAX_NAME - (size_t)(dot - text), "%s", words[i][1]);
            break;
        }
    return kernel;
}

static thaw_status before(struct th_weights *w, const char *where)
{
    struct th_weights out;
    size_t n = 0;
    thaw_status status = THAW_OK;
    th_dialect_begin(w, &out);
    out.where = where;
    for (size_t i = 0; status == THAW_OK && i < w->n; i++) {
        char text[MAX_NAME + 16];
        struct th_weight *from = &w->weight[i];
        if (!without_scope(from->name, text)) {
            status =
                th_fail(THAW_E_DATA, "%s: %.200s: too long a name", where, from->name);
            break;
        }
        bool kernel = translate(text);
        if (kernel)
            status = th_dialect_fit(&from->tensor, TH_FIT_KERNEL, from->name, where);
        n += kernel;
        if (status == THAW_OK)
            status = th_weights_move(&out, text, &from->tensor);
    }
    if (status == THAW_OK)
        status = th_weights_note(&out, "names of TensorFlow, %zu transposed", n);
    out.where = "";
    th_dialect_finish(w, &out);
    return status;
}

const struct th_dialect th_dialect_hf_tensorflow = {
    .name = "TensorFlow",
    .recognise = recognise,
    .before = before,
};
