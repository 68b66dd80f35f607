/* SPDX-License-Identifier: Apache-2.0
 * Records between a sandboxed reader and its parent: what is written is read, and what no
 * writer writes is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "error.h"
#include "mem.h"
#include "weights_stream.h"

enum { SIZE = 4096, MANY = 1 << 20 };

/* The head as weights_stream.c has it. */
struct head {
    uint32_t kind, rank;
    int64_t dim[TH_MAX_RANK];
    uint64_t name_bytes, n, payload;
};

static struct th_stream new_stream(size_t n)
{
    struct th_stream s = {.bytes = th_alloc(n, 1), .n = n, .where = "strange.h5"};
    assert_non_null(s.bytes);
    return s;
}

static thaw_status read_all(struct th_stream *s, struct th_weights *w)
{
    bool more = true;
    th_weights_init(w);
    w->where = s->where;
    w->limit = MANY;
    s->at = 0;
    while (more)
        TRY(th_stream_next(s, w, &more));
    return THAW_OK;
}

static void ok(thaw_status status)
{
    if (status != THAW_OK)
        fail_msg("%s", thaw_error());
}

static void every_kind_of_record_arrives(void **state)
{
    (void)state;
    struct th_weights w;
    struct th_stream s = new_stream(SIZE);
    const struct th_shape shape = {2, {3, 1}}, none = {2, {0, 5}}, scalar = {0, {0}};
    const char *const texts[] = {"", "a", "d\xc3\xb6g"};
    const double reals[] = {0.5, -1e300};
    const int64_t ints[] = {INT64_MIN};
    float *data = NULL;
    ok(th_stream_tensor(&s, "conv/weight", &shape, &data));
    for (int i = 0; i < 3; i++)
        data[i] = (float)i - 0.1F;
    ok(th_stream_tensor(&s, "empty", &none, NULL));
    ok(th_stream_tensor(&s, "scalar", &scalar, &data));
    *data = 4;
    ok(th_stream_texts(&s, "classes", TH_ATTRIBUTE_STRINGS, texts, 3));
    ok(th_stream_texts(&s, "none", TH_ATTRIBUTE_STRINGS, texts, 0));
    ok(th_stream_texts(&s, "one", TH_ATTRIBUTE_STRING, texts + 2, 1));
    ok(th_stream_numbers(&s, "reals", TH_ATTRIBUTE_FLOATS, reals, 2));
    ok(th_stream_numbers(&s, "ints", TH_ATTRIBUTE_INTS, ints, 1));
    ok(read_all(&s, &w));
    size_t n = 9;
    assert_int_equal(w.n, 3);
    assert_true(th_shape_equal(&w.weight[0].tensor.shape, &shape));
    assert_true(((const float *)w.weight[0].tensor.data)[2] == 2 - 0.1F);
    assert_true(th_shape_equal(&w.weight[1].tensor.shape, &none));
    assert_true(*(const float *)w.weight[2].tensor.data == 4);
    assert_string_equal(th_weights_strings(&w, "classes", &n)[2], texts[2]);
    assert_int_equal(n, 3);
    assert_non_null(th_weights_strings(&w, "none", &n));
    assert_int_equal(n, 0);
    assert_string_equal(th_weights_string(&w, "one"), texts[2]);
    assert_true(th_weights_floats(&w, "reals", NULL)[1] == -1e300);
    assert_true(*th_weights_ints(&w, "ints", NULL) == INT64_MIN);
    th_weights_release(&w);
    th_free(s.bytes);
}

static void what_does_not_fit_is_refused_by_name(void **state)
{
    (void)state;
    struct th_stream s = new_stream(SIZE);
    const struct th_shape large = {1, {SIZE}},
                          huge = {3, {INT64_MAX, INT64_MAX, INT64_MAX}},
                          page = {1, {SIZE / 4 - 32}};
    assert_int_equal(th_stream_tensor(&s, "a.large", &large, NULL), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "strange.h5: a.large: needs more memory"));
    assert_int_equal(th_stream_tensor(&s, "huge", &huge, NULL), THAW_E_DATA);
    ok(th_stream_tensor(&s, "page", &page, NULL)); /* exactly full: no end follows */
    assert_int_equal(s.at, s.n);
    struct th_weights w;
    assert_int_equal(read_all(&s, &w), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "does not end"));
    th_weights_release(&w);
    th_free(s.bytes);
}

static void what_no_writer_writes_is_refused(void **state)
{
    static const struct {
        struct head h;
        const char *says;
    } lies[] = {
        {{.kind = 9, .name_bytes = 2}, "a kind of record"},
        {{.kind = 1, .name_bytes = 0}, "a name"},
        {{.kind = 1, .name_bytes = UINT64_MAX}, "a name"},
        {{.kind = 1, .name_bytes = 4097}, "a name)"},
        {{.kind = 1, .name_bytes = 3, .payload = 4}, "a name without end"},
        {{.kind = 1, .name_bytes = 1, .payload = 4}, "a name without end"},
        {{.kind = 1, .name_bytes = 2, .payload = UINT64_MAX}, "beyond the end"},
        {{.kind = 1, .name_bytes = 2, .payload = SIZE}, "beyond the end"},
        {{.kind = 1, .name_bytes = 2, .rank = 7}, "a rank"},
        {{.kind = 1, .name_bytes = 2, .rank = UINT32_MAX}, "a rank"},
        {{.kind = 1, .name_bytes = 2, .rank = 1, .dim = {-1}}, "an impossible shape"},
        {{.kind = 1, .name_bytes = 2, .rank = 2, .dim = {0, INT64_MAX}},
            "an impossible shape"},
        {{.kind = 1, .name_bytes = 2, .rank = 1, .dim = {MANY}}, "more memory"},
        {{.kind = 1, .name_bytes = 2, .rank = 1, .dim = {2}, .payload = 4},
            "a tensor's size"},
        {{.kind = 2, .name_bytes = 2, .n = 0}, "a number of texts"},
        {{.kind = 2, .name_bytes = 2, .n = 2, .payload = 2}, "a number of texts"},
        {{.kind = 3, .name_bytes = 2, .n = 1, .payload = 0}, "a number of texts"},
        {{.kind = 3, .name_bytes = 2, .n = UINT64_MAX, .payload = 64},
            "a number of texts"},
        {{.kind = 3, .name_bytes = 2, .n = 1, .payload = 2}, "texts"},
        {{.kind = 4, .name_bytes = 2, .n = 2, .payload = 8}, "a number of numbers"},
        {{.kind = 5, .name_bytes = 2, .n = 1, .payload = 9}, "a number of numbers"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        struct th_weights w;
        struct th_stream s = new_stream(SIZE);
        memcpy(s.bytes, &lies[i].h, sizeof lies[i].h);
        s.bytes[sizeof lies[i].h] = 'x';
        assert_int_equal(read_all(&s, &w), THAW_E_DATA);
        if (!strstr(thaw_error(), "strange.h5") || !strstr(thaw_error(), lies[i].says))
            fail_msg("lie %zu: %s", i, thaw_error());
        th_weights_release(&w);
        th_free(s.bytes);
    }
}

static void a_text_that_does_not_end_is_refused(void **state)
{
    (void)state;
    struct th_weights w;
    struct th_stream s = new_stream(SIZE);
    const char *const text[] = {"abc"};
    ok(th_stream_texts(&s, "a", TH_ATTRIBUTE_STRINGS, text, 1));
    s.bytes[128 + 3] = 'd'; /* its zero; head and name are 128 bytes */
    assert_int_equal(read_all(&s, &w), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "(texts)"));
    th_weights_release(&w);
    th_free(s.bytes);
}

static void attributes_are_counted(void **state)
{
    (void)state;
    struct th_weights w;
    struct th_stream s = new_stream(MANY);
    char name[16];
    for (int i = 0; i < 4097; i++) {
        snprintf(name, sizeof name, "%d", i);
        ok(th_stream_numbers(&s, name, TH_ATTRIBUTE_INTS, NULL, 0));
    }
    assert_int_equal(read_all(&s, &w), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "more than 4096 attributes"));
    th_weights_release(&w);
    th_free(s.bytes);
}

/* An empty text is one byte in a file, and an allocation here. */
static void texts_are_counted(void **state)
{
    (void)state;
    struct th_weights w;
    struct th_stream s = new_stream(2 * MANY);
    const struct head h = {
        .kind = 3, .name_bytes = 2, .n = MANY - 5, .payload = MANY - 5};
    const char *const few[] = {"1", "2", "3", "4", "5", "6"};
    ok(th_stream_texts(&s, "few", TH_ATTRIBUTE_STRINGS, few, 6));
    memcpy(s.bytes + s.at, &h, sizeof h);
    s.bytes[s.at + sizeof h] = 'x';
    assert_int_equal(read_all(&s, &w), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "more than 1048576 texts"));
    th_weights_release(&w);
    th_free(s.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_record_arrives),
        cmocka_unit_test(what_does_not_fit_is_refused_by_name),
        cmocka_unit_test(what_no_writer_writes_is_refused),
        cmocka_unit_test(a_text_that_does_not_end_is_refused),
        cmocka_unit_test(attributes_are_counted),
        cmocka_unit_test(texts_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
