/* SPDX-License-Identifier: Apache-2.0
 * Owns ONNX files: the messages around the nodes, and what is said beside them. Field
 * numbers are those of onnx.proto. */
#include "onnx.h"

#include "file.h"
#include "json.h"
#include "mem.h"
#include "model_file.h"
#include "onnx_graph.h"

#include <stdio.h>
#include <string.h>

/* Opset 17 is the first with LayerNormalization; IR version 8 is the one of its time. */
enum { OPSET = 17, IR_VERSION = 8 };

/* ---- Tensors and nodes ---- */

static struct th_onnx_name fresh(struct th_onnx *x)
{
    struct th_onnx_name name;
    snprintf(name.text, sizeof name.text, "c%d", x->n_constants++);
    return name;
}

/* TensorProto up to its data. */
static size_t open_tensor(
    struct th_onnx *x, const char *name, int type, const int64_t *dim, int rank)
{
    size_t tensor = th_proto_open(x->proto, 5);
    for (int i = 0; i < rank; i++)
        th_proto_int(x->proto, 1, dim[i]);
    th_proto_int(x->proto, 2, type);
    th_proto_text(x->proto, 8, name);
    return tensor;
}

/* Little-endian, as every machine that Thaw runs on (bytes.h). */
struct th_onnx_name th_onnx_f32(struct th_onnx *x, const char *name,
    const struct th_shape *shape, const float *values)
{
    struct th_onnx_name own = fresh(x);
    if (name)
        snprintf(own.text, sizeof own.text, "%s", name);
    size_t tensor = open_tensor(x, own.text, TH_ONNX_F32, shape->dim, shape->rank);
    th_proto_bytes(x->proto, 9, values, (size_t)th_shape_count(shape) * sizeof *values);
    th_proto_close(x->proto, tensor);
    return own;
}

struct th_onnx_name th_onnx_i64(struct th_onnx *x, const int64_t *values, int n)
{
    struct th_onnx_name name = fresh(x);
    size_t tensor = open_tensor(x, name.text, TH_ONNX_I64, &(int64_t){n}, 1);
    th_proto_bytes(x->proto, 9, values, (size_t)n * sizeof *values);
    th_proto_close(x->proto, tensor);
    return name;
}

static void write_attribute(struct th_proto *p, const struct th_onnx_attr *a)
{
    size_t attribute = th_proto_open(p, 5);
    th_proto_text(p, 1, a->name);
    if (a->type == TH_ONNX_FLOAT)
        th_proto_float(p, 2, a->f);
    if (a->type == TH_ONNX_INT)
        th_proto_int(p, 3, a->i);
    if (a->type == TH_ONNX_TEXT)
        th_proto_text(p, 4, a->text);
    for (int i = 0; a->type == TH_ONNX_INTS && i < a->n; i++)
        th_proto_int(p, 8, a->ints[i]);
    th_proto_int(p, 20, a->type);
    th_proto_close(p, attribute);
}

/* NodeProto with outputs of these names, NULL at the end. */
static void write_node(struct th_onnx *x, const char *op, const char *const *in,
    const char *const *out, const struct th_onnx_attr *attr)
{
    struct th_onnx_name name;
    snprintf(name.text, sizeof name.text, "%s_%d", op, x->n_nodes++);
    size_t node = th_proto_open(x->proto, 1);
    for (; *in; in++)
        th_proto_text(x->proto, 1, *in);
    for (; *out; out++)
        th_proto_text(x->proto, 2, *out);
    th_proto_text(x->proto, 3, name.text);
    th_proto_text(x->proto, 4, op);
    for (; attr && attr->name; attr++)
        write_attribute(x->proto, attr);
    th_proto_close(x->proto, node);
}

struct th_onnx_name th_onnx_node(struct th_onnx *x, const char *op,
    const char *const *in, const char *out, const struct th_onnx_attr *attr)
{
    struct th_onnx_name own;
    if (out)
        snprintf(own.text, sizeof own.text, "%s", out);
    else
        snprintf(own.text, sizeof own.text, "%s_%d", op, x->n_nodes);
    write_node(x, op, in, (const char *[]){own.text, NULL}, attr);
    return own;
}

void th_onnx_pair(struct th_onnx *x, const char *op, const char *const *in,
    struct th_onnx_name out[2])
{
    for (int i = 0; i < 2; i++)
        snprintf(out[i].text, sizeof out[i].text, "%s_%d_%d", op, x->n_nodes, i);
    write_node(x, op, in, (const char *[]){out[0].text, out[1].text, NULL}, NULL);
}

struct th_onnx_name th_onnx_value(const struct th_onnx *x, int value)
{
    struct th_onnx_name name;
    if (value == x->image)
        snprintf(name.text, sizeof name.text, "%s", x->input);
    else if (value == x->logits)
        snprintf(name.text, sizeof name.text, "logits");
    else
        snprintf(name.text, sizeof name.text, "v%d", value);
    return name;
}

/* ---- The graph's ends ---- */

/* ValueInfoProto; field 11: an input, 12: an output. An extent of -1 is the number of boxes
 * that are found. */
static void write_end(
    struct th_proto *p, int field, const char *name, int type, const struct th_shape *s)
{
    size_t value = th_proto_open(p, field);
    th_proto_text(p, 1, name);
    size_t any = th_proto_open(p, 2), tensor = th_proto_open(p, 1);
    th_proto_int(p, 1, type);
    size_t shape = th_proto_open(p, 2);
    for (int i = 0; i < s->rank; i++) {
        size_t dim = th_proto_open(p, 1);
        if (s->dim[i] < 0)
            th_proto_text(p, 2, "found");
        else
            th_proto_int(p, 1, s->dim[i]);
        th_proto_close(p, dim);
    }
    th_proto_close(p, shape);
    th_proto_close(p, tensor);
    th_proto_close(p, any);
    th_proto_close(p, value);
}

/* u8 [n][h][w][3] -> fp32 [n][3][h][w]: (x / 255 - mean) / std, in this order, so that
 * the floats are th_preprocess_normalise's own. */
static void write_preprocessing(struct th_onnx *x, const struct th_input *in)
{
    const float full = 255.0F;
    const struct th_shape one = TH_SHAPE(1), three = TH_SHAPE(3);
    struct th_onnx_name full_name = th_onnx_f32(x, NULL, &one, &full);
    struct th_onnx_name mean = th_onnx_f32(x, "mean", &three, in->mean);
    struct th_onnx_name std = th_onnx_f32(x, "std", &three, in->std);
    const struct th_onnx_attr to[] = {
        {.name = "to", .type = TH_ONNX_INT, .i = TH_ONNX_F32}, {0}};
    const struct th_onnx_attr perm[] = {
        {.name = "perm", .type = TH_ONNX_INTS, .ints = (int[]){0, 3, 1, 2}, .n = 4},
        {0}};
    struct th_onnx_name y =
        th_onnx_node(x, "Cast", (const char *[]){"image", NULL}, NULL, to);
    y = th_onnx_node(
        x, "Div", (const char *[]){y.text, full_name.text, NULL}, NULL, NULL);
    y = th_onnx_node(x, "Sub", (const char *[]){y.text, mean.text, NULL}, NULL, NULL);
    y = th_onnx_node(x, "Div", (const char *[]){y.text, std.text, NULL}, NULL, NULL);
    th_onnx_node(x, "Transpose", (const char *[]){y.text, NULL}, x->input, perm);
}

/* What a detector's graph ends with. */
static void write_found(struct th_proto *p)
{
    const struct th_shape boxes = TH_SHAPE(-1, 4), each = TH_SHAPE(-1);
    write_end(p, 12, "boxes", TH_ONNX_F32, &boxes);
    write_end(p, 12, "scores", TH_ONNX_F32, &each);
    write_end(p, 12, "labels", TH_ONNX_I64, &each);
}

static thaw_status write_graph(
    struct th_onnx *x, const struct th_model *m, const struct th_onnx_spec *spec)
{
    struct th_proto *p = x->proto;
    const struct th_value *values = x->graph->values;
    const struct th_size s = m->input.size;
    bool embed = spec->embed_preprocessing;
    const struct th_shape pixels = TH_SHAPE(spec->batch, s.h, s.w, 3);
    snprintf(x->input, sizeof x->input, embed ? "normalised" : "image");
    size_t graph = th_proto_open(p, 7);
    th_proto_text(p, 2, m->variant->name);
    write_end(p, 11, "image", embed ? TH_ONNX_U8 : TH_ONNX_F32,
        embed ? &pixels : &values[x->image].o.shape);
    if (m->head->detector)
        write_found(p);
    else
        write_end(p, 12, "logits", TH_ONNX_F32, &values[x->logits].o.shape);
    if (embed)
        write_preprocessing(x, &m->input);
    TRY(th_onnx_walk(x));
    if (m->head->detector)
        TRY(th_onnx_detections(x, m, spec->score));
    th_proto_close(p, graph);
    return p->status;
}

/* ---- Metadata ---- */

static void write_pair(struct th_proto *p, const char *key, const char *value)
{
    size_t pair = th_proto_open(p, 14);
    th_proto_text(p, 1, key);
    th_proto_text(p, 2, value);
    th_proto_close(p, pair);
}

static thaw_status write_json(
    struct th_proto *p, const char *key, struct th_json_out *o)
{
    thaw_status status = th_json_out_status(o);
    if (status == THAW_OK)
        write_pair(p, key, o->text);
    th_json_out_release(o);
    return status;
}

/* The numbers of a model file's attribute, as JSON. */
static thaw_status write_numbers(
    struct th_proto *p, const struct th_weights *w, const char *name)
{
    struct th_json_out o = {0};
    size_t n = 0;
    const double *x = th_weights_floats(w, name, &n);
    if (n != 1)
        th_json_open(&o, '[');
    for (size_t i = 0; x && i < n; i++)
        th_json_real(&o, x[i]);
    if (n != 1)
        th_json_close(&o, ']');
    return write_json(p, name, &o);
}

/* What a model file's attributes say, under the same names, as text and JSON. */
static thaw_status write_metadata(
    struct th_proto *p, const struct th_model *m, const struct th_onnx_spec *spec)
{
    static const char *const numbers[] = {"input_size", "mean", "std", "crop"};
    bool boxes = m->head->detector != NULL;
    size_t n_numbers = sizeof numbers / sizeof *numbers - boxes; /* no crop of a fit */
    struct th_json_out o = {0};
    struct th_weights w;
    th_json_open(&o, '[');
    for (int i = 0; i < m->n_classes; i++)
        th_json_string(&o, m->classes[i]);
    th_json_close(&o, ']');
    TRY(write_json(p, "classes", &o));
    write_pair(p, "backbone", m->variant->name);
    write_pair(p, "head", m->head->name);
    write_pair(p, "preprocessing", spec->embed_preprocessing ? "embedded" : "outside");
    if (boxes)
        write_pair(p, "resize",
            m->input.size.w == m->input.size.h
                ? "the whole picture, its longer side input_size, at the upper left; 0 "
                  "beside it, after mean and std"
                : "the whole picture, as large as input_size (width, height) has room "
                  "for, at the upper left; 0 beside it, after mean and std");
    th_weights_init(&w);
    thaw_status status = th_model_file_describe(m, &w);
    for (size_t i = 0; i < n_numbers && status == THAW_OK; i++)
        status = write_numbers(p, &w, numbers[i]);
    if (status == THAW_OK)
        write_pair(p, "interpolation", th_weights_string(&w, "interpolation"));
    th_weights_release(&w);
    return status == THAW_OK ? p->status : status;
}

/* ---- The file ---- */

static thaw_status write_model(struct th_proto *p, struct th_model *m,
    const struct th_store *s, const struct th_onnx_spec *spec, struct th_graph *g)
{
    struct th_onnx x = {.proto = p, .graph = g, .store = s};
    TRY(th_model_build(m, g, spec->batch, false, false, &x.logits));
    th_graph_sweep(g);
    x.image = th_graph_find(g, "image");
    x.written = th_alloc((size_t)g->n_values, sizeof *x.written);
    if (!x.written)
        return THAW_E_MEMORY;
    th_proto_int(p, 1, IR_VERSION);
    th_proto_text(p, 2, "thaw");
    th_proto_text(p, 3, thaw_version());
    size_t opset = th_proto_open(p, 8);
    th_proto_text(p, 1, "");
    th_proto_int(p, 2, OPSET);
    th_proto_close(p, opset);
    thaw_status status = write_graph(&x, m, spec);
    if (status == THAW_OK)
        status = write_metadata(p, m, spec);
    th_free(x.written);
    return status;
}

/* A detector's input is 0 after normalising where the picture is not, and suppression is of
 * one image. */
static thaw_status check_detector(
    const struct th_head *head, const struct th_onnx_spec *spec)
{
    if (head->detector->background)
        return th_fail(THAW_E_USAGE,
            "--head %s has two stages, which no ONNX file holds: take fcos or "
            "retinanet",
            head->name);
    if (spec->batch != 1)
        return th_fail(THAW_E_USAGE,
            "--batch %d: a detector's file takes one image: leave it out", spec->batch);
    if (spec->embed_preprocessing)
        return th_fail(THAW_E_USAGE,
            "--embed-preprocessing: a detector's input is 0 beside the picture, after "
            "mean and std, which pixels of 0 to 255 cannot say: leave it out");
    return THAW_OK;
}

thaw_status th_onnx_write(const char *path, struct th_model *m,
    const struct th_store *s, const struct th_onnx_spec *spec)
{
    if (m->head->detector)
        TRY(check_detector(m->head, spec));
    struct th_proto p = {0};
    struct th_graph g;
    th_graph_init(&g);
    thaw_status status = write_model(&p, m, s, spec, &g);
    if (status == THAW_OK)
        status = th_file_write_atomic(path, p.bytes, p.n, NULL);
    th_graph_release(&g);
    th_proto_release(&p);
    return status;
}
