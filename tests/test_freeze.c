/* SPDX-License-Identifier: Apache-2.0
 * What the words of --thaw and --bn mean, the timetable, the learning rate. */
#include "net.h"

#include "schedule.h"

static struct th_model model;

static int setup(void **state)
{
    (void)state;
    const struct th_backbone *backbone = NULL;
    const struct th_variant *variant = NULL;
    const char *classes[] = {"a", "b"};
    must(th_variant_find("resnet18", &backbone, &variant));
    must(th_model_init(
        &model, backbone, variant, &th_head_classify, 0, &variant->input, classes, 2));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    th_model_release(&model);
    return 0;
}

static bool trains(const char *thaw, const char *bn, int batch, const char *param)
{
    struct th_freeze f;
    must(th_freeze_init(&f, &model, thaw, bn, batch));
    int i = th_model_param(&model, param);
    assert_true(i >= 0);
    bool answer = f.trainable[i];
    th_freeze_release(&f);
    return answer;
}

static const char *mode(const char *thaw, const char *bn, int batch, const char *name)
{
    struct th_freeze f;
    const char *answer = NULL;
    must(th_freeze_init(&f, &model, thaw, bn, batch));
    for (int i = 0; i < model.n_bns; i++)
        if (strcmp(model.bns[i].name, name) == 0)
            answer = th_bn_mode_name(f.bn[i]);
    th_freeze_release(&f);
    assert_non_null(answer);
    return answer;
}

static void resnet18_has_torchvisions_names_and_count(void **state)
{
    (void)state;
    assert_int_equal(
        th_model_values(&model), 11177538); /* 11.18 M and a head of 1,026 */
    assert_true(th_model_param(&model, "layer4.1.bn2.running_var") >= 0);
    assert_true(th_model_param(&model, "layer2.0.downsample.0.weight") >= 0);
    assert_true(th_model_param(&model, "layer1.0.downsample.0.weight") < 0);
    assert_true(th_model_param(&model, "fc.bias") >= 0);
    assert_int_equal(model.n_stages, 6);
}

static void thaw_trains_exactly_what_it_names(void **state)
{
    (void)state;
    assert_true(trains("head", "auto", 32, "fc.weight"));
    assert_false(trains("head", "auto", 32, "layer4.1.conv2.weight"));
    assert_true(trains("stage4,head", "auto", 32, "layer4.1.conv2.weight"));
    assert_true(trains("stage4,head", "auto", 32, "layer4.1.bn2.weight"));
    assert_false(trains("stage4,head", "auto", 32, "layer3.1.bn2.weight"));
    assert_false(trains("stage4", "auto", 32, "fc.weight"));
    assert_true(trains("stem", "auto", 32, "conv1.weight"));
    assert_false(trains("none", "train", 32, "bn1.weight"));
    assert_true(trains("layer3.*.conv2.weight", "auto", 32, "layer3.1.conv2.weight"));
    assert_false(trains("layer3.*.conv2.weight", "auto", 32, "layer3.1.conv1.weight"));
    assert_true(trains("bias", "auto", 32, "layer1.0.bn1.bias"));
    assert_false(trains("bias", "auto", 32, "layer1.0.bn1.weight"));
    assert_false(trains("all", "train", 32, "bn1.running_mean"));
}

static void bn_auto_follows_its_convolution_and_the_batch(void **state)
{
    (void)state;
    assert_string_equal(mode("all", "auto", 32, "bn1"), "train");
    assert_string_equal(mode("all", "auto", 16, "bn1"), "train");
    assert_string_equal(mode("all", "auto", 15, "bn1"), "frozen");
    assert_string_equal(mode("stage4,head", "auto", 32, "layer3.0.bn1"), "frozen");
    assert_string_equal(
        mode("stage4,head", "auto", 32, "layer4.0.downsample.1"), "train");
    assert_string_equal(mode("bn", "auto", 32, "layer2.0.bn1"), "affine");
    assert_string_equal(mode("bias", "auto", 4, "layer2.0.bn1"), "affine");
}

static void bn_modes_go_by_stage_and_range(void **state)
{
    (void)state;
    const char *spec = "stem-stage3:frozen stage4:stats-running";
    assert_string_equal(mode("all", spec, 32, "bn1"), "frozen");
    assert_string_equal(mode("all", spec, 32, "layer3.1.bn2"), "frozen");
    assert_string_equal(mode("all", spec, 32, "layer4.1.bn2"), "stats-running");
    assert_string_equal(mode("all", "stage2:affine", 32, "layer1.0.bn1"), "train");
    assert_string_equal(mode("head", "stats", 32, "layer1.0.bn1"), "stats");
}

static void gamma_and_beta_train_only_where_the_mode_allows(void **state)
{
    (void)state;
    assert_false(trains("all", "frozen", 32, "bn1.weight"));
    assert_false(trains("all", "stats", 32, "bn1.weight"));
    assert_false(trains("all", "stats-running", 32, "bn1.bias"));
    assert_true(trains("all", "train", 32, "bn1.weight"));
    assert_true(trains("all", "affine", 32, "bn1.bias"));
    assert_false(trains("head", "affine", 32, "bn1.bias"));
}

static void expect_usage(const char *thaw, const char *bn, const char *part)
{
    struct th_freeze f;
    assert_int_equal(th_freeze_init(&f, &model, thaw, bn, 32), THAW_E_USAGE);
    if (!strstr(thaw_error(), part))
        fail_msg("'%s' does not say '%s'", thaw_error(), part);
}

static void what_matches_nothing_is_an_error_with_the_nearest_name(void **state)
{
    (void)state;
    expect_usage("stage5", "auto", "stage");
    expect_usage("hed", "auto", "head");
    expect_usage("layer9.*", "auto", "matches nothing");
    expect_usage("norm", "auto", "matches nothing");
    expect_usage("head,none", "auto", "none stands alone");
    expect_usage("head", "frosen", "want auto");
    expect_usage("head", "stage7:frozen", "no stage 'stage7'");
    expect_usage("all", "stage4-stage2:frozen", "stage2-stage4");
    expect_usage("all", "stage9:train", "stages with BatchNorm are stem, stage1");
    expect_usage("all", "stem:frosen", "did you mean frozen?");
}

static void words_of_bn_that_mean_nothing_or_two_things_are_errors(void **state)
{
    (void)state;
    struct th_freeze f;
    expect_usage("all", "head:train",
        "head of resnet18 has no BatchNorm; stages that "
        "have are stem, stage1, stage2, stage3, stage4");
    expect_usage(
        "all", "stem:frozen stem:train", "stem cannot be both frozen and train");
    expect_usage(
        "all", "stem-stage3:frozen stage2-stage4:train", "stage2 cannot be both");
    must(th_freeze_init(&f, &model, "all", "stem:frozen stem-stage1:frozen", 32));
    th_freeze_release(&f);
    must(th_freeze_init(&f, &model, "all", "stem-head:frozen", 32));
    th_freeze_release(&f);
}

static void the_form_of_bn_is_checked_without_a_model(void **state)
{
    (void)state;
    static const char *const good[] = {"auto", "train", "stats-running", "stem:train",
        "any-thing:stats-running x:affine"};
    static const char *const bad[] = {"foo", "stem", "stem:foo", "stem:train foo", " "};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        must(th_freeze_check_bn(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(th_freeze_check_bn(bad[i]), THAW_E_USAGE);
}

static void statistics_that_a_mode_updates_are_not_frozen(void **state)
{
    (void)state;
    struct th_freeze f;
    must(th_freeze_init(&f, &model, "head", "stem-stage1:stats", 32));
    assert_false(
        th_freeze_is_frozen(&f, &model, th_model_param(&model, "bn1.running_mean")));
    assert_true(th_freeze_is_frozen(&f, &model, th_model_param(&model, "bn1.weight")));
    assert_true(th_freeze_is_frozen(
        &f, &model, th_model_param(&model, "layer2.0.bn1.running_var")));
    char *text = th_freeze_bn_text(&f, &model);
    assert_string_equal(text, "stem-stage1 stats, stage2-stage4 frozen");
    th_free(text);
    th_freeze_release(&f);
}

static void a_timetable_has_phases(void **state)
{
    (void)state;
    struct th_timetable t;
    must(th_timetable_init(&t, "0:head 3:stage4,head 6:all"));
    assert_int_equal(t.n, 3);
    assert_string_equal(t.spec[1], "stage4,head");
    assert_int_equal(th_timetable_phase(&t, 2), 0);
    assert_int_equal(th_timetable_phase(&t, 3), 1);
    assert_int_equal(th_timetable_phase(&t, 60), 2);
    th_timetable_release(&t);
    must(th_timetable_init(&t, "head"));
    assert_int_equal(t.n, 1);
    th_timetable_release(&t);
    const char *bad[] = {
        "", "1:head", "0:head 0:all", "0:head 5:all 3:head", "head all", "0: 1:all"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(th_timetable_init(&t, bad[i]), THAW_E_USAGE);
}

static void the_learning_rate_follows_its_formula(void **state)
{
    (void)state;
    struct th_lr s = {.kind = TH_LR_COSINE, .base = 0.1F, .total = 10, .warmup = 4};
    assert_float_equal(th_lr_at(&s, 0), 0.1 * 0.25, 1e-7);
    assert_float_equal(th_lr_at(&s, 3), 0.1, 1e-7);
    assert_float_equal(th_lr_at(&s, 5), 0.05, 1e-7);
    assert_float_equal(th_lr_at(&s, 9), 0.0024471742, 1e-7);
    s = (struct th_lr){.kind = TH_LR_STEP, .base = 1.0F, .total = 100};
    assert_float_equal(th_lr_at(&s, 49), 1.0, 1e-7);
    assert_float_equal(th_lr_at(&s, 50), 0.1, 1e-7);
    assert_float_equal(th_lr_at(&s, 75), 0.01, 1e-7);
    s.kind = TH_LR_CONSTANT;
    assert_float_equal(th_lr_at(&s, 99), 1.0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resnet18_has_torchvisions_names_and_count),
        cmocka_unit_test(thaw_trains_exactly_what_it_names),
        cmocka_unit_test(bn_auto_follows_its_convolution_and_the_batch),
        cmocka_unit_test(bn_modes_go_by_stage_and_range),
        cmocka_unit_test(gamma_and_beta_train_only_where_the_mode_allows),
        cmocka_unit_test(what_matches_nothing_is_an_error_with_the_nearest_name),
        cmocka_unit_test(words_of_bn_that_mean_nothing_or_two_things_are_errors),
        cmocka_unit_test(the_form_of_bn_is_checked_without_a_model),
        cmocka_unit_test(statistics_that_a_mode_updates_are_not_frozen),
        cmocka_unit_test(a_timetable_has_phases),
        cmocka_unit_test(the_learning_rate_follows_its_formula),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
