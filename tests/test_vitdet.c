/* SPDX-License-Identifier: Apache-2.0
 * Detectors on a Vision Transformer: FCOS on ViTDet's simple feature pyramid beside PyTorch in
 * fp64 (golden/vitdet.h); levels and names; nothing below a head that trains has a backward
 * step. */
#include "golden/vitdet.h"

#include "detect.h"

/* ---- Beside PyTorch ---- */

static void open_vitdet(struct net *n, const char *device)
{
    open_detector(n, device, "vit_micro_patch4_32", "fcos");
    adjust_last_layers(n);
}

static void gradients_equal_pytorchs(void **state)
{
    (void)state;
    double want = golden_loss[0] + golden_loss[1] + golden_loss[2];
    check_steps(open_vitdet, want);
}

static void the_same_boxes_are_found(void **state)
{
    (void)state;
    for (int i = 0; i < NET_DEVICES; i++)
        if (net_has_device(net_devices[i]))
            check_found(net_devices[i], open_vitdet);
}

/* ---- Levels and names ---- */

static thaw_status build(
    struct th_model *m, const char *backbone_name, const char *head_name, int size)
{
    const char *names[] = {"a"};
    const struct th_backbone *backbone = NULL;
    const struct th_variant *v = NULL;
    const struct th_head *head = NULL;
    must(th_variant_find(backbone_name, &backbone, &v));
    must(th_head_find(head_name, &head));
    struct th_input input = v->input;
    input.size = (struct th_size){size, size};
    return th_model_init(m, backbone, v, head, GOLDEN_WIDTH, &input, names, 1);
}

static void check_levels(const struct th_model *m, const int *stride, int n)
{
    assert_int_equal(m->pyramid.n, n);
    for (int i = 0; i < n; i++)
        assert_int_equal(m->pyramid.level[i].stride, stride[i]);
}

static void check_shape(const struct th_model *m, const char *name, struct th_shape s)
{
    int i = th_model_param(m, name);
    if (i < 0)
        fail_msg("no parameter is called %s", name);
    assert_memory_equal(m->params[i].shape.dim, s.dim, sizeof s.dim);
}

/* Detectron2's names, as its ViTDet has them behind "backbone."; P6 by pooling. */
static void faster_rcnn_has_detectron2s_levels(void **state)
{
    (void)state;
    struct th_model m;
    must(build(&m, "vit_tiny_patch16_224", "faster_rcnn", 64));
    check_levels(&m, (int[]){4, 8, 16, 32, 64}, 5);
    check_shape(&m, "simfp_2.0.weight", TH_SHAPE(4 * 96, 192));
    check_shape(&m, "simfp_2.0.bias", TH_SHAPE(96));
    check_shape(&m, "simfp_2.1.weight", TH_SHAPE(96));
    check_shape(&m, "simfp_2.3.weight", TH_SHAPE(4 * 48, 96));
    check_shape(&m, "simfp_2.4.weight", TH_SHAPE(64, 48, 1, 1));
    check_shape(&m, "simfp_2.4.norm.bias", TH_SHAPE(64));
    check_shape(&m, "simfp_2.5.weight", TH_SHAPE(64, 64, 3, 3));
    check_shape(&m, "simfp_3.0.bias", TH_SHAPE(96));
    check_shape(&m, "simfp_3.2.norm.weight", TH_SHAPE(64));
    check_shape(&m, "simfp_4.0.weight", TH_SHAPE(64, 192, 1, 1));
    check_shape(&m, "simfp_5.1.weight", TH_SHAPE(64, 192, 1, 1));
    check_shape(&m, "simfp_5.2.norm.weight", TH_SHAPE(64));
    assert_true(th_model_param(&m, "simfp_4.0.bias") < 0);
    th_model_release(&m);
}

/* Of retinanet_v2, P6 is made of the halved map, not of the last level. */
static void retinanet_v2_makes_p6_of_the_backbone(void **state)
{
    (void)state;
    struct th_model m;
    must(build(&m, "vit_tiny_patch16_224", "retinanet_v2", 64));
    check_levels(&m, (int[]){8, 16, 32, 64, 128}, 5);
    check_shape(&m, "top_block.p6.weight", TH_SHAPE(64, 192, 3, 3));
    check_shape(&m, "top_block.p7.weight", TH_SHAPE(64, 64, 3, 3));
    th_model_release(&m);
}

/* A stride that is no whole number is refused; with one level less there is none. */
static void patches_of_14_have_no_quarter(void **state)
{
    (void)state;
    struct th_model m;
    assert_int_equal(
        build(&m, "vit_small_patch14_dinov2", "faster_rcnn", 56), THAW_E_USAGE);
    assert_non_null(strstr(thaw_error(), "14 / 4"));
    must(build(&m, "vit_small_patch14_dinov2", "fcos", 56));
    check_levels(&m, (int[]){7, 14, 28, 56, 112}, 5);
    th_model_release(&m);
}

/* ---- Freezing ---- */

/* Backward steps of attention are the backbone's alone. */
static int backward_attentions(struct net *n, const char *thaw)
{
    int found = 0;
    net_plan(n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 2}, thaw, "affine");
    const struct th_graph *g = th_plan_graph(n->plan);
    for (int i = 0; i < g->n_nodes; i++)
        found += g->nodes[i].op == TH_OP_attention_dx;
    return found;
}

static void nothing_below_a_training_head_goes_back(void **state)
{
    (void)state;
    struct net n;
    open_vitdet(&n, "ref");
    assert_int_equal(backward_attentions(&n, "head"), 0);
    assert_int_equal(backward_attentions(&n, "block5,head"), 1);
    assert_int_equal(backward_attentions(&n, "all"), 6);
    net_close(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_equal_pytorchs),
        cmocka_unit_test(the_same_boxes_are_found),
        cmocka_unit_test(faster_rcnn_has_detectron2s_levels),
        cmocka_unit_test(retinanet_v2_makes_p6_of_the_backbone),
        cmocka_unit_test(patches_of_14_have_no_quarter),
        cmocka_unit_test(nothing_below_a_training_head_goes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
