/* SPDX-License-Identifier: Apache-2.0
 * What tests of runs of detectors share: a folder of Pascal VOC with made pictures, noise with red
 * and green squares, in the tests' folder. */
#ifndef TH_RUN_BOXES_H
#define TH_RUN_BOXES_H

#include "run.h"

static char *data; /* "voc:..." */

/* A file of the data set, to write. */
static inline FILE *boxes_file(const char *folder, const char *name, const char *ending)
{
    char path[256], inside[128];
    snprintf(inside, sizeof inside, "boxes/%s/%s%s", folder, name, ending);
    run_path(path, inside);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    return f;
}

/* A picture that is being made, and its annotation. */
struct boxes_picture {
    char name[32];
    struct th_image image;
    FILE *xml;
};

static inline struct boxes_picture boxes_begin(int i, int w, int h)
{
    struct boxes_picture p = {.xml = NULL};
    uint64_t key = th_rng_mix_name((uint64_t)i, "squares");
    snprintf(p.name, sizeof p.name, "%03d", i);
    must(th_image_init(&p.image, w, h));
    for (int k = 0; k < w * h * 3; k++)
        p.image.rgb[k] = (uint8_t)(90 + 40 * (double)th_rng_uniform(key, (uint64_t)k));
    p.xml = boxes_file("Annotations", p.name, ".xml");
    fprintf(p.xml, "<annotation><filename>%s.png</filename>\n", p.name);
    return p;
}

/* A square with its upper left corner at x, y: red (class 0) or green (1). */
static inline void boxes_add(struct boxes_picture *p, int x, int y, int side, int class)
{
    for (int row = y; row < y + side; row++)
        for (int column = x; column < x + side; column++)
            for (int c = 0; c < 3; c++)
                p->image.rgb[(row * p->image.w + column) * 3 + c] =
                    c == class ? 230 : 20;
    fprintf(p->xml,
        "<object><name>%s</name><bndbox><xmin>%d</xmin><ymin>%d</ymin><xmax>%d</xmax>"
        "<ymax>%d</ymax></bndbox></object>\n",
        class ? "green" : "red", x, y, x + side, y + side);
}

static inline void boxes_end(struct boxes_picture *p)
{
    char path[256], name[64];
    fputs("</annotation>\n", p->xml);
    assert_int_equal(fclose(p->xml), 0);
    snprintf(name, sizeof name, "boxes/JPEGImages/%s.png", p->name);
    run_path(path, name);
    must(th_image_write_png(path, &p->image));
    th_image_release(&p->image);
}

/* A split: those of [from, from + n) that are wanted (NULL: all). */
static inline void boxes_list(const char *split, int from, int n, bool (*wanted)(int i))
{
    FILE *f = boxes_file("ImageSets/Main", split, ".txt");
    for (int i = from; i < from + n; i++)
        if (!wanted || wanted(i))
            fprintf(f, "%03d\n", i);
    assert_int_equal(fclose(f), 0);
}

/* The tests' folder, a data set without pictures in it. */
static inline int boxes_setup(void)
{
    static const char *const folders[] = {"boxes", "boxes/Annotations",
        "boxes/JPEGImages", "boxes/ImageSets", "boxes/ImageSets/Main"};
    char path[256];
    if (make_data(3))
        return -1;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        run_path(path, folders[i]);
        if (mkdir(path, 0777))
            return -1;
    }
    run_path(path, "boxes");
    data = th_format("voc:%s", path);
    return data ? 0 : -1;
}

static inline int boxes_teardown(void **state)
{
    th_free(data);
    return remove_data(state);
}

/* All of FCOS on a ResNet-20 trains. */
static inline thaw_options *box_options(const char *run, const char *size)
{
    thaw_options *o = make_options(run, "head", "fcos", "head-width", "32", "augment",
        "none", "thaw", "all", "image-size", size, "device", "cpu", "optimizer",
        "adamw", "lr", "0.002", "backbone", "resnet20_s4", NULL);
    set(o, "data", data);
    return o;
}

static inline thaw_options *with(thaw_options *o, const char *name, const char *value)
{
    set(o, name, value);
    return o;
}

/* ---- What is found ---- */

enum {
    BOXES_MOST = 300,
    BOXES_TOLD = 40
}; /* boxes at most, see struct th_detector; images */

struct finds {
    int n, n_boxes[BOXES_TOLD], width[BOXES_TOLD];
    const thaw_model *model[BOXES_TOLD];
    char file[BOXES_TOLD][8];
    thaw_box boxes[BOXES_TOLD][BOXES_MOST];
};

static inline void note_find(void *context, const thaw_prediction *p)
{
    struct finds *f = context;
    assert_true(f->n < BOXES_TOLD && p->n_boxes <= BOXES_MOST);
    f->model[f->n] = p->model;
    f->width[f->n] = p->width;
    f->n_boxes[f->n] = p->n_boxes;
    snprintf(f->file[f->n], sizeof f->file[0], "%s", strrchr(p->file, '/') + 1);
    memcpy(f->boxes[f->n++], p->boxes, (size_t)p->n_boxes * sizeof *p->boxes);
}

/* In all pictures; for free. */
static inline struct finds *boxes_find(thaw_model *m)
{
    char path[256];
    struct finds *f = calloc(1, sizeof *f);
    assert_non_null(f);
    run_path(path, "boxes/JPEGImages");
    must(thaw_model_predict(m, path, note_find, f));
    return f;
}

/* A run's model; size NULL: its own. */
static inline thaw_model *boxes_open(
    const char *run, const char *size, const char *batch, const char *threshold)
{
    char path[256];
    thaw_model *m = NULL;
    thaw_options *o = NULL;
    must(thaw_options_new(&o));
    set(o, "threshold", threshold);
    set(o, "batch", batch);
    if (size)
        set(o, "image-size", size);
    run_path(path, run);
    must(thaw_model_open(path, o, &m));
    thaw_options_free(o);
    return m;
}

/* Two heads on the same frozen backbone, each with a threshold of its own, find in all pictures
 * what each finds alone, to the bit. */
static inline void check_two_heads(const char *size, int pictures)
{
    static const char *const heads[] = {"fcos", "retinanet_v2"};
    static const char *const thresholds[] = {"0.1", "0.01"};
    thaw_result r;
    thaw_model *m[2];
    struct finds *alone[2];
    int found = 0;
    for (int i = 0; i < 2; i++) {
        thaw_options *o = with(box_options(heads[i], size), "head", heads[i]);
        must(train(with(with(o, "thaw", "head"), "epochs", "1"), NULL, &r));
        m[i] = boxes_open(heads[i], NULL, "4", thresholds[i]);
        alone[i] = boxes_find(m[i]);
    }
    must(thaw_model_share(m[0], m[1]));
    struct finds *both = boxes_find(m[0]);
    assert_int_equal(both->n, 2 * pictures);
    for (int k = 0; k < both->n; k++) {
        const struct finds *a = alone[k % 2];
        assert_ptr_equal(both->model[k], m[k % 2]);
        assert_int_equal(both->n_boxes[k], a->n_boxes[k / 2]);
        assert_memory_equal(both->boxes[k], a->boxes[k / 2], sizeof both->boxes[k]);
        found += both->n_boxes[k];
    }
    assert_true(found > pictures);
    for (int i = 0; i < 2; i++) {
        thaw_model_free(m[i]);
        free(alone[i]);
        forget(heads[i]);
    }
    free(both);
}

#endif
