/* SPDX-License-Identifier: Apache-2.0
 * The trainer's own steps on the emulated device: one wait a step, nothing allocated, what the
 * next step reads sent ahead; and the CPU's losses. */
#include "emulated.h"
#include "run.h"

enum { TRAIN = 12, BATCH = 2, EPOCHS = 2, STEPS = TRAIN / BATCH, VALIDATION = 4 };
/* Of a step: loss and scalars come back; images, targets and scalars go ahead, and are taken. */
enum { BACK = 2, SENT = 3 };

struct seen {
    double loss[EPOCHS * STEPS];
    int n, per_epoch, ahead;
    bool counts; /* each step's calls are looked at */
};

static void see(void *context, const thaw_progress *p)
{
    struct seen *s = context;
    const struct emu_counters c = emu_counters();
    s->loss[s->n++] = p->loss;
    s->per_epoch = (int)p->steps;
    if (s->counts && s->n > 3 && p->step > 1 && p->step < p->steps) {
        assert_int_equal(c.syncs, 1);
        assert_int_equal(c.allocations, 0);
        assert_int_equal(c.launches, 0);
        assert_int_equal(c.graphs, 1);
        assert_true(c.copies_within == SENT || c.copies_within == 0);
        /* what is set, when the loader was late, and what is sent come in the same number */
        assert_true(c.copies <= BACK + SENT + SENT);
        s->ahead += c.copies_within == SENT;
    }
    usleep(10000); /* the loader has the next batch */
    emu_reset_counters();
}

static const char *const options[][4] = {
    {"warmup", "1", NULL, NULL},
    {"mixup", "0.5", "label-smoothing", "0.1"},
    {"accumulate", "2", "clip", "1"},
};
enum { RUNS = sizeof options / sizeof *options };

static void run(const char *device, int i, struct seen *s)
{
    thaw_result r;
    const thaw_events events = {.context = s, .progress = see};
    char name[64];
    snprintf(name, sizeof name, "%c-%d", device[1], i);
    s->n = s->ahead = 0;
    must(train(make_options(name, "device", device, "batch", "2", "cache", "off", "lr",
                   "1e-3", "thaw", "head", options[i][0], options[i][1], options[i][2],
                   options[i][3], NULL),
        &events, &r));
    forget(name);
}

static void a_step_waits_once_and_reads_what_was_sent(void **state)
{
    (void)state;
    static const enum emu_order orders[] = {EMU_LATE, EMU_RANDOM};
    for (int i = 0; i < RUNS; i++) {
        struct seen cpu = {.n = 0}, cuda[2] = {{.counts = i < 2}, {.counts = i < 2}};
        open_emulated(EMU_LATE);
        run("cpu", i, &cpu);
        close_emulated();
        for (int k = 0; k < 2; k++) {
            open_emulated(orders[k]);
            run("cuda:0", i, &cuda[k]);
            close_emulated();
            assert_int_equal(cuda[k].n, EPOCHS * cuda[k].per_epoch);
            for (int s = 0; s < cpu.n; s++)
                if (!(fabs(cuda[k].loss[s] - cpu.loss[s]) < 1e-4 * cpu.loss[s]))
                    fail_msg("%s: step %d: loss %g, the CPU has %g", options[i][0], s,
                        cuda[k].loss[s], cpu.loss[s]);
            assert_true(!cuda[k].counts || cuda[k].ahead > 0);
        }
        assert_memory_equal(cuda[0].loss, cuda[1].loss, sizeof cuda[0].loss);
        print_message("%s %s: %d steps, %d of them sent ahead\n", options[i][0],
            options[i][1], cuda[0].n, cuda[0].ahead);
    }
}

/* Of all training images, of a network that has learnt nothing. */
static void judge(const char *device, thaw_evaluation *e, struct emu_counters *c)
{
    thaw_trainer *t = NULL;
    thaw_options *o = make_options("judge", "device", device, "batch", "5", NULL);
    bool stopped = false;
    open_emulated(EMU_RANDOM);
    must(thaw_trainer_new(o, NULL, &t));
    thaw_options_free(o);
    emu_reset_counters();
    must(th_trainer_judge(t, &t->net.store, TH_SPLIT_TRAIN, e, &stopped));
    *c = emu_counters();
    thaw_trainer_free(t);
    close_emulated();
    forget("judge");
}

/* The last batch is padded. */
static void validation_images_are_sent_ahead(void **state)
{
    (void)state;
    enum { BATCHES = (TRAIN + 4) / 5 };
    thaw_evaluation cpu = {0}, cuda = {0};
    struct emu_counters c;
    judge("cpu", &cpu, &c);
    judge("cuda:0", &cuda, &c);
    print_message("%d of %d batches were sent ahead\n", c.copies_within, BATCHES);
    assert_true(c.copies_within > 0 && c.copies_within < BATCHES);
    assert_int_equal(cuda.images, TRAIN);
    assert_true(fabs(cuda.loss - cpu.loss) < 1e-5 * cpu.loss);
    thaw_evaluation_release(&cpu);
    thaw_evaluation_release(&cuda);
}

static int setup(void **state)
{
    (void)state;
    return make_data(TRAIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_waits_once_and_reads_what_was_sent),
        cmocka_unit_test(validation_images_are_sent_ahead),
    };
    return cmocka_run_group_tests(tests, setup, remove_data);
}
