/* SPDX-License-Identifier: Apache-2.0
 * Faster R-CNN's second version beside torchvision's in fp64 (golden/faster_rcnn_v2.h); which
 * statistics its BatchNorms take; places without a box. */
#include "golden/faster_rcnn_v2.h"

#include "rcnn.h"

static void open_rcnn(struct net *n, const char *device)
{
    open_factored(n, device, "faster_rcnn_v2");
}

static void faster_rcnn_v2_equals_torchvision(void **state)
{
    (void)state;
    for (int i = 0; i < NET_DEVICES; i++)
        if (is_fast(net_devices[i]))
            check_step(net_devices[i], open_rcnn, golden_loss_sum());
}

static void faster_rcnn_v2_finds_what_torchvision_finds(void **state)
{
    (void)state;
    check_rcnn_found(open_rcnn);
}

/* Their weights come from nowhere else: running statistics say nothing yet. */
static void auto_gives_a_new_heads_norms_the_batchs_statistics(void **state)
{
    (void)state;
    struct net n;
    struct th_freeze f;
    open_rcnn(&n, "cpu");
    must(th_freeze_init(&f, &n.model, "all", "auto", 2));
    for (int i = 0; i < n.model.n_bns; i++) {
        const char *stage = n.model.stages[n.model.bns[i].stage];
        assert_int_equal(
            f.bn[i], strcmp(stage, "head") == 0 ? TH_BN_TRAIN : TH_BN_FROZEN);
    }
    th_freeze_release(&f);
    net_close(&n);
}

/* Of two boxes and no object, in five places: no statistics of a batch see an empty one. */
static void places_that_are_left_over_have_the_boxes_again(void **state)
{
    (void)state;
    enum { BOXES = 3, COUNT = 5 };
    const float rois[BOXES][4] = {{1, 2, 9, 8}, {3, 3, 20, 7}, {-1, -1, -1, -1}};
    const float box[4] = {0};
    const int32_t label = -1, keys[2] = {0};
    float sampled[COUNT][4], code[COUNT][4];
    int32_t target[COUNT], scratch[2 * (BOXES + 1)];
    struct th_device *ref;
    must(th_device_open("ref", 1, &ref));
    struct th_call call = {.op = TH_OP_sample_rois,
        .device = ref,
        .scratch = scratch,
        .attr.sample = {.count = COUNT, .positive = 2, .overlap = 0.5F},
        .args = {(void *)rois, (void *)box, (void *)&label, (void *)keys, sampled,
            target, code}};
    call.in[0].shape = TH_SHAPE(1, BOXES, 4);
    call.in[1].shape = TH_SHAPE(1, 1, 4);
    must(ref->backend->kernel(TH_OP_sample_rois)->run(&call));
    for (int i = 0; i < COUNT; i++) {
        assert_memory_equal(sampled[i], rois[i % 2], sizeof rois[0]);
        assert_int_equal(target[i], i < 2 ? -1 : -2);
    }
    th_device_close(ref);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faster_rcnn_v2_equals_torchvision),
        cmocka_unit_test(faster_rcnn_v2_finds_what_torchvision_finds),
        cmocka_unit_test(auto_gives_a_new_heads_norms_the_batchs_statistics),
        cmocka_unit_test(places_that_are_left_over_have_the_boxes_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
