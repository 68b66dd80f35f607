/* SPDX-License-Identifier: Apache-2.0
 * The int8 prefix: the same bits on every device, the same prefix in training and
 * evaluation, frozen values that do not move, scales that a resume keeps, and on real images
 * what fp32 says. The ops themselves: test_ops. Real weights and images are not in the
 * repository: THAW_TEST_ASSETS names the folder that has them. */
#include "net.h"
#include "run.h"

#include "int8.h"
#include "model_open.h"
#include "pass.h"

static int setup(void **state)
{
    (void)state;
    return make_data(10);
}

static bool has_vnni(void)
{
    struct th_device *device = NULL;
    must(th_device_open("cpu", 1, &device));
    bool has = device->int8;
    th_device_close(device);
    return has;
}

enum { PROBE = 5 };

/* Scales from random images. */
static int calibrate(struct net *n, const char *thaw, const char *bn)
{
    struct th_network view = {
        .device = n->device, .model = n->model, .store = n->store, .arena = n->arena};
    int64_t pixels = (int64_t)th_input_values(&n->model.input);
    struct th_probe probe = {.n = PROBE};
    struct th_freeze freeze = {0};
    int count = -1;
    probe.images = th_alloc((size_t)(PROBE * pixels), sizeof *probe.images);
    for (int64_t i = 0; i < PROBE * pixels; i++)
        probe.images[i] = th_rng_normal(5, (uint64_t)i);
    must(th_freeze_init(&freeze, &n->model, thaw, bn, 4));
    must(th_int8_calibrate(&view, &freeze, &probe, &count));
    n->store = view.store;
    th_freeze_release(&freeze);
    th_probe_release(&probe);
    return count;
}

static int count_steps(const struct th_plan *p, enum th_op op)
{
    int n = 0;
    for (int i = 0; i < p->n_steps; i++)
        n += p->steps[i].call.op == op;
    return n;
}

/* Logits of an evaluation with the prefix of --thaw head. */
static void logits_of(struct net *n, unsigned without, float logits[30])
{
    const struct th_plan_spec spec = {
        .mode = TH_EVAL, .batch = 3, .prefix_int8 = true, .without = without};
    net_plan(n, spec, "head", "auto");
    net_upload_random(n, "image", 3, "images");
    must(th_plan_run(n->plan));
    must(th_plan_verify(n->plan));
    must(th_plan_get(n->plan, "logits", logits));
}

/* What is in whole numbers is the same; after it there is an average and the head. */
static void every_device_and_layout_gives_the_same_prefix(void **state)
{
    (void)state;
    static const char *const devices[] = {"far", "cpu:avx512", "cpu:avx2", "cpu:base"};
    struct net ref;
    float want[30] = {0};
    net_open(&ref, "ref", "resnet20", 16, 10, 7);
    assert_int_equal(calibrate(&ref, "head", "auto"), 19);
    logits_of(&ref, 0, want);
    for (size_t d = 0; d < sizeof devices / sizeof *devices; d++) {
        const unsigned sets[] = {0, TH_PASS_LAYOUT, TH_PASS_REUSE};
        for (int s = 0; net_has_device(devices[d]) && s < 3; s++) {
            struct net n;
            float got[30] = {0};
            net_open(&n, devices[d], "resnet20", 16, 10, 7);
            must(th_int8_copy(&ref.store, &n.store));
            logits_of(&n, sets[s], got);
            if (!(net_distance(got, want, 30) < 1e-6))
                fail_msg("%s without %u: logits differ by %g", devices[d], sets[s],
                    net_distance(got, want, 30));
            net_close(&n);
        }
    }
    net_close(&ref);
}

static void convolutions_are_onednns_where_the_processor_has_vnni(void **state)
{
    (void)state;
    struct net n;
    const struct th_plan_spec spec = {
        .mode = TH_TRAIN, .batch = 2, .prefix_int8 = true};
    if (!has_vnni())
        skip();
    net_open(&n, "cpu", "resnet50", 64, 5, 7);
    assert_int_equal(calibrate(&n, "head", "auto"), 53);
    net_plan(&n, spec, "head", "auto");
    for (int i = 0; i < n.plan->n_steps; i++)
        if (n.plan->steps[i].call.op == TH_OP_conv_q &&
            !n.plan->steps[i].call.kept_bytes)
            fail_msg("%s is done in plain C", n.plan->steps[i].name);
    assert_int_equal(count_steps(n.plan, TH_OP_conv_q), 53);
    assert_int_equal(count_steps(n.plan, TH_OP_conv), 0);
    assert_int_equal(count_steps(n.plan, TH_OP_maxpool_q), 1);
    assert_int_equal(count_steps(n.plan, TH_OP_quantize), 1);
    assert_int_equal(count_steps(n.plan, TH_OP_dequantize), 0);
    net_run(&n, 1, 0.1F);
    net_close(&n);
}

static void evaluation_has_the_prefix_of_training(void **state)
{
    (void)state;
    static const struct {
        const char *thaw, *bn;
        int n;
    } cases[] = {{"head", "auto", 19}, {"stage3,head", "auto", 13},
        {"stage2,head", "train", 1}, {"head", "stats", 1}, {"head", "stats-running", 1},
        {"stage1", "frozen", 1}, {"all", "frozen", 0}, {"bn", "affine", 1},
        {"layer2.1.conv2.weight", "frozen", 10}, {"none", "frozen", 19}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct net n;
        struct th_plan_spec spec = {.mode = TH_TRAIN, .batch = 4, .prefix_int8 = true};
        net_open(&n, "ref", "resnet20", 8, 5, 7);
        net_plan(&n, spec, cases[c].thaw, cases[c].bn);
        int train = count_steps(n.plan, TH_OP_conv_q);
        spec.mode = TH_EVAL;
        net_plan(&n, spec, cases[c].thaw, cases[c].bn);
        if (train != cases[c].n || count_steps(n.plan, TH_OP_conv_q) != train)
            fail_msg("--thaw %s --bn %s: %d of %d convolutions, in evaluation %d",
                cases[c].thaw, cases[c].bn, train, cases[c].n,
                count_steps(n.plan, TH_OP_conv_q));
        net_close(&n);
    }
}

static void flip(struct net *n, void *at)
{
    const struct th_backend *backend = n->device->backend;
    char byte;
    must(backend->download(n->device, &byte, at, 1));
    byte = (char)(byte ^ 1);
    must(backend->upload(n->device, at, &byte, 1));
}

static void what_is_derived_is_verified(void **state)
{
    (void)state;
    static const char *const devices[] = {"ref", "cpu"};
    for (size_t d = 0; d < 2; d++) {
        struct net n;
        const struct th_plan_spec spec = {
            .mode = TH_TRAIN, .batch = 2, .prefix_int8 = true};
        net_open(&n, devices[d], "resnet20", 16, 5, 7);
        calibrate(&n, "head", "auto");
        net_plan(&n, spec, "head", "auto");
        net_run(&n, 1, 0.1F);
        must(th_plan_verify(n.plan));
        for (int v = 0; v < n.plan->graph.n_values; v++) {
            if (!n.plan->places[v].derived)
                continue;
            flip(&n, n.plan->places[v].derived);
            assert_int_equal(th_plan_verify(n.plan), THAW_E_FAIL);
        }
        for (int i = 0; i < n.plan->n_steps; i++) {
            if (!n.plan->steps[i].lasting)
                continue;
            flip(&n, n.plan->steps[i].lasting);
            assert_int_equal(th_plan_verify(n.plan), THAW_E_FAIL);
            flip(&n, n.plan->steps[i].lasting);
        }
        must(th_plan_verify(n.plan));
        net_close(&n);
    }
}

/* ---- Runs ---- */

#define RECIPE                                                                         \
    "epochs", "3", "thaw", "0:head 1:stage3,head 2:all", "bn", "frozen", "ema", "0.9", \
        "device", "cpu", "prefix", "int8"

struct fate {
    thaw_trainer *t;
    int64_t calls, stop_at;
};

static void on_progress(void *context, const thaw_progress *p)
{
    struct fate *fate = context;
    (void)p;
    if (++fate->calls == fate->stop_at)
        thaw_trainer_stop(fate->t);
}

static void a_stopped_run_ends_with_the_same_bits(void **state)
{
    (void)state;
    thaw_result r;
    if (!has_vnni())
        skip();
    must(train(make_options("whole", RECIPE, NULL), NULL, &r));
    assert_true(r.frozen_verified);
    for (int stop_at = 1; stop_at <= 9; stop_at++) {
        struct fate fate = {.stop_at = stop_at};
        const thaw_events events = {.context = &fate, .progress = on_progress};
        char run[32], path[256];
        snprintf(run, sizeof run, "stop%d", stop_at);
        run_path(path, run);
        thaw_options *o = make_options(run, RECIPE, NULL);
        must(thaw_trainer_new(o, &events, &fate.t));
        thaw_options_free(o);
        must(thaw_trainer_run(fate.t, &r));
        thaw_trainer_free(fate.t);
        assert_true(r.stopped);
        must(thaw_trainer_resume(path, NULL, NULL, &fate.t));
        must(thaw_trainer_run(fate.t, &r));
        thaw_trainer_free(fate.t);
        assert_same_model("whole", run, "last.h5");
        assert_same_model("whole", run, "best.h5");
        assert_same_log("whole", run);
    }
}

static void kept_features_change_no_bit(void **state)
{
    (void)state;
    thaw_result r;
    if (!has_vnni())
        skip();
    must(train(make_options("again", RECIPE, "augment", "none", "cache", "off", NULL),
        NULL, &r));
    must(train(make_options("kept", RECIPE, "augment", "none", "cache", "memory", NULL),
        NULL, &r));
    assert_same_model("again", "kept", "last.h5");
    assert_same_model("again", "kept", "best.h5");
}

static void assert_refused(thaw_options *o, const char *because)
{
    thaw_result r;
    assert_int_equal(train(o, NULL, &r), THAW_E_USAGE);
    if (!strstr(thaw_error(), because))
        fail_msg("\"%s\" says nothing of \"%s\"", thaw_error(), because);
    assert_false(is_there("refused"));
}

static void it_is_refused_where_nothing_is_gained(void **state)
{
    (void)state;
    assert_refused(make_options("refused", "prefix", "int8", NULL), "VNNI");
    if (!has_vnni())
        skip();
    assert_refused(
        make_options("refused", "prefix", "int8", "device", "cpu", "isa", "base", NULL),
        "--isa");
    assert_refused(
        make_options("refused", "prefix", "int8", "device", "cpu", "thaw", "all", NULL),
        "no convolution stays");
}

/* ---- Real weights and images ---- */

/* The network's top-1 on the images; int8 where `freeze` is given. */
static double top1(thaw_model *m, struct th_dataset *d, const struct th_freeze *freeze)
{
    struct th_evaluators all = {.n = 1};
    struct th_loader *loader = NULL;
    struct th_metrics metrics;
    bool stopped = false;
    const struct th_loader_options o = {.split = TH_SPLIT_TRAIN,
        .batch = 32,
        .preprocess = th_network_preprocess(&m->net),
        .workers = 2};
    must(th_metrics_init(&metrics, m->net.model.n_classes, false));
    const struct th_plan_spec spec = {.model = &m->net.model,
        .mode = TH_EVAL,
        .batch = 32,
        .freeze = freeze,
        .prefix_int8 = freeze != NULL};
    must(th_evaluator_init_plan(&all.of[0], &m->net, &m->net.store, &spec));
    must(th_loader_open(d, &o, &loader));
    must(th_evaluate(&all, loader, NULL, NULL, &metrics, &stopped));
    double share = th_metrics_top1(&metrics);
    th_loader_close(loader);
    th_evaluators_release(&all);
    th_metrics_release(&metrics);
    return share;
}

static void on_real_images_it_says_what_fp32_says(void **state)
{
    (void)state;
    const char *assets = getenv("THAW_TEST_ASSETS");
    char command[1024], path[256], weights[512];
    struct th_dataset_options options = {.val = "0"};
    struct th_dataset d;
    struct th_probe probe = {0}, others = {0};
    struct th_freeze freeze = {0};
    struct th_int8_likeness like;
    thaw_options *o = NULL;
    thaw_model *m = NULL;
    int n = 0;
    if (!assets)
        skip();
    /* forty images a class, JPEGs of CIFAR-10's test split */
    snprintf(command, sizeof command,
        "tar xzf %s/data/cifar10-jpeg-test.tar.gz -C %s --wildcards "
        "'test/*/00[0-3]?.jpg'",
        assets, run_root);
    assert_int_equal(system(command), 0);
    run_path(path, "test");
    snprintf(
        weights, sizeof weights, "%s/weights/cifar10-resnet20-12fca82f.th", assets);
    must(thaw_options_new(&o));
    set(o, "crop", "1");
    must(thaw_model_open(weights, o, &m));
    must(th_dataset_open(path, &options, &d));
    assert_int_equal(d.split[TH_SPLIT_TRAIN].n, 400);
    must(th_probe_init(&probe, &m->net, &d.split[TH_SPLIT_TRAIN], 32, 0));
    must(th_probe_init(&others, &m->net, &d.split[TH_SPLIT_TRAIN], 32, 0.5));
    must(th_freeze_init(&freeze, &m->net.model, "head", "auto", 32));
    must(th_int8_calibrate(&m->net, &freeze, &probe, &n));
    assert_int_equal(n, 19);
    must(th_int8_compare(&m->net, &freeze, &others, &like));
    assert_int_equal(like.images, 32);
    double real = top1(m, &d, NULL), whole = top1(m, &d, &freeze);
    print_message("cosine similarity %.5f at the least, %.5f on average; top-1 %.2f %% "
                  "in int8, %.2f %% in fp32\n",
        like.least, like.mean, 100 * whole, 100 * real);
    assert_true(like.least > 0.99 && like.least < 1 && like.mean > 0.995);
    assert_true(real > 0.7 && fabs(whole - real) <= 0.01);
    th_probe_release(&probe);
    th_probe_release(&others);
    th_freeze_release(&freeze);
    th_dataset_close(&d);
    thaw_model_free(m);
    thaw_options_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_device_and_layout_gives_the_same_prefix),
        cmocka_unit_test(convolutions_are_onednns_where_the_processor_has_vnni),
        cmocka_unit_test(evaluation_has_the_prefix_of_training),
        cmocka_unit_test(what_is_derived_is_verified),
        cmocka_unit_test(a_stopped_run_ends_with_the_same_bits),
        cmocka_unit_test(kept_features_change_no_bit),
        cmocka_unit_test(it_is_refused_where_nothing_is_gained),
        cmocka_unit_test(on_real_images_it_says_what_fp32_says),
    };
    return cmocka_run_group_tests(tests, setup, remove_data);
}
