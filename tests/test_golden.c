/* SPDX-License-Identifier: Apache-2.0
 * Whole passes of two ResNets against PyTorch in fp64 (golden/resnet.h), for every
 * BatchNorm mode on every device: loss, logits, gradients, running statistics. */
#include "golden/resnet.h"
#include "net.h"

#include <stdio.h>

static const double TOLERANCE = 1e-4; /* DESIGN section 10; of a tensor's norm */

enum { SAMPLES = 8 };

/* |norm - norm64| and the samples' distance, both relative. */
static double distance(const float *x, int64_t n, const struct golden_tensor *want)
{
    double norm = 0, off = 0;
    for (int64_t i = 0; i < n; i++)
        norm += (double)x[i] * x[i];
    norm = sqrt(norm);
    for (int k = 0; k < SAMPLES; k++) {
        double d = x[k * (n - 1) / (SAMPLES - 1)] - want->sample[k];
        off += d * d;
    }
    double scale = want->norm > 0 ? want->norm : 1;
    double by_norm = fabs(norm - want->norm) / scale, by_sample = sqrt(off) / scale;
    return by_norm > by_sample ? by_norm : by_sample;
}

static void compare(struct net *n, const char *mode, const char *name, const float *x,
    int64_t count, const struct golden_tensor *want)
{
    double e = distance(x, count, want);
    if (!(e <= TOLERANCE))
        fail_msg("%s, %s, --bn %s: %s is %g from PyTorch's", n->device->backend->name,
            n->model.variant->name, mode, name, e);
}

static void compare_gradients(struct net *n, const char *mode,
    const struct golden_net *g, const struct golden_pass *pass)
{
    for (int i = 0; i < g->n_grad; i++) {
        int p = th_model_param(&n->model, pass->grad[i].name);
        assert_true(p >= 0);
        char name[160];
        snprintf(name, sizeof name, "grad/%s", n->model.params[p].name);
        assert_int_equal(th_plan_has(n->plan, name), n->freeze.trainable[p]);
        if (!n->freeze.trainable[p])
            continue;
        int64_t count = th_shape_count(&n->model.params[p].shape);
        float *x = th_alloc((size_t)count, sizeof *x);
        must(th_plan_get(n->plan, name, x));
        compare(n, mode, name, x, count, &pass->grad[i]);
        th_free(x);
    }
}

static void compare_buffers(struct net *n, const char *mode, const struct golden_net *g,
    const struct golden_pass *pass)
{
    for (int i = 0; i < g->n_buffers; i++) {
        int id = th_store_find(&n->store, pass->buffers[i].name);
        assert_true(id >= 0);
        int64_t count = th_shape_count(&n->store.states[id].shape);
        float *x = th_alloc((size_t)count, sizeof *x);
        must(th_store_get(&n->store, id, x));
        compare(n, mode, pass->buffers[i].name, x, count, &pass->buffers[i]);
        th_free(x);
    }
}

static void compare_outputs(struct net *n, const char *mode, const struct golden_net *g,
    const struct golden_pass *pass)
{
    float loss = 0, logits[64];
    must(th_plan_get(n->plan, "loss", &loss));
    must(th_plan_get(n->plan, "logits", logits));
    for (int i = 0; i < g->n_images * n->model.n_classes; i++)
        if (!(fabs(logits[i] - pass->logits[i]) <= TOLERANCE))
            fail_msg("%s --bn %s: logit %d is %g, not %g", g->backbone, mode, i,
                (double)logits[i], pass->logits[i]);
    if (!(fabs(loss - pass->loss) <= TOLERANCE))
        fail_msg(
            "%s --bn %s: loss %g, not %g", g->backbone, mode, (double)loss, pass->loss);
}

static void check(const char *device, const struct golden_net *g, const char *mode)
{
    struct net n;
    bool batch = strcmp(mode, "train") == 0 || strcmp(mode, "stats") == 0;
    const struct golden_pass *pass = batch ? &g->batch : &g->running;
    net_open(&n, device, g->backbone, g->size, 10, g->key);
    net_plan(&n,
        (struct th_plan_spec){.mode = TH_TRAIN,
            .batch = g->n_images,
            .keep_gradients = true,
            .no_update = true},
        "all", mode);
    net_run(&n, g->key, 0.0F);
    compare_outputs(&n, mode, g, pass);
    compare_gradients(&n, mode, g, pass);
    if (batch || strcmp(mode, "stats-running") == 0)
        compare_buffers(&n, mode, g, pass);
    net_close(&n);
}

static void check_all(const char *device, size_t n_nets)
{
    static const char *const modes[] = {
        "train", "frozen", "stats", "stats-running", "affine"};
    if (!net_has_device(device))
        skip();
    for (size_t i = 0; i < n_nets; i++)
        for (size_t m = 0; m < sizeof modes / sizeof *modes; m++)
            check(device, &golden_resnets[i], modes[m]);
}

static void every_bn_mode_equals_pytorch_on_ref(void **state)
{
    (void)state;
    check_all("ref", 1); /* the larger net takes minutes in plain C */
}

static void every_bn_mode_equals_pytorch_on_avx512(void **state)
{
    (void)state;
    check_all("cpu:avx512", 2);
}

static void every_bn_mode_equals_pytorch_on_avx2(void **state)
{
    (void)state;
    check_all("cpu:avx2", 2);
}

static void every_bn_mode_equals_pytorch_on_base(void **state)
{
    (void)state;
    check_all("cpu:base", 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_bn_mode_equals_pytorch_on_ref),
        cmocka_unit_test(every_bn_mode_equals_pytorch_on_avx512),
        cmocka_unit_test(every_bn_mode_equals_pytorch_on_avx2),
        cmocka_unit_test(every_bn_mode_equals_pytorch_on_base),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
