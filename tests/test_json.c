/* SPDX-License-Identifier: Apache-2.0
 * JSON: what is accepted, what is refused, and that what is written is read back. */
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "error.h"
#include "json.h"

static struct th_json *parse(const char *text)
{
    struct th_json *root = NULL;
    if (th_json_parse(text, strlen(text), "text", &root) != THAW_OK)
        fail_msg("%s: %s", text, thaw_error());
    return root;
}

static void values_of_every_kind_are_read(void **state)
{
    (void)state;
    struct th_json *root = parse(" {\"a\" : [1, -2.5e1, true, false, null], \"b\":{}, "
                                 "\"c\":\"x\", \"\":[ ] }\n");
    const struct th_json *a = th_json_get(root, "a");
    assert_int_equal(root->n, 4);
    assert_int_equal(a->n, 5);
    assert_true(a->first->is_whole && a->first->whole == 1 && a->first->real == 1.0);
    const struct th_json *second = a->first->next;
    assert_true(!second->is_whole && second->real == -25.0);
    assert_true(second->next->is_true && !second->next->next->is_true);
    assert_int_equal(second->next->next->next->kind, TH_JSON_NULL);
    assert_int_equal(th_json_get(root, "b")->kind, TH_JSON_OBJECT);
    assert_string_equal(th_json_get(root, "c")->text, "x");
    assert_int_equal(th_json_get(root, "")->n, 0);
    assert_null(th_json_get(root, "d"));
    assert_null(th_json_get(a, "a"));
    assert_null(th_json_get(NULL, "a"));
    th_json_free(root);
    root = parse("[9223372036854775807, -9223372036854775808, 9223372036854775808]");
    assert_true(root->first->whole == INT64_MAX);
    assert_true(root->first->next->whole == INT64_MIN);
    assert_false(root->first->next->next->is_whole);
    th_json_free(root);
}

static void escapes_become_utf8(void **state)
{
    (void)state;
    struct th_json *root =
        parse("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20AC\\ud83d\\udc08 "
              "\xf0\x9f\x90\x88\"");
    assert_string_equal(root->text,
        "\"\\/\b\f\n\r\tA\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\x88 \xf0\x9f\x90\x88");
    th_json_free(root);
}

static void what_is_no_json_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"", " ", "{", "[", "[1", "[1,", "[1,]", "[,1]",
        "{,}", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{'a':1}", "{1:1}",
        "[1 2]", "1 2", "[]]", "01", "-", "+1", ".5", "5.", "1e", "1e+", "0x10", "NaN",
        "Infinity", "-Infinity", "1e999", "tru", "True", "nul", "\"", "\"a", "\"\\\"",
        "\"\\x\"", "\"\\u12\"", "\"\\u0000\"", "\"\\ud83d\"", "\"\\ud83dx\"",
        "\"\\udc08\"", "\"\\ud83d\\u0041\"", "\"\n\"", "\"\x1f\"", "\"\x80\"",
        "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"",
        "\"\xf0\x80\x80\x80\"", "\"\xe2\x82\"", "\"\xc3\"", "{\"a\":1,\"b\":2,\"a\":3}",
        "// no\n1", "[1]x", "\xef\xbb\xbf[]"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct th_json *root = NULL;
        size_t n = strlen(texts[i]);
        char *exact = malloc(n + 1); /* for ASan's sake */
        assert_non_null(exact);
        memcpy(exact, texts[i], n);
        if (th_json_parse(exact, n, "text", &root) != THAW_E_DATA)
            fail_msg("accepted: %s", texts[i]);
        assert_null(root);
        free(exact);
    }
    struct th_json *root = NULL;
    assert_int_equal(th_json_parse("1\0", 2, "text", &root), THAW_E_DATA);
    assert_int_equal(th_json_parse("\"a\0b\"", 5, "text", &root), THAW_E_DATA);
}

static void a_refusal_says_where(void **state)
{
    (void)state;
    struct th_json *root = NULL;
    assert_int_equal(th_json_parse("{\n\"a\":?}", 8, "c.json", &root), THAW_E_DATA);
    assert_string_equal(thaw_error(),
        "c.json: not JSON: neither a value nor a number at byte 6, line 2");
}

static void depth_is_bounded_at_64(void **state)
{
    (void)state;
    char text[131];
    struct th_json *root = NULL;
    memset(text, '[', 64);
    memset(text + 64, ']', 64);
    assert_int_equal(th_json_parse(text, 128, "text", &root), THAW_OK);
    th_json_free(root);
    memset(text, '[', 65);
    memset(text + 65, ']', 65);
    assert_int_equal(th_json_parse(text, 130, "text", &root), THAW_E_DATA);
}

static void long_lists_keep_their_order(void **state)
{
    (void)state;
    struct th_json_out o = {0};
    th_json_open(&o, '[');
    for (int i = 0; i < 1000; i++)
        th_json_whole(&o, i);
    th_json_close(&o, ']');
    struct th_json *root = parse(o.text);
    int64_t i = 0;
    for (const struct th_json *item = root->first; item; item = item->next)
        assert_int_equal(item->whole, i++);
    assert_int_equal(i, 1000);
    assert_int_equal(root->n, 1000);
    th_json_free(root);
    th_json_out_release(&o);
}

static void what_is_written_is_as_expected_and_read_back(void **state)
{
    (void)state;
    struct th_json_out o = {0};
    th_json_open(&o, '{');
    th_json_key(&o, "a \"b\"\n");
    th_json_real(&o, 0.1);
    th_json_key(&o, "list");
    th_json_open(&o, '[');
    th_json_real(&o, NAN);
    th_json_real(&o, -INFINITY);
    th_json_whole(&o, INT64_MIN);
    th_json_bool(&o, true);
    th_json_null(&o);
    th_json_string(&o, "caf\xc3\xa9 \xff\xc3");
    th_json_open(&o, '{');
    th_json_close(&o, '}');
    th_json_close(&o, ']');
    th_json_key(&o, "last");
    th_json_real(&o, 1.0f / 3.0f);
    th_json_close(&o, '}');
    assert_int_equal(th_json_out_status(&o), THAW_OK);
    assert_string_equal(o.text,
        "{\"a "
        "\\\"b\\\"\\u000a\":0.1,\"list\":[null,null,-9223372036854775808,true,null,"
        "\"caf\xc3\xa9 \xef\xbf\xbd\xef\xbf\xbd\",{}],\"last\":0.333333343}");
    assert_int_equal(strlen(o.text), o.n);
    struct th_json *root = parse(o.text);
    assert_true(th_json_get(root, "a \"b\"\n")->real == 0.1);
    assert_true((float)th_json_get(root, "last")->real == 1.0f / 3.0f);
    th_json_free(root);
    th_json_out_release(&o);
}

static void a_comma_locale_changes_nothing(void **state)
{
    (void)state;
    static const char *const names[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "fr_FR"};
    bool found = false;
    for (int i = 0; i < 4 && !found; i++)
        found = setlocale(LC_NUMERIC, names[i]) != NULL;
    if (!found) {
        print_message("skipped: no locale with a decimal comma is installed\n");
        skip();
    }
    struct th_json_out o = {0};
    th_json_real(&o, 1.5);
    struct th_json *root = parse("2.5");
    setlocale(LC_NUMERIC, "C");
    assert_string_equal(o.text, "1.5");
    assert_true(root->real == 2.5);
    th_json_free(root);
    th_json_out_release(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_every_kind_are_read),
        cmocka_unit_test(escapes_become_utf8),
        cmocka_unit_test(what_is_no_json_is_refused),
        cmocka_unit_test(a_refusal_says_where),
        cmocka_unit_test(depth_is_bounded_at_64),
        cmocka_unit_test(long_lists_keep_their_order),
        cmocka_unit_test(what_is_written_is_as_expected_and_read_back),
        cmocka_unit_test(a_comma_locale_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
