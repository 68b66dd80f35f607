/* SPDX-License-Identifier: Apache-2.0
 * Owns the catalogue of a model: building, looking up, initial values. */
#include "model.h"

#include "layers.h"
#include "mem.h"
#include "rng.h"

#include <math.h>
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
    const struct th_variant *variant, const struct th_head *head,
    const struct th_input *input, const char *const *classes, int n_classes)
{
    *m = (struct th_model){
        .backbone = backbone, .variant = variant, .head = head, .input = *input};
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
    th_free(m->classes);
    th_free(m->params);
    th_free(m->bns);
    *m = (struct th_model){0};
}

thaw_status th_model_build(
    struct th_model *m, struct th_graph *g, int n, bool training, bool loss, int *out)
{
    th_graph_init(g);
    struct th_builder b = {.graph = g, .model = m, .training = training};
    struct th_taps taps = {0};
    int s = m->input.size;
    int image = th_graph_input(g, "image", TH_F32, TH_SHAPE(n, 3, s, s));
    m->backbone->build(&b, m->variant, image, &taps);
    th_stage(&b, "head");
    *out = m->head->build(&b, &taps);
    th_graph_want(g, *out, "logits");
    if (loss) {
        *out = m->head->loss(&b, *out);
        th_graph_want(g, *out, "loss");
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
            return p->role == TH_ROLE_BIAS ? 0.0F : p->init * th_rng_normal(key, i);
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
