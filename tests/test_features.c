/* SPDX-License-Identifier: Apache-2.0
 * thaw_model_features: rows have the bits that a head reads, whatever the batch; files are
 * what NumPy and our own reader take; what cannot be read is left out of all of them. */
#include "run.h"

#include "cut.h"
#include "feature_rows.h"

enum { N_IMAGES = 11, N_VAL = 4, WIDTH = 64 }; /* resnet20's features */

static int setup(void **state)
{
    (void)state;
    if (make_data(N_IMAGES))
        return -1;
    thaw_options *o = make_options("run", "epochs", "1", NULL);
    thaw_result r;
    return train(o, NULL, &r) == THAW_OK ? 0 : -1;
}

static thaw_model *open_run(const char *batch, const char *device)
{
    char path[256];
    thaw_options *o = NULL;
    thaw_model *m = NULL;
    must(thaw_options_new(&o));
    set(o, "batch", batch);
    set(o, "device", device);
    set(o, "threads", "1");
    run_path(path, "run");
    must(thaw_model_open(path, o, &m));
    thaw_options_free(o);
    return m;
}

static void open_data(struct th_dataset *d)
{
    char path[256];
    run_path(path, "data");
    must(th_dataset_open(path, &(struct th_dataset_options){.as_is = true}, d));
}

static void compute(const char *batch, const char *device, const struct th_dataset *d,
    struct th_features *f)
{
    thaw_model *m = open_run(batch, device);
    must(th_features_compute(m, d, &(struct th_features_spec){0}, NULL, NULL, f));
    thaw_model_free(m);
}

/* The frontier of a plan whose head alone trains, of one image. */
static void read_by_head(thaw_model *m, const struct th_sample *s, float *row)
{
    struct th_network *net = &m->net;
    size_t values = th_input_values(&net->model.input), n = (size_t)net->model.n_params;
    struct th_preprocess preprocess = th_network_preprocess(net);
    uint8_t *rgb = th_alloc(values, 1);
    float *image = th_alloc(values, sizeof *image);
    bool *moving = th_alloc(n, sizeof *moving);
    struct th_plan *below = NULL;
    struct th_frontier f;
    for (size_t i = 0; i < n; i++)
        moving[i] = th_network_in_head(net, (int)i);
    const struct th_plan_spec spec = {.model = &net->model,
        .mode = TH_EVAL,
        .batch = 1,
        .side = TH_BELOW,
        .moving = moving};
    must(th_read_input(&preprocess, s, rgb, image, NULL));
    must(th_plan_new(&spec, &net->store, &net->arena, &below));
    th_plan_frontier(below, &f);
    assert_int_equal(f.n, 1);
    assert_int_equal(f.values[0], WIDTH);
    must(th_plan_set(below, "image", image));
    must(th_plan_run(below));
    must(th_plan_get(below, f.name[0], row));
    th_plan_free(below);
    th_free(rgb);
    th_free(image);
    th_free(moving);
}

static void rows_are_what_the_head_reads(void **state)
{
    static const char *const devices[] = {"ref", "far", "cpu"};
    struct th_dataset d;
    struct th_features f;
    float row[WIDTH];
    (void)state;
    open_data(&d);
    for (size_t k = 0; k < sizeof devices / sizeof *devices; k++) {
        compute("1", devices[k], &d, &f);
        assert_int_equal(f.n, N_IMAGES + N_VAL);
        assert_int_equal(f.values, WIDTH);
        thaw_model *m = open_run("1", devices[k]);
        for (int64_t i = 0; i < f.n; i++) {
            read_by_head(m, f.sample[i], row);
            assert_memory_equal(row, f.x + i * WIDTH, sizeof row);
            if (i > 0) /* no row stands for another */
                assert_memory_not_equal(row, f.x + (i - 1) * WIDTH, sizeof row);
        }
        thaw_model_free(m);
        th_features_release(&f);
    }
    th_dataset_close(&d);
}

/* 15 images in batches of 4 and 7: the last ones are not full. */
static void rows_do_not_depend_on_the_batch(void **state)
{
    struct th_dataset d;
    struct th_features a, b;
    (void)state;
    open_data(&d);
    compute("4", "ref", &d, &a);
    compute("7", "ref", &d, &b);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.x, b.x, (size_t)(a.n * WIDTH) * sizeof *a.x);
    for (int64_t i = 0; i < a.n; i++) {
        assert_ptr_equal(a.sample[i], b.sample[i]);
        assert_int_equal(a.split[i], i < N_IMAGES ? TH_SPLIT_TRAIN : TH_SPLIT_VAL);
    }
    th_features_release(&a);
    th_features_release(&b);
    th_dataset_close(&d);
}

/* The model's answers in the same pass: its own logits, and the features' bits stay. */
static void answers_are_the_models_own(void **state)
{
    const struct th_features_spec both = {.train_only = true, .logits = true};
    struct th_dataset d;
    struct th_features alone, f;
    (void)state;
    open_data(&d);
    compute("4", "ref", &d, &alone);
    thaw_model *m = open_run("4", "ref");
    must(th_features_compute(m, &d, &both, NULL, NULL, &f));
    assert_int_equal(f.n, N_IMAGES); /* no validation images */
    assert_int_equal(f.classes, RUN_CLASSES);
    assert_memory_equal(f.x, alone.x, (size_t)(f.n * WIDTH) * sizeof *f.x);
    struct th_preprocess preprocess = th_network_preprocess(&m->net);
    float image[3 * RUN_SIZE * RUN_SIZE];
    uint8_t rgb[3 * RUN_SIZE * RUN_SIZE];
    must(th_model_evaluators(m, 4));
    for (int64_t i = 0; i < f.n; i++) {
        must(th_read_input(&preprocess, f.sample[i], rgb, image, NULL));
        must(th_evaluator_run(&m->evaluators.of[0], image, 1));
        assert_memory_equal(f.logits + i * RUN_CLASSES,
            m->evaluators.of[0].answers[0].logits, RUN_CLASSES * sizeof(float));
    }
    thaw_model_free(m);
    th_features_release(&alone);
    th_features_release(&f);
    th_dataset_close(&d);
}

static void write_rows(const char *name, thaw_features *f)
{
    char data[256], path[256];
    thaw_model *m = open_run("4", "ref");
    run_path(data, "data");
    run_path(path, name);
    must(thaw_model_features(m, data, path, NULL, NULL, f));
    thaw_model_free(m);
}

static void files_hold_the_rows(void **state)
{
    static const char literal[] =
        "{'descr': '<f4', 'fortran_order': False, 'shape': (15, 64), }";
    struct th_dataset d;
    struct th_features f;
    struct th_weights w;
    thaw_features out;
    unsigned char *npy = NULL;
    size_t n = 0, classes = 0;
    char path[256];
    (void)state;
    open_data(&d);
    compute("4", "ref", &d, &f);
    size_t bytes = (size_t)(f.n * WIDTH) * sizeof *f.x;
    write_rows("f.npy", &out);
    assert_int_equal(out.images, N_IMAGES + N_VAL);
    assert_int_equal(out.values, WIDTH);
    run_path(path, "f.npy");
    must(th_file_read(path, 1 << 20, &npy, &n));
    assert_int_equal(n, 128 + bytes);
    assert_memory_equal(npy, "\x93NUMPY\x01\x00\x76\x00", 10);
    assert_memory_equal(npy + 10, literal, sizeof literal - 1);
    assert_int_equal(npy[127], '\n');
    assert_memory_equal(npy + 128, f.x, bytes);
    th_free(npy);
    write_rows("f.h5", &out);
    run_path(path, "f.h5");
    th_weights_init(&w);
    must(th_weights_read(path, &w));
    assert_memory_equal(th_weights_find(&w, "features")->tensor.data, f.x, bytes);
    const float *labels = th_weights_find(&w, "labels")->tensor.data;
    for (int64_t i = 0; i < f.n; i++)
        assert_int_equal((int)labels[i], f.sample[i]->label);
    assert_string_equal(th_weights_strings(&w, "classes", &classes)[1], "class_b");
    assert_int_equal(classes, RUN_CLASSES);
    th_weights_release(&w);
    th_features_release(&f);
    th_dataset_close(&d);
}

static void names_stand_beside(void **state)
{
    thaw_features out;
    char *text;
    int lines = 0;
    (void)state;
    write_rows("g.npy", &out);
    text = read_text(".", "g.npy.csv");
    for (const char *c = text; *c; c++)
        lines += *c == '\n';
    assert_int_equal(lines, 1 + N_IMAGES + N_VAL);
    assert_int_equal(strncmp(text, "file,split,class\n", 17), 0);
    assert_non_null(strstr(text, "/train/class_a/000.png\",train,\"class_a\"\n"));
    assert_non_null(strstr(text, "/val/class_c/002.png\",val,\"class_c\"\n"));
    th_free(text);
}

/* A folder without folders: rows without labels, the same bits as with them. */
static void a_folder_without_classes_has_rows_without_labels(void **state)
{
    struct th_weights w;
    thaw_features out;
    size_t n = 0;
    char data[256], path[256];
    (void)state;
    thaw_model *m = open_run("4", "ref");
    write_rows("labelled.h5", &out);
    run_path(path, "labelled.h5");
    th_weights_init(&w);
    must(th_weights_read(path, &w));
    run_path(data, "data/train/class_a");
    run_path(path, "loose.h5");
    must(thaw_model_features(m, data, path, NULL, NULL, &out));
    assert_int_equal(out.images, 4); /* of 11 in turn for three classes */
    struct th_weights loose;
    th_weights_init(&loose);
    must(th_weights_read(path, &loose));
    assert_null(th_weights_find(&loose, "labels"));
    assert_null(th_weights_strings(&loose, "classes", &n));
    assert_memory_equal(th_weights_find(&loose, "features")->tensor.data,
        th_weights_find(&w, "features")->tensor.data, 4 * WIDTH * sizeof(float));
    char *text = read_text(".", "loose.h5.csv");
    assert_non_null(strstr(text, ".png\",train,\n"));
    th_free(text);
    run_path(data, "data/train/class_a/000.png"); /* one file */
    run_path(path, "one.npy");
    must(thaw_model_features(m, data, path, NULL, NULL, &out));
    assert_int_equal(out.images, 1);
    th_weights_release(&w);
    th_weights_release(&loose);
    thaw_model_free(m);
}

/* One of eleven is no image: told, left out everywhere, within --max-bad. */
static void an_unreadable_image_is_left_out(void **state)
{
    char data[256], path[256], bad[256];
    thaw_options *o = NULL;
    thaw_features out;
    (void)state;
    run_path(data, "data");
    run_path(path, "h.npy");
    run_path(bad, "data/train/class_a/zzz.png");
    must(th_file_write_atomic(bad, "no image", 8, NULL));
    thaw_model *m = open_run("4", "ref");
    must(thaw_options_new(&o));
    set(o, "max-bad", "0.2");
    must(thaw_model_features(m, data, path, o, NULL, &out));
    assert_int_equal(out.images, N_IMAGES + N_VAL);
    assert_int_equal(out.unreadable, 1);
    char *text = read_text(".", "h.npy.csv");
    assert_null(strstr(text, "zzz"));
    th_free(text);
    assert_int_equal(unlink(bad), 0);
    thaw_options_free(o);
    thaw_model_free(m);
}

static void another_ending_is_refused(void **state)
{
    thaw_features out;
    (void)state;
    thaw_model *m = open_run("4", "ref");
    assert_int_equal(
        thaw_model_features(m, "nowhere", "f.txt", NULL, NULL, &out), THAW_E_USAGE);
    assert_non_null(strstr(thaw_error(), "f.txt: features are written as .npy or .h5"));
    thaw_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_what_the_head_reads),
        cmocka_unit_test(rows_do_not_depend_on_the_batch),
        cmocka_unit_test(answers_are_the_models_own),
        cmocka_unit_test(files_hold_the_rows),
        cmocka_unit_test(names_stand_beside),
        cmocka_unit_test(a_folder_without_classes_has_rows_without_labels),
        cmocka_unit_test(an_unreadable_image_is_left_out),
        cmocka_unit_test(another_ending_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, remove_data);
}
