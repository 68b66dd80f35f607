/* SPDX-License-Identifier: Apache-2.0
 * ONNX files without an ONNX library: a small reader of protocol buffers checks that what
 * was written is one graph (every operand defined before it is read, every result made
 * once, constants as large as their shapes), which operators it has, and what is folded.
 * onnxruntime and OpenCV are asked in tests/peers/onnx_check.py. */
#include "net.h"
#include "network.h"

#include "file.h"
#include "onnx.h"
#include "onnx_graph.h"

#include <unistd.h>

enum { MAX_NAMES = 2000 };

/* ---- Reading ---- */

struct span {
    const unsigned char *at, *end;
};

struct field {
    int number, wire;
    uint64_t value;      /* wire 0 */
    struct span content; /* wires 2, 5 */
};

static uint64_t read_varint(struct span *s)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
        assert_true(s->at < s->end);
        unsigned char byte = *s->at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
    fail_msg("a varint of more than ten bytes");
    return 0;
}

static bool next(struct span *s, struct field *f)
{
    if (s->at == s->end)
        return false;
    uint64_t tag = read_varint(s), n = 4;
    *f = (struct field){.number = (int)(tag >> 3), .wire = (int)(tag & 7)};
    assert_true(f->wire == 0 || f->wire == 2 || f->wire == 5);
    if (f->wire == 0) {
        f->value = read_varint(s);
        return true;
    }
    if (f->wire == 2)
        n = read_varint(s);
    assert_true(n <= (uint64_t)(s->end - s->at));
    f->content = (struct span){s->at, s->at + n};
    s->at += n;
    return true;
}

static bool find(struct span s, int number, struct field *f)
{
    while (next(&s, f))
        if (f->number == number)
            return true;
    return false;
}

static bool is_text(struct span s, const char *text)
{
    size_t n = (size_t)(s.end - s.at);
    return n == strlen(text) && memcmp(s.at, text, n) == 0;
}

/* ---- What has to hold of every file ---- */

struct file {
    unsigned char *bytes;
    struct span model, graph;
    struct span defined[MAX_NAMES];
    int n_defined, n_nodes, n_outputs;
};

static bool is_defined(const struct file *f, struct span name)
{
    size_t n = (size_t)(name.end - name.at);
    for (int i = 0; i < f->n_defined; i++)
        if ((size_t)(f->defined[i].end - f->defined[i].at) == n &&
            memcmp(f->defined[i].at, name.at, n) == 0)
            return true;
    return false;
}

static void define(struct file *f, struct span name)
{
    assert_true(name.at < name.end);
    assert_false(is_defined(f, name));
    assert_true(f->n_defined < MAX_NAMES);
    f->defined[f->n_defined++] = name;
}

static void check_constant(struct file *f, struct span tensor)
{
    struct field x, type, raw, name;
    uint64_t count = 1;
    assert_true(find(tensor, 8, &name) && find(tensor, 9, &raw));
    assert_true(find(tensor, 2, &type));
    assert_true(type.value == TH_ONNX_F32 || type.value == TH_ONNX_I64);
    while (next(&tensor, &x))
        count *= x.number == 1 ? x.value : 1;
    assert_int_equal(
        raw.content.end - raw.content.at, count * (type.value == TH_ONNX_F32 ? 4 : 8));
    define(f, name.content);
}

static void check_node(struct file *f, struct span node)
{
    struct field x;
    int outputs = 0;
    while (next(&node, &x)) {
        bool absent = x.content.at == x.content.end; /* an input that is left out */
        if (x.number == 1 && !absent && !is_defined(f, x.content))
            fail_msg("%.*s is read before it exists",
                (int)(x.content.end - x.content.at), (const char *)x.content.at);
        if (x.number == 2) {
            define(f, x.content);
            outputs++;
        }
    }
    assert_in_range(outputs, 1, 2);
    f->n_nodes++;
}

static void read_file(struct file *f, const char *path)
{
    size_t n = 0;
    struct field x, name;
    *f = (struct file){0};
    must(th_file_read(path, 1 << 30, &f->bytes, &n));
    f->model = (struct span){f->bytes, f->bytes + n};
    assert_true(find(f->model, 1, &x) && x.value == 8);
    assert_true(find(f->model, 8, &x) && find(x.content, 2, &x) && x.value == 17);
    assert_true(find(f->model, 7, &x));
    f->graph = x.content;
    for (struct span s = f->graph; next(&s, &x);)
        if (x.number == 11 && find(x.content, 1, &name))
            define(f, name.content);
    for (struct span s = f->graph; next(&s, &x);) {
        if (x.number == 5)
            check_constant(f, x.content);
        if (x.number == 1)
            check_node(f, x.content);
    }
    for (struct span s = f->graph; next(&s, &x);)
        if (x.number == 12) {
            assert_true(find(x.content, 1, &name) && is_defined(f, name.content));
            f->n_outputs++;
        }
}

static int count_nodes(const struct file *f, const char *op)
{
    struct field x, type;
    int n = 0;
    for (struct span s = f->graph; next(&s, &x);)
        n += x.number == 1 && find(x.content, 4, &type) && is_text(type.content, op);
    return n;
}

/* The constant called `name`: its values. */
static const float *constant(const struct file *f, const char *name, float *copy, int n)
{
    struct field x, y;
    for (struct span s = f->graph; next(&s, &x);)
        if (x.number == 5 && find(x.content, 8, &y) && is_text(y.content, name)) {
            assert_true(find(x.content, 9, &y));
            assert_true(y.content.end - y.content.at >= n * (int)sizeof *copy);
            memcpy(copy, y.content.at, (size_t)n * sizeof *copy);
            return copy;
        }
    fail_msg("no constant %s", name);
    return NULL;
}

static bool has_metadata(const struct file *f, const char *key, const char *value)
{
    struct field x, k, v;
    for (struct span s = f->model; next(&s, &x);)
        if (x.number == 14 && find(x.content, 1, &k) && is_text(k.content, key))
            return find(x.content, 2, &v) && is_text(v.content, value);
    return false;
}

/* Extents of the graph's input (field 11) or output (12), as text. */
static void ends_as(const struct file *f, int field, uint64_t type, const char *want)
{
    struct field x, y;
    char text[128] = "";
    assert_true(find(f->graph, field, &x) && find(x.content, 2, &x));
    assert_true(find(x.content, 1, &x) && find(x.content, 1, &y));
    assert_int_equal(y.value, type);
    assert_true(find(x.content, 2, &x));
    for (struct span s = x.content; next(&s, &x);) {
        size_t n = strlen(text);
        bool known = find(x.content, 1, &y);
        snprintf(
            text + n, sizeof text - n, "%s%d", n ? "," : "", known ? (int)y.value : -1);
    }
    assert_string_equal(text, want);
}

/* ---- Files ---- */

static char path[] = "/tmp/thaw-onnx-XXXXXX";

static void write_file(struct net *n, const char *variant, int size, int classes,
    struct th_onnx_spec spec, struct file *f)
{
    net_open(n, "ref", variant, size, classes, 7);
    must(th_onnx_write(path, &n->model, &n->store, &spec));
    read_file(f, path);
}

static void release(struct net *n, struct file *f)
{
    th_free(f->bytes);
    net_close(n);
}

static void a_small_resnet_is_folded(void **state)
{
    struct net n;
    struct file f;
    (void)state;
    write_file(&n, "resnet20", 37, 7, (struct th_onnx_spec){.batch = 1}, &f);
    ends_as(&f, 11, TH_ONNX_F32, "1,3,37,37");
    ends_as(&f, 12, TH_ONNX_F32, "1,7");
    assert_int_equal(count_nodes(&f, "Conv"), 19);
    assert_int_equal(count_nodes(&f, "BatchNormalization"), 0);
    assert_int_equal(count_nodes(&f, "Relu"), 19);
    assert_int_equal(count_nodes(&f, "Add"), 9);
    assert_int_equal(count_nodes(&f, "Slice"), 2); /* two stages have shortcuts A */
    assert_int_equal(count_nodes(&f, "Pad"), 2);
    assert_int_equal(count_nodes(&f, "Gemm"), 1);
    assert_true(
        has_metadata(&f, "classes", "[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\"]"));
    assert_true(has_metadata(&f, "input_size", "37"));
    assert_true(has_metadata(&f, "backbone", "resnet20"));
    assert_true(has_metadata(&f, "preprocessing", "outside"));
    release(&n, &f);
}

static float *state_of(struct net *n, const char *name)
{
    int id = th_store_find(&n->store, name);
    assert_true(id >= 0);
    float *v = th_alloc(n->store.states[id].bytes, 1);
    assert_non_null(v);
    must(th_store_get(&n->store, id, v));
    return v;
}

/* w gamma / sqrt(var + eps) of the first convolution, channel by channel. */
static void a_folded_weight_is_the_formula(void **state)
{
    enum { CHANNELS = 16, FILTER = 27 };
    struct net n;
    struct file f;
    float folded[CHANNELS * FILTER];
    (void)state;
    write_file(&n, "resnet20", 16, 3, (struct th_onnx_spec){.batch = 1}, &f);
    const struct th_bn *bn = &n.model.bns[0];
    float *w = state_of(&n, n.model.params[bn->conv].name),
          *gamma = state_of(&n, n.model.params[bn->gamma].name),
          *var = state_of(&n, n.model.params[bn->var].name);
    constant(&f, n.model.params[bn->conv].name, folded, CHANNELS * FILTER);
    for (int i = 0; i < CHANNELS * FILTER; i++) {
        int o = i / FILTER;
        double want = (double)w[i] * (double)gamma[o] / sqrt((double)var[o] + 1e-5);
        if (fabs((double)folded[i] - want) > 1e-6 * (fabs(want) + 1e-3))
            fail_msg("weight %d is %g, not %g", i, (double)folded[i], want);
    }
    th_free(w);
    th_free(gamma);
    th_free(var);
    release(&n, &f);
}

static void preprocessing_can_be_inside_and_a_batch_constant(void **state)
{
    const struct th_onnx_spec spec = {.batch = 5, .embed_preprocessing = true};
    struct net n;
    struct file f;
    float std[3];
    (void)state;
    write_file(&n, "resnet18", 33, 2, spec, &f);
    ends_as(&f, 11, TH_ONNX_U8, "5,33,33,3");
    ends_as(&f, 12, TH_ONNX_F32, "5,2");
    assert_int_equal(count_nodes(&f, "Cast"), 1);
    assert_int_equal(count_nodes(&f, "Transpose"), 1);
    assert_int_equal(count_nodes(&f, "MaxPool"), 1);
    assert_int_equal(count_nodes(&f, "Conv"), 20);
    constant(&f, "std", std, 3);
    assert_memory_equal(std, n.model.input.std, sizeof std);
    assert_true(has_metadata(&f, "preprocessing", "embedded"));
    release(&n, &f);
}

static void transformers_have_their_operators(void **state)
{
    struct net n;
    struct file f;
    (void)state;
    write_file(&n, "vit_micro_patch4_32", 12, 3, (struct th_onnx_spec){.batch = 2}, &f);
    int depth = count_nodes(&f, "Softmax");
    assert_int_equal(depth, 6);
    assert_int_equal(count_nodes(&f, "LayerNormalization"), 2 * depth + 1);
    assert_int_equal(count_nodes(&f, "Erf"), depth);
    /* A block has four linear layers, q k and p v; the last one's layers behind its
     * attention see the class token alone, and are matrices' as the head is. */
    assert_int_equal(count_nodes(&f, "MatMul"), 6 * depth - 3);
    assert_int_equal(count_nodes(&f, "Gemm"), 3 + 1);
    assert_int_equal(count_nodes(&f, "Concat"), 1);
    assert_int_equal(count_nodes(&f, "ReduceMean"), 2);
    ends_as(&f, 12, TH_ONNX_F32, "2,3");
    release(&n, &f);
}

/* ---- Detectors ---- */

static void open_detector(struct net *n, const char *head)
{
    net_open_as(n, "ref", (struct net_shape){"resnet20_s4", head, 32, {64, 64}, 3}, 5);
}

/* Towers are shared by five levels: their weights are constants once (define refuses twice). */
static void a_detector_ends_in_boxes(void **state)
{
    static const char *const heads[] = {"fcos", "retinanet"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct net n;
        struct file f;
        open_detector(&n, heads[i]);
        must(th_onnx_write(path, &n.model, &n.store,
            &(struct th_onnx_spec){.batch = 1, .score = 0.25}));
        read_file(&f, path);
        assert_int_equal(f.n_outputs, 3);
        ends_as(&f, 11, TH_ONNX_F32, "1,3,64,64");
        ends_as(&f, 12, TH_ONNX_F32, "-1,4");
        assert_int_equal(count_nodes(&f, "TopK"), 5 + 1);
        assert_int_equal(count_nodes(&f, "NonMaxSuppression"), 1);
        assert_int_equal(count_nodes(&f, "Resize"), 2);
        assert_int_equal(count_nodes(&f, "InstanceNormalization"), i ? 0 : 2 * 4 * 5);
        assert_int_equal(count_nodes(&f, "Exp"), i);
        assert_true(has_metadata(&f, "head", heads[i]));
        assert_false(has_metadata(&f, "crop", "0.875"));
        release(&n, &f);
    }
}

static void a_detector_takes_one_normalised_image(void **state)
{
    static const char none[] = "/tmp/thaw-onnx-none";
    struct net n;
    (void)state;
    open_detector(&n, "fcos");
    assert_int_equal(th_onnx_write(none, &n.model, &n.store,
                         &(struct th_onnx_spec){.batch = 2, .score = 0.25}),
        THAW_E_USAGE);
    assert_int_equal(
        th_onnx_write(none, &n.model, &n.store,
            &(struct th_onnx_spec){.batch = 1, .embed_preprocessing = true}),
        THAW_E_USAGE);
    assert_int_equal(access(none, F_OK), -1);
    net_close(&n);
}

/* ---- What cannot be written ---- */

static void an_op_without_a_row_is_named(void **state)
{
    struct th_proto p = {0};
    struct th_graph g;
    (void)state;
    th_graph_init(&g);
    int a = th_graph_input(&g, "image", TH_F32, TH_SHAPE(1, 3)),
        b = th_graph_input(&g, "target", TH_F32, TH_SHAPE(1, 3));
    int y = th_graph_node(&g, TH_OP_softmax_ce, NULL, (int[]){a, b}, "surprise");
    struct th_onnx x = {.proto = &p, .graph = &g, .image = a, .logits = y};
    assert_int_equal(th_onnx_walk(&x), THAW_E_USAGE);
    assert_non_null(strstr(thaw_error(), "softmax_ce"));
    assert_non_null(strstr(thaw_error(), "surprise"));
    th_graph_release(&g);
    th_proto_release(&p);
}

static void more_than_2_gib_is_refused_unallocated(void **state)
{
    struct th_proto p = {0};
    (void)state;
    assert_null(th_proto_place(&p, 9, INT32_MAX));
    assert_int_equal(p.status, THAW_E_USAGE);
    assert_true(p.capacity < 1 << 20);
    th_proto_int(&p, 1, 1); /* nothing more is written */
    th_proto_close(&p, th_proto_open(&p, 2));
    assert_int_equal(p.status, THAW_E_USAGE);
    th_proto_release(&p);
}

static void lengths_and_numbers_are_as_the_encoding_says(void **state)
{
    /* 1: -1; 2: {3: 300}, its length 3 in five bytes; 4: 1.0 */
    static const unsigned char want[] = {0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0x01, 0x12, 0x83, 0x80, 0x80, 0x80, 0x00, 0x18, 0xac, 0x02, 0x25, 0,
        0, 0x80, 0x3f};
    struct th_proto p = {0};
    (void)state;
    th_proto_int(&p, 1, -1);
    size_t inner = th_proto_open(&p, 2);
    th_proto_int(&p, 3, 300);
    th_proto_close(&p, inner);
    th_proto_float(&p, 4, 1.0F);
    assert_int_equal(p.n, sizeof want);
    assert_memory_equal(p.bytes, want, sizeof want);
    th_proto_release(&p);
}

static int setup(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths_and_numbers_are_as_the_encoding_says),
        cmocka_unit_test(a_small_resnet_is_folded),
        cmocka_unit_test(a_folded_weight_is_the_formula),
        cmocka_unit_test(preprocessing_can_be_inside_and_a_batch_constant),
        cmocka_unit_test(transformers_have_their_operators),
        cmocka_unit_test(a_detector_ends_in_boxes),
        cmocka_unit_test(a_detector_takes_one_normalised_image),
        cmocka_unit_test(an_op_without_a_row_is_named),
        cmocka_unit_test(more_than_2_gib_is_refused_unallocated),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
