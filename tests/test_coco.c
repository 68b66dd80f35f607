/* SPDX-License-Identifier: Apache-2.0
 * coco: which files are read, what their boxes become, and what is refused. */
#include "scratch.h"

#define IMAGES                                                                         \
    "\"images\":[{\"id\":7,\"file_name\":\"a.jpg\",\"width\":100,\"height\":50},"      \
    "{\"file_name\":\"b.jpg\",\"id\":3,\"license\":1}]"
#define CATEGORIES                                                                     \
    "\"categories\":[{\"id\":5,\"name\":\"dog\",\"supercategory\":\"x\"},"             \
    "{\"id\":2,\"name\":\"c\\u0061t\"},{\"id\":9,\"name\":\"never\"}]"
#define ANNOTATIONS                                                                    \
    "\"annotations\":[{\"id\":1,\"image_id\":7,\"category_id\":2,\"bbox\":[1,2,30,4."  \
    "5],"                                                                              \
    "\"area\":99.5,\"iscrowd\":0,\"segmentation\":[[1,2,3],[4]]},"                     \
    "{\"segmentation\":{\"counts\":[1,2],\"size\":[5,5]},\"bbox\":[90,0,20,10],"       \
    "\"iscrowd\":1,\"category_id\":5,\"image_id\":7,\"id\":2},"                        \
    "{\"id\":4,\"image_id\":7,\"category_id\":5.0,\"bbox\":[1e1,1,1,1],\"area\":null}" \
    "]"

static void put_pictures(const char *folder)
{
    char name[64];
    snprintf(name, sizeof name, "%sa.jpg", folder);
    put(name, "");
    snprintf(name, sizeof name, "%sb.jpg", folder);
    put(name, "");
}

static void check_whole(struct th_dataset *d, enum th_split split)
{
    const struct th_sample *s = d->split[split].sample;
    assert_int_equal(d->split[split].n, 2);
    assert_int_equal(d->n_classes, 2);
    assert_int_equal(s[0].n_objects, 3);
    assert_int_equal(s[1].n_objects, 0);
    expect_object(d, &s[0].objects[0], "cat", (const float[]){1, 2, 31, 6.5f});
    expect_object(d, &s[0].objects[1], "dog", (const float[]){90, 0, 100, 10});
    expect_object(d, &s[0].objects[2], "dog", (const float[]){10, 1, 11, 2});
    assert_float_equal(s[0].objects[0].area, 99.5f, 0);
    assert_float_equal(s[0].objects[1].area, 100, 1e-4f);
    assert_true(s[0].objects[1].crowd && !s[0].objects[0].crowd);
    assert_non_null(strstr(s[0].path, "/a.jpg"));
    expect_warning(d, ": 1 boxes reach over the image's edge");
    th_dataset_close(d);
}

static void its_parts_come_in_any_order(void **state)
{
    static const char *const texts[] = {
        "{\"info\":{\"a\":[1,{\"b\":\"]}\\\"\"}]}," IMAGES "," CATEGORIES
        "," ANNOTATIONS "}",
        "{" ANNOTATIONS " , " CATEGORIES ",\n" IMAGES "}\n",
        " {" IMAGES "," ANNOTATIONS "," CATEGORIES "}"};
    struct th_dataset d;
    (void)state;
    scratch_clear();
    put_pictures("");
    for (int i = 0; i < 3; i++) {
        put("x.json", texts[i]);
        must(open_scratch("coco", "/x.json", &d));
        check_whole(&d, TH_SPLIT_TRAIN);
    }
}

static void images_are_found_beside_the_file(void **state)
{
    static const char *const layouts[][3] = {
        {"/x.json", "x.json", "images/"},
        {"/annotations/instances_train2017.json",
            "annotations/instances_train2017.json", "train2017/"},
        {"/annotations/instances_train2017.json",
            "annotations/instances_train2017.json", "images/train2017/"},
        {"/annotations/x.json", "annotations/x.json", "images/"},
        {"", "annotations/instances_train2017.json", "train2017/"},
        {"", "train/_annotations.coco.json", "train/"},
    };
    struct th_dataset d;
    (void)state;
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        scratch_clear();
        put(layouts[i][1], "{" IMAGES "," CATEGORIES "," ANNOTATIONS "}");
        put_pictures(layouts[i][2]);
        must(open_scratch("coco", layouts[i][0], &d));
        check_whole(&d, TH_SPLIT_TRAIN);
    }
}

static void a_folder_has_splits(void **state)
{
    struct th_dataset d;
    (void)state;
    for (int roboflow = 0; roboflow < 2; roboflow++) {
        scratch_clear();
        for (int i = 0; i < 2; i++) {
            const char *const names[2][2] = {
                {"annotations/instances_train.json", "annotations/instances_val.json"},
                {"train/_annotations.coco.json", "valid/_annotations.coco.json"}};
            put(names[roboflow][i], "{" IMAGES "," CATEGORIES "," ANNOTATIONS "}");
            put_pictures(i ? roboflow ? "valid/" : "val/" : "train/");
        }
        must(open_scratch("coco", "", &d));
        assert_int_equal(d.split[TH_SPLIT_TRAIN].n, 2);
        assert_int_equal(d.split[TH_SPLIT_VAL].n, 2);
        assert_int_equal(d.split[TH_SPLIT_VAL].sample[0].n_objects, 3);
        th_dataset_close(&d);
    }
    put("train/_annotations.coco.2.json", "{}");
    expect_refusal("coco", "", "has both", "name one");
    scratch_clear();
    expect_refusal("coco", "", "neither annotations/instances_train*.json", "");
}

static void boxes_without_an_inside_are_named_by_annotation(void **state)
{
    struct th_dataset d;
    (void)state;
    scratch_clear();
    put_pictures("");
    put("x.json",
        "{" IMAGES "," CATEGORIES ",\"annotations\":["
        "{\"id\":11,\"image_id\":7,\"category_id\":2,\"bbox\":[1,2,0,4]},"
        "{\"id\":12,\"image_id\":7,\"category_id\":2,\"bbox\":[1,NaN,3,4]},"
        "{\"id\":13,\"image_id\":7,\"category_id\":2,\"bbox\":[1,2,3,-Infinity]},"
        "{\"id\":14,\"image_id\":7,\"category_id\":2,\"bbox\":[200,2,3,4]},"
        "{\"id\":15,\"image_id\":7,\"category_id\":2,\"bbox\":[2,2,3,4]}]}");
    must(open_scratch("coco", "/x.json", &d));
    assert_int_equal(d.split[TH_SPLIT_TRAIN].sample[0].n_objects, 1);
    expect_warning(&d, "x.json, annotation 11: box 1 2 1 6 is empty");
    expect_warning(&d, "annotation 12: box 1 nan 4 nan is no number");
    expect_warning(&d, "annotation 13: ");
    expect_warning(&d, "annotation 14: box 200 2 203 6 is outside the image");
    th_dataset_close(&d);
}

#define WITH(annotation) "{" IMAGES "," CATEGORIES ",\"annotations\":[" annotation "]}"
#define TEN "[[[[[[[[[["

static void bad_files_are_refused_by_place(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "byte 0: an object is wanted here"},
        {"[]", "byte 0: an object is wanted here"},
        {"{}", "not COCO's instances"},
        {"{" IMAGES "," CATEGORIES "}", "not COCO's instances"},
        {"{\"images\":{}}", "byte 10: a list is wanted here"},
        {"{\"images\":[{\"id\":\"7\"}]}", "byte 17: a number is wanted here"},
        {"{\"images\":[{\"id\":7.5}]}", "a whole number below 2^53"},
        {"{\"images\":[{\"id\":1e300}]}", "a whole number below 2^53"},
        {"{\"images\":[{\"id\":7}]}", "no id, or no file_name"},
        {"{\"images\":[{\"id\":7,\"file_name\":3}]}", "a text is wanted here"},
        {"{\"images\":[{\"id\":7,\"file_name\":\"../../etc/passwd\"}]}",
            "an image may not be called \"../../etc/passwd\""},
        {"{\"images\":[{\"id\":7,\"file_name\":\"/etc/passwd\"}]}",
            "may not be called"},
        {"{\"images\":[{\"id\":7,\"file_name\":\"c.jpg\"}]}",
            "there is no image c.jpg"},
        {"{\"images\":[{\"id\":7,\"file_name\":\"a.jpg\"},"
         "{\"id\":8,\"file_name\":\"c.jpg\"}]}",
            "x.json: there is no image"},
        {"{\"images\":[{\"id\":7,\"file_name\":\"a.jpg\"},"
         "{\"id\":7,\"file_name\":\"b.jpg\"}]}",
            "two images above have one id"},
        {"{\"categories\":[{\"id\":7}]}", "no id, or no name"},
        {"{\"categories\":[{\"id\":7,\"name\":\"a\"},{\"id\":7,\"name\":\"b\"}]}",
            "two categories above have one id"},
        {WITH("{\"id\":1,\"image_id\":7,\"category_id\":2}"), "has no bbox"},
        {WITH("{\"id\":1,\"image_id\":7,\"bbox\":[1,2,3,4]}"), "or no category_id"},
        {WITH("{\"bbox\":[1,2,3]}"), "fewer than four"},
        {WITH("{\"bbox\":[1,2,3,4,5]}"), "more than four"},
        {WITH("{\"bbox\":[1,2,\"3\",4]}"), "a number is wanted here"},
        {WITH("{\"bbox\":null}"), "a list is wanted here"},
        {WITH("{\"id\":1,\"image_id\":8,\"category_id\":2,\"bbox\":[1,2,3,4]}"),
            "annotation 1: no image has the id 8"},
        {WITH("{\"id\":1,\"image_id\":7,\"category_id\":3,\"bbox\":[1,2,3,4]}"),
            "annotation 1: no category has the id 3"},
        {"{\"info\":[1,2}}", "a bracket that nothing opened"},
        {"{\"info\" 1}", "no colon"},
        {"{\"info\":1 \"images\":2}", "no comma"},
        {"{\"info\":nothing}", "a number is wanted here"},
        {"{\"in\tfo\":1}", "a bare control character"},
        {"{\"in\xff\":1}", "bad UTF-8"},
        {"{\"in\\q\":1}", "a bad escape"},
        {"{" IMAGES "," CATEGORIES "," ANNOTATIONS "} x", "something behind"},
        {"{\"info\":" TEN TEN TEN TEN TEN TEN TEN, "more than 64 levels"},
    };
    (void)state;
    scratch_clear();
    put_pictures("");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put("x.json", cases[i].text);
        expect_refusal("coco", "/x.json", cases[i].says, "x.json");
    }
    put("x.json",
        "{\"info\":" TEN "]]]]]]]]]]," IMAGES "," CATEGORIES "," ANNOTATIONS "}");
    struct th_dataset d;
    must(open_scratch("coco", "/x.json", &d)); /* ten levels are not many */
    check_whole(&d, TH_SPLIT_TRAIN);
}

static void every_cut_of_a_file_is_refused(void **state)
{
    static const char *const texts[] = {"{\"info\":\"\\\"\\u00e4\"," IMAGES
                                        "," CATEGORIES "," ANNOTATIONS "}",
        "{" ANNOTATIONS "," CATEGORIES "," IMAGES "}"};
    (void)state;
    scratch_clear();
    put_pictures("");
    for (int i = 0; i < 2; i++)
        for (size_t cut = 0; cut < strlen(texts[i]); cut++) {
            put_bytes("x.json", texts[i], cut);
            expect_refusal("coco", "/x.json", "x.json", "");
        }
}

/* A file of several buffers, in which strings and numbers lie across their ends. */
static void a_long_file_is_read_as_a_short_one(void **state)
{
    enum { N = 6000 };
    struct th_dataset d;
    size_t n = 0, size = (size_t)N * 500;
    char *text = malloc(size);
    (void)state;
    assert_non_null(text);
    scratch_clear();
    put_pictures("");
    n += (size_t)sprintf(text, "{%s,%s,\"annotations\":[", IMAGES, CATEGORIES);
    for (int i = 0; i < N; i++) {
        n += (size_t)sprintf(text + n, "%s{\"segmentation\":[[", i ? ", " : "");
        for (int k = 0; k < i % 40; k++)
            n += (size_t)sprintf(text + n, "%s%d.25", k ? "," : "", i + k);
        n += (size_t)sprintf(text + n,
            "]],\"note\":\"%.*s\\\\\\\"\",\"image_id\":%d,\"category_id\":2,\"bbox\":[%"
            "d.5,1,"
            "1,1],\"id\":%d}",
            i % 50, "\xc3\xa4\xc3\xa4 long text that nobody will ever read, or may",
            i % 2 ? 3 : 7, i % 90, i);
        assert_true(n + 500 < size);
    }
    n += (size_t)sprintf(text + n, "]}");
    /* No half of a letter may stand before a quote: the text was cut at any byte. */
    for (size_t i = 0; i + 1 < n; i++)
        if (text[i] == '\xc3' && text[i + 1] != '\xa4')
            text[i] = '.';
    put_bytes("x.json", text, n);
    must(open_scratch("coco", "/x.json", &d));
    const struct th_sample *s = d.split[TH_SPLIT_TRAIN].sample;
    assert_int_equal(s[0].n_objects, N / 2);
    assert_int_equal(s[1].n_objects, N / 2);
    for (int i = 0; i < N / 2; i++) {
        assert_float_equal(s[0].objects[i].box[0], (float)(2 * i % 90) + 0.5f, 0);
        assert_float_equal(s[1].objects[i].box[0], (float)((2 * i + 1) % 90) + 0.5f, 0);
    }
    th_dataset_close(&d);
    for (int i = 1; i < 100; i++) {
        put_bytes("x.json", text, n * (size_t)i / 100);
        expect_refusal("coco", "/x.json", "x.json", "");
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_parts_come_in_any_order),
        cmocka_unit_test(images_are_found_beside_the_file),
        cmocka_unit_test(a_folder_has_splits),
        cmocka_unit_test(boxes_without_an_inside_are_named_by_annotation),
        cmocka_unit_test(bad_files_are_refused_by_place),
        cmocka_unit_test(every_cut_of_a_file_is_refused),
        cmocka_unit_test(a_long_file_is_read_as_a_short_one),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
