/* SPDX-License-Identifier: Apache-2.0
 * Whole runs against PyTorch in fp64 (golden/steps.h): L2-SP, class weights with
 * smoothing, one cycle, groups of batches. Images and weights are files made by formula,
 * so that everything between the command line's options and last.h5 takes part. */
#include "golden/steps.h"
#include "net.h"
#include "run.h"

#include "metrics.h"
#include "model_file.h"
#include "schedule.h"

enum { KEY = 43, SIZE = 16, N_IMAGES = 11, SAMPLES = 8 };

/* Of a change's norm, and of a loss. The values that change are fp32: 1e-7 of them. */
static const double TOLERANCE = 1e-3;

static const int labels[N_IMAGES] = {0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2};

static int write_picture(int i)
{
    char name[64], path[256];
    struct th_image image = {0};
    snprintf(name, sizeof name, "data/train/class_%c", 'a' + labels[i]);
    run_path(path, name);
    if (th_file_mkdir(path) != THAW_OK || th_image_init(&image, SIZE, SIZE) != THAW_OK)
        return -1;
    uint64_t key = th_rng_mix(th_rng_mix_name(KEY, "pixels"), (uint64_t)i);
    for (int k = 0; k < SIZE * SIZE * 3; k++)
        image.rgb[k] = (uint8_t)(256.0F * th_rng_uniform(key, (uint64_t)k));
    size_t used = strlen(path);
    snprintf(path + used, sizeof path - used, "/%03d.png", i);
    thaw_status status = th_image_write_png(path, &image);
    th_image_release(&image);
    return status == THAW_OK ? 0 : -1;
}

static int setup(void **state)
{
    struct net n;
    char path[256];
    (void)state;
    if (make_data(0))
        return -1;
    for (int i = 0; i < N_IMAGES; i++)
        if (write_picture(i))
            return -1;
    net_open(&n, "ref", "resnet20", SIZE, RUN_CLASSES, KEY);
    run_path(path, "start.h5");
    thaw_status status = th_model_file_write(path, &n.model, &n.store);
    net_close(&n);
    return status == THAW_OK ? 0 : -1;
}

static void train_as(const struct golden_run *g)
{
    static const char *const base[] = {"image-size", "16", "mean", "0.5,0.5,0.5", "std",
        "0.25,0.25,0.25", "augment", "none", "no-shuffle", "1", "val", "0", "thaw",
        "all", "log-every", "1"};
    thaw_options *o = make_options(g->name, NULL);
    char path[256];
    thaw_result r;
    run_path(path, "start.h5");
    set(o, "weights", path);
    for (size_t i = 0; i < sizeof base / sizeof base[0]; i += 2)
        set(o, base[i], base[i + 1]);
    for (int i = 0; g->options[i]; i += 2)
        set(o, g->options[i], g->options[i + 1]);
    must(train(o, NULL, &r));
    assert_int_equal(r.steps, g->n_steps);
}

static void compare_losses(const struct golden_run *g)
{
    char *log = read_text(g->name, "metrics.jsonl"), *at = log;
    for (int i = 0; i < g->n_steps; i++) {
        at = strstr(at, "\"event\":\"step\"");
        assert_non_null(at);
        at = strstr(at, "\"loss\":") + strlen("\"loss\":");
        double loss = strtod(at, NULL);
        if (!(fabs(loss - g->loss[i]) <= TOLERANCE * fabs(g->loss[i])))
            fail_msg("%s: the loss of step %d is %.9g, not %.9g", g->name, i + 1, loss,
                g->loss[i]);
    }
    th_free(log);
}

static void compare_change(const struct golden_run *g, const struct th_weights *last,
    const struct golden_change *want, struct net *start)
{
    const struct th_weight *w = th_weights_find(last, want->name);
    int id = th_store_find(&start->store, want->name);
    assert_true(w && id >= 0);
    int64_t n = th_shape_count(&w->tensor.shape);
    float *before = th_alloc((size_t)n, sizeof *before);
    const float *after = w->tensor.data;
    must(th_store_get(&start->store, id, before));
    double norm = 0, off = 0;
    for (int64_t i = 0; i < n; i++)
        norm += ((double)after[i] - before[i]) * ((double)after[i] - before[i]);
    for (int k = 0; k < SAMPLES; k++) {
        int64_t i = k * (n - 1) / (SAMPLES - 1);
        double d = (double)after[i] - before[i] - want->sample[k];
        off += d * d;
    }
    th_free(before);
    norm = fabs(sqrt(norm) - want->norm);
    if (!(norm <= TOLERANCE * want->norm && sqrt(off) <= TOLERANCE * want->norm))
        fail_msg("%s: the change of %s is %.2g, of its samples %.2g from PyTorch's",
            g->name, want->name, norm / want->norm, sqrt(off) / want->norm);
}

/* The run's head is new: drawn from its seed. */
static void draw_head(struct net *n)
{
    for (int i = 0; i < n->model.n_params; i++) {
        const struct th_param *p = &n->model.params[i];
        float *v = th_alloc((size_t)th_shape_count(&p->shape), sizeof *v);
        th_param_random(p, 0, v);
        if (p->stage == n->model.n_stages - 1)
            must(th_store_put(&n->store, th_store_find(&n->store, p->name), v));
        th_free(v);
    }
}

static void runs_equal_pytorchs(void **state)
{
    (void)state;
    struct net start;
    net_open(&start, "ref", "resnet20", SIZE, RUN_CLASSES, KEY);
    draw_head(&start);
    for (size_t i = 0; i < sizeof golden_runs / sizeof golden_runs[0]; i++) {
        const struct golden_run *g = &golden_runs[i];
        struct th_weights last;
        char name[96], path[256];
        train_as(g);
        compare_losses(g);
        snprintf(name, sizeof name, "%s/last.h5", g->name);
        run_path(path, name);
        th_weights_init(&last);
        must(th_weights_read(path, &last));
        for (size_t k = 0; k < sizeof g->change / sizeof g->change[0]; k++)
            compare_change(g, &last, &g->change[k], &start);
        th_weights_release(&last);
    }
    net_close(&start);
}

static void one_cycle_is_pytorchs_at_every_step(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof golden_cycles / sizeof golden_cycles[0]; k++) {
        const struct golden_cycle *c = &golden_cycles[k];
        const struct th_lr s = {.kind = TH_LR_ONE_CYCLE, .base = 0.1F, .total = c->n};
        for (int i = 0; i < c->n; i++) {
            assert_true(fabs((double)th_lr_at(&s, i) - c->lr[i]) <= 2e-7 * c->lr[i]);
            assert_true(fabs((double)th_momentum_at(&s, i) - c->momentum[i]) <= 1e-7);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_equal_pytorchs),
        cmocka_unit_test(one_cycle_is_pytorchs_at_every_step),
    };
    return cmocka_run_group_tests(tests, setup, remove_data);
}
