/* SPDX-License-Identifier: Apache-2.0
 * The certificate: what is frozen is hashed, guarded and proven; what moved is named. */
#include "run.h"

#include "options.h"
#include "pass.h"

static int setup(void **state)
{
    (void)state;
    return make_data(10);
}

/* A trainer that has begun its first phase. */
static thaw_trainer *begin(thaw_options *o)
{
    thaw_trainer *t = NULL;
    must(thaw_trainer_new(o, NULL, &t));
    thaw_options_free(o);
    must(th_trainer_enter(t));
    return t;
}

/* The host overwrites one value, as a stray write would where pages are not guarded. */
static void plant(thaw_trainer *t, const char *name)
{
    int id = th_store_find(&t->net.store, name);
    float *value = th_alloc(t->net.store.states[id].bytes, 1);
    assert_non_null(value);
    must(th_store_get(&t->net.store, id, value));
    value[0] += 1e-6F;
    must(th_store_put(&t->net.store, id, value));
    th_free(value);
}

static void frozen_tensors_verify_after_training_steps(void **state)
{
    (void)state;
    thaw_trainer *t = begin(make_options("steps", "thaw", "stage2,head", NULL));
    must(th_trainer_steps(t));
    must(th_certificate_verify(&t->certificate, &t->net.model, &t->net.store));
    thaw_trainer_free(t);
}

static void a_planted_change_of_a_frozen_tensor_is_named(void **state)
{
    (void)state;
    static const char *const names[] = {
        "layer1.0.conv1.weight", "bn1.running_mean", "layer3.2.bn2.bias"};
    thaw_trainer *t = begin(make_options("planted", NULL));
    for (int i = 0; i < 3; i++) {
        must(th_certificate_begin(
            &t->certificate, &t->net.model, &t->net.store, &t->freeze));
        plant(t, names[i]);
        assert_int_equal(
            th_certificate_verify(&t->certificate, &t->net.model, &t->net.store),
            THAW_E_FAIL);
        assert_non_null(strstr(thaw_error(), names[i]));
    }
    thaw_trainer_free(t);
}

static void a_change_of_what_trains_is_none_of_its_business(void **state)
{
    (void)state;
    thaw_trainer *t = begin(make_options("allowed", NULL));
    plant(t, "linear.weight");
    must(th_certificate_verify(&t->certificate, &t->net.model, &t->net.store));
    thaw_trainer_free(t);
}

struct planter {
    thaw_trainer *t;
    int step;
};

static void on_progress(void *context, const struct thaw_progress *p)
{
    struct planter *planter = context;
    (void)p;
    if (++planter->step == 4)
        plant(planter->t, "layer2.1.bn1.running_var");
}

static void a_change_in_the_middle_of_a_run_fails_it(void **state)
{
    (void)state;
    struct planter planter = {0};
    const thaw_events events = {.context = &planter, .progress = on_progress};
    thaw_options *o = make_options("caught", NULL);
    thaw_result r;
    must(thaw_trainer_new(o, &events, &planter.t));
    thaw_options_free(o);
    assert_int_equal(thaw_trainer_run(planter.t, &r), THAW_E_FAIL);
    assert_non_null(strstr(thaw_error(), "layer2.1.bn1.running_var"));
    assert_false(r.frozen_verified);
    thaw_trainer_free(planter.t);
}

/* Derived weights of a plan, the first of them changed by one value. */
static void plant_in_plan(struct th_plan *p)
{
    for (int v = 0; v < p->graph.n_values; v++)
        if (p->graph.values[v].kind == TH_VALUE_DERIVED) {
            char *in_arena = (char *)p->arena->base + p->places[v].offset;
            void *place = p->places[v].derived ? p->places[v].derived : in_arena;
            *(float *)place += 1e-3F; /* on a CPU: host memory */
            return;
        }
    fail_msg("nothing is derived");
}

static void what_validation_runs_on_is_verified_too(void **state)
{
    (void)state;
    thaw_trainer *t = begin(make_options("judged", NULL));
    struct th_evaluators all;
    bool stopped = false;
    th_arena_release(&t->net.arena); /* the first to use it may keep what it derives */
    th_arena_init(&t->net.arena, t->net.device);
    must(th_evaluators_init(&all, &t->net, &t->net.store, 4));
    must(th_evaluate(&all, t->val_loader, NULL, NULL, &t->val, &stopped));
    plant_in_plan(all.of[0].plan); /* nothing else has used the arena since */
    thaw_status status =
        th_evaluate(&all, t->val_loader, NULL, NULL, &t->val, &stopped);
    assert_int_equal(status, THAW_E_FAIL);
    assert_non_null(strstr(thaw_error(), "folded"));
    th_evaluators_release(&all);
    thaw_trainer_free(t);
}

static void a_stopped_run_proves_its_derived_weights_too(void **state)
{
    (void)state;
    thaw_result r;
    thaw_trainer *t = begin(make_options("stopped", NULL));
    must(th_trainer_steps(t));
    plant_in_plan(t->bucket[0].plans[0].plan);
    assert_int_equal(th_trainer_finish(t, true, &r), THAW_E_FAIL);
    assert_non_null(strstr(thaw_error(), "folded"));
    thaw_trainer_free(t);
}

static void frozen_tensors_are_read_only_and_trained_ones_are_not(void **state)
{
    (void)state;
    thaw_trainer *t = begin(make_options("pages", "thaw", "stage3,head", NULL));
    const struct th_store *s = &t->net.store;
    assert_true(s->states[th_store_find(s, "conv1.weight")].readonly);
    assert_true(s->states[th_store_find(s, "bn1.running_var")].readonly);
    assert_false(s->states[th_store_find(s, "layer3.0.conv1.weight")].readonly);
    assert_false(s->states[th_store_find(s, "linear.bias")].readonly);
    thaw_trainer_free(t);
}

static void statistics_that_a_mode_updates_are_not_called_frozen(void **state)
{
    (void)state;
    thaw_result r;
    must(train(make_options("stats", "bn", "stats", NULL), NULL, &r));
    assert_int_equal(r.frozen_tensors, 95 - 2 * 19); /* 19 means, 19 variances */
}

static void only_what_every_phase_freezes_counts_as_frozen(void **state)
{
    (void)state;
    thaw_result r;
    must(train(make_options("phases", "thaw", "0:head 1:stage3,head", NULL), NULL, &r));
    int in_stage3 = 6; /* convolutions; BatchNorms of batches below 16 are frozen */
    assert_int_equal(r.frozen_tensors, 95 - in_stage3);
}

static void its_text_reads_back_and_another_does_not(void **state)
{
    (void)state;
    thaw_trainer *t = begin(make_options("text", NULL));
    struct th_certificate *c = &t->certificate;
    char *text = th_certificate_text(c);
    uint64_t start = c->start[3], phase = c->phase[c->n - 1];
    assert_non_null(text);
    c->start[3] = c->phase[c->n - 1] = 0;
    must(th_certificate_read(c, text));
    assert_true(c->start[3] == start && c->phase[c->n - 1] == phase);
    text[5] = 'g';
    assert_int_equal(th_certificate_read(c, text), THAW_E_DATA);
    text[5] = 0;
    assert_int_equal(th_certificate_read(c, text), THAW_E_DATA);
    th_free(text);
    thaw_trainer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frozen_tensors_verify_after_training_steps),
        cmocka_unit_test(a_planted_change_of_a_frozen_tensor_is_named),
        cmocka_unit_test(a_change_of_what_trains_is_none_of_its_business),
        cmocka_unit_test(a_change_in_the_middle_of_a_run_fails_it),
        cmocka_unit_test(what_validation_runs_on_is_verified_too),
        cmocka_unit_test(a_stopped_run_proves_its_derived_weights_too),
        cmocka_unit_test(frozen_tensors_are_read_only_and_trained_ones_are_not),
        cmocka_unit_test(statistics_that_a_mode_updates_are_not_called_frozen),
        cmocka_unit_test(only_what_every_phase_freezes_counts_as_frozen),
        cmocka_unit_test(its_text_reads_back_and_another_does_not),
    };
    return cmocka_run_group_tests(tests, setup, remove_data);
}
