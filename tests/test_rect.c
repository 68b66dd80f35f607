/* SPDX-License-Identifier: Apache-2.0
 * Inputs that are not square: how their size is written, where pictures and anchors are on them,
 * that devices agree on them, and what model files say. Whole runs: test_rect_cli.sh. */
#include "net.h"

#include "augment.h"
#include "model_file.h"
#include "network.h"
#include "options.h"
#include "placement.h"

static const struct th_size WIDE = {96, 64};

/* ---- Text ---- */

static void sizes_are_written_and_read(void **state)
{
    (void)state;
    struct th_size s = {1, 2};
    assert_string_equal(th_size_text((struct th_size){320, 240}).text, "320x240");
    assert_string_equal(th_size_text((struct th_size){320, 320}).text, "320");
    assert_true(th_size_parse("320x240", &s) && s.w == 320 && s.h == 240);
    assert_true(th_size_parse("64", &s) && s.w == 64 && s.h == 64);
    static const char *const bad[] = {"", "x", "320x", "x240", "320x240x3", "320 x 240",
        "-320", "+8x8", "320X240", "3.2x8", "99999999", "8x99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(th_size_parse(bad[i], &s));
    assert_int_equal(s.w, 64);
}

static void sizes_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    static const char *const bad[][2] = {{"320x", "give pixels on a side, as 320, or"},
        {"7", "7 is outside 8 to 4096"}, {"320x7", "outside 8 to 4096 on a side"},
        {"4097x8", "outside 8 to 4096 on a side"}, {"auto", "is not a size"}};
    thaw_options *o = NULL;
    must(thaw_options_new(&o));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(thaw_options_set(o, "image-size", bad[i][0]), THAW_E_USAGE);
        if (!strstr(thaw_error(), bad[i][1]))
            fail_msg("\"%s\" does not say \"%s\"", thaw_error(), bad[i][1]);
    }
    must(thaw_options_set(o, "image-size", "320x240"));
    assert_true(
        th_size_same(th_option_size(o, "image-size"), (struct th_size){320, 240}));
    thaw_options_free(o);
}

/* ---- Pictures ---- */

static void shown(int w, int h, struct th_size input, int want_w, int want_h)
{
    struct th_placement p = th_placement_whole(w, h, input);
    const struct th_object o = {
        .box = {(float)w / 8, (float)h / 4, (float)w / 2, (float)h / 3 * 2}};
    struct th_object on;
    float back[4];
    if (p.to.w != want_w || p.to.h != want_h)
        fail_msg("%dx%d in %dx%d: %dx%d", w, h, input.w, input.h, p.to.w, p.to.h);
    assert_int_equal(th_placement_objects(&p, &o, 1, &on), 1);
    th_placement_back(&p, w, h, on.box, back);
    for (int k = 0; k < 4; k++)
        assert_true(fabsf(back[k] - o.box[k]) < 1e-3F);
}

static void a_picture_is_as_large_as_there_is_room(void **state)
{
    (void)state;
    shown(640, 480, (struct th_size){320, 240}, 320, 240);
    shown(640, 480, (struct th_size){320, 256}, 320, 240);
    shown(480, 640, (struct th_size){320, 256}, 192, 256);
    shown(1000, 10, (struct th_size){32, 96}, 32, 1);
    shown(30, 40, (struct th_size){96, 64}, 48, 64);
}

static void fill(struct th_image *image, int w, int h)
{
    must(th_image_init(image, w, h));
    for (size_t i = 0; i < (size_t)w * (size_t)h * 3; i++)
        image->rgb[i] = (uint8_t)(i * 131 + i / 97 * 17);
}

/* The middle of what the square that covers it shows, to the bit. */
static void a_classifiers_input_is_the_middle_of_a_squares(void **state)
{
    (void)state;
    enum { N = 32, W = 24 };
    static uint8_t square[N * N * 3], wide[N * W * 3], high[W * N * 3];
    static const int picture[][2] = {{64, 64}, {90, 61}, {61, 90}};
    struct th_preprocess p = th_preprocess_imagenet(N);
    p.crop = 1;
    for (int i = 0; i < 3; i++) {
        struct th_image image;
        fill(&image, picture[i][0], picture[i][1]);
        p.size = (struct th_size){N, N};
        must(th_preprocess_pixels(&p, &image, square));
        if (image.w <=
            image.h) { /* its width is the square's, and so the rectangle's */
            p.size = (struct th_size){N, W};
            must(th_preprocess_pixels(&p, &image, wide));
            assert_memory_equal(wide, square + (N - W) / 2 * N * 3, sizeof wide);
        }
        if (image.h <= image.w) {
            p.size = (struct th_size){W, N};
            must(th_preprocess_pixels(&p, &image, high));
            for (int y = 0; y < N; y++)
                assert_memory_equal(high + y * W * 3,
                    square + (y * N + (N - W) / 2) * 3, (size_t)W * 3);
        }
        th_image_release(&image);
    }
}

/* A picture of the input's shape is shown whole with --crop 1, and its share with less. */
static void nothing_of_a_picture_of_its_shape_is_cut(void **state)
{
    (void)state;
    struct th_preprocess p = th_preprocess_imagenet(1);
    struct th_resize r;
    p.size = (struct th_size){320, 240};
    p.crop = 1;
    must(th_preprocess_resize(&p, 640, 480, &r));
    assert_true(r.w == 320 && r.h == 240 && r.part.x == 0 && r.part.y == 0);
    assert_true(r.part.w == 320 && r.part.h == 240);
    p.crop = 0.875;
    must(th_preprocess_resize(&p, 640, 480, &r));
    assert_true(r.w == 365 && r.h == 274 && r.part.x == 22 && r.part.y == 17);
    must(th_preprocess_resize(&p, 100, 1000, &r));
    assert_true(r.w == 365 && r.h == 3650 && r.part.y == (3650 - 240) / 2);
}

static void a_rectangle_is_erased_within_it(void **state)
{
    (void)state;
    enum { W = 21, H = 9 };
    const struct th_augment a = {
        .crop = true, .mirror = 0.5, .n_ops = 2, .bin = 9, .erase = 1};
    struct th_preprocess p = {
        .size = {W, H}, .crop = 1, .mean = {-1, -1, -1}, .std = {1, 1, 1}};
    struct th_example_maker maker = {0};
    struct th_image image;
    float out[3 * W * H];
    fill(&image, 50, 40);
    const struct th_picture picture = th_picture_of(&image);
    for (int i = 0; i < 100; i++) {
        const struct th_example e = {
            .preprocess = &p, .augment = &a, .view = {.seed = 3, .sample = i}};
        int n = 0, x0 = W, x1 = 0, y0 = H, y1 = 0;
        must(th_example_make(&maker, &e, &picture, out));
        for (int k = 0; k < W * H; k++) {
            bool erased = fabsf(out[k]) < 0.5F; /* pixels are 1 to 2 */
            int x = k % W, y = k / W;
            n += erased;
            x0 = erased && x < x0 ? x : x0;
            x1 = erased && x >= x1 ? x + 1 : x1;
            y0 = erased && y < y0 ? y : y0;
            y1 = erased && y >= y1 ? y + 1 : y1;
        }
        assert_true(n > 0 && n == (x1 - x0) * (y1 - y0));
    }
    th_example_maker_release(&maker);
    th_image_release(&image);
}

/* ---- Networks ---- */

static void open_net(
    struct net *n, const char *device, const char *variant, const char *head)
{
    net_open_as(n, device, (struct net_shape){variant, head, 32, WIDE, 3}, 5);
}

static struct th_reader reader_of(const struct net *n)
{
    struct th_reader r;
    must(th_model_reader(&n->model, &r));
    return r;
}

/* Places are as far apart as the pyramid's strides say, in both axes. */
static void anchors_are_at_their_places(void **state)
{
    (void)state;
    static const char *const heads[] = {"fcos", "retinanet", "faster_rcnn"};
    for (int i = 0; i < 3; i++) {
        struct net n;
        open_net(&n, "ref", "resnet20_s4", heads[i]);
        struct th_reader r = reader_of(&n);
        const struct th_pyramid *p = r.pyramid;
        for (int l = 0; l < p->n; l++) {
            const struct th_level *level = &p->level[l];
            bool whole = WIDE.w % level->stride == 0 && WIDE.h % level->stride == 0;
            for (int64_t k = 0; whole && k < (int64_t)level->h * level->w * p->anchors;
                 k++) {
                const float *a = r.anchor + (level->first + k) * 4;
                int64_t place = k / p->anchors;
                float x = (float)(place % level->w * level->stride);
                float y = (float)(place / level->w * level->stride);
                assert_true(fabsf((a[0] + a[2]) / 2 - x) < 1e-3F);
                assert_true(fabsf((a[1] + a[3]) / 2 - y) < 1e-3F);
            }
        }
        assert_int_equal(p->level[0].w * p->level[0].stride, WIDE.w);
        assert_int_equal(p->level[0].h * p->level[0].stride, WIDE.h);
        th_reader_release(&r);
        net_close(&n);
    }
}

static void set_targets(struct net *n)
{
    static const struct th_object objects[] = {{.box = {50, 8, 94, 60}, .class = 1},
        {.box = {4, 30, 30, 50}, .class = 0}, {.box = {70, 3, 90, 20}, .class = 2}};
    struct th_reader r = reader_of(n);
    const struct th_detector *d = r.detector;
    void *target[TH_MAX_TARGETS] = {0};
    float weight;
    for (int k = 0; k < d->n_targets; k++)
        target[k] = th_alloc(1, th_target_bytes(r.pyramid, &d->target[k]));
    th_reader_targets(&r, objects, 3, 0, target);
    th_reader_weights(&r, target[0], 1, &weight);
    for (int k = 0; k < d->n_targets; k++) {
        must(th_plan_set(n->plan, d->target[k].name, target[k]));
        th_free(target[k]);
    }
    if (th_plan_has(n->plan, "weight"))
        must(th_plan_set(n->plan, "weight", &weight));
    th_reader_release(&r);
}

static float *gradients_of(const char *device, const char *variant, const char *head,
    float *loss, int64_t *count)
{
    const int32_t keys[2] = {0};
    struct net n;
    open_net(&n, device, variant, head);
    net_plan(&n,
        (struct th_plan_spec){
            .mode = TH_TRAIN, .batch = 1, .keep_gradients = true, .no_update = true},
        "all", "affine");
    net_upload_random(&n, "image", 5, "images");
    net_scalars(&n, 0);
    if (n.model.head->detector)
        set_targets(&n);
    else
        net_upload_target(&n);
    if (th_plan_has(n.plan, "keys"))
        must(th_plan_set(n.plan, "keys", keys));
    must(th_plan_run(n.plan));
    must(th_plan_get(n.plan, "loss", loss));
    return net_take_gradients(&n, count);
}

/* Plain C is the referee. */
static void devices_agree(void **state)
{
    (void)state;
    static const char *const nets[][2] = {{"resnet20_s4", "fcos"},
        {"resnet20_s4", "faster_rcnn"}, {"resnet20", "classify"},
        {"vit_micro_patch4_32", "classify"}};
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
        float want, loss;
        int64_t n, m;
        float *a = gradients_of("ref", nets[i][0], nets[i][1], &want, &n);
        float *b = gradients_of("cpu", nets[i][0], nets[i][1], &loss, &m);
        assert_true(n == m && want > 0);
        if (!(fabsf(loss - want) <= 1e-4F * want) || !(net_distance(b, a, n) <= 1e-3))
            fail_msg("%s, %s: loss %g, not %g; gradients %g apart", nets[i][0],
                nets[i][1], (double)loss, (double)want, net_distance(b, a, n));
        th_free(a);
        th_free(b);
    }
}

/* Of answers that mean boxes everywhere: cut at the right edge by the width, below by the
 * height. */
static void boxes_are_cut_at_the_inputs_edges(void **state)
{
    (void)state;
    struct net n;
    open_net(&n, "ref", "resnet20_s4", "fcos");
    struct th_reader r = reader_of(&n);
    int64_t rows = r.pyramid->rows;
    float *logits = th_alloc((size_t)rows * 3, sizeof *logits);
    float *sides = th_alloc((size_t)rows * 4, sizeof *sides);
    float *centre = th_alloc((size_t)rows, sizeof *centre);
    for (int64_t i = 0; i < rows * 4; i++)
        sides[i] = 30; /* strides: far over every edge */
    const float *output[] = {sides, centre};
    r.score = 0;
    th_reader_read(&r, logits, output);
    assert_true(r.n_found > 0);
    for (int i = 0; i < r.n_found; i++) {
        const float want[4] = {0, 0, 96, 64};
        assert_memory_equal(r.found[i].box, want, sizeof want);
    }
    th_free(logits);
    th_free(sides);
    th_free(centre);
    th_reader_release(&r);
    net_close(&n);
}

static void patches_fill_both_sides(void **state)
{
    (void)state;
    const char *names[] = {"a", "b"};
    const struct th_backbone *backbone = NULL;
    const struct th_variant *v = NULL;
    struct th_model m = {0};
    must(th_variant_find("vit_micro_patch4_32", &backbone, &v));
    struct th_input input = v->input;
    input.size = (struct th_size){24, 18};
    assert_int_equal(
        th_model_init(&m, backbone, v, &th_head_classify, 0, &input, names, 2),
        THAW_E_USAGE);
    assert_non_null(strstr(thaw_error(), "24 x 18, 18 pixels do not divide"));
    th_model_release(&m);
}

/* ---- Model files ---- */

static void a_model_file_says_one_number_of_a_square_and_two_else(void **state)
{
    (void)state;
    struct net n;
    open_net(&n, "ref", "resnet20", "classify");
    for (int i = 0; i < 2; i++) {
        struct th_weights w;
        struct th_input back = {.size = {1, 1}};
        bool said = false;
        size_t count = 0;
        n.model.input.size = i ? WIDE : (struct th_size){48, 48};
        th_weights_init(&w);
        must(th_model_file_describe(&n.model, &w));
        const int64_t *size = th_weights_ints(&w, "input_size", &count);
        assert_int_equal(count, 1 + i);
        assert_true(size[0] == n.model.input.size.w && size[i] == n.model.input.size.h);
        must(th_model_file_input(&w, &back, &said));
        assert_true(said && th_size_same(back.size, n.model.input.size));
        const int64_t three[] = {48, 32, 3}, none[] = {0, 32};
        must(th_weights_set_ints(&w, "input_size", three, 3));
        assert_int_equal(th_model_file_input(&w, &back, &said), THAW_E_DATA);
        must(th_weights_set_ints(&w, "input_size", none, 2));
        assert_int_equal(th_model_file_input(&w, &back, &said), THAW_E_DATA);
        th_weights_release(&w);
    }
    net_close(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_written_and_read),
        cmocka_unit_test(sizes_that_make_no_sense_are_refused),
        cmocka_unit_test(a_picture_is_as_large_as_there_is_room),
        cmocka_unit_test(a_classifiers_input_is_the_middle_of_a_squares),
        cmocka_unit_test(nothing_of_a_picture_of_its_shape_is_cut),
        cmocka_unit_test(a_rectangle_is_erased_within_it),
        cmocka_unit_test(anchors_are_at_their_places),
        cmocka_unit_test(devices_agree),
        cmocka_unit_test(boxes_are_cut_at_the_inputs_edges),
        cmocka_unit_test(patches_fill_both_sides),
        cmocka_unit_test(a_model_file_says_one_number_of_a_square_and_two_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
