/* SPDX-License-Identifier: Apache-2.0
 * Runs of a detector whose inputs have several sizes, on wide and high pictures: that buckets change
 * no bit of what one size alone gives, that a repeat, a stop, a cache and a file keep them, and
 * what is refused. */
#include "run_boxes.h"

#include "model_file.h"
#include "thaw.h"

#include <math.h>

enum { LONG = 48, SHORT = 32, TRAIN = 11, VAL = 6, ALL = TRAIN + VAL };

static const char BOTH[] = "48x32,32x48";

/* Of the training pictures 7 are wide, 4 high; of those that validate 4 and 2. */
static bool is_wide(int i)
{
    return i % 3 != 1;
}

static void write_picture(int i)
{
    struct boxes_picture p =
        boxes_begin(i, is_wide(i) ? LONG : SHORT, is_wide(i) ? SHORT : LONG);
    for (int k = 0; k < 1 + i % 2; k++)
        boxes_add(
            &p, 2 + 14 * k, 3 + (5 * i + 9 * k) % 16, 9 + (i + k) % 4, (i + k) % 2);
    boxes_end(&p);
}

static void write_lists(bool (*wanted)(int i))
{
    boxes_list("train", 0, TRAIN, wanted);
    boxes_list("val", TRAIN, VAL, wanted);
}

static int setup(void **state)
{
    (void)state;
    if (boxes_setup())
        return -1;
    for (int i = 0; i < ALL; i++)
        write_picture(i);
    write_lists(NULL);
    return 0;
}

/* What the run's last validation said. */
static double last_ap(const char *run)
{
    static const char key[] = "\"val_ap\":";
    char *text = read_text(run, "metrics.jsonl"), *at = text, *last = NULL;
    while ((at = strstr(at, key)))
        last = at++;
    assert_non_null(last);
    double ap = strtod(last + strlen(key), NULL);
    th_free(text);
    return ap;
}

/* The last models' tensors, and what validation said of both. */
static void same_run(const char *a, const char *b)
{
    double x = last_ap(a), y = last_ap(b);
    assert_same_model(a, b, "last.h5");
    assert_true(x >= y && x <= y);
}

/* ---- Training ---- */

/* Shuffled, with a last batch of one that joins another where statistics follow batches. */
static void pictures_of_one_size_have_the_bits_of_that_size_alone(void **state)
{
    (void)state;
    static const char *const bns[] = {"frozen", "train", "train"};
    static const char *const lists[] = {BOTH, BOTH, "40,32x48,48x32"};
    thaw_result r;
    write_lists(is_wide);
    for (int i = 0; i < 3; i++) {
        must(train(with(with(box_options("one", "48x32"), "bn", bns[i]), "batch", "3"),
            NULL, &r));
        must(train(with(with(box_options("two", lists[i]), "bn", bns[i]), "batch", "3"),
            NULL, &r));
        assert_true(r.frozen_verified);
        same_run("one", "two");
        forget("one");
        forget("two");
    }
    write_lists(NULL);
}

static thaw_options *strong(const char *run)
{
    thaw_options *o = with(box_options(run, BOTH), "augment", "strong");
    return with(with(with(o, "mosaic", "0.3"), "iou-crop", "0.3"), "bn", "train");
}

static void workers_change_no_bit(void **state)
{
    (void)state;
    thaw_result r;
    must(train(strong("some"), NULL, &r));
    must(train(with(strong("other"), "workers", "1"), NULL, &r));
    assert_true(
        r.steps == 2 * (2 + 1)); /* of 7 wide pictures two batches, of 4 high one */
    same_run("some", "other");
    forget("other");
}

struct stopper {
    thaw_trainer *trainer;
    int steps;
};

static void stop(void *context, const thaw_progress *p)
{
    struct stopper *s = context;
    (void)p;
    if (--s->steps == 0)
        thaw_trainer_stop(s->trainer);
}

/* After each of an epoch's steps. */
static void a_stopped_run_goes_on_with_the_same_bits(void **state)
{
    (void)state;
    for (int i = 1; i <= 4; i++) {
        thaw_result r;
        char path[256];
        struct stopper s = {.steps = i};
        const thaw_events events = {.context = &s, .progress = stop};
        thaw_options *o = strong("halted");
        must(thaw_trainer_new(o, &events, &s.trainer));
        thaw_options_free(o);
        must(thaw_trainer_run(s.trainer, &r));
        thaw_trainer_free(s.trainer);
        assert_true(r.stopped && r.steps == i);
        run_path(path, "halted");
        must(thaw_trainer_resume(path, NULL, NULL, &s.trainer));
        must(thaw_trainer_run(s.trainer, &r));
        thaw_trainer_free(s.trainer);
        same_run("some", "halted");
        forget("halted");
    }
}

/* What is below the cut is kept for each size. */
static void a_cache_changes_nothing(void **state)
{
    (void)state;
    static const char *const kinds[] = {"off", "memory", "disk"};
    thaw_result r;
    for (int i = 0; i < 3; i++) {
        thaw_options *o = with(box_options(kinds[i], BOTH), "thaw", "head");
        o = with(with(o, "cache", kinds[i]), "augment", "basic");
        must(train(with(with(o, "views", "2"), "epochs", "4"), NULL, &r));
        assert_true(r.frozen_verified);
    }
    same_run("off", "memory");
    same_run("off", "disk");
    for (int i = 0; i < 3; i++)
        forget(kinds[i]);
}

/* Groups of batches make a step, whatever their sizes. */
static void batches_of_several_sizes_make_a_step(void **state)
{
    (void)state;
    thaw_result r;
    must(train(with(box_options("grouped", BOTH), "accumulate", "2"), NULL, &r));
    assert_true(r.frozen_verified && isfinite(r.last_loss) && r.steps == 4);
    forget("grouped");
}

/* ---- Afterwards ---- */

/* By image, one detector's or two's one after the other. */
static struct finds *find(const char *run, const char *size, const char *batch)
{
    thaw_model *m = boxes_open(run, size, batch, "0.01");
    struct finds *f = boxes_find(m);
    thaw_model_free(m);
    return f;
}

/* The model knows its sizes; images are told in their order, whatever the batch. */
static void each_picture_is_seen_in_its_size(void **state)
{
    (void)state;
    static const char *const batches[] = {"1", "2", "4", "32"};
    struct finds *wide = find("some", "48x32", "4"), *high = find("some", "32x48", "4");
    int found = 0, different = 0;
    for (size_t k = 0; k < sizeof batches / sizeof *batches; k++) {
        struct finds *both = find("some", NULL, batches[k]);
        assert_int_equal(both->n, ALL);
        for (int i = 0; i < ALL; i++) {
            const struct finds *own = is_wide(i) ? wide : high;
            const struct finds *other = is_wide(i) ? high : wide;
            assert_string_equal(both->file[i], own->file[i]);
            assert_int_equal(both->width[i], is_wide(i) ? LONG : SHORT);
            if (strcmp(batches[k], "4") != 0)
                continue;
            assert_int_equal(both->n_boxes[i], own->n_boxes[i]);
            assert_memory_equal(both->boxes[i], own->boxes[i], sizeof own->boxes[i]);
            found += own->n_boxes[i];
            different +=
                memcmp(own->boxes[i], other->boxes[i], sizeof own->boxes[i]) != 0;
        }
        free(both);
    }
    assert_true(found > ALL && different > ALL / 2);
    free(wide);
    free(high);
}

static void two_heads_share_a_backbone(void **state)
{
    (void)state;
    check_two_heads(BOTH, ALL);
}

static double ap_of(const char *split, const char *size, const char *batch)
{
    char path[256];
    thaw_model *m = NULL;
    thaw_options *o = NULL;
    thaw_evaluation e;
    must(thaw_options_new(&o));
    set(o, "split", split);
    set(o, "batch", batch);
    if (size)
        set(o, "image-size", size);
    run_path(path, "learnt");
    must(thaw_model_open(path, o, &m));
    must(thaw_model_eval(m, data, o, NULL, &e));
    double ap = e.map;
    thaw_evaluation_release(&e);
    thaw_model_free(m);
    thaw_options_free(o);
    return ap;
}

/* A run that learns its pictures by heart; of one kind of picture alone AP is that of its size. */
static void it_learns_and_is_judged_by_buckets(void **state)
{
    (void)state;
    thaw_result r;
    thaw_options *o = with(box_options("learnt", BOTH), "epochs", "100");
    must(train(with(with(o, "bn", "train"), "val", "0"), NULL, &r));
    double all = ap_of("train", NULL, "4");
    if (!(all > 0.5))
        fail_msg("AP %.3f of the pictures that it was trained on", all);
    assert_true(fabs(ap_of("train", NULL, "3") - all) < 1e-9);
    write_lists(is_wide);
    double wide = ap_of("train", "48x32", "4"), again = ap_of("train", NULL, "4");
    assert_true(wide >= again && wide <= again && wide > 0.5);
    write_lists(NULL);
    forget("learnt");
}

static void files_say_all_sizes(void **state)
{
    (void)state;
    struct th_weights w;
    struct th_input in = {.size = {1, 1}};
    bool said = false;
    char path[256];
    char *config = read_text("some", "config.json");
    assert_non_null(strstr(config, "\"image-size\": \"48x32,32x48\""));
    th_free(config);
    run_path(path, "some/best.h5");
    th_weights_init(&w);
    must(th_weights_read(path, &w));
    must(th_model_file_input(&w, &in, &said));
    const struct th_sizes sizes = th_input_sizes(&in);
    assert_string_equal(th_sizes_text(&sizes).text, BOTH);
    const int64_t bad[][4] = {{32, 48, 48, 32}, {48, 32, 0, 48}};
    for (int i = 0; i < 2; i++) {
        must(th_weights_set_ints(&w, "input_sizes", bad[i], 4));
        assert_int_equal(th_model_file_input(&w, &in, &said), THAW_E_DATA);
    }
    must(th_weights_set_ints(&w, "input_sizes", bad[0], 3));
    assert_int_equal(th_model_file_input(&w, &in, &said), THAW_E_DATA);
    th_weights_release(&w);
}

/* Its backbone may become a classifier's, which has one size. */
static void a_backbone_goes_on_to_a_classifier(void **state)
{
    (void)state;
    thaw_result r;
    char path[256];
    thaw_options *o = make_options("classifier", "device", "cpu", NULL);
    run_path(path, "some/last.h5");
    o = with(with(o, "weights", path), "head", "classify");
    must(train(with(o, "epochs", "1"), NULL, &r));
    forget("classifier");
}

/* ---- Refused ---- */

static void refused(thaw_options *o, const char *why)
{
    thaw_trainer *t = NULL;
    assert_int_equal(thaw_trainer_new(o, NULL, &t), THAW_E_USAGE);
    if (!strstr(thaw_error(), why))
        fail_msg("\"%s\" does not say \"%s\"", thaw_error(), why);
    thaw_options_free(o);
    assert_false(is_there("no"));
}

static void what_has_one_size_is_refused(void **state)
{
    (void)state;
    thaw_options *o = make_options("no", "image-size", BOTH, NULL);
    refused(o, "a classifier's inputs have one size");
    o = with(box_options("no", BOTH), "backbone", "vit_micro_patch4_32");
    refused(o, "for inputs of 48x32, none for 32x48");
    assert_int_equal(thaw_options_new(&o), THAW_OK);
    assert_int_equal(thaw_options_set(o, "image-size", "48x32,48x32"), THAW_E_USAGE);
    assert_non_null(strstr(thaw_error(), "is not a list of sizes"));
    assert_int_equal(thaw_options_set(o, "image-size", "48x32,4"), THAW_E_USAGE);
    assert_non_null(strstr(thaw_error(), "4 is outside 8 to 4096"));
    thaw_options_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_of_one_size_have_the_bits_of_that_size_alone),
        cmocka_unit_test(workers_change_no_bit),
        cmocka_unit_test(a_stopped_run_goes_on_with_the_same_bits),
        cmocka_unit_test(a_cache_changes_nothing),
        cmocka_unit_test(batches_of_several_sizes_make_a_step),
        cmocka_unit_test(each_picture_is_seen_in_its_size),
        cmocka_unit_test(two_heads_share_a_backbone),
        cmocka_unit_test(it_learns_and_is_judged_by_buckets),
        cmocka_unit_test(files_say_all_sizes),
        cmocka_unit_test(a_backbone_goes_on_to_a_classifier),
        cmocka_unit_test(what_has_one_size_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, boxes_teardown);
}
