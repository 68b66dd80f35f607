/* SPDX-License-Identifier: Apache-2.0
 * report.html: names from outside are inert in it, it needs nothing from elsewhere, and
 * what it shows is what metrics.jsonl and the validation say. */
#include "html.h"
#include "mistakes.h"
#include "report_html.h"
#include "run.h"
#include "scores.h"

#include <math.h>

static int setup(void **state)
{
    (void)state;
    return make_data(10);
}

static int count_in(const char *text, const char *what)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)); at += strlen(what))
        n++;
    return n;
}

/* ---- The parts ---- */

static void text_is_escaped_and_bad_bytes_are_replaced(void **state)
{
    (void)state;
    struct th_html h = {0};
    th_html_text(&h, "<a href=\"x\">&'\xc3\xa9");
    assert_string_equal(h.text, "&#60;a href=&#34;x&#34;&#62;&#38;&#39;\xc3\xa9");
    th_html_release(&h);
    /* A lone byte, a cut sequence, an overlong '<', a surrogate, controls C0 and C1. */
    th_html_text(&h, "\xff|\xe2\x82|\xc0\xbc|\xed\xa0\x80|\x1b|\xc2\x9b");
    assert_null(strchr(h.text, '<'));
    assert_null(strchr(h.text, '\x1b'));
    assert_int_equal(count_in(h.text, "\xef\xbf\xbd"), 10);
    for (const char *at = h.text; *at; at += th_utf8_length(at))
        assert_true(th_utf8_length(at) > 0);
    th_html_release(&h);
}

/* RFC 4648, section 10. */
static void base64_is_that_of_rfc_4648(void **state)
{
    (void)state;
    static const char *const vectors[][2] = {{"f", "Zg=="}, {"fo", "Zm8="},
        {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        struct th_html h = {0};
        th_html_base64(&h, (const uint8_t *)vectors[i][0], strlen(vectors[i][0]));
        assert_string_equal(h.text, vectors[i][1]);
        th_html_release(&h);
    }
}

static void a_png_in_memory_is_the_one_in_a_file(void **state)
{
    (void)state;
    struct th_image image = {0}, again = {0};
    uint8_t *bytes = NULL;
    size_t n = 0;
    must(th_image_init(&image, 13, 7));
    for (int i = 0; i < 13 * 7 * 3; i++)
        image.rgb[i] = (uint8_t)(i * 37);
    must(th_image_encode_png(&image, &bytes, &n));
    must(th_image_decode(bytes, n, &again, NULL));
    assert_int_equal(again.w, 13);
    assert_int_equal(again.h, 7);
    assert_memory_equal(again.rgb, image.rgb, 13 * 7 * 3);
    th_free(bytes);
    th_image_release(&image);
    th_image_release(&again);
}

/* Losses by hand: two classes, logits 0 and d, the right one being 0: log(1 + e^d). */
static void the_worst_mistakes_stay_whatever_the_order(void **state)
{
    (void)state;
    struct th_mistakes up = {0}, down = {0};
    for (int i = 0; i < 100; i++) {
        const float rising[2] = {0, (float)(i / 2) + 1};
        const float falling[2] = {0, (float)((99 - i) / 2) + 1};
        const float right[2] = {1, 0};
        th_mistakes_add(&up, rising, 2, 0, i);
        th_mistakes_add(&down, falling, 2, 0, 99 - i);
        th_mistakes_add(&up, right, 2, 0, 1000 + i);
    }
    assert_int_equal(up.n, TH_MOST_MISTAKES);
    assert_memory_equal(&up, &down, sizeof up);
    assert_int_equal(up.worst[0].id, 98); /* of 98 and 99, equal losses */
    assert_int_equal(up.worst[1].id, 99);
    assert_int_equal(up.worst[TH_MOST_MISTAKES - 1].id, 77);
    assert_true(fabs(up.worst[0].loss - log1p(exp(50.0))) < 1e-12);
    assert_int_equal(up.worst[0].predicted, 1);
}

static void a_chart_has_its_lines_gaps_and_marks(void **state)
{
    (void)state;
    struct th_html h = {0};
    const double x[] = {1, 2, 3, 4}, y[] = {4, (double)NAN, 2, 1}, mark[] = {2.5, 9};
    const struct th_series line = {"validation", x, y, 4, 1};
    const struct th_chart chart = {"Loss", "epoch", &line, 1, mark, 2, false, false};
    th_html_chart(&h, &chart);
    assert_int_equal(count_in(h.text, "class=\"line c1\" d=\"M56.0 10.0M"), 1);
    assert_int_equal(
        count_in(h.text, "class=\"mark\""), 1); /* the other lies outside */
    assert_int_equal(
        count_in(h.text, "aria-label=\"Loss, validation from 4 to 1\""), 1);
    assert_null(strstr(h.text, "nan"));
    th_html_release(&h);
    const struct th_series short_line = {"validation", x, y, 1, 1};
    const struct th_chart empty = {
        "Loss", "epoch", &short_line, 1, NULL, 0, false, false};
    th_html_chart(&h, &empty);
    assert_null(h.text);
}

static void a_line_without_a_value_is_not_named(void **state)
{
    double x[] = {1, 2, 3}, y[] = {(double)NAN, 3, 4};
    double none[] = {(double)NAN, (double)NAN, (double)NAN};
    (void)state;
    struct th_html h = {0};
    const struct th_series lines[] = {
        {"training", x, y, 3, 0}, {"validation", x, none, 3, 1}};
    const struct th_chart chart = {"Loss", "epoch", lines, 2, NULL, 0, false, false};
    th_html_chart(&h, &chart);
    assert_non_null(strstr(h.text, "training from 3 to 4\""));
    assert_null(strstr(h.text, "validation"));
    assert_null(strstr(h.text, "nan"));
    th_html_release(&h);
}

static void huge_ranges_get_a_logarithmic_axis(void **state)
{
    (void)state;
    struct th_html h = {0};
    const double x[] = {1, 2, 3}, y[] = {1000, 10, 1};
    const struct th_series line = {"training", x, y, 3, 0};
    const struct th_chart chart = {"Loss", "epoch", &line, 1, NULL, 0, false, false};
    th_html_chart(&h, &chart);
    for (int tick = 1; tick <= 1000; tick *= 10) {
        char label[32];
        snprintf(label, sizeof label, ">%d</text>", tick);
        assert_true(count_in(h.text, label) >= 1);
    }
    th_html_release(&h);
}

/* ---- The document ---- */

#define EVIL "<script>alert(1)</script>"

/* Every element of the document, with its attributes' names, is one of ours. */
static void assert_inert(const char *html)
{
    static const char *const elements[] = {"!DOCTYPE", "html", "head", "meta", "style",
        "title", "body", "main", "h1", "h2", "h3", "bdi", "p", "strong", "figure",
        "svg", "path", "text", "figcaption", "span", "details", "summary", "div",
        "table", "thead", "tr", "th", "td", "code", "caption", "img", "br", "ul", "li"};
    for (const char *at = html; (at = strchr(at, '<')); at++) {
        const char *name = at + 1 + (at[1] == '/');
        size_t n = strcspn(name, " >/");
        bool known = false;
        for (size_t i = 0; i < sizeof elements / sizeof elements[0]; i++)
            known =
                known || (strlen(elements[i]) == n && !strncmp(elements[i], name, n));
        if (!known)
            fail_msg("an element that is not ours: %.40s", at);
        size_t tag = strcspn(at, ">");
        for (const char *on = at; on < at + tag; on++)
            if (!strncmp(on, " on", 3))
                fail_msg("an attribute that is not ours: %.80s", at);
    }
    assert_null(strstr(html, "http://"));
    assert_null(strstr(html, "https://"));
    assert_int_equal(count_in(html, "Content-Security-Policy"), 1);
    assert_int_equal(
        count_in(html, "content=\"default-src 'none'; img-src data:; style-src "
                       "'unsafe-inline'\""),
        1);
    for (const char *at = html; *at; at += th_utf8_length(at))
        assert_true(th_utf8_length(at) > 0);
}

/* Facts about `n` classes with hostile names; confusion [i][k] = i + 2 k. */
static void make_evaluation(int n, char **names, thaw_evaluation *e)
{
    struct th_metrics m;
    must(th_metrics_init(&m, n, false));
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++) {
            m.confusion[i * n + k] = i + 2 * k;
            m.images += i + 2 * k;
            m.top1 += i == k ? 3 * i : 0;
        }
    must(th_scores_take(&m, names, e));
    th_metrics_release(&m);
}

static void render(int n, struct th_html *h)
{
    char *names[64];
    int64_t counts[3 * 64] = {0};
    thaw_evaluation e = {0};
    struct th_run_history history = {.test_top1 = 0.5, .test_loss = 1};
    struct th_report_mistake mistake = {.path = EVIL "\xff.jpg",
        .png = (uint8_t *)(uintptr_t) "png",
        .n_png = 3,
        .w = 1,
        .h = 1};
    for (int i = 0; i < n; i++)
        names[i] = i % 2 ? "\"onload='x\xc3\x28\xe2\x80\xae" : EVIL;
    make_evaluation(n, names, &e);
    const struct th_report_facts facts = {.run = EVIL,
        .backbone = "resnet20",
        .device = "ref",
        .config = "{\"data\":\"" EVIL "\"}",
        .classes = names,
        .n_classes = n,
        .counts = counts,
        .unreadable = EVIL "\t<b>no\n\n\xfe\n",
        .best_epoch = -1,
        .val = &e,
        .mistakes = &mistake,
        .n_mistakes = 1,
        .history = &history,
        .finished = true,
        .frozen_tensors = 12};
    th_report_html(h, &facts);
    must(th_html_status(h));
    thaw_evaluation_release(&e);
}

static void hostile_names_are_inert(void **state)
{
    (void)state;
    struct th_html h = {0};
    render(4, &h);
    assert_inert(h.text);
    assert_true(count_in(h.text, "&#60;script&#62;alert(1)&#60;/script&#62;") > 10);
    assert_int_equal(count_in(h.text, "class=\"matrix\""), 1);
    assert_int_equal(count_in(h.text, "Frozen: 12 tensors, verified unchanged"), 1);
    assert_int_equal(count_in(h.text, "data:image/png;base64,cG5n\""), 1);
    th_html_release(&h);
}

static void many_classes_have_pairs_in_place_of_a_matrix(void **state)
{
    (void)state;
    struct th_html h = {0};
    render(31, &h);
    assert_inert(h.text);
    assert_int_equal(count_in(h.text, "class=\"matrix\""), 0);
    const char *pairs = strstr(h.text, "What is confused most often");
    assert_non_null(pairs);
    /* The largest count off the diagonal is that of 29 taken for 30. */
    const char *first = strstr(pairs, "<td>");
    assert_non_null(strstr(first, "<td>89</td>"));
    assert_null(strstr(first, "<td>90</td>"));
    th_html_release(&h);
}

/* ---- A run ---- */

static void a_run_leaves_a_report_of_itself(void **state)
{
    (void)state;
    thaw_result r;
    must(
        train(make_options("told", "epochs", "3", "thaw", "0:head 2:stage3,head", NULL),
            NULL, &r));
    char *html = read_text("told", "report.html");
    assert_inert(html);
    assert_int_equal(count_in(html, "<figure>"), 4);
    assert_int_equal(count_in(html, "class=\"mark\""), 4);
    assert_int_equal(count_in(html, "<td>1–2</td><td><bdi>head</bdi></td>"), 1);
    assert_int_equal(count_in(html, "<td>3–3</td><td><bdi>stage3,head</bdi></td>"), 1);
    char frozen[80];
    snprintf(frozen, sizeof frozen, "Frozen: %d tensors", r.frozen_tensors);
    assert_int_equal(count_in(html, frozen), 1);
    /* Four validation images: each is right or has its thumbnail. */
    char *log = read_text("told", "metrics.jsonl"), *last = log, *end;
    for (char *at = log; (at = strstr(at, "\"val_top1\":")); at++)
        last = at;
    double top1 = strtod(last + strlen("\"val_top1\":"), &end);
    assert_int_equal(
        count_in(html, "src=\"data:image/png;base64,"), (int)lround(4 * (1 - top1)));
    th_free(html);
    th_free(log);
}

static void a_resumed_run_reports_the_epochs_before_it_too(void **state)
{
    (void)state;
    thaw_result r;
    thaw_options *more = NULL;
    thaw_trainer *t = NULL;
    char run[256];
    must(train(make_options("more", NULL), NULL, &r));
    must(thaw_options_new(&more));
    set(more, "epochs", "+1");
    run_path(run, "more");
    must(thaw_trainer_resume(run, more, NULL, &t));
    thaw_options_free(more);
    must(thaw_trainer_run(t, &r));
    thaw_trainer_free(t);
    char *html = read_text("more", "report.html");
    assert_int_equal(count_in(html, "<td>1–3</td><td><bdi>head</bdi></td>"), 1);
    assert_int_equal(count_in(html, "3 of 3 epochs"), 1);
    th_free(html);
}

static int n_warnings;

static void on_line(void *context, const char *topic, const char *text)
{
    (void)context;
    n_warnings += !strcmp(topic, "warning") && strstr(text, "report.html");
}

static void a_report_that_cannot_be_written_is_a_warning(void **state)
{
    (void)state;
    thaw_result r;
    thaw_trainer *t = NULL;
    char path[256];
    const thaw_events events = {.line = on_line};
    thaw_options *o = make_options("hindered", "epochs", "1", NULL);
    must(thaw_trainer_new(o, &events, &t));
    thaw_options_free(o);
    run_path(path, "hindered/report.html");
    must(th_file_mkdir(path)); /* a folder in its place: it cannot be renamed over */
    must(thaw_trainer_run(t, &r));
    thaw_trainer_free(t);
    assert_int_equal(n_warnings, 1);
    assert_true(has_file("hindered", "best.h5"));
}

static void steps_are_thinned_out_and_broken_lines_passed_over(void **state)
{
    (void)state;
    struct th_run_folder f = {.lock = -1};
    struct th_run_history h;
    char path[256];
    run_path(path, "log");
    must(th_run_folder_create(&f, path));
    FILE *file = fopen(f.metrics, "w");
    for (int i = 1; i <= 10000; i++)
        fprintf(file,
            "{\"event\":\"step\",\"epoch\":%d,\"step\":%d,\"loss\":%d,\"lr\":1}\n",
            i / 100, i, i);
    fprintf(file,
        "{\"event\":\"epoch\",\"epoch\":0,\"val_top1\":null,\"thawed\":\"head\"}\n");
    fprintf(file, "{\"event\":\"epo\n[1]\n{}\n{\"event\":3}\n");
    fclose(file);
    must(th_run_history_read(&f, &h));
    assert_in_range(h.steps.n, 2000, 4096);
    for (int i = 0; i < h.steps.n; i++)
        assert_true(h.steps.loss[i] == h.steps.step[i] &&
                    h.steps.epoch[i] == floor(h.steps.step[i] / 100) + 1);
    assert_true(h.steps.step[0] == 1 && h.steps.step[1] == 5);
    assert_int_equal(h.epochs.n, 1);
    assert_true(isnan(h.epochs.val_top1[0]) && isnan(h.test_top1));
    assert_string_equal(h.epochs.thawed[0], "head");
    th_run_history_release(&h);
    th_run_folder_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_escaped_and_bad_bytes_are_replaced),
        cmocka_unit_test(base64_is_that_of_rfc_4648),
        cmocka_unit_test(a_png_in_memory_is_the_one_in_a_file),
        cmocka_unit_test(the_worst_mistakes_stay_whatever_the_order),
        cmocka_unit_test(a_chart_has_its_lines_gaps_and_marks),
        cmocka_unit_test(a_line_without_a_value_is_not_named),
        cmocka_unit_test(huge_ranges_get_a_logarithmic_axis),
        cmocka_unit_test(hostile_names_are_inert),
        cmocka_unit_test(many_classes_have_pairs_in_place_of_a_matrix),
        cmocka_unit_test(a_run_leaves_a_report_of_itself),
        cmocka_unit_test(a_resumed_run_reports_the_epochs_before_it_too),
        cmocka_unit_test(a_report_that_cannot_be_written_is_a_warning),
        cmocka_unit_test(steps_are_thinned_out_and_broken_lines_passed_over),
    };
    return cmocka_run_group_tests(tests, setup, remove_data);
}
