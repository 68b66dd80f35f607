/* SPDX-License-Identifier: Apache-2.0
 * Owns the decisions between a weights file and a network: backbone, input, classes. */
#include "pretrained.h"

#include "mem.h"
#include "model_file.h"
#include "options.h"
#include "positions.h"
#include "weights_load.h"

#include <stdio.h>
#include <string.h>

/* Where nothing says which network (DESIGN section 8). */
static const char default_backbone[] = "resnet18";

static thaw_status find_backbone(
    const struct th_weights *w, const thaw_options *o, struct th_network_spec *spec)
{
    const char *named = th_option_text(o, "backbone");
    if (!named && w)
        named = th_weights_string(w, "backbone");
    if (named || !w)
        return th_variant_find(
            named ? named : default_backbone, &spec->backbone, &spec->variant);
    named = th_weights_string(w, "architecture"); /* timm's word, perhaps one of ours */
    if (named && th_variant_find(named, &spec->backbone, &spec->variant) == THAW_OK)
        return THAW_OK;
    spec->variant = th_variant_recognise(w, &spec->backbone);
    if (spec->variant)
        return THAW_OK;
    return th_fail(THAW_E_DATA,
        "no known network has these tensors (the first of %zu: %s); name it with "
        "--backbone (thaw list backbones)",
        w->n, w->n ? w->weight[0].name : "none");
}

bool th_pretrained_input_options(const thaw_options *o, struct th_input *in)
{
    bool mean = th_option_rgb(o, "mean", in->mean);
    bool std = th_option_rgb(o, "std", in->std);
    const char *filter = th_option_text(o, "interpolation");
    if (thaw_options_is_set(o, "image-size"))
        th_input_set_sizes(in, th_option_sizes(o, "image-size"));
    if (thaw_options_is_set(o, "crop"))
        in->crop = (float)th_option_real(o, "crop");
    if (filter)
        in->bicubic = !strcmp(filter, "bicubic");
    return mean && std;
}

thaw_status th_pretrained_head(
    const struct th_weights *w, const thaw_options *o, const struct th_head **head)
{
    const char *name = w ? th_weights_string(w, "head") : NULL;
    if (!name || thaw_options_is_set(o, "head"))
        name = th_option_text(o, "head");
    return th_head_find(name, head);
}

/* As the options say, else as in the file; nothing where the head has no hidden layer. */
static thaw_status find_width(
    const struct th_weights *w, const thaw_options *o, struct th_network_spec *spec)
{
    spec->head_width = 0;
    if (w && spec->head->hidden)
        TRY(th_model_file_head_width(w, &spec->head_width));
    bool asked = thaw_options_is_set(o, "head-width");
    if (asked || !spec->head_width)
        spec->head_width = !asked && spec->head->width
                               ? spec->head->width
                               : (int)th_option_int(o, "head-width");
    return THAW_OK;
}

thaw_status th_pretrained_identify(const struct th_weights *w, const thaw_options *o,
    struct th_network_spec *spec, bool *assumed)
{
    bool said = false;
    TRY(find_backbone(w, o, spec));
    TRY(th_pretrained_head(w, o, &spec->head));
    TRY(find_width(w, o, spec));
    spec->input = spec->variant->input;
    if (w)
        TRY(th_model_file_input(w, &spec->input, &said));
    if (!spec->head->detector) /* of a backbone that was a detector's */
        spec->input.others.n = 0;
    said = th_pretrained_input_options(o, &spec->input) || said;
    *assumed = !said && !spec->variant->input_known;
    return THAW_OK;
}

/* A tensor under the name that the file's maker gave it, else under ours. */
static const struct th_weight *find_tensor(const struct th_weights *w,
    const struct th_backbone *backbone, const struct th_variant *variant,
    const char *name)
{
    const char *theirs =
        backbone->file_name ? backbone->file_name(variant, name) : NULL;
    const struct th_weight *found = theirs ? th_weights_find(w, theirs) : NULL;
    return found ? found : th_weights_find(w, name);
}

/* The weight of the classifier, NULL without one; its name here into `name`. */
static const struct th_weight *find_head(
    const struct th_weights *w, const struct th_network_spec *spec, char name[128])
{
    const char *layer = spec->head->answer;
    bool whole = spec->head->detector != NULL;
    snprintf(name, 128, "%s%s%s.weight",
        whole ? "" : spec->backbone->head_name(spec->variant),
        layer && !whole ? "." : "", layer ? layer : "");
    const struct th_weight *head = find_tensor(w, spec->backbone, spec->variant, name);
    bool odd =
        head && (head->tensor.shape.rank < 1 || head->tensor.shape.dim[0] > 1 << 24);
    return odd ? NULL : head;
}

bool th_pretrained_has_head(
    const struct th_weights *w, const struct th_network_spec *spec)
{
    char name[128];
    return find_head(w, spec, name) != NULL;
}

/* n names in one block: the pointers, then the texts. */
static char **pack_names(const char *const *names, int n, size_t text_bytes)
{
    size_t pointers = (size_t)n * sizeof(char *);
    char **block = th_alloc(pointers + text_bytes + 1, 1);
    char *to = block ? (char *)block + pointers : NULL;
    for (int i = 0; block && i < n; i++) {
        block[i] = to;
        to += names ? sprintf(to, "%s", names[i]) : sprintf(to, "class_%d", i);
        to++;
    }
    return block;
}

thaw_status th_pretrained_classes(const struct th_weights *w,
    const struct th_network_spec *spec, char ***fresh, int *n, bool *named)
{
    enum { NAME_BYTES = 24 }; /* of class_N */
    size_t n_names = 0, bytes = 0;
    char weight[128];
    const char *const *names = th_weights_strings(w, "classes", &n_names);
    const struct th_weight *head = find_head(w, spec, weight);
    if (!head && (!names || n_names > 1 << 24)) /* with names it may have more layers */
        return th_fail(THAW_E_DATA, "the weights have no head (%s)", weight);
    const struct th_detector *detector = spec->head->detector;
    *n = (int)(head ? head->tensor.shape.dim[0] /
                              (detector ? detector->anchors_a_place : 1) -
                          (detector && detector->background)
                    : (int64_t)n_names);
    if (*n < 0)
        return th_fail(THAW_E_DATA, "%s is of no class at all", weight);
    if (names && n_names != (size_t)*n)
        return th_fail(THAW_E_DATA,
            "attribute classes has %zu names, but %s is of %d classes", n_names,
            head->name, *n);
    if (!names && !detector && *n == spec->variant->n_classes) {
        names = spec->variant->classes;
        n_names = names ? (size_t)*n : 0;
    }
    *named = names != NULL;
    for (size_t i = 0; names && i < n_names; i++)
        bytes += strlen(names[i]) + 1;
    *fresh = pack_names(names, *n, names ? bytes : (size_t)*n * NAME_BYTES);
    return *fresh ? THAW_OK : THAW_E_MEMORY;
}

/* ---- Tensors ---- */

/* What is loaded, and the input that the file's positions are for. */
struct loading {
    const struct th_model *model;
    struct th_size input;
};

static const char *name_in_file(const void *loading, const char *name)
{
    const struct th_model *m = ((const struct loading *)loading)->model;
    return m->backbone->file_name ? m->backbone->file_name(m->variant, name) : NULL;
}

/* Position embeddings are made to fit another grid of patches, or as many on another. */
static bool refit_positions(const void *loading, const struct th_slot *slot,
    const struct th_weight *found, float *out)
{
    const struct loading *l = loading;
    const struct th_model *m = l->model;
    const struct th_size to = m->input.size;
    const struct th_param *p = &m->params[th_model_param(m, slot->name)];
    bool alike = (int64_t)l->input.w * to.h == (int64_t)l->input.h * to.w;
    if (p->role != TH_ROLE_POSITION ||
        (alike && th_shape_equal(&found->tensor.shape, &slot->shape)))
        return false;
    const struct th_positions from = {&found->tensor.shape, l->input, p->before};
    const struct th_positions grid = {&slot->shape, to, p->before};
    return th_positions_refit(&from, found->tensor.data, &grid, out);
}

/* A slot a parameter, with memory of its own; *n of them. */
static thaw_status make_slots(const struct th_network *network,
    const struct th_load_spec *spec, struct th_slot *slot, size_t *n)
{
    *n = 0;
    for (int i = 0; i < network->model.n_params; i++) {
        const struct th_param *p = &network->model.params[i];
        if (th_param_is_lora(p) && !spec->adapters)
            continue;
        struct th_slot *s = &slot[(*n)++];
        *s = (struct th_slot){.name = p->name,
            .shape = p->shape,
            .head = th_network_in_head(network, i),
            .data = th_alloc((size_t)th_shape_count(&p->shape), sizeof(float))};
        if (!s->data)
            return THAW_E_MEMORY;
    }
    return THAW_OK;
}

static thaw_status put_slots(
    struct th_network *n, const struct th_slot *slot, size_t n_slots)
{
    for (size_t i = 0; i < n_slots; i++)
        if (slot[i].loaded)
            TRY(th_store_put(
                &n->store, th_store_find(&n->store, slot[i].name), slot[i].data));
    return THAW_OK;
}

/* The load report, and what was changed before. */
static void say_loaded(const struct th_load_report *r, const struct th_weights *w,
    char *report, size_t bytes)
{
    size_t used = strlen(th_load_report_text(r, report, bytes));
    if (w->notes)
        snprintf(report + used, bytes - used, "; %s", w->notes);
}

thaw_status th_pretrained_load(const struct th_weights *w, struct th_network *n,
    const struct th_load_spec *spec, char *report, size_t report_bytes)
{
    size_t n_slots = 0;
    const struct loading loading = {&n->model, th_model_file_shape(w)};
    const struct th_load_options options = {.file_name = name_in_file,
        .user = &loading,
        .refit = refit_positions,
        .allow_missing = spec->allow_missing,
        .new_head = !spec->head,
        .head = n->model.backbone->head_name(n->model.variant),
        .keep_head = spec->head};
    struct th_load_report r = {0};
    struct th_slot *slot = th_alloc((size_t)n->model.n_params, sizeof *slot);
    thaw_status status = slot ? make_slots(n, spec, slot, &n_slots) : THAW_E_MEMORY;
    if (status == THAW_OK)
        status = th_weights_load(w, slot, n_slots, spec->where, &options, &r);
    if (status == THAW_OK)
        status = put_slots(n, slot, n_slots);
    if (status == THAW_OK && report)
        say_loaded(&r, w, report, report_bytes);
    th_load_report_release(&r);
    for (size_t i = 0; slot && i < n_slots; i++)
        th_free(slot[i].data);
    th_free(slot);
    return status;
}
