/* SPDX-License-Identifier: Apache-2.0
 * What is sent ahead: what the next step reads, on its way while a step runs. */
#include "emulated.h"

enum { BATCH = 4, CLASSES = 5, PIXELS = 3 * 32 * 32, STEPS = 6, INPUTS = 3 };

static const enum emu_order orders[] = {EMU_LATE, EMU_EARLY, EMU_RANDOM};
enum { ORDERS = sizeof orders / sizeof *orders };

/* What a step reads. */
struct inputs {
    float image[BATCH * PIXELS], target[BATCH * CLASSES];
    struct th_scalars scalars;
};

/* Others at each step. */
static void draw(struct inputs *in, int step)
{
    *in = (struct inputs){.scalars = {.lr = 1e-3F * (float)(step + 1),
                              .loss_scale = 1,
                              .clip = 1,
                              .ema_decay = 0.9F}};
    for (int i = 0; i < BATCH * PIXELS; i++)
        in->image[i] = th_rng_normal((uint64_t)(11 + step), (uint64_t)i);
    for (int i = 0; i < BATCH; i++)
        in->target[i * CLASSES + (i + step) % CLASSES] = 1;
}

/* Of all steps but the first what they read is `ahead`. */
static void train(enum emu_order order, bool ahead, struct trace *out)
{
    struct net n;
    struct inputs in;
    struct th_scalars after;
    uint64_t lot = 0;
    const struct th_feed feeds[INPUTS] = {
        {"image", in.image}, {"target", in.target}, {"scalars", &in.scalars}};
    const struct training t = {.net = "bottleneck", .thaw = "all", .bn = "train"};
    *out = (struct trace){.n = 0};
    open_emulated(order);
    net_open_small(&n, "cuda:0", t.net);
    training_plan(&n, &t, t.thaw);
    for (int step = 0; step < STEPS; step++) {
        emu_reset_counters();
        draw(&in, step);
        must(lot ? th_plan_take(n.plan, feeds, INPUTS, lot)
                 : th_plan_set_all(n.plan, feeds, INPUTS));
        must(th_plan_run(n.plan));
        draw(&in, step + 1);
        if (ahead)
            must(th_plan_send(n.plan, feeds, INPUTS, &lot));
        memset(&in, 0xFF, sizeof in); /* the host's own again */
        const struct th_fetch said[] = {
            {"loss", &out->loss[step]}, {"scalars", &after}};
        must(th_plan_get_all(n.plan, said, 2));
        assert_true(after.lr == 1e-3F * (float)(step + 1) && after.skip == 0);
    }
    struct emu_counters c = emu_counters();
    assert_true((lot > 0) == ahead);
    assert_int_equal(c.launches, 0);
    assert_int_equal(c.graphs, 1);
    assert_int_equal(c.allocations, 0);
    assert_int_equal(c.syncs, 1);
    training_values(&n, out);
    net_close(&n);
    close_emulated();
}

static void what_is_sent_ahead_gives_the_same_bits_in_every_order(void **state)
{
    (void)state;
    struct trace set, sent;
    train(EMU_LATE, false, &set);
    for (size_t i = 0; i < ORDERS; i++) {
        train(orders[i], true, &sent);
        assert_memory_equal(sent.loss, set.loss, STEPS * sizeof *set.loss);
        assert_memory_equal(
            sent.values, set.values, (size_t)set.n * sizeof *set.values);
        trace_release(&sent);
    }
    trace_release(&set);
}

/* One piece; three through two slots of pinned memory. */
enum { SMALL = 4100, LARGE = (8 << 20) + 4, ROUNDS = 2 };

/* Sent, in two parts, while what was taken before is on its way still; the device's findings. */
static int send_and_take(size_t bytes, enum emu_order order, enum emu_wait wait, int n)
{
    struct th_device *device = NULL;
    float *host = th_alloc(1, bytes), *back = th_alloc(1, bytes);
    size_t count = bytes / sizeof *host,
           first = bytes / 3 / sizeof *host * sizeof *host;
    uint64_t lot = 0;
    open_emulated(order);
    must(th_device_open("cuda:0", 1, &device));
    const struct th_backend *b = device->backend;
    char *dst = b->alloc(device, bytes);
    const struct th_copy parts[] = {
        {host, dst, first}, {(const char *)host + first, dst + first, bytes - first}};
    emu_forget(wait, n);
    for (int round = 0; round <= ROUNDS; round++) {
        if (lot)
            must(b->take(device, parts, 2, lot));
        for (size_t i = 0; i < count; i++)
            host[i] = (float)((i * 7 + (size_t)round) % 1009);
        must(b->send(device, parts, 2, &lot));
        assert_int_equal(lot, round + 1);
        if (round)
            must(b->download(device, back, dst, bytes));
        for (size_t i = 0; round && n == 0 && i < count; i++)
            if (back[i] != (float)((i * 7 + (size_t)round - 1) % 1009))
                fail_msg("round %d: %g at %zu", round, (double)back[i], i);
    }
    b->free(device, dst, bytes);
    th_device_close(device);
    th_free(host);
    th_free(back);
    return emu_close();
}

static void what_is_taken_is_what_was_sent(void **state)
{
    (void)state;
    for (size_t i = 0; i < ORDERS; i++)
        if (send_and_take(LARGE, orders[i], EMU_STREAM_WAIT, 0) > 0)
            fail_msg("%s", emu_finding(0));
}

/* A stream's wait for an event, in each order; no more of them than are needed: two for what
 * is taken, but for the first. */
static void each_wait_of_a_stream_is_needed(void **state)
{
    (void)state;
    for (size_t i = 0; i < ORDERS; i++) {
        int n = 1;
        for (;; n++) {
            int findings = send_and_take(SMALL, orders[i], EMU_STREAM_WAIT, n);
            if (!emu_forgotten())
                break;
            if (findings == 0 || !emu_found("race"))
                fail_msg("nobody misses wait %d", n);
        }
        assert_int_equal(n - 1, 2 * ROUNDS);
    }
}

/* As late as possible the device reads a slot when the host has filled it anew. */
static void a_slot_is_filled_anew_when_it_has_been_read(void **state)
{
    (void)state;
    int n = 1, found = 0;
    for (;; n++) {
        send_and_take(LARGE, EMU_LATE, EMU_HOST_WAIT, n);
        if (!emu_forgotten())
            break;
        found += emu_found("host buffer") > 0;
    }
    print_message("%d of %d waits of the host, left out, were found\n", found, n - 1);
    assert_true(found > 0);
}

static void without_memory_it_is_not_sent(void **state)
{
    (void)state;
    struct th_device *device = NULL;
    float host[512] = {0};
    uint64_t lot = 1, later = 0;
    open_emulated(EMU_LATE);
    must(th_device_open("cuda:0", 1, &device));
    const struct th_backend *b = device->backend;
    void *dst = b->alloc(device, sizeof host);
    const struct th_copy whole = {host, dst, sizeof host};
    const struct th_copy half = {host, dst, sizeof host / 2};
    emu_fail(EMU_ALLOC, 1);
    must(b->send(device, &whole, 1, &lot));
    assert_true(emu_failed() && lot == 0);
    assert_int_equal(b->take(device, &whole, 1, lot), THAW_E_USAGE);
    must(b->send(device, &whole, 1, &lot)); /* nor asked for again */
    assert_int_equal(lot, 0);
    must(b->send(device, &half, 1, &lot));
    assert_int_equal(lot, 1);
    assert_int_equal(b->take(device, &whole, 1, lot), THAW_E_USAGE);
    must(b->send(device, &half, 1, &later)); /* in the place of what nobody took */
    assert_int_equal(b->take(device, &half, 1, lot), THAW_E_USAGE);
    must(b->take(device, &half, 1, later));
    assert_int_equal(b->take(device, &half, 1, later), THAW_E_USAGE);
    b->free(device, dst, sizeof host);
    th_device_close(device);
    close_emulated();
}

/* More than a slot of pinned memory together, and one alone: what fits is waited for once. */
static void downloads_are_waited_for_together(void **state)
{
    (void)state;
    enum { PARTS = 5 };
    static const size_t bytes[PARTS] = {4, 1 << 20, (4 << 20) + 12, 100, 36};
    struct th_device *device = NULL;
    struct th_copy c[PARTS];
    open_emulated(EMU_LATE);
    must(th_device_open("cuda:0", 1, &device));
    const struct th_backend *b = device->backend;
    char *host[PARTS];
    for (int i = 0; i < PARTS; i++) {
        host[i] = th_alloc(bytes[i], 1);
        memset(host[i], i + 1, bytes[i]);
        char *p = b->alloc(device, bytes[i]);
        must(b->upload(device, p, host[i], bytes[i]));
        memset(host[i], 0, bytes[i]);
        c[i] = (struct th_copy){p, host[i], bytes[i]};
    }
    emu_reset_counters();
    must(b->download_all(device, c, PARTS));
    assert_int_equal(emu_counters().syncs, 4); /* of the large one two */
    for (int i = 0; i < PARTS; i++) {
        for (size_t k = 0; k < bytes[i]; k++)
            assert_true(host[i][k] == i + 1);
        b->free(device, (void *)c[i].src, bytes[i]);
        th_free(host[i]);
    }
    th_device_close(device);
    close_emulated();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_sent_ahead_gives_the_same_bits_in_every_order),
        cmocka_unit_test(what_is_taken_is_what_was_sent),
        cmocka_unit_test(each_wait_of_a_stream_is_needed),
        cmocka_unit_test(a_slot_is_filled_anew_when_it_has_been_read),
        cmocka_unit_test(without_memory_it_is_not_sent),
        cmocka_unit_test(downloads_are_waited_for_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
