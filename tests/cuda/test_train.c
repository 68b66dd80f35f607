/* SPDX-License-Identifier: Apache-2.0
 * Whole trainings on the CUDA engine, on the emulated device, beside the CPU engine's. */
#include "emulated.h"

/* Of a loss; of all parameters, |a - b|_2 / |b|_2. The CPU computes in fp32. */
static const struct bound {
    const char *precision;
    double loss, values,
        least; /* values are off by that at the least: it is in force */
} bounds[] = {
    {"fp32", 1e-4, 1e-4, 0}, {"tf32", 2e-4, 3e-3, 5e-5}, {"bf16", 3e-3, 3e-2, 1e-5}};

static const struct bound *bound_of(const struct training *t)
{
    size_t i = 0;
    while (t->precision && strcmp(bounds[i].precision, t->precision) != 0)
        i++;
    return &bounds[i];
}

static void compare(
    const struct training *t, const struct trace *a, const struct trace *expected)
{
    const struct bound *bound = bound_of(t);
    double difference = 0, norm = 0, worst = 0;
    for (int i = 0; i < t->steps; i++) {
        double d = fabs((double)a->loss[i] - (double)expected->loss[i]);
        worst = d > worst ? d : worst;
        if (!(d <= bound->loss * fmax(1, fabs((double)expected->loss[i]))))
            fail_msg("%s, --thaw %s --bn %s: loss %g at step %d, the CPU has %g",
                t->net, t->thaw, t->bn, (double)a->loss[i], i,
                (double)expected->loss[i]);
    }
    assert_int_equal(a->n, expected->n);
    for (int64_t i = 0; i < a->n; i++) {
        double d = (double)a->values[i] - (double)expected->values[i];
        difference += d * d;
        norm += (double)expected->values[i] * (double)expected->values[i];
    }
    double off = sqrt(difference / norm);
    print_message(
        "%-11s --thaw %-12s --bn %-13s %s %s: losses within %.1e, values %.1e\n",
        t->net, t->thaw, t->bn, t->optimizer == TH_SGD ? "sgd" : "adamw",
        bound->precision, worst, off);
    if (!(off <= bound->values && off >= bound->least))
        fail_msg("%s, --thaw %s --bn %s: values are off by %.3g", t->net, t->thaw,
            t->bn, off);
}

static void check(const struct training *t)
{
    struct trace cpu, cuda;
    char device[32];
    snprintf(device, sizeof device, "cuda:0:%s", bound_of(t)->precision);
    training_run("cpu", t, &cpu);
    open_emulated(EMU_LATE);
    training_run(device, t, &cuda);
    close_emulated();
    assert_true(cpu.loss[t->steps - 1] < cpu.loss[0]); /* it learns */
    compare(t, &cuda, &cpu);
    trace_release(&cuda);
    trace_release(&cpu);
}

static void every_bn_mode_trains_as_on_the_cpu(void **state)
{
    (void)state;
    static const char *const nets[] = {"resnet20", "bottleneck"};
    static const char *const modes[] = {
        "train", "frozen", "stats", "stats-running", "affine"};
    for (size_t n = 0; n < 2; n++)
        for (size_t m = 0; m < sizeof modes / sizeof *modes; m++)
            check(&(struct training){.net = nets[n],
                .thaw = "all",
                .bn = modes[m],
                .steps = 20,
                .lr = strcmp(modes[m], "affine") == 0 || strcmp(modes[m], "stats") == 0
                          ? 1e-4F
                          : 0});
}

/* Twelve million values: a minute. */
static void resnet18_trains_as_on_the_cpu(void **state)
{
    (void)state;
    static const struct training trainings[] = {
        {"resnet18", "all", "train", TH_SGD, 3, NULL, 0, 1e-4F, NULL},
        {"resnet18", "stage4,head", "auto", TH_ADAMW, 3, NULL, 1.0F, 1e-5F, NULL},
    };
    for (size_t i = 0; getenv("THAW_TEST_FULL") && i < 2; i++)
        check(&trainings[i]);
}

static void every_freeze_state_trains_as_on_the_cpu(void **state)
{
    (void)state;
    static const struct training trainings[] = {
        {"resnet20", "head", "auto", TH_SGD, 20, NULL, 0, 3e-4F, NULL},
        {"resnet20", "stage3,head", "auto", TH_ADAMW, 20, NULL, 1.0F, 1e-4F, NULL},
        {"resnet20", "head", "auto", TH_SGD, 20, "all", 0, 3e-4F, NULL},
        {"bottleneck", "layer2,head", "auto", TH_SGD, 20, "all", 0, 0, NULL},
        {"bottleneck", "bias", "auto", TH_ADAMW, 20, NULL, 0, 0, NULL},
    };
    for (size_t i = 0; i < sizeof trainings / sizeof *trainings; i++)
        check(&trainings[i]);
}

static void a_transformer_trains_as_on_the_cpu(void **state)
{
    (void)state;
    static const struct training trainings[] = {
        {"vit", "all", "auto", TH_SGD, 20, NULL, 0, 0, NULL},
        {"vit", "all", "auto", TH_ADAMW, 20, NULL, 1.0F, 0, NULL},
        {"vit", "head", "auto", TH_SGD, 20, "block1,head", 0, 0, NULL},
        {"vit", "bias", "auto", TH_ADAMW, 20, NULL, 0, 0, NULL},
    };
    for (size_t i = 0; i < sizeof trainings / sizeof *trainings; i++)
        check(&trainings[i]);
}

static void less_precision_trains_nearly_as_on_the_cpu(void **state)
{
    (void)state;
    static const struct training trainings[] = {
        {"bottleneck", "all", "train", TH_SGD, 20, NULL, 0, 0, "tf32"},
        {"vit", "all", "auto", TH_ADAMW, 20, NULL, 1.0F, 0, "tf32"},
        {"resnet20", "all", "train", TH_SGD, 20, NULL, 0, 0, "bf16"},
        {"bottleneck", "all", "train", TH_SGD, 20, NULL, 0, 0, "bf16"},
        {"bottleneck", "all", "frozen", TH_SGD, 20, NULL, 0, 0, "bf16"},
        {"bottleneck", "layer2,head", "auto", TH_ADAMW, 20, "all", 0, 0, "bf16"},
        {"vit", "all", "auto", TH_SGD, 20, NULL, 0, 0, "bf16"},
        {"vit", "all", "auto", TH_ADAMW, 20, NULL, 1.0F, 0, "bf16"},
    };
    for (size_t i = 0; i < sizeof trainings / sizeof *trainings; i++)
        check(&trainings[i]);
}

static void every_order_gives_the_same_bits(void **state)
{
    (void)state;
    static const enum emu_order orders[] = {EMU_LATE, EMU_EARLY, EMU_RANDOM};
    static const char *const nets[] = {"bottleneck", "vit"};
    for (size_t n = 0; n < 2; n++) {
        const struct training t = {
            .net = nets[n], .thaw = "all", .bn = "auto", .steps = 4};
        struct trace first, other;
        for (size_t i = 0; i < 3; i++) {
            open_emulated(orders[i]);
            training_run("cuda:0", &t, i ? &other : &first);
            close_emulated();
            if (!i)
                continue;
            assert_memory_equal(
                other.loss, first.loss, sizeof *first.loss * (size_t)t.steps);
            assert_memory_equal(
                other.values, first.values, sizeof *first.values * (size_t)first.n);
            trace_release(&other);
        }
        trace_release(&first);
    }
}

static void nothing(void *context, int step)
{
    (void)context, (void)step;
}

/* Two steps, and two that may be recordings; watched, each update is a launch of its own and
 * nothing is recorded. With moving averages. The second step's launches. */
static int train_eager_or_not(const struct training *t, bool watched, struct trace *out)
{
    struct net n;
    open_emulated(EMU_LATE);
    net_open_small(&n, "cuda:0", t->net);
    training_optim(&n, t);
    n.optim.ema = true;
    net_plan(&n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 4}, t->thaw, t->bn);
    int launches = 0;
    for (int i = 0; i < t->steps; i++) {
        emu_reset_counters();
        training_upload(&n, t);
        must(th_plan_run_watched(n.plan, watched ? nothing : NULL, NULL));
        must(th_plan_get(n.plan, "loss", &out->loss[i]));
        launches = i == 1 ? emu_counters().launches : launches;
    }
    assert_int_equal(emu_counters().graphs, !watched);
    training_values(&n, out);
    net_close(&n);
    close_emulated();
    return launches;
}

static void rows_and_recordings_are_as_one_by_one(void **state)
{
    (void)state;
    static const struct training trainings[] = {
        {"vit", "all", "auto", TH_SGD, 4, NULL, 1.0F, 0, NULL},
        {"resnet20", "stage3,head", "train", TH_ADAMW, 4, NULL, 0, 0, NULL},
    };
    for (size_t i = 0; i < sizeof trainings / sizeof *trainings; i++) {
        struct trace rows = {.n = 0}, one = {.n = 0};
        int few = train_eager_or_not(&trainings[i], false, &rows);
        int many = train_eager_or_not(&trainings[i], true, &one);
        print_message("%s: %d launches, one by one %d\n", trainings[i].net, few, many);
        assert_true(few < many * 3 / 4);
        assert_memory_equal(rows.loss, one.loss, sizeof rows.loss);
        assert_memory_equal(
            rows.values, one.values, (size_t)one.n * sizeof *one.values);
        trace_release(&rows);
        trace_release(&one);
    }
}

/* Where a step cannot be recorded it runs call by call, and so do all later ones. The call
 * that fails: of a class the n-th in the step that is recorded. */
static void a_failed_recording_is_a_whole_step(void **state)
{
    (void)state;
    static const struct {
        enum emu_class class;
        int n;
    } calls[] = {{EMU_STREAM, 1}, {EMU_STREAM, 2}, {EMU_ALLOC, 1}, {EMU_WORK, 1},
        {EMU_WORK, 9}, {EMU_EXECUTE, 2}};
    static const struct training t = {
        .net = "bottleneck", .thaw = "all", .bn = "train", .steps = 4};
    struct trace whole;
    open_emulated(EMU_LATE);
    training_run("cuda:0", &t, &whole);
    close_emulated();
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        struct net n;
        float loss = 0;
        open_emulated(EMU_LATE);
        net_open_small(&n, "cuda:0", t.net);
        training_plan(&n, &t, t.thaw);
        for (int s = 0; s < t.steps; s++) {
            training_upload(&n, &t);
            if (s == 2)
                emu_fail(calls[i].class, calls[i].n);
            must(th_plan_run(n.plan));
            must(th_plan_get(n.plan, "loss", &loss));
            assert_true(loss == whole.loss[s]);
        }
        assert_true(emu_failed());
        assert_int_equal(emu_counters().graphs, 0);
        net_close(&n);
        close_emulated();
    }
    trace_release(&whole);
}

/* In a steady step nothing is allocated, and only the loss is waited for. */
static void a_steady_step_allocates_nothing_and_waits_once(void **state)
{
    (void)state;
    static const struct training trainings[] = {
        {"resnet50", "head", "auto", TH_SGD, 0, NULL, 0, 0, NULL},
        {"resnet50", "stage4,head", "auto", TH_SGD, 0, NULL, 0, 0, NULL},
        {"resnet50", "all", "train", TH_SGD, 0, NULL, 0, 0, NULL},
        {"bottleneck", "all", "auto", TH_SGD, 0, NULL, 1.0F, 0, NULL},
        {"bottleneck", "head", "auto", TH_SGD, 0, NULL, 0, 0, NULL},
        {"vit", "all", "auto", TH_ADAMW, 0, NULL, 0, 0, NULL},
    };
    size_t first = getenv("THAW_TEST_FULL") ? 0 : 3; /* a minute */
    for (size_t i = first; i < sizeof trainings / sizeof *trainings; i++) {
        struct net n;
        open_emulated(EMU_LATE);
        net_open_small(&n, "cuda:0", trainings[i].net);
        training_plan(&n, &trainings[i], trainings[i].thaw);
        struct emu_counters c = {.launches = 0};
        int launches = 0;
        for (int s = 0; s < 4; s++) {
            emu_reset_counters();
            training_step(&n, &trainings[i]);
            c = emu_counters();
            launches = s == 1 ? c.launches : launches;
        }
        print_message("%s, --thaw %s: %d launches, then %d of a recording; %d copies, "
                      "%d waits, %d allocations\n",
            trainings[i].net, trainings[i].thaw, launches, c.graphs, c.copies, c.syncs,
            c.allocations);
        assert_int_equal(c.launches, 0);
        assert_int_equal(c.graphs, 1);
        assert_int_equal(c.allocations, 0);
        assert_int_equal(c.frees, 0);
        assert_int_equal(c.syncs, 1);
        net_close(&n);
        close_emulated();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_bn_mode_trains_as_on_the_cpu),
        cmocka_unit_test(resnet18_trains_as_on_the_cpu),
        cmocka_unit_test(every_freeze_state_trains_as_on_the_cpu),
        cmocka_unit_test(a_transformer_trains_as_on_the_cpu),
        cmocka_unit_test(less_precision_trains_nearly_as_on_the_cpu),
        cmocka_unit_test(every_order_gives_the_same_bits),
        cmocka_unit_test(rows_and_recordings_are_as_one_by_one),
        cmocka_unit_test(a_failed_recording_is_a_whole_step),
        cmocka_unit_test(a_steady_step_allocates_nothing_and_waits_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
