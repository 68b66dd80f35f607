/* SPDX-License-Identifier: Apache-2.0
 * The n-th allocation refused, once, in every public call, for n = 1, 2, 3 ...: the call
 * says that memory is short, or does without and gives what it always gives; nothing is
 * left half-written, nothing leaks (under the sanitizers), and the same call works next.
 *
 * Every allocation of the library is vision/mem.c's aligned_alloc. THAW_TEST_FULL=1 takes
 * each n, THAW_TEST_FULL=K/M every M-th from the K-th on (so that M processes share the
 * work); otherwise some ATTEMPTS, evenly spaced. */
#include "faults/shim.h"
#include "run.h"

enum { ATTEMPTS = 24 };

#define RECIPE "epochs", "1", "ema", "0.9", "device", "cpu", "workers", "1"

static char model_path[256], data_path[256], image_path[256];

static int setup(void **state)
{
    (void)state;
    fault_skip_sync();
    return make_data(10);
}

/* ---- The calls; each frees all that it got ---- */

static thaw_status options(void)
{
    thaw_options *o = NULL;
    thaw_status status = thaw_options_new(&o);
    if (status == THAW_OK)
        status = thaw_options_set(o, "weights", "random");
    if (status == THAW_OK)
        status = thaw_options_set(o, "thaw", "0:head 3:all");
    if (status == THAW_OK)
        status = thaw_options_set(o, "thaw", "all");
    thaw_options_free(o);
    return status;
}

static thaw_status config(void)
{
    thaw_options *o = NULL;
    char path[256];
    run_path(path, "whole/config.json");
    thaw_status status = thaw_options_new(&o);
    if (status == THAW_OK)
        status = thaw_options_set(o, "config", path);
    if (status == THAW_OK)
        assert_string_equal(thaw_options_get(o, "backbone"), "resnet20");
    thaw_options_free(o);
    return status;
}

static void assert_same_bytes(const char *a, const char *b)
{
    unsigned char *x = NULL, *y = NULL;
    size_t n_x = 0, n_y = 0;
    char path[256];
    run_path(path, a);
    must(th_file_read(path, 1 << 24, &x, &n_x));
    run_path(path, b);
    must(th_file_read(path, 1 << 24, &y, &n_y));
    assert_int_equal(n_x, n_y);
    assert_memory_equal(x, y, n_x);
    th_free(x);
    th_free(y);
}

/* Refusals begin after the options, which have a test of their own. */
static thaw_options *fresh_options;

static thaw_status trainer_new(void)
{
    thaw_trainer *t = NULL;
    thaw_status status = thaw_trainer_new(fresh_options, NULL, &t);
    thaw_trainer_free(t);
    if (status != THAW_OK)
        assert_false(is_there("new")); /* nothing is left */
    return status;
}

static thaw_status trainer_run(void)
{
    thaw_trainer *t = NULL;
    thaw_result r;
    thaw_status status = thaw_trainer_new(fresh_options, NULL, &t);
    if (status == THAW_OK)
        status = thaw_trainer_run(t, &r);
    thaw_trainer_free(t);
    fault_allow();
    if (status == THAW_OK) {
        assert_same_model("whole", "new", "last.h5");
        assert_same_model("whole", "new", "best.h5");
    }
    return status;
}

static thaw_status trainer_resume(void)
{
    thaw_trainer *t = NULL;
    thaw_result r;
    char path[256];
    run_path(path, "stopped");
    thaw_status status = thaw_trainer_resume(path, NULL, NULL, &t);
    if (status == THAW_OK)
        status = thaw_trainer_run(t, &r);
    thaw_trainer_free(t);
    fault_allow();
    if (status == THAW_OK) {
        assert_same_model("whole", "stopped", "last.h5");
        assert_same_model("whole", "stopped", "best.h5");
    }
    return status;
}

static thaw_status model_open(void)
{
    thaw_model *m = NULL;
    thaw_status status = thaw_model_open(model_path, NULL, &m);
    thaw_model_free(m);
    return status;
}

static thaw_model *opened;
static int n_told, n_bad;
static float last_logit, wanted_logit;

static void on_prediction(void *context, const thaw_prediction *p)
{
    (void)context;
    n_told++;
    n_bad += p->error != NULL;
    if (!p->error)
        last_logit = p->logits[0];
}

static thaw_status model_predict(void)
{
    n_told = n_bad = 0;
    thaw_status status = thaw_model_predict(opened, image_path, on_prediction, NULL);
    assert_int_equal(n_bad, 0); /* no memory is not a bad image */
    if (status == THAW_OK) {
        assert_int_equal(n_told, 4);
        assert_true(wanted_logit == 0.0F || last_logit == wanted_logit);
        wanted_logit = last_logit;
    }
    return status;
}

static thaw_status model_eval(void)
{
    thaw_evaluation e = {0};
    thaw_status status = thaw_model_eval(opened, data_path, NULL, NULL, &e);
    if (status == THAW_OK) {
        assert_int_equal(e.images, 4);
        assert_int_equal(e.unreadable, 0);
    }
    thaw_evaluation_release(&e);
    return status;
}

static void on_text(void *context, const char *text)
{
    (void)context;
    (void)text;
    n_told++;
}

static thaw_status model_inspect(void)
{
    return thaw_model_inspect(opened, NULL, on_text, NULL);
}

static thaw_status doctor(void)
{
    return thaw_doctor(NULL, on_text, NULL);
}

static thaw_status convert_weights(void)
{
    char path[256];
    run_path(path, "converted.h5");
    thaw_status status = thaw_convert(model_path, path, NULL, NULL);
    fault_allow();
    if (status != THAW_OK)
        assert_false(is_there("converted.h5"));
    else
        assert_same_bytes("whole/last.h5", "converted.h5");
    return status;
}

static thaw_status list(void)
{
    const char *name = NULL, *about = NULL;
    for (size_t i = 0; thaw_list("backbones", i, &name, &about); i++)
        assert_non_null(name);
    return THAW_OK;
}

/* ---- The loop ---- */

static void nothing(void)
{
}

/* HDF5 is read in a process whose memory is limited by the size of the file: what is refused
 * there is the file's fault. */
static bool is_of_reader(thaw_status status)
{
    return status == THAW_E_DATA &&
           strstr(thaw_error(), "refused: reading it needs more than");
}

/* Refuse one allocation after the other of what `call` makes; before and after each
 * attempt `reset` puts things as they were. */
static void refuse_each(
    const char *name, thaw_status (*call)(void), void (*reset)(void))
{
    reset();
    fault_refuse(0, false);
    must(call());
    int n = fault_allocations(), n_refused = 0, n_done_without = 0;
    const char *full = getenv("THAW_TEST_FULL");
    int first = 1, step = full || n < ATTEMPTS ? 1 : n / ATTEMPTS;
    if (full)
        sscanf(full, "%d/%d", &first, &step);
    step = step > 0 ? step : 1;
    for (int i = first; i <= n; i += step) {
        reset();
        fault_refuse(i, false);
        thaw_status status = call();
        bool refused = fault_refused();
        fault_allow();
        if (status != THAW_OK && status != THAW_E_MEMORY && !is_of_reader(status))
            fail_msg("%s, allocation %d: status %d, %s", name, i, status, thaw_error());
        if (status == THAW_E_MEMORY)
            assert_non_null(strstr(thaw_error(), "memory"));
        n_refused += refused;
        n_done_without += refused && status == THAW_OK;
    }
    reset();
    must(call());
    reset();
    print_message("%s: %d allocations, %d refused, %d of them done without\n", name, n,
        n_refused, n_done_without);
}

static void need_whole_run(void)
{
    thaw_result r;
    if (has_file("whole", "last.h5"))
        return;
    must(train(make_options("whole", RECIPE, NULL), NULL, &r));
    run_path(model_path, "whole/last.h5");
    run_path(data_path, "data");
    run_path(image_path, "data/val");
}

/* Its plan is kept from call to call, so each call gets a model of its own. */
static void open_model(void)
{
    thaw_model_free(opened);
    must(thaw_model_open(model_path, NULL, &opened));
}

static void new_run(void)
{
    forget("new");
}

static void on_progress(void *context, const struct thaw_progress *p)
{
    (void)p;
    thaw_trainer_stop(*(thaw_trainer **)context);
}

/* A run that was stopped after its first step. */
static void stopped_run(void)
{
    thaw_trainer *t = NULL;
    thaw_result r;
    const thaw_events events = {.context = &t, .progress = on_progress};
    thaw_options *o = make_options("stopped", RECIPE, NULL);
    forget("stopped");
    must(thaw_trainer_new(o, &events, &t));
    must(thaw_trainer_run(t, &r));
    assert_true(r.stopped);
    thaw_trainer_free(t);
    thaw_options_free(o);
}

static void converted(void)
{
    forget("converted.h5");
}

static void in_options(void **state)
{
    (void)state;
    need_whole_run();
    refuse_each("options", options, nothing);
    refuse_each("config", config, nothing);
}

static void in_a_new_trainer_and_no_folder_is_left(void **state)
{
    (void)state;
    need_whole_run();
    fresh_options = make_options("new", RECIPE, NULL);
    refuse_each("trainer_new", trainer_new, new_run);
    thaw_options_free(fresh_options);
}

static void in_a_run(void **state)
{
    (void)state;
    need_whole_run();
    fresh_options = make_options("new", RECIPE, NULL);
    refuse_each("trainer_run", trainer_run, new_run);
    thaw_options_free(fresh_options);
}

static void in_a_resumed_run_that_can_be_resumed_again(void **state)
{
    (void)state;
    need_whole_run();
    stopped_run();
    refuse_each("trainer_resume", trainer_resume, stopped_run);
}

static void in_a_model_and_its_uses(void **state)
{
    (void)state;
    need_whole_run();
    refuse_each("model_open", model_open, nothing);
    refuse_each("model_predict", model_predict, open_model);
    refuse_each("model_eval", model_eval, open_model);
    refuse_each("model_inspect", model_inspect, nothing);
    thaw_model_free(opened);
}

static void in_convert_and_no_file_is_left(void **state)
{
    (void)state;
    need_whole_run();
    refuse_each("convert", convert_weights, converted);
}

static void in_lists_and_doctor(void **state)
{
    (void)state;
    refuse_each("list", list, nothing);
    refuse_each("doctor", doctor, nothing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_options),
        cmocka_unit_test(in_a_new_trainer_and_no_folder_is_left),
        cmocka_unit_test(in_a_run),
        cmocka_unit_test(in_a_resumed_run_that_can_be_resumed_again),
        cmocka_unit_test(in_a_model_and_its_uses),
        cmocka_unit_test(in_convert_and_no_file_is_left),
        cmocka_unit_test(in_lists_and_doctor),
    };
    return cmocka_run_group_tests(tests, setup, remove_data);
}
