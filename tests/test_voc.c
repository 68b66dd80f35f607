/* SPDX-License-Identifier: Apache-2.0
 * voc: which files are read, what their boxes become, and what is refused. BCCD, which is
 * no part of the tree, is read where THAW_TEST_ASSETS names the folder that has it. */
#include "scratch.h"

#define OBJECT(name, x0, y0, x1, y1)                                                   \
    "<object>\n<name>" name "</name><bndbox><xmin>" #x0 "</xmin><ymin>" #y0            \
    "</ymin><xmax>" #x1 "</xmax><ymax>" #y1 "</ymax></bndbox></object>\n"
#define SIZE "<size><width>100</width><height>50</height></size>\n"
#define ANNOTATION(file, inside)                                                       \
    "<annotation>\n<filename>" file "</filename>" SIZE inside "</annotation>\n"

static void the_folders_of_the_challenge_are_read_by_their_lists(void **state)
{
    (void)state;
    struct th_dataset d;
    scratch_clear();
    put("Annotations/a.xml", ANNOTATION("a.jpg", OBJECT("dog", 1, 2, 30, 40)));
    put("Annotations/b.xml", ANNOTATION("b.jpg", OBJECT("cat", 1.5, 2, 3e1, 40)));
    put("Annotations/c.xml", ANNOTATION("c.jpg", ""));
    put("Annotations/d.xml", ANNOTATION("d.jpg", OBJECT("emu", 1, 2, 30, 40)));
    put("SegmentationClass/a.png", "");
    for (int i = 0; i < 4; i++)
        put((const char *[]){"JPEGImages/a.jpg", "JPEGImages/b.jpg", "JPEGImages/c.jpg",
                "JPEGImages/d.jpg"}[i],
            "");
    put("ImageSets/Main/train.txt", "b\na \r\n");
    put("ImageSets/Main/trainval.txt", "a\nb\nc");
    put("ImageSets/Main/val.txt", "\nc 1");
    must(open_scratch("voc", "", &d));
    assert_int_equal(d.split[TH_SPLIT_TRAIN].n, 2);
    assert_int_equal(d.split[TH_SPLIT_VAL].n, 1);
    assert_int_equal(d.split[TH_SPLIT_TEST].n, 0);
    assert_int_equal(d.n_classes, 2);
    assert_true(d.has_objects && d.many && d.warnings.n == 0);
    const struct th_sample *s = d.split[TH_SPLIT_TRAIN].sample;
    expect_object(&d, s[0].objects, "cat", (const float[]){1.5f, 2, 30, 40});
    expect_object(&d, s[1].objects, "dog", (const float[]){1, 2, 30, 40});
    assert_float_equal(s[1].objects[0].area, 29 * 38, 1e-3f);
    assert_string_equal(strrchr(s[1].path, '/'), "/a.jpg");
    s = d.split[TH_SPLIT_VAL].sample;
    assert_true(s->n_objects == 0 && s->label == -1);
    th_dataset_close(&d);
}

static void two_folders_one_or_three_parts_do_as_well(void **state)
{
    static const char *const layouts[][4] = {
        {"annotations/x.xml", "images/x.png", "annotations/y.xml", "images/y.JPG"},
        {"annotations/xmls/s/x.xml", "images/xmls/s/x.png", "annotations/xmls/s/y.xml",
            "images/xmls/s/y.jpg"},
        {"x.xml", "x.jpg", "y.xml", "y.jpg"},
        {"both/x.xml", "both/x.jpg", "both/y.xml", "both/y.jpg"},
        {"x.xml", "pictures/x.jpg", "y.xml", "pictures/y.jpg"},
        {"labels/x.xml", "x.jpg", "labels/y.xml", "y.jpg"},
        {"train/x.xml", "train/x.jpg", "valid/y.xml", "valid/y.jpg"},
        {"train/Annotations/x.xml", "train/JPEGImages/x.jpg", "val/Annotations/y.xml",
            "val/JPEGImages/y.jpg"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        struct th_dataset d;
        scratch_clear();
        put(layouts[i][0], "<annotation>" OBJECT("a", 1, 1, 2, 2)
                               OBJECT("b", 1, 1, 2, 2) "</annotation>");
        put(layouts[i][1], "");
        put(layouts[i][2], ANNOTATION("renamed.jpg", OBJECT("b", 3, 3, 4, 4)));
        put(layouts[i][3], "");
        must(open_scratch("voc", "", &d));
        const struct th_samples *last =
            &d.split[d.split[TH_SPLIT_VAL].n ? TH_SPLIT_VAL : TH_SPLIT_TRAIN];
        assert_int_equal(d.split[TH_SPLIT_TRAIN].n + d.split[TH_SPLIT_VAL].n, 2);
        assert_int_equal(d.split[TH_SPLIT_VAL].n, i >= 6);
        assert_int_equal(d.split[TH_SPLIT_TRAIN].sample[0].n_objects, 2);
        assert_int_equal(last->sample[last->n - 1].n_objects, 1);
        th_dataset_close(&d);
    }
}

static void only_what_stands_in_its_place_counts(void **state)
{
    (void)state;
    struct th_dataset d;
    scratch_clear();
    put("x.jpg", "");
    put("x.xml",
        "<?xml version=\"1.0\"?><annotation><name>no</name><filename> x.jpg </filename>"
        "<object><part><name>head</name><bndbox><xmin>7</xmin></bndbox></part>"
        "<name> a &amp; b </name><difficult>1</difficult><truncated>1</truncated>"
        "<bndbox><ymax>4</ymax><xmax>3</xmax><ymin>2</ymin><xmin>1</xmin></bndbox>"
        "</object></annotation>");
    must(open_scratch("voc", "", &d));
    const struct th_sample *s = d.split[TH_SPLIT_TRAIN].sample;
    assert_int_equal(s->n_objects, 1);
    expect_object(&d, s->objects, "a & b", (const float[]){1, 2, 3, 4});
    assert_true(s->objects->crowd);
    th_dataset_close(&d);
}

static void boxes_without_an_inside_are_left_out_by_file_and_line(void **state)
{
    (void)state;
    struct th_dataset d;
    scratch_clear();
    put("x.jpg", "");
    put("x.xml", ANNOTATION("x.jpg",
                     OBJECT("a", 5, 1, 5, 9) OBJECT("a", 9, 1, 5, 9)
                         OBJECT("a", nan, 1, 5, 9) OBJECT("a", 1, 1, inf, 9) OBJECT(
                             "a", 100, 1, 120, 9) OBJECT("a", -9, -9, 0, 10)
                             OBJECT("a", -5, 10, 200, 49) OBJECT("a", 0, 0, 100, 50)));
    must(open_scratch("voc", "", &d));
    const struct th_sample *s = d.split[TH_SPLIT_TRAIN].sample;
    assert_int_equal(s->n_objects, 2);
    expect_object(&d, &s->objects[0], "a", (const float[]){0, 10, 100, 49});
    expect_object(&d, &s->objects[1], "a", (const float[]){0, 0, 100, 50});
    expect_warning(&d, "x.xml, line 3: box 5 1 5 9 is empty");
    expect_warning(&d, "x.xml, line 5: box 9 1 5 9 is empty");
    expect_warning(&d, "x.xml, line 7: box nan 1 5 9 is no number");
    expect_warning(&d, "x.xml, line 9: box 1 1 inf 9 is no number");
    expect_warning(&d, "x.xml, line 11: box 100 1 120 9 is outside the image");
    expect_warning(&d, ": 6 boxes in all are left out");
    expect_warning(&d, ": 1 boxes reach over the image's edge");
    assert_int_equal(d.warnings.n, 7);
    th_dataset_close(&d);
}

static void bad_annotations_are_refused_by_file_and_line(void **state)
{
    static const char laughs[] =
        "<!DOCTYPE l [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">\n"
        "<!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;\">]>\n<annotation>&c;</annotation>";
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "line 1: not XML: no element found"},
        {"<html/>", "line 1: not a VOC annotation: the root is not <annotation>"},
        {"<annotation>\n<object>", "line 2: not XML: no element found"},
        {"<annotation>\n<a></b></annotation>", "line 2: not XML: mismatched tag"},
        {laughs, "line 1: a DOCTYPE"},
        {"<annotation>\n<object>\n</object></annotation>", "line 3: the object"},
        {"<annotation>\n<object><name>a</name><bndbox><xmin>1</xmin></bndbox></object>",
            "line 2: the object that ends here has no whole bndbox: a"},
        {"<annotation>" OBJECT("a", four, 1, 2, 3) "</annotation>",
            "line 2: not a number: four"},
        {"<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a>", "line 1: not a VOC"},
        {"<annotation><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a>",
            "more than 16 levels"},
        {ANNOTATION("../../etc/passwd", ""), "may not be called \"../../etc/passwd\""},
        {ANNOTATION("/etc/passwd", ""), "line 2: an image may not be called"},
        {ANNOTATION("y.jpg", ""), "line 2: there is no image \"y.jpg\""},
        {"<annotation/>", "line 1: there is no image \"x.*\""},
    };
    (void)state;
    scratch_clear();
    put("other.jpg", "");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put("x.xml", cases[i].text);
        expect_refusal("voc", "", "x.xml", cases[i].says);
    }
}

static void an_image_that_is_a_link_out_is_refused_one_within_is_not(void **state)
{
    (void)state;
    struct th_dataset d;
    char link[96];
    scratch_clear();
    snprintf(link, sizeof link, "%s/x.jpg", scratch);
    put("x.xml", ANNOTATION("x.jpg", OBJECT("a", 1, 2, 3, 4)));
    put("real.jpg", "");
    assert_int_equal(symlink("real.jpg", link), 0);
    must(open_scratch("voc", "", &d));
    th_dataset_close(&d);
    assert_int_equal(unlink(link), 0);
    assert_int_equal(symlink("/etc/passwd", link), 0);
    expect_refusal("voc", "", "x.jpg is a link that leads out", "line 2");
}

static void a_list_cannot_lead_out_and_names_what_is_missing(void **state)
{
    (void)state;
    scratch_clear();
    put("Annotations/x.xml", ANNOTATION("x.jpg", ""));
    put("JPEGImages/x.jpg", "");
    put("ImageSets/Main/train.txt", "x\ny\n");
    expect_refusal("voc", "", "train.txt, line 2", "Annotations/y.xml");
    put("ImageSets/Main/train.txt", "../../x\n");
    expect_refusal("voc", "", "train.txt, line 1", "leads out");
}

static void every_cut_of_a_file_is_refused(void **state)
{
    static const char whole[] = ANNOTATION("x.jpg",
        OBJECT("a", 1, 2, 3, 4) OBJECT("b", 1, 2, 3, 4) OBJECT("c", 5, 6, 7, 8));
    size_t n = strlen(whole) - 1; /* its last byte is a newline behind the root */
    (void)state;
    scratch_clear();
    put("x.jpg", "");
    for (size_t cut = 0; cut < n; cut++) {
        put_bytes("x.xml", whole, cut);
        expect_refusal("voc", "", "x.xml, line ", "");
    }
}

static void a_classifier_is_told_which_head_to_take(void **state)
{
    (void)state;
    struct th_dataset d;
    char data[96];
    snprintf(data, sizeof data, "voc:%s", scratch);
    assert_int_equal(
        th_dataset_open(data, &(struct th_dataset_options){0}, &d), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "--head fcos"));
}

static void an_empty_folder_says_what_is_wanted(void **state)
{
    (void)state;
    scratch_clear();
    expect_refusal("voc", "", "no XML files", "JPEGImages");
    put("x.xml", ANNOTATION("x.jpg", ""));
    expect_refusal("voc", "", "no images in it", scratch);
}

static void bccd_is_read_whole(void **state)
{
    (void)state;
    struct th_dataset d;
    char command[512];
    const char *assets = getenv("THAW_TEST_ASSETS");
    scratch_clear();
    snprintf(command, sizeof command, "tar xzf %s/data/bccd-voc-364.tar.gz -C %s",
        assets ? assets : "", scratch);
    if (!assets || system(command)) {
        print_message("skipped: THAW_TEST_ASSETS does not name the folder with BCCD\n");
        skip();
    }
    must(open_scratch("voc", "/bccd/BCCD", &d));
    static const int64_t images[] = {205, 87, 72};
    int64_t boxes[3] = {0};
    for (int split = 0; split < TH_N_SPLITS; split++) {
        assert_int_equal(d.split[split].n, images[split]);
        for (int64_t i = 0; i < images[split]; i++)
            for (int32_t k = 0; k < d.split[split].sample[i].n_objects; k++)
                boxes[d.split[split].sample[i].objects[k].class]++;
    }
    assert_int_equal(d.n_classes, 3); /* Platelets, RBC, WBC */
    assert_int_equal(boxes[0], 361);
    assert_int_equal(boxes[1], 4155 - 2); /* two are empty */
    assert_int_equal(boxes[2], 372);
    expect_warning(&d, "BloodImage_00338.xml");
    expect_warning(&d, "BloodImage_00343.xml");
    th_dataset_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_folders_of_the_challenge_are_read_by_their_lists),
        cmocka_unit_test(two_folders_one_or_three_parts_do_as_well),
        cmocka_unit_test(only_what_stands_in_its_place_counts),
        cmocka_unit_test(boxes_without_an_inside_are_left_out_by_file_and_line),
        cmocka_unit_test(bad_annotations_are_refused_by_file_and_line),
        cmocka_unit_test(an_image_that_is_a_link_out_is_refused_one_within_is_not),
        cmocka_unit_test(a_list_cannot_lead_out_and_names_what_is_missing),
        cmocka_unit_test(every_cut_of_a_file_is_refused),
        cmocka_unit_test(a_classifier_is_told_which_head_to_take),
        cmocka_unit_test(an_empty_folder_says_what_is_wanted),
        cmocka_unit_test(bccd_is_read_whole),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
