/* SPDX-License-Identifier: Apache-2.0
 * Names and layouts of others become ours: every file of golden/dialects (made by
 * golden/dialects.py with the models of those who gave the names) has timm's tensors, bit
 * for bit; Keras's numbered layers find their places; halves and damage are refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dialect.h"
#include "error.h"
#include "file.h"
#include "hub.h"
#include "mem.h"

#define GOLDEN THAW_SOURCE_DIR "/tests/golden/dialects/"

static void check_ok(thaw_status status)
{
    if (status != THAW_OK)
        fail_msg("%s", thaw_error());
}

static void open_golden(struct th_weights *w, const char *name)
{
    char path[512];
    th_weights_init(w);
    snprintf(path, sizeof path, GOLDEN "%s", name);
    check_ok(th_weights_read(path, w));
}

static const struct {
    const char *file, *timm, *note;
} files[] = {
    {"hf_vit.safetensors", "timm.safetensors",
        "names of Hugging Face ViT, 12 joined into 4"},
    {"hf_vit5.safetensors", "timm.safetensors", "12 joined into 4"},
    {"tf_model.h5", "timm.safetensors", "names of TensorFlow, 14 transposed"},
    {"torchvision.pth", "timm.safetensors", "names of torchvision's ViT"},
    {"google.npz", "timm.safetensors",
        "names of Google's ViT, 14 transposed, 12 joined"},
    {"hf_deit.safetensors", "timm_deit.safetensors",
        "preprocessing assumed: that of DeiT"},
    {"hf_dinov2.safetensors", "timm_dinov2.safetensors",
        "position of the class token added to it"},
    {"dinov2.pth", "timm_dinov2.safetensors", "1 dropped"},
    {"hf_clip.safetensors", "timm_clip.safetensors", "outside vision_model dropped"},
    {"openclip.pt", "timm_clip.safetensors", "4 outside visual dropped"},
};

enum { N_FILES = sizeof files / sizeof files[0] };

static void check_same(
    const struct th_weights *have, const struct th_weights *want, const char *file)
{
    for (size_t i = 0; i < want->n; i++) {
        const struct th_weight *b = &want->weight[i],
                               *a = th_weights_find(have, b->name);
        if (!a)
            fail_msg("%s: no %s", file, b->name);
        if (!th_shape_equal(&a->tensor.shape, &b->tensor.shape) ||
            memcmp(a->tensor.data, b->tensor.data,
                4 * (size_t)th_shape_count(&b->tensor.shape)) != 0)
            fail_msg("%s: %s differs", file, b->name);
    }
    if (have->n != want->n)
        fail_msg("%s: %zu tensors, not %zu", file, have->n, want->n);
}

static void every_dialect_gives_timms_tensors_bit_for_bit_and_says_so(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_FILES; i++) {
        struct th_weights have, want;
        size_t n = 0;
        open_golden(&want, files[i].timm);
        assert_null(want.notes); /* timm's own stay as they are */
        open_golden(&have, files[i].file);
        check_same(&have, &want, files[i].file);
        if (!have.notes || !strstr(have.notes, files[i].note))
            fail_msg("%s: notes '%s'", files[i].file, have.notes ? have.notes : "");
        assert_non_null(th_weights_floats(&have, "mean", &n));
        assert_int_equal(n, 3);
        assert_non_null(strstr(have.notes, "preprocessing assumed"));
        th_weights_release(&have);
        th_weights_release(&want);
    }
}

/* Cut at every hundredth byte and with that byte turned over, through to the dialects. HDF5,
 * which starts processes, at twelve places unless THAW_TEST_FULL is set. */
static void damage(const char *path, const char *name)
{
    unsigned char *bytes = NULL;
    size_t n = 0;
    check_ok(th_file_read(path, 4 << 20, &bytes, &n));
    size_t step = strstr(name, ".h5") && !getenv("THAW_TEST_FULL") ? n / 12 : 100;
    for (size_t at = 0; at < n; at += step)
        for (int cut = 0; cut < 2; cut++) {
            struct th_weights w;
            unsigned char *copy = malloc(cut && at ? at : n);
            assert_non_null(copy);
            memcpy(copy, bytes, cut ? at : n);
            if (!cut)
                copy[at] ^= 0x41;
            th_weights_init(&w);
            thaw_status status = th_weights_read_image(copy, cut ? at : n, name, &w);
            if (status == THAW_OK)
                status = th_dialect_apply(&w, name);
            assert_true(status == THAW_OK || status == THAW_E_DATA);
            if (cut && !strstr(name, ".h5"))
                assert_int_equal(status, THAW_E_DATA);
            th_weights_release(&w);
            free(copy);
        }
    th_free(bytes);
}

static void a_file_cut_at_every_hundredth_byte_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_FILES; i++) {
        char path[512];
        snprintf(path, sizeof path, GOLDEN "%s", files[i].file);
        damage(path, files[i].file);
    }
}

/* The genuine Keras file, 1.1 MB with its optimizer's state. */
static void the_real_keras_file_cut_anywhere_is_survived(void **state)
{
    (void)state;
    char path[1024];
    const char *assets = getenv("THAW_TEST_ASSETS");
    if (!assets) {
        print_message(
            "skipped: THAW_TEST_ASSETS does not name the folder of real weights\n");
        skip();
    }
    snprintf(
        path, sizeof path, "%s/weights/mlperf-tiny-resnet8-cifar10.keras.h5", assets);
    damage(path, "keras.h5");
}

/* A list without `gone`, which every dialect of joined parts needs. */
static void half_an_attention_is_refused(void **state)
{
    (void)state;
    static const char *const gone[][2] = {
        {"hf_vit.safetensors", "vit.encoder.layer.1.attention.attention.key.bias"},
        {"google.npz",
            "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/value/kernel"}};
    for (int k = 0; k < 2; k++) {
        char path[512];
        unsigned char *bytes = NULL;
        size_t n = 0;
        struct th_weights w, part;
        snprintf(path, sizeof path, GOLDEN "%s", gone[k][0]);
        check_ok(th_file_read(path, 1 << 20, &bytes, &n));
        th_weights_init(&w);
        check_ok(th_weights_read_image(bytes, n, "half", &w));
        th_dialect_begin(&w, &part);
        assert_non_null(th_weights_find(&w, gone[k][1]));
        for (size_t i = 0; i < w.n; i++)
            if (strcmp(w.weight[i].name, gone[k][1])) {
                for (char *c = w.weight[i].name; *c; c++)
                    *c = *c == '/' ? '.' : *c;
                check_ok(th_weights_move(&part, w.weight[i].name, &w.weight[i].tensor));
            }
        assert_int_equal(th_dialect_apply(&part, "half"), THAW_E_DATA);
        assert_non_null(strstr(thaw_error(), "one of query, key and value is missing"));
        th_weights_release(&part);
        th_weights_release(&w);
        th_free(bytes);
    }
}

static void add(struct th_weights *w, const char *name, struct th_shape s, float value)
{
    float *data = NULL;
    check_ok(th_weights_add(w, name, s, NULL, &data));
    for (int64_t i = 0; i < th_shape_count(&s); i++)
        data[i] = value + (float)i;
}

static float first(const struct th_weights *w, const char *name)
{
    const struct th_weight *t = th_weights_find(w, name);
    if (!t)
        fail_msg("no %s", name);
    return *(float *)t->tensor.data;
}

/* conv2d, conv2d_1, ... as .weights.h5 of Keras 3 has them: without names of their own. */
static void keras_layers_without_names_find_their_places(void **state)
{
    (void)state;
    struct th_weights w;
    char name[96];
    th_weights_init(&w);
    w.format = "hdf5";
    for (int i = 52; i >= 0; i--) { /* not in their order */
        char suffix[8] = "";
        if (i)
            snprintf(suffix, sizeof suffix, "_%d", i + 40); /* a second network's */
        const char *suffix_of = i ? suffix : "_40";
        snprintf(name, sizeof name, "layers.conv2d%s.vars.0", suffix_of);
        add(&w, name, i ? TH_SHAPE(1, 1, 1, 1) : TH_SHAPE(1, 1, 3, 1), (float)i);
        snprintf(name, sizeof name, "layers.conv2d%s.vars.1", suffix_of);
        add(&w, name, TH_SHAPE(1), 100.0F + (float)i);
        for (int v = 0; v < 4; v++) {
            snprintf(name, sizeof name, "layers.batch_normalization%s.vars.%d",
                i ? suffix : "", v);
            add(&w, name, TH_SHAPE(1), (float)(1000 * v + i));
        }
    }
    add(&w, "layers.dense.vars.0", TH_SHAPE(2, 3), 0);
    add(&w, "optimizer.vars.0", TH_SHAPE(1), 0);
    check_ok(th_dialect_apply(&w, "x.weights.h5"));
    assert_true(first(&w, "conv1.weight") == 2.0F); /* BGR turned round */
    assert_true(first(&w, "layer1.0.conv1.weight") == 1.0F);
    assert_true(first(&w, "layer1.0.conv2.weight") == 2.0F);
    assert_true(first(&w, "layer1.0.downsample.0.weight") == 3.0F);
    assert_true(first(&w, "layer1.0.conv3.bias") == 104.0F);
    assert_true(first(&w, "layer1.1.conv1.weight") == 5.0F);
    assert_true(first(&w, "layer4.2.conv3.weight") == 52.0F);
    assert_true(first(&w, "layer4.2.bn3.weight") == 52.0F);
    assert_true(first(&w, "layer1.0.downsample.1.bias") == 1003.0F);
    assert_true(first(&w, "bn1.running_mean") == 2000.0F);
    assert_true(first(&w, "layer2.0.bn1.running_var") == 3011.0F);
    const struct th_weight *fc = th_weights_find(&w, "fc.weight");
    assert_int_equal(fc->tensor.shape.dim[0], 3); /* [2][3] -> [3][2] */
    assert_true(((float *)fc->tensor.data)[1] == 3.0F);
    assert_null(th_weights_find(&w, "optimizer.vars.0"));
    th_weights_release(&w);
}

static void what_is_no_network_of_ours_is_refused_in_words(void **state)
{
    (void)state;
    struct th_weights w;
    th_weights_init(&w);
    add(&w, "resnet.block1.unit01.a.standardized_conv2d.kernel", TH_SHAPE(1), 0);
    assert_int_equal(th_dialect_apply(&w, "BiT-M-R50x1.npz"), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "a BiT (ResNetV2 with GroupNorm"));
    th_weights_release(&w);
    th_weights_init(&w);
    w.format = "hdf5";
    add(&w, "conv1_conv.conv1_conv.kernel:0", TH_SHAPE(1, 1, 3, 1), 0);
    add(&w, "post_bn.post_bn.gamma:0", TH_SHAPE(1), 0);
    assert_int_equal(th_dialect_apply(&w, "v2.h5"), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "a ResNetV2 of keras.applications"));
    th_weights_release(&w);
}

static void a_shape_that_a_name_does_not_go_with_is_refused(void **state)
{
    (void)state;
    struct th_weights w;
    th_weights_init(&w);
    add(&w, "embedding.kernel", TH_SHAPE(2, 2, 3), 0);
    assert_int_equal(th_dialect_apply(&w, "x.npz"), THAW_E_DATA);
    assert_non_null(
        strstr(thaw_error(), "x.npz: embedding.kernel has the shape [2,2,3]"));
    th_weights_release(&w);
}

static char hub[64];

static void put_file(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", hub, name);
    check_ok(th_file_write_atomic(path, text, strlen(text), NULL));
}

/* A folder as a hub has it: hf_vit as model.safetensors. */
static void open_hub(void)
{
    char path[128];
    unsigned char *bytes = NULL;
    size_t n = 0;
    snprintf(hub, sizeof hub, "/tmp/thaw-hub-XXXXXX");
    assert_non_null(mkdtemp(hub));
    check_ok(th_file_read(GOLDEN "hf_vit.safetensors", 1 << 20, &bytes, &n));
    snprintf(path, sizeof path, "%s/model.safetensors", hub);
    check_ok(th_file_write_atomic(path, bytes, n, NULL));
    th_free(bytes);
}

static void close_hub(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", hub);
    assert_int_equal(system(command), 0);
}

static thaw_status read_hub(struct th_weights *w)
{
    char *path = NULL;
    check_ok(th_hub_find(hub, &path));
    assert_non_null(path);
    th_weights_init(w);
    thaw_status status = th_weights_read(path, w);
    th_free(path);
    return status;
}

static void what_stands_beside_a_hubs_file_comes_with_it(void **state)
{
    (void)state;
    struct th_weights w;
    size_t n = 0;
    open_hub();
    put_file("preprocessor_config.json",
        "{\"image_mean\":[0.1,0.2,0.3],\"image_std\":[1,2,4],\"rescale_factor\":"
        "0.00392156862745098,\"resample\":3,\"do_center_crop\":true,\"size\":"
        "{\"shortest_edge\":256},\"crop_size\":{\"height\":224,\"width\":224}}");
    put_file("config.json", "{\"id2label\":{\"1\":\"b\",\"0\":\"a\",\"2\":\"c\"}}");
    check_ok(read_hub(&w));
    assert_true(fabs(th_weights_floats(&w, "mean", &n)[1] - 0.2) < 1e-12 && n == 3);
    assert_true(fabs(th_weights_floats(&w, "std", NULL)[2] - 4) < 1e-12);
    assert_true(*th_weights_floats(&w, "crop", NULL) == 0.875);
    assert_int_equal(*th_weights_ints(&w, "input_size", NULL), 224);
    assert_string_equal(th_weights_string(&w, "interpolation"), "bicubic");
    assert_string_equal(th_weights_strings(&w, "classes", &n)[1], "b");
    assert_int_equal(n, 3);
    assert_non_null(strstr(w.notes, "preprocessing of preprocessor_config.json"));
    assert_null(strstr(w.notes, "assumed"));
    th_weights_release(&w);
    /* timm's, and pixels that are not rescaled */
    put_file("preprocessor_config.json",
        "{\"do_rescale\":false,\"image_mean\":[51,0,0],"
        "\"image_std\":[255,255,255],\"size\":32}");
    put_file("config.json", "{\"architecture\":\"vit_tiny\",\"pretrained_cfg\":{"
                            "\"mean\":[9,9,9],\"std\":[9,9,9]}}");
    check_ok(read_hub(&w));
    assert_true(fabs(*th_weights_floats(&w, "mean", NULL) - 0.2) < 1e-12);
    assert_int_equal(*th_weights_ints(&w, "input_size", NULL), 32);
    assert_string_equal(th_weights_string(&w, "architecture"), "vit_tiny");
    th_weights_release(&w);
    put_file("preprocessor_config.json", "{}");
    check_ok(read_hub(&w));
    assert_true(*th_weights_floats(&w, "mean", NULL) == 9);
    th_weights_release(&w);
    close_hub();
}

static void which_gelu_is_read_from_beside_a_hubs_file(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"config.json", "{\"hidden_act\":\"gelu\"}", "gelu"},
        {"config.json",
            "{\"model_type\":\"clip\",\"vision_config\":{\"hidden_act\":\"gelu\"}}",
            "gelu"},
        {"config.json", "{\"model_type\":\"clip\",\"vision_config\":{}}", "quick_gelu"},
        {"config.json", "{\"model_type\":\"clip_vision_model\"}", "quick_gelu"},
        {"config.json", "{\"model_type\":\"vit\"}", NULL},
        {"open_clip_config.json", "{\"model_cfg\":{\"quick_gelu\":true}}",
            "quick_gelu"},
        {"open_clip_config.json", "{\"model_cfg\":{\"quick_gelu\":1}}", NULL}};
    struct th_weights w;
    open_hub();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_file("config.json", "{}");
        put_file(cases[i][0], cases[i][1]);
        check_ok(read_hub(&w));
        const char *found = th_weights_string(&w, "activation");
        assert_true(!found == !cases[i][2]);
        if (found)
            assert_string_equal(found, cases[i][2]);
        th_weights_release(&w);
    }
    close_hub();
}

static void nonsense_beside_a_hubs_file_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"{",
        "{\"image_mean\":[1,2],\"image_std\":[1,1,1]}",
        "{\"image_mean\":[1,2,3],\"image_std\":[1,1,\"x\"]}",
        "{\"image_mean\":[1,2,3],\"image_std\":[1,1,1],\"rescale_factor\":0}",
        "{\"image_mean\":{\"a\":1},\"image_std\":1}"};
    struct th_weights w;
    open_hub();
    for (int i = 0; i < 5; i++) {
        put_file("preprocessor_config.json", texts[i]);
        assert_int_equal(read_hub(&w), THAW_E_DATA);
        assert_non_null(strstr(thaw_error(), "/preprocessor_config.json"));
    }
    put_file("preprocessor_config.json", "[]"); /* says nothing */
    put_file(
        "config.json", "{\"id2label\":{\"0\":\"a\",\"2\":\"c\"},\"pretrained_cfg\":3}");
    check_ok(read_hub(&w));
    assert_null(th_weights_strings(&w, "classes", NULL));
    th_weights_release(&w);
    close_hub();
}

static void patterns_meet_numbers_and_rests_as_written(void **state)
{
    (void)state;
    assert_true(th_dialect_meets("a.#.b.*", "a.12.b.weight"));
    assert_false(th_dialect_meets("a.#.b.*", "a.12.b.c.weight"));
    assert_false(th_dialect_meets("a.#.b.*", "a..b.weight"));
    assert_false(th_dialect_meets("a.#.b.*", "a.1234567.b.weight"));
    assert_false(th_dialect_meets("a.#.b.*", "a.1.b."));
    assert_false(th_dialect_meets("a", "ab"));
    assert_false(th_dialect_meets("ab", "a"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_dialect_gives_timms_tensors_bit_for_bit_and_says_so),
        cmocka_unit_test(a_file_cut_at_every_hundredth_byte_is_refused),
        cmocka_unit_test(the_real_keras_file_cut_anywhere_is_survived),
        cmocka_unit_test(half_an_attention_is_refused),
        cmocka_unit_test(keras_layers_without_names_find_their_places),
        cmocka_unit_test(what_is_no_network_of_ours_is_refused_in_words),
        cmocka_unit_test(a_shape_that_a_name_does_not_go_with_is_refused),
        cmocka_unit_test(what_stands_beside_a_hubs_file_comes_with_it),
        cmocka_unit_test(which_gelu_is_read_from_beside_a_hubs_file),
        cmocka_unit_test(nonsense_beside_a_hubs_file_is_refused),
        cmocka_unit_test(patterns_meet_numbers_and_rests_as_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
