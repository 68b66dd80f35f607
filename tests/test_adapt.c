/* SPDX-License-Identifier: Apache-2.0
 * AdaBN against PyTorch in fp64 (golden/adapt.h), and what it has to leave alone. */
#include "golden/adapt.h"

#include "file.h"
#include "image.h"
#include "model_file.h"
#include "model_open.h"
#include "net.h"
#include "options.h"

#include <stdio.h>
#include <unistd.h>

static const double TOLERANCE = 1e-4; /* DESIGN section 10; of a tensor's norm */

enum { MOST_IMAGES = 7 };

static char root[64];

static void path_of(char path[160], const char *name)
{
    snprintf(path, 160, "%s/%s", root, name);
}

/* PNGs of golden/adapt.py's bytes under FOLDER/x. */
static void write_images(const struct golden_adapted *g, const char *folder)
{
    char path[160], name[80];
    int64_t values = (int64_t)g->size * g->size * 3;
    uint64_t key = th_rng_mix_name(g->key, "pixels");
    snprintf(name, sizeof name, "%s/x", folder);
    path_of(path, name);
    must(th_file_mkdir(path));
    for (int i = 0; i < g->n_images; i++) {
        struct th_image image = {0};
        must(th_image_init(&image, g->size, g->size));
        for (int64_t k = 0; k < values; k++)
            image.rgb[k] =
                (uint8_t)(256.0F * th_rng_uniform(key, (uint64_t)(i * values + k)));
        snprintf(name, sizeof name, "%s/x/%d.png", folder, i);
        path_of(path, name);
        must(th_image_write_png(path, &image));
        th_image_release(&image);
    }
}

static void write_model(const struct golden_adapted *g)
{
    struct net n;
    char path[160], name[80];
    net_open(&n, "ref", g->backbone, g->size, 10, g->key);
    n.model.input.crop = 1;
    snprintf(name, sizeof name, "%s.h5", g->backbone);
    path_of(path, name);
    must(th_model_file_write(path, &n.model, &n.store));
    net_close(&n);
}

static int setup(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/thaw_adapt_XXXXXX");
    if (!mkdtemp(root))
        return -1;
    for (size_t i = 0; i < sizeof golden_adapted / sizeof golden_adapted[0]; i++) {
        write_images(&golden_adapted[i], golden_adapted[i].backbone);
        write_model(&golden_adapted[i]);
    }
    return 0;
}

static int teardown(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static thaw_model *open_model(
    const struct golden_adapted *g, const char *device, const char *batch)
{
    char path[160], name[80];
    thaw_options *o = NULL;
    thaw_model *m = NULL;
    snprintf(name, sizeof name, "%s.h5", g->backbone);
    path_of(path, name);
    must(thaw_options_new(&o));
    must(thaw_options_set(o, "device", device));
    must(thaw_options_set(o, "batch", batch));
    must(thaw_options_set(o, "threads", "2"));
    must(thaw_options_set(o, "workers", "2"));
    must(thaw_model_open(path, o, &m));
    thaw_options_free(o);
    return m;
}

/* The model adapted to the images under `folder`. */
static thaw_model *adapted(const struct golden_adapted *g, const char *device,
    const char *batch, const char *folder, thaw_adaptation *a)
{
    char path[160];
    thaw_model *m = open_model(g, device, batch);
    path_of(path, folder);
    must(thaw_model_adapt(m, path, NULL, NULL, a));
    return m;
}

static float *values_of(const thaw_model *m, const char *name, int64_t *n)
{
    const struct th_store *s = &m->net.store;
    int id = th_store_find(s, name);
    assert_true(id >= 0);
    *n = th_shape_count(&s->states[id].shape);
    float *x = th_alloc((size_t)*n, sizeof *x);
    must(th_store_get(s, id, x));
    return x;
}

static void expect_golden(
    const thaw_model *m, const struct golden_adapted *g, const char *how)
{
    for (int i = 0; i < g->n_buffers; i++) {
        int64_t n = 0;
        float *x = values_of(m, g->buffers[i].name, &n);
        double e = net_from_golden(x, n, g->buffers[i].norm, g->buffers[i].sample);
        th_free(x);
        if (!(e <= TOLERANCE))
            fail_msg("%s, %s: %s is %g from PyTorch's", g->backbone, how,
                g->buffers[i].name, e);
    }
}

static void statistics_equal_pytorchs_for_any_batch_size_and_device(void **state)
{
    (void)state;
    static const struct {
        const char *device, *batch;
        size_t nets;
    } cases[] = {{"cpu", "1", 2}, {"cpu", "2", 2}, {"cpu", "7", 2}, {"cpu", "32", 2},
        {"ref", "3", 1}, {"far", "4", 1}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++)
        for (size_t i = 0; i < cases[c].nets; i++) {
            const struct golden_adapted *g = &golden_adapted[i];
            thaw_adaptation a;
            char how[64];
            snprintf(how, sizeof how, "%s, batch %s", cases[c].device, cases[c].batch);
            thaw_model *m =
                adapted(g, cases[c].device, cases[c].batch, g->backbone, &a);
            assert_int_equal(a.images, g->n_images);
            assert_int_equal(a.layers, g->n_buffers / 2);
            expect_golden(m, g, how);
            thaw_model_free(m);
        }
}

/* resnet18's shortcuts are on the level of the block's first BatchNorm. */
static void a_pass_takes_all_batchnorms_that_do_not_see_each_other(void **state)
{
    (void)state;
    thaw_adaptation a;
    thaw_model_free(adapted(&golden_adapted[0], "cpu", "7", "resnet20", &a));
    assert_int_equal(a.layers, 19);
    assert_int_equal(a.passes, 19);
    thaw_model_free(adapted(&golden_adapted[1], "cpu", "7", "resnet18", &a));
    assert_int_equal(a.layers, 20);
    assert_int_equal(a.passes, 17);
}

static bool same_bits(const thaw_model *a, const thaw_model *b, const char *name)
{
    int64_t n = 0;
    float *x = values_of(a, name, &n), *y = values_of(b, name, &n);
    bool same = memcmp(x, y, (size_t)n * sizeof *x) == 0;
    th_free(x);
    th_free(y);
    return same;
}

static void nothing_else_of_the_model_changes_a_bit(void **state)
{
    (void)state;
    const struct golden_adapted *g = &golden_adapted[0];
    thaw_adaptation a;
    char path[160];
    thaw_model *before = open_model(g, "cpu", "7"), *after = NULL;
    thaw_model *m = adapted(g, "cpu", "7", g->backbone, &a);
    path_of(path, "written.h5");
    must(thaw_model_write(m, path));
    must(thaw_model_open(path, NULL, &after));
    for (int i = 0; i < before->net.model.n_params; i++) {
        const struct th_param *p = &before->net.model.params[i];
        assert_true(same_bits(m, after, p->name));
        if (same_bits(before, after, p->name) == th_param_is_buffer(p))
            fail_msg("%s %s", p->name,
                th_param_is_buffer(p) ? "should have moved" : "moved");
    }
    assert_string_equal(after->net.model.adapted_on, m->net.model.adapted_on);
    assert_int_equal(strlen(after->net.model.adapted_on), 16);
    assert_true(
        th_size_same(after->net.model.input.size, before->net.model.input.size));
    thaw_model_free(before);
    thaw_model_free(after);
    thaw_model_free(m);
}

/* The loader lets another image stand in for one that cannot be read; it may not count
 * twice. */
static void an_unreadable_image_counts_for_nothing(void **state)
{
    (void)state;
    const struct golden_adapted *g = &golden_adapted[0];
    thaw_adaptation a;
    char path[160];
    write_images(g, "spoilt");
    path_of(path, "spoilt/x/3a.png");
    must(th_file_write_atomic(path, "no image", 8, NULL));
    thaw_model *m = adapted(g, "cpu", "4", "spoilt", &a);
    assert_int_equal(a.images, g->n_images);
    assert_int_equal(a.unreadable, 1);
    expect_golden(m, g, "one unreadable");
    thaw_model_free(m);
}

static void adapted_twice_it_stays_where_it_is(void **state)
{
    (void)state;
    const struct golden_adapted *g = &golden_adapted[0];
    thaw_adaptation a;
    char path[160];
    thaw_model *m = adapted(g, "cpu", "7", g->backbone, &a);
    assert_true(a.shift > 0.1);
    path_of(path, g->backbone);
    must(thaw_model_adapt(m, path, NULL, NULL, &a));
    assert_true(a.shift < 1e-5 && a.scale < 1 + 1e-5);
    expect_golden(m, g, "twice");
    thaw_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statistics_equal_pytorchs_for_any_batch_size_and_device),
        cmocka_unit_test(a_pass_takes_all_batchnorms_that_do_not_see_each_other),
        cmocka_unit_test(nothing_else_of_the_model_changes_a_bit),
        cmocka_unit_test(an_unreadable_image_counts_for_nothing),
        cmocka_unit_test(adapted_twice_it_stays_where_it_is),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
