/* SPDX-License-Identifier: Apache-2.0
 * Dense detectors: FCOS beside torchvision's in fp64 (golden/fcos.h), boxes between pictures
 * and inputs, codes of boxes, what is kept of an image's answers. */
#include "golden/fcos.h"

#include "anchors.h"
#include "detect.h"
#include "placement.h"

/* ---- FCOS ---- */

static void open_fcos(struct net *n, const char *device)
{
    open_detector(n, device, "resnet20_s4", "fcos");
    adjust_last_layers(n);
}

static void fcos_equals_torchvision(void **state)
{
    (void)state;
    double want = golden_loss[0] + golden_loss[1] + golden_loss[2];
    check_steps(open_fcos, want);
}

static void fcos_finds_what_torchvision_finds(void **state)
{
    (void)state;
    for (int i = 0; i < NET_DEVICES; i++)
        if (net_has_device(net_devices[i]))
            check_found(net_devices[i], open_fcos);
}

/* ---- Boxes ---- */

static void codes_are_undone(void **state)
{
    (void)state;
    const float anchor[4] = {10, 20, 18, 36}, box[4] = {3, 25, 30, 31.5F};
    for (int code = TH_CODE_SIDES; code <= TH_CODE_DELTAS; code++) {
        float value[4], back[4];
        th_box_encode((enum th_box_code)code, anchor, box, value);
        th_box_decode((enum th_box_code)code, anchor, value, back);
        for (int k = 0; k < 4; k++)
            assert_true(fabsf(back[k] - box[k]) < 1e-4F);
    }
    float sides[4];
    th_box_encode(TH_CODE_SIDES, anchor, box, sides);
    assert_true(fabsf(sides[0] - (14.0F - 3) / 8) < 1e-6F);
    assert_true(fabsf(sides[3] - (31.5F - 28) / 16) < 1e-6F);
}

static void the_exponential_of_a_code_is_within_a_unit_in_the_last_place(void **state)
{
    (void)state;
    assert_true(th_box_exp(0) == 1);
    for (float v = TH_BOX_LEAST_LOG; v < TH_BOX_MOST_LOG; v += 0.0037F) {
        float near = (float)exp((double)v), e = th_box_exp(v);
        assert_true(e >= nextafterf(near, 0) && e <= nextafterf(near, 100));
    }
}

/* Codes that nobody means: the largest box that there is, and one without an extent. */
static void a_code_of_no_numbers_is_a_box(void **state)
{
    (void)state;
    const float anchor[4] = {0, 0, 16, 16}, value[4] = {0, 0, NAN, -INFINITY};
    float box[4];
    th_box_decode(TH_CODE_DELTAS, anchor, value, box);
    assert_true(fabsf(box[2] - box[0] - 1000) < 1e-3F);
    assert_true(box[3] == box[1]);
}

static void overlap_is_intersection_over_union(void **state)
{
    (void)state;
    const float a[4] = {0, 0, 2, 2}, b[4] = {1, 1, 3, 3}, far[4] = {5, 5, 6, 6};
    const float line[4] = {1, 1, 1, 4};
    assert_true(fabsf(th_box_iou(a, b) - 1.0F / 7) < 1e-6F);
    assert_true(th_box_iou(a, a) == 1);
    assert_true(th_box_iou(a, far) == 0);
    assert_true(th_box_iou(line, line) == 0);
}

static void the_whole_picture_is_shown(void **state)
{
    (void)state;
    struct th_placement p = th_placement_whole(640, 480, (struct th_size){320, 320});
    assert_int_equal(p.to.w, 320);
    assert_int_equal(p.to.h, 240);
    p = th_placement_whole(3, 4000, (struct th_size){100, 100});
    assert_int_equal(p.to.w, 1);
    assert_int_equal(p.to.h, 100);
}

/* A box goes to the input and comes back, mirrored, flipped and cropped or not. */
static void boxes_come_back(void **state)
{
    (void)state;
    const struct th_object o = {.box = {50, 40, 110, 90}, .class = 2};
    for (int bits = 0; bits < 4; bits++) {
        struct th_placement p = {.from = {20, 10, 200, 100},
            .to = {7, 3, 100, 50},
            .mirror = bits & 1,
            .flip = bits & 2};
        struct th_object on;
        float back[4];
        assert_int_equal(th_placement_objects(&p, &o, 1, &on), 1);
        float left = bits & 1 ? 7 + 100 - 45 : 7 + 15;
        assert_true(fabsf(on.box[0] - left) < 1e-4F);
        assert_true(fabsf(on.box[2] - on.box[0] - 30) < 1e-4F);
        th_placement_back(&p, 640, 480, on.box, back);
        for (int k = 0; k < 4; k++)
            assert_true(fabsf(back[k] - o.box[k]) < 1e-3F);
    }
}

/* Crowds and what is not shown are left out, what is cut is cut. */
/* Of boxes of one size, which FCOS chooses among by area, none becomes smaller. */
static void an_input_of_the_pictures_size_moves_no_box(void **state)
{
    (void)state;
    for (int size = 33; size < 1000; size += 7) {
        const struct th_placement p =
            th_placement_whole(size, size, (struct th_size){size, size});
        for (int i = 0; i < 100; i++) {
            float low = (float)(i * size) / 331, back[4];
            struct th_object on, o = {.box = {low, low / 3, low + 10.5F, low + 7.1F}};
            assert_int_equal(th_placement_objects(&p, &o, 1, &on), 1);
            assert_memory_equal(on.box, o.box, sizeof o.box);
            th_placement_back(&p, size, size, on.box, back);
            assert_memory_equal(back, o.box, sizeof o.box);
        }
    }
}

static void what_is_not_shown_is_left_out(void **state)
{
    (void)state;
    const struct th_placement p = {.from = {100, 100, 50, 50}, .to = {0, 0, 100, 100}};
    const struct th_object o[] = {{.box = {110, 110, 120, 120}, .crowd = true},
        {.box = {0, 0, 99, 99}}, {.box = {90, 110, 110, 120}, .class = 1},
        {.box = {0, 110, 101, 120}}};
    struct th_object on[4];
    assert_int_equal(th_placement_objects(&p, o, 4, on), 1);
    assert_int_equal(on[0].class, 1);
    assert_true(on[0].box[0] == 0 && fabsf(on[0].box[2] - 20) < 1e-4F);
}

/* torchvision's, of its AnchorGenerator for RetinaNet. */
static void anchors_are_torchvisions(void **state)
{
    (void)state;
    static const float cell[9][2] = {{23, 11}, {28, 14}, {35, 18}, {16, 16}, {20, 20},
        {25, 25}, {11, 23}, {14, 28}, {18, 35}};
    const struct th_pyramid p = {
        .n = 1, .level = {{.h = 2, .w = 3, .stride = 8}}, .anchors = 9, .rows = 54};
    float anchor[54][4];
    th_anchors(&p, (struct th_size){48, 24}, &anchor[0][0]);
    for (int i = 0; i < 54; i++)
        for (int k = 0; k < 2; k++) {
            int place = i / 9, at = k ? place / 3 * 12 : place % 3 * 16;
            assert_true(anchor[i][k] == (float)at - cell[i % 9][k]);
            assert_true(anchor[i][2 + k] == (float)at + cell[i % 9][k]);
        }
}

/* From 0.5 on, or the best of all; between 0.4 and 0.5 a row counts nowhere. */
static void rows_are_matched_by_overlap(void **state)
{
    (void)state;
    const float anchor[6][4] = {{0, 0, 10, 10}, {0, 0, 10, 8}, {0, 0, 10, 4.5F},
        {0, 0, 10, 2}, {50, 50, 60, 60}, {50, 50, 60, 70}};
    const struct th_object objects[] = {
        {.box = {0, 0, 10, 10}, .class = 3}, {.box = {50, 50, 52, 52}, .class = 7}};
    int32_t match[6];
    th_anchors_match(&anchor[0][0], 6, objects, 2, 0.4F, 0.5F, match);
    const int32_t want[6] = {0, 0, -2, -1, 1, -1};
    for (int i = 0; i < 6; i++)
        assert_int_equal(match[i], want[i]);
    th_anchors_match(&anchor[0][0], 6, objects, 0, 0.4F, 0.5F, match);
    for (int i = 0; i < 6; i++)
        assert_int_equal(match[i], -1);
}

/* Deviation of a weight's values at random. */
static double deviation(const char *head_name, int width, const char *weight)
{
    const char *names[] = {"a", "b"};
    const struct th_backbone *backbone = NULL;
    const struct th_variant *v = NULL;
    const struct th_head *head = NULL;
    struct th_model m;
    must(th_variant_find("resnet20_s4", &backbone, &v));
    must(th_head_find(head_name, &head));
    must(th_model_init(&m, backbone, v, head, width, &v->input, names, 2));
    int i = th_model_param(&m, weight);
    assert_true(i >= 0);
    int64_t n = th_shape_count(&m.params[i].shape);
    float *x = th_alloc((size_t)n, sizeof *x);
    th_param_random(&m.params[i], 11, x);
    double sum = 0;
    for (int64_t k = 0; k < n; k++)
        sum += (double)x[k] * (double)x[k];
    th_free(x);
    th_model_release(&m);
    return sqrt(sum / (double)n);
}

/* Layers without norms pass on as much as torchvision's of 256 channels. */
static void narrow_towers_begin_larger(void **state)
{
    (void)state;
    static const char retina[] = "head.classification_head.conv.1.0.weight",
                      fcos[] = "head.classification_head.conv.3.weight";
    assert_float_equal(deviation("retinanet", 256, retina), 0.01, 2e-4);
    assert_float_equal(deviation("retinanet", 64, retina), 0.02, 4e-4);
    assert_float_equal(deviation("fcos", 64, fcos), 0.01, 2e-4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fcos_equals_torchvision),
        cmocka_unit_test(fcos_finds_what_torchvision_finds),
        cmocka_unit_test(codes_are_undone),
        cmocka_unit_test(the_exponential_of_a_code_is_within_a_unit_in_the_last_place),
        cmocka_unit_test(a_code_of_no_numbers_is_a_box),
        cmocka_unit_test(overlap_is_intersection_over_union),
        cmocka_unit_test(the_whole_picture_is_shown),
        cmocka_unit_test(boxes_come_back),
        cmocka_unit_test(an_input_of_the_pictures_size_moves_no_box),
        cmocka_unit_test(what_is_not_shown_is_left_out),
        cmocka_unit_test(anchors_are_torchvisions),
        cmocka_unit_test(rows_are_matched_by_overlap),
        cmocka_unit_test(narrow_towers_begin_larger),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
