/* SPDX-License-Identifier: Apache-2.0
 * What is sent ahead: the next step's images on their way while a step runs. */
#include "emulated.h"

enum { BATCH = 4, PIXELS = 3 * 32 * 32, STEPS = 6 };

static const enum emu_order orders[] = {EMU_LATE, EMU_EARLY, EMU_RANDOM};
enum { ORDERS = sizeof orders / sizeof *orders };

static void draw(float *images, int step)
{
    for (int i = 0; i < BATCH * PIXELS; i++)
        images[i] = th_rng_normal((uint64_t)(11 + step), (uint64_t)i);
}

/* Every step on other images; of all but the first they are `ahead`. */
static void train(enum emu_order order, bool ahead, struct trace *out)
{
    struct net n;
    bool sent = false;
    float images[BATCH * PIXELS];
    const struct training t = {.net = "bottleneck", .thaw = "all", .bn = "train"};
    *out = (struct trace){.n = 0};
    open_emulated(order);
    net_open_small(&n, "cuda:0", t.net);
    training_plan(&n, &t, t.thaw);
    for (int step = 0; step < STEPS; step++) {
        emu_reset_counters();
        draw(images, step);
        if (sent)
            must(th_plan_take(n.plan, "image"));
        else
            must(th_plan_set(n.plan, "image", images));
        net_upload_target(&n);
        net_scalars(&n, 1e-3F);
        must(th_plan_run(n.plan));
        draw(images, step + 1);
        if (ahead)
            must(th_plan_send(n.plan, "image", images, &sent));
        memset(images, 0xFF, sizeof images); /* the host's own again */
        must(th_plan_get(n.plan, "loss", &out->loss[step]));
    }
    struct emu_counters c = emu_counters();
    assert_true(sent == ahead);
    assert_int_equal(c.launches, 0);
    assert_int_equal(c.graphs, 1);
    assert_int_equal(c.allocations, 0);
    assert_int_equal(c.syncs, 1);
    training_values(&n, out);
    net_close(&n);
    close_emulated();
}

static void images_sent_ahead_give_the_same_bits_in_every_order(void **state)
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

/* Sent while what was taken before is on its way still; the device's findings. */
static int send_and_take(size_t bytes, enum emu_order order, enum emu_wait wait, int n)
{
    struct th_device *device = NULL;
    float *host = th_alloc(1, bytes), *back = th_alloc(1, bytes);
    size_t count = bytes / sizeof *host;
    bool sent = false;
    open_emulated(order);
    must(th_device_open("cuda:0", 1, &device));
    const struct th_backend *b = device->backend;
    void *dst = b->alloc(device, bytes);
    emu_forget(wait, n);
    for (int round = 0; round <= ROUNDS; round++) {
        if (sent)
            must(b->take(device, dst, bytes));
        for (size_t i = 0; i < count; i++)
            host[i] = (float)((i * 7 + (size_t)round) % 1009);
        must(b->send(device, host, bytes, &sent));
        assert_true(sent);
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
    float host[16] = {0};
    bool sent = true;
    open_emulated(EMU_LATE);
    must(th_device_open("cuda:0", 1, &device));
    const struct th_backend *b = device->backend;
    void *dst = b->alloc(device, sizeof host);
    emu_fail(EMU_ALLOC, 1);
    must(b->send(device, host, sizeof host, &sent));
    assert_true(emu_failed() && !sent);
    assert_int_equal(b->take(device, dst, sizeof host), THAW_E_USAGE);
    must(b->send(device, host, sizeof host, &sent)); /* nor asked for again */
    assert_false(sent);
    must(b->send(device, host, sizeof host / 2, &sent));
    assert_true(sent);
    assert_int_equal(b->take(device, dst, sizeof host), THAW_E_USAGE);
    must(b->take(device, dst, sizeof host / 2));
    assert_int_equal(b->take(device, dst, sizeof host / 2), THAW_E_USAGE);
    b->free(device, dst, sizeof host);
    th_device_close(device);
    close_emulated();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_sent_ahead_give_the_same_bits_in_every_order),
        cmocka_unit_test(what_is_taken_is_what_was_sent),
        cmocka_unit_test(each_wait_of_a_stream_is_needed),
        cmocka_unit_test(a_slot_is_filled_anew_when_it_has_been_read),
        cmocka_unit_test(without_memory_it_is_not_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
