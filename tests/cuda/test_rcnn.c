/* SPDX-License-Identifier: Apache-2.0
 * A step of a detector of two stages on the CUDA engine, on the emulated device: the same boxes,
 * of the same draw, as on the CPU, and nothing on the host. */
#include "emulated.h"

/* What detect.h is told; it is no golden file's. */
enum { GOLDEN_KEY = 21, GOLDEN_WIDTH = 8, GOLDEN_SIZE = 64 };
enum { GOLDEN_IMAGES = 1, GOLDEN_CLASSES = 3 };
static const struct golden_box {
    int image, class;
    double score, box[4];
} golden_objects[] = {{0, 2, 1, {4, 6, 40, 50}}, {0, 0, 1, {20, 10, 60, 30}}},
  golden_found[1];
static const struct golden_gradient {
    const char *name;
    double norm, sample[8];
} golden_gradients[1];
#include "detect.h"

enum { STEPS = 4 };

struct step {
    float loss;
    struct emu_counters counters; /* of the last one */
};

static void train(const char *device, struct step *out)
{
    struct net n;
    const int32_t keys[GOLDEN_IMAGES][2] = {{5, 7}};
    open_detector(&n, device, "resnet20_s4", "faster_rcnn");
    net_plan(&n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = GOLDEN_IMAGES},
        "roi_heads.box_predictor.*,rpn.*", "frozen");
    for (int i = 0; i < STEPS; i++) {
        set_targets(&n);
        must(th_plan_set(n.plan, "keys", keys));
        net_upload_random(&n, "image", GOLDEN_KEY, "images");
        net_scalars(&n, 1e-3F);
        emu_reset_counters();
        must(th_plan_run(n.plan));
        must(th_plan_get(n.plan, "loss", &out->loss));
        out->counters = emu_counters();
    }
    assert_int_equal(net_count_op(&n, TH_OP_proposals), 1);
    net_close(&n);
}

/* A step on the host would wait, and could not be recorded. */
static void a_step_of_two_stages_waits_for_its_loss_alone(void **state)
{
    (void)state;
    struct step cpu = {0}, cuda = {0};
    open_emulated(EMU_LATE);
    train("cpu", &cpu);
    train("cuda:0", &cuda);
    close_emulated();
    print_message("losses %.7g and %.7g\n", (double)cpu.loss, (double)cuda.loss);
    assert_int_equal(cuda.counters.launches, 0);
    assert_int_equal(cuda.counters.graphs, 1);
    assert_int_equal(cuda.counters.allocations, 0);
    assert_int_equal(cuda.counters.copies, 1);
    assert_int_equal(cuda.counters.syncs, 1);
    assert_true(fabsf(cuda.loss - cpu.loss) < 1e-4F * cpu.loss);
}

/* The planner has to see which steps wait for the device, whoever's copy of a kernel it is. */
static void what_is_left_on_the_host_is_int8_and_says_so(void **state)
{
    (void)state;
    struct th_device *device = NULL;
    open_emulated(EMU_LATE);
    must(th_device_open("cuda:0", 1, &device));
    for (int op = 0; op < TH_OP_COUNT; op++) {
        const struct th_kernel *k = device->backend->kernel((enum th_op)op);
        bool int8 = op == TH_OP_quantize || op == TH_OP_dequantize ||
                    op == TH_OP_conv_q_weights || op == TH_OP_conv_q ||
                    op == TH_OP_maxpool_q;
        if (k && op != TH_OP_view && k->on_host != int8) /* a view is no step */
            fail_msg("%s", th_op_rule((enum th_op)op)->name);
    }
    th_device_close(device);
    close_emulated();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_left_on_the_host_is_int8_and_says_so),
        cmocka_unit_test(a_step_of_two_stages_waits_for_its_loss_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
