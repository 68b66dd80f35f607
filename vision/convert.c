/* SPDX-License-Identifier: Apache-2.0
 * Owns thaw_convert: weights to a model file or ONNX, a data set to a folder of PNGs. */
#include "adapter.h"
#include "dataset.h"
#include "file.h"
#include "mem.h"
#include "model_file.h"
#include "onnx.h"
#include "options.h"
#include "pretrained.h"
#include "report.h"

#include <string.h>

static thaw_status convert_data(
    const char *in, const char *out, const thaw_options *o, const thaw_events *events)
{
    struct th_dataset d;
    TRY(th_dataset_open(in, &(struct th_dataset_options){.as_is = true}, &d));
    thaw_status status =
        th_dataset_export_folder(&d, out, th_option_int(o, "per-class"));
    if (status == THAW_OK)
        th_say(events, "data", "%d classes -> %s", d.n_classes, out);
    th_dataset_close(&d);
    return status;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static bool is_onnx(const char *out)
{
    return ends_with(out, ".onnx");
}

/* --threshold, else the detector's own. */
static double score_of(const struct th_model *m, const thaw_options *o)
{
    if (!m->head->detector || thaw_options_is_set(o, "threshold"))
        return th_option_real(o, "threshold");
    return (double)m->head->detector->score;
}

static thaw_status write_network(
    struct th_network *n, const char *out, const thaw_options *o)
{
    const struct th_onnx_spec onnx = {
        .batch = thaw_options_is_set(o, "batch") ? (int)th_option_int(o, "batch") : 1,
        .embed_preprocessing = th_option_flag(o, "embed-preprocessing"),
        .score = score_of(&n->model, o)};
    if (is_onnx(out))
        return th_onnx_write(out, &n->model, &n->store, &onnx);
    return th_model_file_write(out, &n->model, &n->store);
}

/* A known network, whole, with its attributes. */
static thaw_status write_model(const struct th_weights *w,
    const struct th_network_spec *spec, const char *out, const thaw_options *o,
    const thaw_events *events)
{
    struct th_network n;
    const struct th_load_spec load = {.where = "weights", .head = true};
    thaw_status status = th_network_init(&n, spec);
    if (status == THAW_OK)
        status = th_pretrained_load(w, &n, &load, NULL, 0);
    th_model_file_origin(w, &n.model);
    if (status == THAW_OK)
        status = write_network(&n, out, o);
    if (status == THAW_OK)
        th_say(events, "weights", "%s, %d tensors, %d classes -> %s%s%s",
            spec->variant->name, n.model.n_params, spec->n_classes, out,
            w->notes ? "; " : "", w->notes ? w->notes : "");
    th_network_release(&n);
    return status;
}

/* Tensors of a network that is not known, or without a head, stay as they are. */
static thaw_status write_tensors(const struct th_weights *w,
    const struct th_variant *variant, const char *out, const thaw_events *events)
{
    TRY(th_weights_write(out, NULL, w));
    th_say(events, "weights", "%zu tensors of %s%s -> %s%s%s", w->n,
        variant ? variant->name : "an unknown network",
        variant ? " without a head" : "", out, w->notes ? "; " : "",
        w->notes ? w->notes : "");
    return THAW_OK;
}

static thaw_status convert_weights(const struct th_weights *w, const char *out,
    const thaw_options *o, const thaw_events *events)
{
    struct th_network_spec spec = {.device = "cpu", .threads = 1};
    bool assumed = false, named = false;
    char **names = NULL;
    thaw_status status = th_pretrained_identify(w, o, &spec, &assumed);
    if (status == THAW_OK)
        status = th_pretrained_classes(w, &spec, &names, &spec.n_classes, &named);
    if (status == THAW_E_MEMORY || (status != THAW_OK && is_onnx(out)))
        return status;
    if (status != THAW_OK)
        return write_tensors(w, spec.variant, out, events);
    spec.classes = (const char *const *)names;
    status = write_model(w, &spec, out, o, events);
    th_free(names);
    return status;
}

/* An adapter to a folder of PEFT's. */
static thaw_status convert_adapter(
    const char *in, const char *out, const thaw_events *events)
{
    struct th_adapter a;
    if (th_weights_format_of(out) || is_onnx(out))
        return th_fail(THAW_E_USAGE,
            "%s: an adapter becomes a folder of PEFT's: give a name without ending",
            out);
    thaw_status status = th_adapter_read(&a, in);
    if (status == THAW_OK)
        status = th_adapter_write_peft(&a, out);
    if (status == THAW_OK)
        th_say(events, "weights", "adapter of rank %d, %zu tensors -> %s", a.lora.rank,
            a.w.n, out);
    th_adapter_release(&a);
    return status;
}

thaw_status thaw_convert(
    const char *in, const char *out, const thaw_options *o, const thaw_events *events)
{
    struct th_weights w;
    if (th_dataset_is_named(in))
        return convert_data(in, out, o, events);
    if (ends_with(in, ".adapter.h5"))
        return convert_adapter(in, out, events);
    if (!th_weights_format_of(out) && !is_onnx(out))
        return th_fail(
            THAW_E_USAGE, "%s: weights are written as .h5, .safetensors or .onnx", out);
    if (!is_onnx(out) &&
        (thaw_options_is_set(o, "batch") || thaw_options_is_set(o, "image-size") ||
            thaw_options_is_set(o, "embed-preprocessing")))
        return th_fail(THAW_E_USAGE,
            "%s: --batch, --image-size and --embed-preprocessing are for .onnx files",
            out);
    if (th_file_exists(out))
        return th_fail(THAW_E_USAGE, "%s exists: choose another name", out);
    char *path = NULL;
    TRY(th_pretrained_model_path(in, &path));
    th_weights_init(&w);
    thaw_status status = th_weights_read(path, &w);
    if (status == THAW_OK)
        status = convert_weights(&w, out, o, events);
    th_weights_release(&w);
    th_free(path);
    return status;
}
