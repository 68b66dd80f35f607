/* SPDX-License-Identifier: Apache-2.0
 * A detector on a small backbone beside torchvision's in fp64: one step's loss and gradients, and
 * what both find. Behind golden/HEAD.h, whose values it compares with. */
#ifndef TH_TESTS_DETECT_H
#define TH_TESTS_DETECT_H

#include "net.h"
#include "network.h"

enum { MOST_OBJECTS = 8 };
static const double TOLERANCE = 1e-4; /* DESIGN section 10 */

static void open_detector(
    struct net *n, const char *device, const char *backbone, const char *head)
{
    const struct net_shape shape = {
        backbone, head, GOLDEN_WIDTH, {GOLDEN_SIZE, GOLDEN_SIZE}, GOLDEN_CLASSES};
    net_open_as(n, device, shape, GOLDEN_KEY);
}

static inline bool ends(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

/* What golden/fcos.py and vitdet.py do to the last convolutions of FCOS. */
static inline void adjust_last_layers(struct net *n)
{
    for (int i = 0; i < n->model.n_params; i++) {
        const struct th_param *p = &n->model.params[i];
        bool last = ends(p->name, "cls_logits.weight") ||
                    ends(p->name, "bbox_reg.weight") ||
                    ends(p->name, "bbox_ctrness.weight");
        bool bias = ends(p->name, "bbox_reg.bias");
        int64_t count = th_shape_count(&p->shape);
        float *v = th_alloc((size_t)count, sizeof *v);
        int id = th_store_find(&n->store, p->name);
        must(th_store_get(&n->store, id, v));
        for (int64_t k = 0; k < count; k++)
            v[k] = last ? v[k] / 16 : bias ? v[k] + 1 : v[k];
        must(th_store_put(&n->store, id, v));
        th_free(v);
    }
}

static struct th_reader reader_of(const struct net *n)
{
    struct th_reader r;
    must(th_reader_init(&r, n->model.head->detector, &n->model.pyramid,
        n->model.input.size, n->model.n_classes));
    return r;
}

/* The golden objects of an image. */
static int32_t objects_of(int image, struct th_object *out)
{
    int32_t n = 0;
    for (size_t i = 0; i < sizeof golden_objects / sizeof *golden_objects; i++) {
        const struct golden_box *g = &golden_objects[i];
        if (g->image != image)
            continue;
        out[n].class = g->class;
        for (int k = 0; k < 4; k++)
            out[n].box[k] = (float)g->box[k];
        n++;
    }
    return n;
}

static void set_targets(struct net *n)
{
    struct th_reader r = reader_of(n);
    const struct th_detector *d = r.detector;
    char *target[TH_MAX_TARGETS] = {0};
    float weight[GOLDEN_IMAGES];
    size_t bytes[TH_MAX_TARGETS];
    for (int k = 0; k < d->n_targets; k++) {
        bytes[k] = th_target_bytes(r.pyramid, &d->target[k]);
        target[k] = th_alloc(GOLDEN_IMAGES, bytes[k]);
    }
    for (int i = 0; i < GOLDEN_IMAGES; i++) {
        struct th_object objects[MOST_OBJECTS] = {0};
        void *part[TH_MAX_TARGETS];
        for (int k = 0; k < d->n_targets; k++)
            part[k] = target[k] + (size_t)i * bytes[k];
        th_reader_targets(&r, objects, objects_of(i, objects), 0, part);
    }
    th_reader_weights(&r, (const int32_t *)(void *)target[0], GOLDEN_IMAGES, weight);
    for (int k = 0; k < d->n_targets; k++) {
        must(th_plan_set(n->plan, d->target[k].name, target[k]));
        th_free(target[k]);
    }
    if (th_plan_has(n->plan, "weight"))
        must(th_plan_set(n->plan, "weight", weight));
    th_reader_release(&r);
}

static void compare_gradients(struct net *n)
{
    for (size_t i = 0; i < sizeof golden_gradients / sizeof *golden_gradients; i++) {
        const struct golden_gradient *want = &golden_gradients[i];
        int p = th_model_param(&n->model, want->name);
        if (p < 0)
            fail_msg("no parameter is called %s", want->name);
        char name[160];
        snprintf(name, sizeof name, "grad/%s", want->name);
        int64_t count = th_shape_count(&n->model.params[p].shape);
        float *x = th_alloc((size_t)count, sizeof *x);
        must(th_plan_get(n->plan, name, x));
        double e = net_from_golden(x, count, want->norm, want->sample);
        if (!(e <= TOLERANCE))
            fail_msg(
                "%s: %s is %g from torchvision's", n->device->backend->name, name, e);
        th_free(x);
    }
}

/* One step on the golden objects; what is drawn are the first ones. */
static void check_step(
    const char *device, void (*open)(struct net *n, const char *device), double want)
{
    struct net n;
    float loss = 0;
    const int32_t keys[GOLDEN_IMAGES][2] = {{0}};
    open(&n, device);
    net_plan(&n,
        (struct th_plan_spec){.mode = TH_TRAIN,
            .batch = GOLDEN_IMAGES,
            .keep_gradients = true,
            .no_update = true},
        "all", "affine");
    net_upload_random(&n, "image", GOLDEN_KEY, "images");
    set_targets(&n);
    if (th_plan_has(n.plan, "keys"))
        must(th_plan_set(n.plan, "keys", keys));
    net_scalars(&n, 0);
    must(th_plan_run(n.plan));
    must(th_plan_get(n.plan, "loss", &loss));
    if (!(fabs((double)loss - want) <= TOLERANCE * want))
        fail_msg("%s: loss %g, not %g", device, (double)loss, want);
    compare_gradients(&n);
    net_close(&n);
}

/* On every device of this machine; `far` is plain C in other memory. */
static inline void check_steps(
    void (*open)(struct net *n, const char *device), double want)
{
    for (int i = 0; i < NET_DEVICES; i++)
        if (net_has_device(net_devices[i]) && strcmp(net_devices[i], "far") != 0)
            check_step(net_devices[i], open, want);
}

/* Every golden box has been found, in its place. */
static void compare_found(const struct th_reader *r, int image)
{
    int k = 0;
    for (size_t i = 0; i < sizeof golden_found / sizeof *golden_found; i++) {
        const struct golden_box *g = &golden_found[i];
        if (g->image != image)
            continue;
        const struct th_detection *d = &r->found[k++];
        assert_int_equal(d->class, g->class);
        assert_true(fabs((double)d->score - g->score) <= TOLERANCE);
        for (int c = 0; c < 4; c++)
            assert_true(fabs((double)d->box[c] - g->box[c]) <= 1e-2);
    }
    assert_true(k > 10);
    assert_int_equal(r->n_found, r->detector->most);
}

/* Values that the plan answers under this name; fresh. */
static float *answer_of(struct net *n, const char *name, size_t *each)
{
    const struct th_graph *g = th_plan_graph(n->plan);
    int64_t count = th_shape_count(&g->values[th_graph_find(g, name)].o.shape);
    float *value = th_alloc((size_t)count, sizeof *value);
    must(th_plan_get(n->plan, name, value));
    *each = (size_t)count / GOLDEN_IMAGES;
    return value;
}

static inline void check_found(
    const char *device, void (*open)(struct net *n, const char *device))
{
    struct net n;
    float *value[1 + TH_MAX_OUTPUTS];
    size_t each[1 + TH_MAX_OUTPUTS];
    open(&n, device);
    struct th_reader r = reader_of(&n);
    net_plan(&n, (struct th_plan_spec){.mode = TH_EVAL, .batch = GOLDEN_IMAGES}, "all",
        "frozen");
    net_upload_random(&n, "image", GOLDEN_KEY, "images");
    must(th_plan_run(n.plan));
    for (int k = 0; k <= r.detector->n_outputs; k++)
        value[k] =
            answer_of(&n, k ? r.detector->output[k - 1].name : "logits", &each[k]);
    for (size_t i = 0; i < GOLDEN_IMAGES; i++) {
        const float *output[TH_MAX_OUTPUTS];
        for (int k = 1; k <= r.detector->n_outputs; k++)
            output[k - 1] = value[k] + i * each[k];
        th_reader_read(&r, value[0] + i * each[0], output);
        compare_found(&r, (int)i);
    }
    for (int k = 0; k <= r.detector->n_outputs; k++)
        th_free(value[k]);
    th_reader_release(&r);
    net_close(&n);
}

#endif
