/* SPDX-License-Identifier: Apache-2.0
 * The option table, values, nearest names, config.json. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "mem.h"
#include "options.h"

static thaw_options *fresh(void)
{
    thaw_options *o = NULL;
    assert_int_equal(thaw_options_new(&o), THAW_OK);
    return o;
}

static void refuses(const char *name, const char *value, const char *sentence)
{
    thaw_options *o = fresh();
    assert_int_equal(thaw_options_set(o, name, value), THAW_E_USAGE);
    assert_string_equal(thaw_error(), sentence);
    assert_false(thaw_options_is_set(o, name));
    thaw_options_free(o);
}

static void defaults_are_those_of_the_design(void **state)
{
    (void)state;
    assert_int_equal(th_option_int(NULL, "epochs"), 10);
    assert_int_equal(th_option_int(NULL, "batch"), 32);
    assert_string_equal(th_option_text(NULL, "thaw"), "head");
    assert_true(fabs(th_option_real(NULL, "weight-decay") - 1e-4) < 1e-12);
    assert_null(th_option_text(NULL, "weights"));
    assert_false(th_option_flag(NULL, "nesterov"));
}

static void every_default_passes_its_own_check(void **state)
{
    (void)state;
    size_t n = 0;
    const thaw_option *table = thaw_option_table(&n);
    thaw_options *o = fresh();
    for (size_t i = 0; i < n; i++) {
        if (table[i].default_value)
            assert_int_equal(
                thaw_options_set(o, table[i].name, table[i].default_value), THAW_OK);
        assert_int_equal(table[i].type == THAW_OPTION_CHOICE, table[i].choices != NULL);
        assert_int_equal(table[i].type == THAW_OPTION_FLAG, table[i].value == NULL);
    }
    thaw_options_free(o);
}

static void a_set_value_wins_and_may_be_set_again(void **state)
{
    (void)state;
    thaw_options *o = fresh();
    assert_int_equal(thaw_options_set(o, "lr", "0.1"), THAW_OK);
    assert_int_equal(thaw_options_set(o, "lr", "1e-3"), THAW_OK);
    assert_true(fabs(th_option_real(o, "lr") - 1e-3) < 1e-12);
    assert_int_equal(thaw_options_set(o, "nesterov", "1"), THAW_OK);
    assert_true(th_option_flag(o, "nesterov"));
    float mean[3] = {0};
    assert_false(th_option_rgb(o, "mean", mean));
    assert_int_equal(thaw_options_set(o, "mean", "0.5,0,-1"), THAW_OK);
    assert_true(th_option_rgb(o, "mean", mean));
    assert_true(fabsf(mean[0] - 0.5f) < 1e-6f && fabsf(mean[2] + 1) < 1e-6f);
    thaw_options_free(o);
}

static void bad_values_are_refused_with_a_sentence(void **state)
{
    (void)state;
    refuses("epochs", "ten", "--epochs: 'ten' is not a whole number from 0");
    refuses("epochs", "1.5", "--epochs: '1.5' is not a whole number from 0");
    refuses("batch", "0", "--batch: 0 is outside 1 to 65536");
    refuses("lr", "nan", "--lr: 'nan' is not a number from 0");
    refuses("lr", "", "--lr: '' is not a number from 0");
    refuses("lr", "0x10", "--lr: '0x10' is not a number from 0");
    refuses("momentum", "1", "--momentum: 1 is outside 0 to 0.999999");
    refuses("optimizer", "adam", "--optimizer: 'adam' is not one of sgd|adamw");
    refuses(
        "optimizer", "sgd|adamw", "--optimizer: 'sgd|adamw' is not one of sgd|adamw");
    refuses("optimizer", "", "--optimizer: '' is not one of sgd|adamw");
    refuses(
        "mean", "1,2", "--mean: '1,2' is not three numbers as in 0.485,0.456,0.406");
    refuses("std", "1,0,1", "--std: '1,0,1' must be above 0");
    refuses("out", "", "--out: the value is empty");
    refuses("quiet", "yes", "--quiet takes no value (or 1 or 0), not 'yes'");
}

static void unknown_names_get_the_nearest(void **state)
{
    (void)state;
    refuses("epoch", "1", "unknown option --epoch; did you mean --epochs?");
    refuses("bacth", "1", "unknown option --bacth; did you mean --batch?");
    refuses("weigths", "1", "unknown option --weigths; did you mean --weights?");
    refuses("learning-rate", "1", "unknown option --learning-rate");
    refuses("lroa", "r=8", "unknown option --lroa; did you mean --lora?");
}

static void config_json_comes_back_as_it_went(void **state)
{
    (void)state;
    thaw_options *o = fresh(), *p = fresh();
    assert_int_equal(thaw_options_set(o, "data", "a \"b\"\\c\n\xc3\xa9"), THAW_OK);
    assert_int_equal(thaw_options_set(o, "epochs", "3"), THAW_OK);
    assert_int_equal(thaw_options_set(o, "quiet", "1"), THAW_OK);
    char *text = th_options_json(o);
    assert_non_null(text);
    assert_int_equal(thaw_options_set(p, "epochs", "7"), THAW_OK);
    assert_int_equal(th_options_from_json(p, text, "config.json"), THAW_OK);
    assert_string_equal(th_option_text(p, "data"), "a \"b\"\\c\n\xc3\xa9");
    assert_int_equal(th_option_int(p, "epochs"), 7);
    assert_true(th_option_flag(p, "quiet"));
    th_free(text);
    thaw_options_free(o);
    thaw_options_free(p);
}

static void config_json_may_be_written_by_hand(void **state)
{
    (void)state;
    thaw_options *o = fresh();
    const char *text = "{ \"epochs\" : 3,\"lr\":1e-2 , \"quiet\": true,"
                       " \"backbone\": \"res\\u006eet\\u00e9\" }";
    assert_int_equal(th_options_from_json(o, text, "c"), THAW_OK);
    assert_int_equal(th_option_int(o, "epochs"), 3);
    assert_true(th_option_flag(o, "quiet"));
    assert_string_equal(th_option_text(o, "backbone"), "resnet\xc3\xa9");
    assert_int_equal(th_options_from_json(o, "{}", "c"), THAW_OK);
    thaw_options_free(o);
}

static void damaged_config_json_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "[", "{", "{\"lr\"}", "{\"lr\":}",
        "{\"lr\":1", "{\"lr\":1,}", "{\"lr\":1}x", "{\"lr\":{}}", "{\"lr\":null}",
        "{\"lr\":[1]}", "{\"lr\":\"1", "{\"lr\":\"\\q\"}", "{\"backbone\":\"\\u12\"}",
        "{\"backbone\":\"\\ud800\"}", "{\"epochz\":1}", "{\"epochs\":\"x\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        thaw_options *o = fresh();
        assert_int_equal(th_options_from_json(o, bad[i], "c"), THAW_E_USAGE);
        thaw_options_free(o);
    }
}

/* Write `text` to a fresh file; its name is in path. */
static void write_file(char path[32], const char *text)
{
    strcpy(path, "/tmp/thaw-config-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void a_config_file_gives_way_to_what_is_set_before_and_after(void **state)
{
    (void)state;
    char path[32];
    write_file(path, "{\"epochs\":3,\"batch\":4,\"seed\":5}");
    thaw_options *o = fresh();
    assert_int_equal(thaw_options_set(o, "epochs", "7"), THAW_OK);
    assert_int_equal(thaw_options_set(o, "config", path), THAW_OK);
    assert_int_equal(thaw_options_set(o, "batch", "8"), THAW_OK);
    assert_int_equal(th_option_int(o, "epochs"), 7);
    assert_int_equal(th_option_int(o, "batch"), 8);
    assert_int_equal(th_option_int(o, "seed"), 5);
    char *text = th_options_json(o);
    assert_null(strstr(text, "config"));
    th_free(text);
    unlink(path);
    assert_int_equal(thaw_options_set(o, "config", path), THAW_E_IO);
    write_file(path, "{\"config\":\"x\"}");
    assert_int_equal(thaw_options_set(o, "config", path), THAW_E_USAGE);
    unlink(path);
    thaw_options_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_design),
        cmocka_unit_test(every_default_passes_its_own_check),
        cmocka_unit_test(a_set_value_wins_and_may_be_set_again),
        cmocka_unit_test(bad_values_are_refused_with_a_sentence),
        cmocka_unit_test(unknown_names_get_the_nearest),
        cmocka_unit_test(config_json_comes_back_as_it_went),
        cmocka_unit_test(config_json_may_be_written_by_hand),
        cmocka_unit_test(damaged_config_json_is_refused),
        cmocka_unit_test(a_config_file_gives_way_to_what_is_set_before_and_after),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
