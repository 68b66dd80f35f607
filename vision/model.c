/* SPDX-License-Identifier: Apache-2.0
 * Owns the catalogue of a model: building, looking up, initial values. */
#include "model.h"

#include "layers.h"
#include "mem.h"
#include "options.h"
#include "rng.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

thaw_status th_variant_find(const char *name, const struct th_backbone **backbone,
    const struct th_variant **variant)
{
    const char *names[128];
    size_t n = 0;
    for (const struct th_backbone *const *b = th_backbone_list; *b; b++)
        for (int i = 0; i < (*b)->n_variants; i++) {
            *backbone = *b;
            *variant = &(*b)->variants[i];
            if (strcmp((*variant)->name, name) == 0)
                return THAW_OK;
            if (n < sizeof names / sizeof *names)
                names[n++] = (*variant)->name;
        }
    const char *near = thaw_nearest(name, names, n);
    return th_fail(THAW_E_USAGE,
        "unknown backbone '%s'%s%s%s; `thaw list backbones` names all", name,
        near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

const struct th_variant *th_variant_recognise(
    const struct th_weights *w, const struct th_backbone **backbone)
{
    for (const struct th_backbone *const *b = th_backbone_list; *b; b++) {
        const struct th_variant *v = (*b)->recognise(w);
        if (v) {
            *backbone = *b;
            return v;
        }
    }
    return NULL;
}

static thaw_status copy_classes(struct th_model *m, const char *const *classes, int n)
{
    m->classes = th_alloc((size_t)n, sizeof *m->classes);
    if (!m->classes)
        return THAW_E_MEMORY;
    for (; m->n_classes < n; m->n_classes++)
        if (!(m->classes[m->n_classes] = th_strdup(classes[m->n_classes])))
            return THAW_E_MEMORY;
    return THAW_OK;
}

thaw_status th_model_init(struct th_model *m, const struct th_backbone *backbone,
    const struct th_variant *variant, const struct th_head *head, int head_width,
    const struct th_input *input, const char *const *classes, int n_classes)
{
    *m = (struct th_model){.backbone = backbone,
        .variant = variant,
        .head = head,
        .head_width = head_width    ? head_width
                      : head->width ? head->width
                                    : TH_HEAD_WIDTH,
        .input = *input};
    struct th_graph g;
    int out = 0;
    thaw_status status = copy_classes(m, classes, n_classes);
    if (status == THAW_OK) {
        status = th_model_build(m, &g, 1, true, false, &out);
        th_graph_release(&g);
    }
    if (status != THAW_OK)
        th_model_release(m);
    return status;
}

void th_model_release(struct th_model *m)
{
    for (int i = 0; i < m->n_classes; i++)
        th_free(m->classes[i]);
    for (int i = 0; i < m->n_params; i++)
        th_free(m->params[i].name);
    for (int i = 0; i < m->n_bns; i++)
        th_free(m->bns[i].name);
    for (int i = 0; i < m->n_stages; i++)
        th_free(m->stages[i]);
    th_lora_release(&m->lora);
    th_free(m->base_hash);
    th_free(m->base_path);
    th_free(m->others);
    th_free(m->classes);
    th_free(m->params);
    th_free(m->bns);
    *m = (struct th_model){0};
}

/* ---- Views ---- */

/* Its shape is that of one grid of patches. */
static const struct th_param *find_positions(const struct th_model *m)
{
    for (int i = 0; i < m->n_params; i++)
        if (m->params[i].role == TH_ROLE_POSITION)
            return &m->params[i];
    return NULL;
}

thaw_status th_model_view(
    const struct th_model *m, struct th_size size, struct th_model *view)
{
    struct th_graph g;
    int out = 0;
    *view = *m;
    if (th_size_same(size, m->input.size))
        return THAW_OK;
    const struct th_param *positions = find_positions(m);
    if (positions)
        return th_fail(THAW_E_USAGE,
            "%s has positions (%s) for inputs of %s, none for %s: give one size",
            m->variant->name, positions->name, th_size_text(m->input.size).text,
            th_size_text(size).text);
    view->input.size = size;
    thaw_status status = th_model_build(view, &g, 1, true, false, &out);
    th_graph_release(&g);
    return status;
}

/* ---- Adapters ---- */

enum { LAYER_NAME = 128 };

static bool word_adapts(const struct th_model *m, const char *word)
{
    char layer[LAYER_NAME];
    for (int i = 0; i < m->n_params; i++) {
        const struct th_param *p = &m->params[i];
        th_lora_layer(p->name, layer, sizeof layer);
        if (p->role == TH_ROLE_LORA_A &&
            th_lora_word_names(word, layer, p->shape.rank == 4))
            return true;
    }
    return false;
}

/* The nearest last component of a layer outside the head, and what there is. */
static thaw_status names_no_layer(const struct th_model *m, const char *word)
{
    char names[64][LAYER_NAME], all[512] = "";
    const char *list[64];
    size_t n = 0;
    for (int i = 0; i < m->n_params && n < 64; i++) {
        const struct th_param *p = &m->params[i];
        bool layer = p->role == TH_ROLE_CONV || p->role == TH_ROLE_LINEAR;
        if (!layer || p->stage == m->n_stages - 1)
            continue;
        snprintf(names[n], LAYER_NAME, "%.*s", (int)strlen(p->name) - 7, p->name);
        char *dot = strrchr(names[n], '.');
        if (dot)
            memmove(names[n], dot + 1, strlen(dot));
        size_t k = 0;
        while (k < n && strcmp(list[k], names[n]) != 0)
            k++;
        if (k < n)
            continue;
        size_t used = strlen(all);
        snprintf(all + used, sizeof all - used, "%s%s", n ? ", " : "", names[n]);
        list[n] = names[n];
        n++;
    }
    const char *near = thaw_nearest(word, list, n);
    return th_fail(THAW_E_USAGE,
        "--lora: target '%s' names no layer of %s outside its head%s%s%s; layers end "
        "in "
        "%s; shell patterns match whole names, all-linear and conv name a kind",
        word, m->variant->name, near ? "; did you mean " : "", near ? near : "",
        near ? "?" : "", all);
}

/* The catalogue again, now with adapters; what it has stays where it is. */
static thaw_status rebuild(struct th_model *m)
{
    struct th_graph g;
    int out = 0;
    thaw_status status = th_model_build(m, &g, 1, true, false, &out);
    th_graph_release(&g);
    return status;
}

thaw_status th_model_adapt(struct th_model *m, const struct th_lora *lora)
{
    static const char *const defaults[] = {"*.attn.qkv,*.attn.proj", "conv"};
    char word[LAYER_NAME];
    int base = m->n_params;
    th_lora_release(&m->lora);
    TRY(th_lora_copy(&m->lora, lora));
    for (int i = 0; !lora->targets && m->n_params == base && i < 2; i++) {
        th_free(m->lora.targets);
        m->lora.targets = th_strdup(defaults[i]);
        TRY(m->lora.targets ? rebuild(m) : THAW_E_MEMORY);
    }
    if (lora->targets)
        TRY(rebuild(m));
    const char *at = m->lora.targets;
    while (th_next_word(&at, word, sizeof word))
        if (!word_adapts(m, word))
            return names_no_layer(m, word);
    return THAW_OK;
}

struct th_scope th_model_scope(int other)
{
    struct th_scope s;
    snprintf(s.text, sizeof s.text, "head%d/", other + 1);
    return s;
}

/* Each finds its parameters in its own catalogue, and makes none. */
static void build_others(
    const struct th_model *m, struct th_graph *g, const struct th_taps *taps)
{
    for (int i = 0; i < m->n_others; i++) {
        struct th_scope scope = th_model_scope(i);
        struct th_model other = *m->others[i];
        other.input.size = m->input.size; /* of a view */
        struct th_builder b = {.graph = g, .model = &other, .scope = scope.text};
        th_stage(&b, "head");
        th_want(&b, other.head->build(&b, taps), "logits");
    }
}

thaw_status th_model_build(
    struct th_model *m, struct th_graph *g, int n, bool training, bool loss, int *out)
{
    th_graph_init(g);
    struct th_builder b = {.graph = g, .model = m, .training = training};
    struct th_taps taps = {0};
    struct th_size s = m->input.size;
    int image = th_graph_input(g, "image", TH_F32, TH_SHAPE(n, 3, s.h, s.w));
    m->backbone->build(&b, m->variant, image, &taps);
    m->reads_patches = taps.patches > 0;
    th_stage(&b, "head");
    *out = m->head->build(&b, &taps);
    th_want(&b, *out, "logits");
    if (loss) {
        *out = m->head->loss(&b, *out);
        th_graph_want(g, *out, "loss");
    } else {
        build_others(m, g, &taps);
    }
    return g->status;
}

int th_model_param(const struct th_model *m, const char *name)
{
    for (int i = 0; i < m->n_params; i++)
        if (strcmp(m->params[i].name, name) == 0)
            return i;
    return -1;
}

int th_model_stage(const struct th_model *m, const char *name)
{
    for (int i = 0; i < m->n_stages; i++)
        if (strcmp(m->stages[i], name) == 0)
            return i;
    return -1;
}

bool th_param_is_lora(const struct th_param *p)
{
    return p->role == TH_ROLE_LORA_A || p->role == TH_ROLE_LORA_B;
}

bool th_param_is_buffer(const struct th_param *p)
{
    return p->role == TH_ROLE_MEAN || p->role == TH_ROLE_VAR;
}

/* Element i. timm's trunc_normal_ cuts at 2, which is 100 deviations: it is normal. */
static float random_value(const struct th_param *p, uint64_t key, uint64_t i)
{
    const int64_t *d = p->shape.dim;
    bool he = p->role == TH_ROLE_CONV && !p->fan_in; /* He et al. 2015, fan out */
    switch (p->role) {
    case TH_ROLE_CONV:
    case TH_ROLE_LINEAR:
    case TH_ROLE_BIAS: /* torch.nn.Linear.reset_parameters, of Conv2d too */
        if (he)
            return th_rng_normal(key, i) * sqrtf(2.0F / (float)(d[0] * d[2] * d[3]));
        if (p->init > 0)
            return p->role == TH_ROLE_BIAS ? p->shift : p->init * th_rng_normal(key, i);
        return (2.0F * th_rng_uniform(key, i) - 1.0F) / sqrtf((float)p->fan_in);
    case TH_ROLE_LORA_A: /* torch's kaiming_uniform_(a = sqrt(5)), as PEFT has it */
        return (2.0F * th_rng_uniform(key, i) - 1.0F) / sqrtf((float)p->fan_in);
    case TH_ROLE_TOKEN:
    case TH_ROLE_POSITION:
        return p->init * th_rng_normal(key, i);
    case TH_ROLE_SCALE:
        return p->init;
    case TH_ROLE_GAMMA:
    case TH_ROLE_VAR:
    case TH_ROLE_LN_GAMMA:
        return 1.0F;
    case TH_ROLE_BETA:
    case TH_ROLE_MEAN:
    case TH_ROLE_LN_BETA:
    case TH_ROLE_LORA_B: /* so that an adapter begins by changing nothing */
        return 0.0F;
    }
    return 0.0F;
}

void th_param_random(const struct th_param *p, uint64_t seed, float *value)
{
    uint64_t key = th_rng_mix_name(th_rng_mix_name(seed, "initial"), p->name);
    int64_t n = th_shape_count(&p->shape);
    for (int64_t i = 0; i < n; i++)
        value[i] = random_value(p, key, (uint64_t)i);
}
