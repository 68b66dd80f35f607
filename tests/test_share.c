/* SPDX-License-Identifier: Apache-2.0
 * Several heads on one backbone: each has the bits that its model has alone, the steps of
 * the backbone are in the plan once, and what is not the same is refused. */
#include "run.h"

#include "model_open.h"
#include "thaw.h"

enum { MODELS = 4, VAL = 4 };

/* The same random backbone below each: the seed's. The last one's has trained. */
static const struct {
    const char *run, *head, *thaw;
} trained[] = {{"flowers", "classify", "head"}, {"tags", "multilabel", "head"},
    {"wide", "mlp", "head"}, {"both", "concatpool", "head"},
    {"other", "classify", "all"}};
enum { OTHER = MODELS };

static int setup(void **state)
{
    (void)state;
    if (make_data(10))
        return -1;
    for (size_t i = 0; i < sizeof trained / sizeof *trained; i++) {
        thaw_result r;
        thaw_options *o = make_options(trained[i].run, "head", trained[i].head, "thaw",
            trained[i].thaw, "epochs", "1", "augment", "none", NULL);
        if (train(o, NULL, &r) != THAW_OK)
            return -1;
    }
    return 0;
}

static thaw_model *open_run(int i, const char *device, const char *size)
{
    char path[256];
    thaw_model *m = NULL;
    thaw_options *o = make_options("unused", "device", device, "batch", "3", NULL);
    set(o, "image-size", size);
    run_path(path, trained[i].run);
    must(thaw_model_open(path, o, &m));
    thaw_options_free(o);
    return m;
}

/* Logits by image, one model's or several models' one after the other. */
struct answers {
    int n;
    const thaw_model *model[VAL * MODELS];
    char file[VAL * MODELS][256];
    float logits[VAL * MODELS][RUN_CLASSES], probabilities[VAL * MODELS][RUN_CLASSES];
    int n_labels[VAL * MODELS]; /* -1: the classes exclude each other */
};

static void on_prediction(void *context, const thaw_prediction *p)
{
    struct answers *a = context;
    assert_null(p->error);
    assert_true(a->n < VAL * MODELS);
    a->model[a->n] = p->model;
    snprintf(a->file[a->n], sizeof a->file[0], "%s", p->file);
    memcpy(a->logits[a->n], p->logits, sizeof a->logits[0]);
    memcpy(a->probabilities[a->n], p->probabilities, sizeof a->probabilities[0]);
    a->n_labels[a->n++] = p->labels ? p->n_labels : -1;
}

static void predict(thaw_model *m, struct answers *a)
{
    char folder[256];
    a->n = 0;
    run_path(folder, "data/val");
    must(thaw_model_predict(m, folder, on_prediction, a));
}

static void check_bits(const char *device)
{
    thaw_model *m[MODELS];
    struct answers alone[MODELS], shared;
    for (int i = 0; i < MODELS; i++) {
        m[i] = open_run(i, device, "8");
        predict(m[i], &alone[i]);
        assert_int_equal(alone[i].n, VAL);
        if (i)
            must(thaw_model_share(m[0], m[i]));
    }
    predict(m[0], &shared);
    assert_int_equal(shared.n, VAL * MODELS);
    for (int k = 0; k < VAL * MODELS; k++) {
        const struct answers *a = &alone[k % MODELS];
        assert_ptr_equal(shared.model[k], m[k % MODELS]);
        assert_string_equal(shared.file[k], a->file[k / MODELS]);
        assert_memory_equal(
            shared.logits[k], a->logits[k / MODELS], sizeof shared.logits[0]);
        assert_memory_equal(shared.probabilities[k], a->probabilities[k / MODELS],
            sizeof shared.logits[0]);
        assert_int_equal(shared.n_labels[k], a->n_labels[k / MODELS]);
        assert_int_equal(shared.n_labels[k] >= 0, k % MODELS == 1);
    }
    for (int i = 0; i < MODELS; i++)
        thaw_model_free(m[i]);
}

static void each_head_has_the_bits_that_its_model_has_alone(void **state)
{
    (void)state;
    static const char *const devices[] = {"ref", "far", "cpu:avx2", "cpu:base"};
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
        struct th_device *device = NULL;
        if (th_device_open(devices[i], 1, &device) == THAW_OK)
            check_bits(devices[i]);
        th_device_close(device);
    }
}

static int count_steps(const thaw_model *m, const char *op)
{
    int n = 0;
    struct th_plan_stats stats;
    struct th_step_info step;
    th_plan_stats(m->evaluators.of[0].plan, &stats);
    for (int i = 0; i < stats.n_steps; i++) {
        th_plan_step(m->evaluators.of[0].plan, i, &step);
        n += !op || !strcmp(step.op, op);
    }
    return n;
}

/* resnet20's head is one linear step on gap's; mlp's three, concatpool's gap is shared. */
static void steps_of_the_backbone_are_there_once(void **state)
{
    (void)state;
    struct answers a;
    thaw_model *m[MODELS];
    int alone[MODELS];
    for (int i = 0; i < MODELS; i++) {
        m[i] = open_run(i, "ref", "8");
        predict(m[i], &a);
        alone[i] = count_steps(m[i], NULL);
    }
    int convolutions = count_steps(m[0], "conv"), pools = count_steps(m[0], "gap");
    assert_true(convolutions >= 19 && pools == 1);
    int backbone = alone[0] - count_steps(m[0], "linear");
    for (int i = 1; i < MODELS; i++)
        must(thaw_model_share(m[0], m[i]));
    predict(m[0], &a);
    assert_int_equal(count_steps(m[0], "conv"), convolutions);
    int all = backbone;
    for (int i = 0; i < MODELS; i++)
        all += alone[i] - backbone;
    assert_int_equal(count_steps(m[0], NULL), all);
    assert_int_equal(count_steps(m[0], "linear"), 1 + 1 + 2 + 1);
    for (int i = 0; i < MODELS; i++)
        thaw_model_free(m[i]);
}

static void a_backbone_that_differs_is_refused_and_nothing_changes(void **state)
{
    (void)state;
    struct answers before, after;
    thaw_model *m = open_run(0, "ref", "8"), *other = open_run(OTHER, "ref", "8"),
               *larger = open_run(1, "ref", "16");
    predict(m, &before);
    assert_int_equal(thaw_model_share(m, other), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "conv1.weight is not as in"));
    assert_int_equal(thaw_model_share(m, larger), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "the input"));
    predict(m, &after);
    assert_int_equal(after.n, VAL);
    assert_memory_equal(before.logits, after.logits, sizeof before.logits[0] * VAL);
    thaw_model_free(m);
    thaw_model_free(other);
    thaw_model_free(larger);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_head_has_the_bits_that_its_model_has_alone),
        cmocka_unit_test(steps_of_the_backbone_are_there_once),
        cmocka_unit_test(a_backbone_that_differs_is_refused_and_nothing_changes),
    };
    return cmocka_run_group_tests(tests, setup, remove_data);
}
