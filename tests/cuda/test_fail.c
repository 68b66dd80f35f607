/* SPDX-License-Identifier: Apache-2.0
 * Every call of CUDA that a training makes fails once: an error that says what failed,
 * nothing left behind, and a fresh training works. */
#include "nets.h"

#include "emucuda.h"

enum { BATCH = 4, CLASSES = 5, PIXELS = 3 * 32 * 32 };

static thaw_status add_values(struct net *n)
{
    thaw_status status = THAW_OK;
    for (int i = 0; i < n->model.n_params && status == THAW_OK; i++) {
        const struct th_param *p = &n->model.params[i];
        int64_t count = th_shape_count(&p->shape);
        int id = -1;
        float *v = th_alloc((size_t)count, sizeof *v);
        for (int64_t k = 0; k < count; k++)
            v[k] = net_value(p, th_rng_mix_name(7, p->name), k);
        status = th_store_add(&n->store, p->name, p->shape, &id);
        if (status == THAW_OK)
            status = th_store_put(&n->store, id, v);
        th_free(v);
    }
    return status;
}

static thaw_status replan(struct net *n, const char *thaw)
{
    th_plan_free(n->plan);
    n->plan = NULL;
    th_freeze_release(&n->freeze);
    TRY(th_freeze_init(&n->freeze, &n->model, thaw, "auto", BATCH));
    return th_plan_new(&(struct th_plan_spec){.model = &n->model,
                           .freeze = &n->freeze,
                           .mode = TH_TRAIN,
                           .batch = BATCH,
                           .optim = &n->optim},
        &n->store, &n->arena, &n->plan);
}

/* The inputs are those that were sent ahead, if any were; they are sent for the next step. */
static thaw_status step(struct net *n, float *loss, uint64_t *sent)
{
    float image[BATCH * PIXELS], target[BATCH * CLASSES] = {0};
    const struct th_scalars scalars = {.lr = 0.01F, .loss_scale = 1, .clip = 1};
    for (int i = 0; i < BATCH * PIXELS; i++)
        image[i] = th_rng_normal(11, (uint64_t)i);
    for (int i = 0; i < BATCH; i++)
        target[i * CLASSES + i] = 1;
    const struct th_feed feeds[] = {
        {"image", image}, {"target", target}, {"scalars", &scalars}};
    struct th_scalars after;
    const struct th_fetch out[] = {{"loss", loss}, {"scalars", &after}};
    TRY(*sent ? th_plan_take(n->plan, feeds, 3, *sent)
              : th_plan_set_all(n->plan, feeds, 3));
    TRY(th_plan_run(n->plan));
    TRY(th_plan_send(n->plan, feeds, 3, sent));
    return th_plan_get_all(n->plan, out, 2);
}

/* One step with all thawed, one with the head alone. */
static thaw_status train(struct net *n, float loss[2], uint64_t *sent)
{
    TRY(add_values(n));
    TRY(replan(n, "all"));
    TRY(step(n, &loss[0], sent));
    TRY(replan(n, "head"));
    return step(n, &loss[1], sent);
}

/* *sent: the lot that went ahead at the end; 0: none. */
static thaw_status attempt(float loss[2], uint64_t *sent)
{
    struct net n = {.optim = {.kind = TH_SGD, .momentum = 0.9F, .clip = 1.0F}};
    TRY(th_device_open("cuda:0", 1, &n.device));
    th_store_init(&n.store, n.device);
    th_arena_init(&n.arena, n.device);
    model_init_small(&n.model, "bottleneck");
    *sent = 0;
    thaw_status status = train(&n, loss, sent);
    if (status == THAW_OK)
        status = th_device_wait(n.device);
    net_close(&n);
    return status;
}

static const struct {
    const char *name;
    enum emu_class class;
} classes[] = {
    {"allocation", EMU_ALLOC},
    {"copy", EMU_COPY},
    {"launch", EMU_WORK},
    {"event", EMU_EVENT},
    {"stream", EMU_STREAM},
    {"plan", EMU_PLAN},
    {"execute", EMU_EXECUTE},
    {"work on the device", EMU_ASYNC},
};

/* The last calls for streams: closing the device waits for both of its own. */
enum { CLOSING = 2 };

/* The n-th call of the class, of so many, fails; false: there are not so many. */
static bool fails_once(size_t c, int n, int calls, const float *expected)
{
    float loss[2] = {0};
    uint64_t sent = 0;
    const struct emu_options options = {.order = EMU_LATE};
    emu_open(&options);
    emu_fail(classes[c].class, n);
    thaw_status status = attempt(loss, &sent);
    bool failed = emu_failed();
    /* where there is no memory, nothing is sent ahead; where one plan cannot be made, cuDNN's
     * next proposal is taken; what closes the device waits once more, for what is done */
    bool recovers = classes[c].class == EMU_PLAN ||
                    (classes[c].class == EMU_ALLOC && !sent) ||
                    (classes[c].class == EMU_STREAM && n > calls - CLOSING);
    if (failed && status == THAW_OK && !recovers)
        fail_msg("%s %d failed, and nobody noticed", classes[c].name, n);
    if (!failed && status != THAW_OK)
        fail_msg("%s %d: %s", classes[c].name, n, thaw_error());
    if (status != THAW_OK && !strstr(thaw_error(), "cuda") &&
        !strstr(thaw_error(), "cuDNN"))
        fail_msg("%s %d: the error does not say where: %s", classes[c].name, n,
            thaw_error());
    for (int i = 0; status == THAW_OK && i < 2; i++)
        if (!(fabs((double)loss[i] - (double)expected[i]) <= (failed ? 1e-5 : 0)))
            fail_msg("%s %d: loss %g, not %g", classes[c].name, n, (double)loss[i],
                (double)expected[i]);
    if (emu_close() > 0)
        fail_msg("%s %d: %s", classes[c].name, n, emu_finding(0));
    return failed;
}

/* Of the class, in a training in which none fails. */
static int count_calls(enum emu_class class)
{
    enum { MANY = 1 << 20 };
    float loss[2];
    uint64_t sent = 0;
    const struct emu_options options = {.order = EMU_LATE};
    emu_open(&options);
    emu_fail(class, MANY);
    must(attempt(loss, &sent));
    assert_int_equal(emu_close(), 0);
    return MANY - emu_fails_in(class);
}

static void every_call_may_fail_once(void **state)
{
    (void)state;
    float expected[2];
    uint64_t sent = 0;
    const struct emu_options options = {.order = EMU_LATE};
    emu_open(&options);
    must(attempt(expected, &sent));
    assert_true(sent > 0);
    assert_int_equal(emu_close(), 0);
    for (size_t c = 0; c < sizeof classes / sizeof *classes; c++) {
        int n = 1, calls = count_calls(classes[c].class);
        while (fails_once(c, n, calls, expected))
            n++;
        assert_int_equal(n - 1, calls);
        print_message("%d times a failed %s\n", n - 1, classes[c].name);
        assert_true(n > 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_call_may_fail_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
