/* SPDX-License-Identifier: Apache-2.0
 * Runs with heads other than the linear classifier: what they leave is enough to predict,
 * to go on, to resume and to be read without Thaw's attributes. */
#include "run.h"

#include "thaw.h"

static int setup(void **state)
{
    (void)state;
    return make_data(10);
}

static const char *const heads[] = {"mlp", "concatpool", "cosine"};
enum { HEADS = sizeof heads / sizeof *heads };

static thaw_options *head_options(const char *run, const char *head)
{
    return make_options(run, "head", head, "head-width", "11", "augment", "none",
        "dropout", "0.2", NULL);
}

struct answers {
    int n;
    float logits[4 * RUN_CLASSES];
};

static void on_prediction(void *context, const thaw_prediction *p)
{
    struct answers *a = context;
    assert_null(p->error);
    assert_null(p->labels);
    memcpy(
        a->logits + RUN_CLASSES * a->n++, p->logits, RUN_CLASSES * sizeof *p->logits);
}

/* Of the validation images; `head` NULL: the file says it. */
static struct answers predict(const char *model, const char *head)
{
    struct answers a = {0};
    char path[256];
    thaw_model *m = NULL;
    thaw_options *o = make_options("unused", NULL);
    if (head)
        set(o, "head", head);
    if (head)
        set(o, "head-width", "11");
    run_path(path, model);
    must(thaw_model_open(path, o, &m));
    run_path(path, "data/val");
    must(thaw_model_predict(m, path, on_prediction, &a));
    assert_int_equal(a.n, 4);
    thaw_model_free(m);
    thaw_options_free(o);
    return a;
}

static void what_a_run_leaves_predicts_in_any_format(void **state)
{
    (void)state;
    for (int h = 0; h < HEADS; h++) {
        thaw_result r;
        char from[256], to[256];
        must(train(head_options(heads[h], heads[h]), NULL, &r));
        assert_true(r.frozen_verified);
        struct answers a = predict(heads[h], NULL), b;
        run_path(from, heads[h]);
        run_path(to, "model.safetensors");
        must(thaw_convert(from, to, NULL, NULL));
        b = predict("model.safetensors", NULL);
        assert_memory_equal(&a, &b, sizeof a);
        assert_int_equal(unlink(to), 0);
        run_path(to, "model.onnx");
        must(thaw_convert(from, to, NULL, NULL));
        assert_int_equal(unlink(to), 0);
    }
}

/* As PyTorch writes them: tensors alone. */
static void a_head_is_read_from_tensors_where_it_is_named(void **state)
{
    (void)state;
    for (int h = 0; h < HEADS; h++) {
        struct th_weights w, plain;
        char path[256], name[64];
        snprintf(name, sizeof name, "%s/best.h5", heads[h]);
        th_weights_init(&w);
        th_weights_init(&plain);
        run_path(path, name);
        must(th_weights_read(path, &w));
        for (size_t i = 0; i < w.n; i++)
            must(th_weights_add(&plain, w.weight[i].name, w.weight[i].tensor.shape,
                w.weight[i].tensor.data, NULL));
        run_path(path, "plain.safetensors");
        must(th_weights_write(path, NULL, &plain));
        th_weights_release(&plain);
        th_weights_release(&w);
        struct answers a = predict(heads[h], NULL), b;
        b = predict("plain.safetensors", heads[h]);
        assert_memory_equal(&a, &b, sizeof a);
    }
}

static void a_stopped_run_resumes_with_the_same_bits(void **state)
{
    (void)state;
    for (int h = 0; h < HEADS; h++) {
        char path[256], stopped[32];
        thaw_result r;
        thaw_trainer *t = NULL;
        snprintf(stopped, sizeof stopped, "stopped_%s", heads[h]);
        thaw_options *o = head_options(stopped, heads[h]);
        must(thaw_trainer_new(o, NULL, &t));
        thaw_trainer_stop(t);
        must(thaw_trainer_run(t, &r));
        thaw_trainer_free(t);
        thaw_options_free(o);
        run_path(path, stopped);
        must(thaw_trainer_resume(path, NULL, NULL, &t));
        must(thaw_trainer_run(t, &r));
        thaw_trainer_free(t);
        assert_same_model(heads[h], stopped, "last.h5");
    }
}

static void a_kept_head_keeps_its_width_and_another_width_is_refused(void **state)
{
    thaw_result r;
    char path[256];
    (void)state;
    run_path(path, "mlp/best.h5");
    thaw_options *o = make_options(
        "kept", "weights", path, "keep-head", "1", "thaw", "all", "epochs", "1", NULL);
    must(train(o, NULL, &r));
    char *config = read_text("kept", "config.json");
    assert_non_null(strstr(config, "\"head\": \"mlp\""));
    assert_non_null(strstr(config, "\"head-width\": \"11\""));
    th_free(config);
    o = make_options(
        "other", "weights", path, "keep-head", "1", "head-width", "12", NULL);
    assert_int_equal(train(o, NULL, &r), THAW_E_DATA);
}

/* Of an old head nothing is unexpected, and nothing is taken. */
static void on_line(void *context, const char *topic, const char *text)
{
    if (!strcmp(topic, "weights"))
        snprintf(context, 400, "%s", text);
}

static void another_head_takes_the_place_of_the_old_one(void **state)
{
    thaw_result r;
    char path[256], said[400] = "";
    const thaw_events events = {.context = said, .line = on_line};
    (void)state;
    run_path(path, "mlp/best.h5");
    thaw_options *o = make_options("replaced", "weights", path, "head", "cosine", NULL);
    must(train(o, &events, &r));
    assert_non_null(strstr(said, "loaded 95 of 97, head new"));
    assert_null(strstr(said, "unexpected"));
}

static void a_cache_changes_no_bit(void **state)
{
    (void)state;
    for (int h = 0; h < HEADS; h++) {
        thaw_result r;
        char kept[32];
        snprintf(kept, sizeof kept, "cache_%s", heads[h]);
        thaw_options *o = head_options(kept, heads[h]);
        set(o, "cache", "off");
        must(train(o, NULL, &r));
        assert_same_model(heads[h], kept, "last.h5");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_run_leaves_predicts_in_any_format),
        cmocka_unit_test(a_head_is_read_from_tensors_where_it_is_named),
        cmocka_unit_test(a_stopped_run_resumes_with_the_same_bits),
        cmocka_unit_test(a_kept_head_keeps_its_width_and_another_width_is_refused),
        cmocka_unit_test(another_head_takes_the_place_of_the_old_one),
        cmocka_unit_test(a_cache_changes_no_bit),
    };
    return cmocka_run_group_tests(tests, setup, remove_data);
}
