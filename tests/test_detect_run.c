/* SPDX-License-Identifier: Apache-2.0
 * Runs of a detector from annotated images to boxes: what they leave and say, that they learn,
 * that a cache, a repeat and a resume change no bit, and what is refused. */
#include "run_boxes.h"

#include "thaw.h"

#include <math.h>

enum { SIDE = 48, IMAGES = 8, VAL = 4, ALL = IMAGES + VAL };

static thaw_options *square_options(const char *run)
{
    return box_options(run, "48");
}

/* One to three squares; the third picture has none. */
static void write_picture(int i)
{
    struct boxes_picture p = boxes_begin(i, SIDE, SIDE);
    for (int k = 0; k < 1 + i % 3 && i != 2; k++)
        boxes_add(
            &p, 2 + 15 * k, 4 + (7 * i + 11 * k) % 28, 9 + (i + k) % 4, (i + k) % 2);
    boxes_end(&p);
}

static int setup(void **state)
{
    (void)state;
    if (boxes_setup())
        return -1;
    for (int i = 0; i < ALL; i++)
        write_picture(i);
    boxes_list("train", 0, IMAGES, NULL);
    boxes_list("val", IMAGES, VAL, NULL);
    boxes_list("test", 0, IMAGES, NULL);
    return 0;
}

static void metrics_are_cocos(void **state)
{
    (void)state;
    thaw_result r;
    must(train(square_options("plain"), NULL, &r));
    char *text = read_text("plain", "metrics.jsonl");
    assert_non_null(strstr(text, "\"val_ap\":"));
    assert_non_null(strstr(text, "\"val_ap50\":"));
    assert_null(strstr(text, "val_top1"));
    assert_non_null(strstr(text, "\"best_ap\":"));
    assert_non_null(strstr(text, "\"test_ap50\":"));
    assert_true(r.frozen_verified);
    th_free(text);
}

static double logged(const char *run, const char *key)
{
    char *text = read_text(run, "metrics.jsonl");
    const char *at = strstr(text, key);
    assert_non_null(at);
    double value = strtod(at + strlen(key), NULL);
    th_free(text);
    return value;
}

/* On the training images, with weights that hardly move, validation has training's loss; the
 * last batch is filled by repeats, and with a cache no image is read. */
static void the_loss_of_validation_is_that_of_training(void **state)
{
    (void)state;
    static const struct {
        const char *head, *thaw, *cache;
    } row[] = {{"fcos", "all", "off"}, {"retinanet", "all", "off"},
        {"retinanet_v2", "head", "memory"}};
    thaw_result r;
    boxes_list("val", 0, IMAGES, NULL);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        thaw_options *o =
            with(with(square_options("loss"), "head", row[i].head), "batch", "3");
        o = with(
            with(with(o, "thaw", row[i].thaw), "cache", row[i].cache), "lr", "1e-12");
        must(train(with(with(o, "bn", "frozen"), "no-shuffle", "1"), NULL, &r));
        double train_loss = logged("loss", "\"train_loss\":");
        double val_loss = logged("loss", "\"val_loss\":");
        assert_true(train_loss > 0 && fabs(val_loss - train_loss) < 1e-5 * train_loss);
        forget("loss");
    }
    boxes_list("val", IMAGES, VAL, NULL);
}

static void the_same_run_has_the_same_bits(void **state)
{
    (void)state;
    thaw_result r;
    must(train(with(square_options("again"), "workers", "1"), NULL, &r));
    assert_same_model("plain", "again", "last.h5");
    forget("again");
}

/* Two runs of a head on a frozen backbone, which a cache may know. */
static void check_cache(
    thaw_options *(*options)(const char *run), const char *head, const char *epochs)
{
    thaw_result r;
    const char *const kinds[] = {"off", "memory"};
    for (int i = 0; i < 2; i++) {
        thaw_options *o = with(with(options(kinds[i]), "thaw", "head"), "head", head);
        must(train(with(with(o, "cache", kinds[i]), "epochs", epochs), NULL, &r));
    }
    assert_same_model("off", "memory", "last.h5");
    forget("off");
    forget("memory");
}

/* The frozen backbone's maps are kept: images are not read again, their targets are made. */
static void a_cache_changes_nothing(void **state)
{
    (void)state;
    check_cache(square_options, "fcos", "3");
}

static void keep(void *context, const thaw_prediction *p)
{
    int *found = context;
    assert_null(p->error);
    assert_non_null(p->boxes);
    assert_int_equal(p->width, SIDE);
    *found += p->n_boxes;
    for (int i = 0; i < p->n_boxes; i++) {
        const thaw_box *b = &p->boxes[i];
        assert_true(b->x0 >= 0 && b->x1 <= SIDE && b->x0 <= b->x1 && b->y0 <= b->y1);
        assert_true(i == 0 || b->score <= b[-1].score);
    }
}

/* A run long enough to learn its images by heart finds what is in them. */
static void it_learns(void **state)
{
    (void)state;
    thaw_result r;
    thaw_model *m = NULL;
    thaw_evaluation e;
    char path[256], split[256];
    int found = 0;
    thaw_options *o = with(square_options("learnt"), "epochs", "150");
    must(train(with(with(o, "head-width", "64"), "val", "0"), NULL, &r));
    run_path(path, "learnt");
    must(thaw_model_open(path, NULL, &m));
    must(thaw_options_new(&o));
    must(thaw_model_eval(m, data, with(o, "split", "test"), NULL, &e));
    if (!(e.boxes && e.coco[1] > 0.9))
        fail_msg("AP50 %.3f of the images that it was trained on", e.coco[1]);
    thaw_evaluation_release(&e);
    thaw_options_free(o);
    run_path(split, "boxes/JPEGImages");
    must(thaw_model_predict(m, split, keep, &found));
    assert_true(found >= IMAGES);
    thaw_model_free(m);
    forget("learnt");
}

/* On a Vision Transformer too: a pyramid of its only map. */
static thaw_options *vit_options(const char *run)
{
    return with(
        with(square_options(run), "backbone", "vit_micro_patch4_32"), "lr", "0.001");
}

static void a_vit_learns(void **state)
{
    (void)state;
    thaw_result r;
    thaw_model *m = NULL;
    thaw_evaluation e;
    char path[256];
    thaw_options *o = with(vit_options("vit"), "epochs", "30");
    must(train(with(with(o, "head-width", "64"), "val", "0"), NULL, &r));
    assert_true(r.frozen_verified);
    run_path(path, "vit");
    must(thaw_model_open(path, NULL, &m));
    must(thaw_options_new(&o));
    must(thaw_model_eval(m, data, with(o, "split", "test"), NULL, &e));
    if (!(e.boxes && e.coco[1] > 0.9))
        fail_msg("AP50 %.3f of the images that it was trained on", e.coco[1]);
    thaw_evaluation_release(&e);
    thaw_options_free(o);
    thaw_model_free(m);
    forget("vit");
}

/* Tokens of a frozen transformer are kept; the pyramid above them trains. */
static void a_cache_of_tokens_changes_nothing(void **state)
{
    (void)state;
    check_cache(vit_options, "retinanet_v2", "3");
}

/* Boxes by image, one detector's or two's one after the other. */
static void two_heads_share_a_backbone(void **state)
{
    (void)state;
    check_two_heads("48", ALL);
}

static void check_runs(const char *head)
{
    thaw_result r;
    thaw_model *m = NULL;
    char path[256];
    int found = 0;
    must(train(with(square_options(head), "head", head), NULL, &r));
    assert_true(r.frozen_verified && isfinite(r.last_loss));
    run_path(path, head);
    must(thaw_model_open(path, NULL, &m));
    run_path(path, "boxes/JPEGImages");
    must(thaw_model_predict(m, path, keep, &found));
    thaw_model_free(m);
}

/* Anchors and rows of nine a place go the same way. */
static void retinanet_runs(void **state)
{
    (void)state;
    check_runs("retinanet");
}

/* What is drawn, in the loader and in the plan, is the same for any number of threads. */
static void faster_rcnn_runs(void **state)
{
    (void)state;
    thaw_result r;
    check_runs("faster_rcnn");
    thaw_options *o = with(square_options("again"), "head", "faster_rcnn");
    must(train(with(o, "workers", "1"), NULL, &r));
    assert_same_model("faster_rcnn", "again", "last.h5");
    forget("again");
}

/* BatchNorms of the head follow batches while the backbone's are frozen. */
static void faster_rcnn_v2_runs(void **state)
{
    (void)state;
    thaw_result r;
    check_runs("faster_rcnn_v2");
    thaw_options *o = with(square_options("frozen"), "head", "faster_rcnn_v2");
    assert_int_equal(train(with(o, "bn", "frozen"), NULL, &r), THAW_E_USAGE);
    assert_non_null(strstr(thaw_error(), "say head:train"));
}

/* The validation pictures as a file of COCO's, with numbers that are not their places. */
static void write_coco(void)
{
    char path[256];
    run_path(path, "boxes/some.json");
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("{\"categories\":[{\"id\":9,\"name\":\"red\"},{\"id\":4,\"name\":"
          "\"green\"}],\"images\":[",
        f);
    for (int i = 0; i < VAL; i++)
        fprintf(f, "%s{\"id\":%d,\"file_name\":\"%03d.png\"}", i ? "," : "", 900 - i,
            IMAGES + i);
    fputs("],\"annotations\":[{\"id\":1,\"image_id\":900,\"category_id\":9,\"bbox\":[1,"
          "1,9,9]}]}",
        f);
    assert_int_equal(fclose(f), 0);
    run_path(path, "boxes/images");
    assert_int_equal(symlink("JPEGImages", path), 0);
}

struct told {
    thaw_coco_results *results;
    int images, boxes;
};

static void tell(void *context, const thaw_prediction *p)
{
    struct told *told = context;
    char path[256];
    assert_int_equal(p->image_id, 900 - told->images++);
    assert_int_equal(p->category_ids[0], 4); /* green, red */
    assert_int_equal(p->category_ids[1], 9);
    told->boxes += p->n_boxes;
    thaw_coco_results_add(told->results, p);
    run_path(path, "drawn");
    must(thaw_draw(p, path));
}

static int occurrences(const char *text, const char *word)
{
    int n = 0;
    for (; (text = strstr(text, word)); text++)
        n++;
    return n;
}

/* Numbers of the annotations in COCO's results, and pictures beside which nothing is lost. */
static void what_is_found_goes_to_files(void **state)
{
    (void)state;
    thaw_model *m = NULL;
    thaw_options *o = NULL;
    struct told told = {0};
    char path[256], coco[300];
    write_coco();
    must(thaw_options_new(&o));
    run_path(path, "plain");
    must(thaw_model_open(path, with(o, "threshold", "0.02"), &m));
    assert_true(thaw_model_is_detector(m));
    run_path(path, "drawn");
    assert_int_equal(mkdir(path, 0777), 0);
    run_path(path, "found.json");
    must(thaw_coco_results_new(path, &told.results));
    run_path(path, "boxes/some.json");
    snprintf(coco, sizeof coco, "coco:%s", path);
    must(thaw_model_predict(m, coco, tell, &told));
    must(thaw_coco_results_write(told.results));
    thaw_coco_results_free(told.results);
    char *text = read_text(".", "found.json");
    assert_true(told.images == VAL && told.boxes > 0);
    assert_int_equal(occurrences(text, "\"bbox\":["), told.boxes);
    assert_int_equal(occurrences(text, "\"category_id\":4,") +
                         occurrences(text, "\"category_id\":9,"),
        told.boxes);
    assert_int_equal(
        occurrences(text, "\"image_id\":89") + occurrences(text, "\"image_id\":900"),
        told.boxes);
    th_free(text);
    run_path(path, "found.json");
    assert_int_equal(thaw_coco_results_new(path, &told.results), THAW_E_USAGE);
    run_path(path, "drawn/008.jpg");
    struct th_image image;
    must(th_image_read(path, &image, NULL));
    assert_int_equal(image.w, SIDE);
    th_image_release(&image);
    thaw_options_free(o);
    thaw_model_free(m);
}

/* What to freeze, compared by AP. */
static void strategies_are_compared_by_ap(void **state)
{
    (void)state;
    const thaw_bench_result *r = NULL;
    thaw_bench *b = NULL;
    thaw_options *o = square_options("bench");
    set(o, "thaw", "head");
    set(o, "strategies", "freezeat2,bnfrozen");
    set(o, "seeds", "2");
    must(thaw_bench_new(o, THAW_BUILD_DIR "/thaw", NULL, &b));
    must(thaw_bench_run(b, &r));
    assert_true(r->boxes && r->winner == 0 && r->n_rows == 2);
    assert_int_equal(r->test_images, IMAGES);
    assert_true(r->test_top1 >= 0 && r->test_top1 <= 1);
    for (int i = 0; i < 2; i++) {
        const thaw_bench_row *row = &r->rows[i];
        bool frozen = !strcmp(row->strategy, "freezeat2");
        assert_string_equal(row->thaw, frozen ? "stage2,stage3,head" : "all");
        assert_string_equal(row->bn, "frozen");
        assert_int_equal(row->seeds, 2);
        assert_true(row->top1 >= 0 && row->top1 <= 1 && isnan(row->images.low));
        assert_true((i == 0) == (bool)isnan(row->difference));
    }
    char *text = read_text("bench", "bench.json");
    assert_non_null(strstr(text, "\"ap\":"));
    assert_null(strstr(text, "top1"));
    th_free(text);
    text = read_text("bench", "bench.html");
    assert_non_null(strstr(text, "<th>AP</th>"));
    assert_null(strstr(text, "nan"));
    th_free(text);
    thaw_bench_free(b);
    thaw_options_free(o);
}

static void refused(thaw_options *o, const char *why)
{
    thaw_trainer *t = NULL;
    assert_int_equal(thaw_trainer_new(o, NULL, &t), THAW_E_USAGE);
    if (!strstr(thaw_error(), why))
        fail_msg("\"%s\" does not say \"%s\"", thaw_error(), why);
    thaw_options_free(o);
}

static void what_is_for_classifiers_is_refused(void **state)
{
    (void)state;
    refused(with(square_options("no"), "mixup", "0.2"), "mixup");
    refused(with(square_options("no"), "label-smoothing", "0.1"), "label-smoothing");
    refused(with(square_options("no"), "class-weights", "1"), "class-weights");
    refused(with(square_options("no"), "balanced", "1"), "balanced");
    assert_false(is_there("no"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metrics_are_cocos),
        cmocka_unit_test(the_loss_of_validation_is_that_of_training),
        cmocka_unit_test(what_is_found_goes_to_files),
        cmocka_unit_test(the_same_run_has_the_same_bits),
        cmocka_unit_test(a_cache_changes_nothing),
        cmocka_unit_test(it_learns),
        cmocka_unit_test(a_vit_learns),
        cmocka_unit_test(a_cache_of_tokens_changes_nothing),
        cmocka_unit_test(two_heads_share_a_backbone),
        cmocka_unit_test(retinanet_runs),
        cmocka_unit_test(strategies_are_compared_by_ap),
        cmocka_unit_test(faster_rcnn_runs),
        cmocka_unit_test(faster_rcnn_v2_runs),
        cmocka_unit_test(what_is_for_classifiers_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, boxes_teardown);
}
