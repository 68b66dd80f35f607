/* SPDX-License-Identifier: Apache-2.0
 * The roofline model's multiply-adds and bytes of ResNet-50, beside those that follow from the
 * paper's table of layers (He et al., "Deep Residual Learning", CVPR 2016, table 1; strides in
 * the 3x3 convolutions, as torchvision's) and from what a kernel has to read and write. */
#include "../must.h"
#include "calls.h"
#include "cost.h"

#include <math.h>

enum { BATCH = 256, CLASSES = 10, FEATURES = 2048 };

/* A bottleneck's convolutions: 1x1 down, 3x3, 1x1 up with the sum, the shortcut's 1x1. */
enum role { STEM, DOWN, MIDDLE, UP, SHORTCUT };
static const struct layer {
    int stage;
    enum role role;
    int times, from, to, window, side, out; /* channels; pixels on a side */
} layers[] = {
    {0, STEM, 1, 3, 64, 7, 224, 112},
    {1, DOWN, 1, 64, 64, 1, 56, 56},
    {1, DOWN, 2, 256, 64, 1, 56, 56},
    {1, MIDDLE, 3, 64, 64, 3, 56, 56},
    {1, UP, 3, 64, 256, 1, 56, 56},
    {1, SHORTCUT, 1, 64, 256, 1, 56, 56},
    {2, DOWN, 1, 256, 128, 1, 56, 56},
    {2, DOWN, 3, 512, 128, 1, 28, 28},
    {2, MIDDLE, 1, 128, 128, 3, 56, 28},
    {2, MIDDLE, 3, 128, 128, 3, 28, 28},
    {2, UP, 4, 128, 512, 1, 28, 28},
    {2, SHORTCUT, 1, 256, 512, 1, 56, 28},
    {3, DOWN, 1, 512, 256, 1, 28, 28},
    {3, DOWN, 5, 1024, 256, 1, 14, 14},
    {3, MIDDLE, 1, 256, 256, 3, 28, 14},
    {3, MIDDLE, 5, 256, 256, 3, 14, 14},
    {3, UP, 6, 256, 1024, 1, 14, 14},
    {3, SHORTCUT, 1, 512, 1024, 1, 28, 14},
    {4, DOWN, 1, 1024, 512, 1, 14, 14},
    {4, DOWN, 2, 2048, 512, 1, 7, 7},
    {4, MIDDLE, 1, 512, 512, 3, 14, 7},
    {4, MIDDLE, 2, 512, 512, 3, 7, 7},
    {4, UP, 3, 512, 2048, 1, 7, 7},
    {4, SHORTCUT, 1, 1024, 2048, 1, 14, 7},
};
enum { TRAINED = 4, BLOCKS = 3 };

/* Multiply-adds; values that are moved at 2 bytes; weights that are stepped. */
struct hand {
    double macs, values, stepped;
};

static double weights_of(const struct layer *l)
{
    return (double)l->from * l->to * l->window * l->window;
}

static double in_of(const struct layer *l)
{
    return (double)BATCH * l->from * l->side * l->side;
}

static double out_of(const struct layer *l)
{
    return (double)BATCH * l->to * l->out * l->out;
}

static void add(struct hand *h, double times, double macs, double values)
{
    h->macs += times * macs;
    h->values += times * values;
}

/* One launch where nothing trains: BatchNorm is in the weights, ReLU and sum behind. With statistics
 * of the batch: the product, which writes y; the statistics, which read it; and what reads and
 * writes it, with the sum's other part. */
static void add_forward(struct hand *h, const struct layer *l, bool trains)
{
    double y = out_of(l), macs = weights_of(l) * y / l->to;
    double sum = l->role == UP ? y : 0;
    add(h, l->times, macs, in_of(l) + weights_of(l) + y + sum);
    if (trains)
        add(h, l->times, 0, y + 2 * y);
}

/* Sums over dy and x (2 y), dx of both (3 y); dw; dx but where the block's input is frozen; between
 * a block's convolutions the first's result is normalised again for dw. */
static void add_backward(struct hand *h, const struct layer *l)
{
    double x = in_of(l), w = weights_of(l), y = out_of(l), macs = w * y / l->to;
    bool reads_frozen = l->from == 1024;
    bool again = l->role == DOWN || l->role == MIDDLE;
    add(h, l->times, macs, x + w + y);
    if (!reads_frozen)
        add(h, l->times, macs, x + w + y);
    add(h, l->times, 0, 5 * y + (again ? 2 * y : 0));
    h->stepped += l->times * w;
}

static struct hand by_hand(bool stage4)
{
    struct hand h = {0};
    double head = (double)FEATURES * CLASSES, pooled = (double)BATCH * FEATURES;
    double last = pooled * 7 * 7;
    add(&h, 1, 0, 2.0 * BATCH * 3 * 224 * 224);                /* another layout */
    add(&h, 1, 0, (double)BATCH * 64 * (112 * 112 + 56 * 56)); /* the maximum */
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        bool trains = stage4 && layers[i].stage == TRAINED;
        add_forward(&h, &layers[i], trains);
        if (trains)
            add_backward(&h, &layers[i]);
    }
    add(&h, 1, 0, last + pooled);
    add(&h, 2, BATCH * head, head + pooled); /* the head, and its gradient */
    h.stepped += head;
    if (stage4) {
        add(&h, 1, BATCH * head, head + pooled); /* the gradient below it */
        add(&h, 1, 0, last + pooled);
        add(&h, 1, 0,
            (2 + 3 * (BLOCKS - 1)) * last); /* ReLU of blocks, two parts summed */
    }
    return h;
}

static void the_model_has_what_follows_from_the_paper_s_table(void **state)
{
    (void)state;
    static const struct {
        const char *thaw;
        bool stage4;
        double gflop, gb; /* of by_hand, worked out once more apart from this program */
    } rows[] = {
        {"head", false, 2092.6347, 14.7451}, {"stage4,head", true, 2816.0788, 19.4255}};
    /* What the hand leaves out: bits of masks, vectors of channels, losses. */
    const double left_out[] = {1e-4, 2e-3};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct plan_case c = {"resnet50", rows[i].thaw, "auto", TH_TRAIN};
        const struct hand h = by_hand(rows[i].stage4);
        double bytes =
            2 * h.values + 12 * h.stepped; /* fp32: weight, gradient, momentum */
        struct cost model = {0};
        must(plan_case_visit(&c, BATCH, cost_add, &model));
        print_message("%s: %.4f GFLOP, %.4f GB; the model: %.4f and %.4f\n",
            rows[i].thaw, 2e-9 * h.macs, 1e-9 * bytes, 2e-9 * model.macs,
            1e-9 * model.bytes);
        assert_true(fabs(model.macs - h.macs) < 0.5);
        assert_true(model.bytes >= bytes && model.bytes <= bytes * (1 + left_out[i]));
        assert_true(fabs(2e-9 * h.macs - rows[i].gflop) < 1e-4);
        assert_true(fabs(1e-9 * bytes - rows[i].gb) < 1e-4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_model_has_what_follows_from_the_paper_s_table)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
