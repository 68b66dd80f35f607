/* SPDX-License-Identifier: Apache-2.0
 * Average precision against pycocotools, VOC's rules and TIDE (golden/ap.h), on random
 * detections that are made here from the same numbers as there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ap.h"
#include "error.h"

#include <math.h>
#include <string.h>

enum { MOST_CLASSES = 6, N_KINDS = 6, MOST_OBJECTS = 16, MOST_DETECTIONS = 300 };

struct golden_ap {
    uint64_t seed;
    int images, classes, objects, detections, levels, crowds, tide;
    double figure[TH_N_AP_FIGURES], ap[MOST_CLASSES], ap50[MOST_CLASSES],
        curve[MOST_CLASSES], voc07[MOST_CLASSES], voc_area[MOST_CLASSES];
    double errors[N_KINDS], costs[N_KINDS];
};

#include "golden/ap.h"

static const double CLOSE = 1e-9;
static const double CURVE_CLOSE = 1e-3; /* a sum of 5,151 floats */
/* TIDE's recalls are i / 100, pycocotools' i * 0.01: a step may fall between. */
static const double COST_CLOSE = 1e-5;

static void must(thaw_status status)
{
    if (status != THAW_OK)
        fail_msg("%s", thaw_error());
}

/* splitmix64, below n. */
static int next(uint64_t *state, int n)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (int)(((z ^ (z >> 31)) >> 20) % (uint64_t)n);
}

static void random_box(uint64_t *r, float box[4])
{
    static const int least[] = {128, 4, 40, 300}, range[] = {1, 120, 400, 900};
    int x = next(r, 2000), y = next(r, 1500), kind = next(r, 4);
    int w = least[kind] + (kind ? next(r, range[kind]) : 0);
    int h = least[kind] + (kind ? next(r, range[kind]) : 0);
    box[0] = (float)x / 4;
    box[1] = (float)y / 4;
    box[2] = (float)(x + w) / 4;
    box[3] = (float)(y + h) / 4;
}

static void random_object(uint64_t *r, const struct golden_ap *g, struct th_object *o)
{
    o->class = next(r, g->classes - 1);
    random_box(r, o->box);
    int part = next(r, 12);
    o->crowd = next(r, 100) < g->crowds;
    o->area = th_box_area(o->box) * (part < 6 ? 1 : (float)part / 16);
}

static void move(uint64_t *r, float box[4])
{
    int side = (int)(fminf(box[2] - box[0], box[3] - box[1]) * 4);
    int k = side / (2 + next(r, 6)) + 1;
    for (int i = 0; i < 4; i++)
        box[i] += (float)(next(r, k) - k / 2) / 4;
    box[2] = fmaxf(box[0] + 0.25f, box[2]);
    box[3] = fmaxf(box[1] + 0.25f, box[3]);
}

static void random_detection(uint64_t *r, const struct golden_ap *g,
    const struct th_object *objects, int n_objects, struct th_detection *d)
{
    if (n_objects && next(r, 10) < 7) {
        const struct th_object *o = &objects[next(r, n_objects)];
        d->class = next(r, 20) < 17 ? o->class : next(r, g->classes);
        memcpy(d->box, o->box, sizeof d->box);
        move(r, d->box);
    } else {
        d->class = next(r, g->classes);
        random_box(r, d->box);
    }
    d->score = (float)((double)(1 + next(r, g->levels)) / g->levels);
}

static void add_all(const struct golden_ap *g, struct th_ap *ap)
{
    struct th_object object[MOST_OBJECTS];
    struct th_detection detection[MOST_DETECTIONS];
    uint64_t r = g->seed;
    for (int i = 0; i < g->images; i++) {
        int n_objects = next(&r, g->objects + 1);
        for (int k = 0; k < n_objects; k++)
            random_object(&r, g, &object[k]);
        int n = next(&r, g->detections + 1);
        for (int k = 0; k < n; k++) {
            random_detection(&r, g, object, n_objects, &detection[k]);
            detection[k].image = i;
        }
        must(th_ap_add(ap, object, n_objects, detection, n));
    }
}

static void run(const struct golden_ap *g, struct th_ap_scores *scores)
{
    struct th_ap ap;
    must(th_ap_init(&ap, g->classes));
    add_all(g, &ap);
    must(th_ap_finish(&ap, scores));
    th_ap_release(&ap);
}

/* -1 in the file is NAN here. */
static void near(const struct golden_ap *g, const char *what, double got, double wanted,
    double tolerance)
{
    bool same = wanted == -1 ? isnan(got) : fabs(got - wanted) <= tolerance;
    if (!same)
        fail_msg("case %d, %s: %.12g, not %.12g", (int)g->seed, what, got, wanted);
}

static const int n_golden = sizeof golden_ap / sizeof *golden_ap;

static void all_figures_are_pycocotools(void **state)
{
    (void)state;
    for (int i = 0; i < n_golden; i++) {
        struct th_ap_scores s;
        const struct golden_ap *g = &golden_ap[i];
        run(g, &s);
        for (int f = 0; f < TH_N_AP_FIGURES; f++)
            near(g, th_ap_figure_name((enum th_ap_figure)f), s.figure[f], g->figure[f],
                CLOSE);
        th_ap_scores_release(&s);
    }
}

static void each_class_and_its_curve_are_pycocotools(void **state)
{
    (void)state;
    for (int i = 0; i < n_golden; i++) {
        struct th_ap_scores s;
        const struct golden_ap *g = &golden_ap[i];
        run(g, &s);
        for (int c = 0; c < g->classes; c++) {
            double sum = g->curve[c] < 0 ? NAN : 0;
            for (int k = 0; k < TH_AP_RECALLS; k++)
                sum += (k + 1) * (double)s.classes[c].precision[k];
            near(g, "AP of a class", s.classes[c].ap, g->ap[c], CLOSE);
            near(g, "AP50 of a class", s.classes[c].ap50, g->ap50[c], CLOSE);
            near(g, "curve", sum, g->curve[c], CURVE_CLOSE);
        }
        th_ap_scores_release(&s);
    }
}

/* As a validation after another is. */
static void nothing_is_left_after_a_reset(void **state)
{
    (void)state;
    const struct golden_ap *g = &golden_ap[0];
    struct th_ap ap;
    struct th_ap_scores s;
    must(th_ap_init(&ap, g->classes));
    add_all(g, &ap);
    th_ap_reset(&ap);
    add_all(g, &ap);
    must(th_ap_finish(&ap, &s));
    for (int f = 0; f < TH_N_AP_FIGURES; f++)
        near(g, th_ap_figure_name((enum th_ap_figure)f), s.figure[f], g->figure[f],
            CLOSE);
    th_ap_scores_release(&s);
    th_ap_release(&ap);
}

static void vocs_two_are_by_its_rules(void **state)
{
    (void)state;
    for (int i = 0; i < n_golden; i++) {
        struct th_ap_scores s;
        const struct golden_ap *g = &golden_ap[i];
        run(g, &s);
        for (int c = 0; c < g->classes; c++) {
            near(g, "VOC 07", s.classes[c].voc07, g->voc07[c], CLOSE);
            near(g, "VOC area", s.classes[c].voc_area, g->voc_area[c], CLOSE);
        }
        th_ap_scores_release(&s);
    }
}

static void kinds_of_errors_and_their_costs_are_tides(void **state)
{
    static const enum th_ap_error kinds[] = {TH_ERROR_CONFUSION, TH_ERROR_LOCALISATION,
        TH_ERROR_BOTH, TH_ERROR_DUPLICATE, TH_ERROR_BACKGROUND, TH_ERROR_MISSED};
    int n = 0;
    (void)state;
    for (int i = 0; i < n_golden; i++) {
        struct th_ap_scores s;
        const struct golden_ap *g = &golden_ap[i];
        if (!g->tide)
            continue;
        run(g, &s);
        for (int k = 0; k < N_KINDS; k++) {
            const char *name = th_ap_error_name(kinds[k]);
            near(g, name, (double)s.errors[kinds[k]], g->errors[k], 0);
            near(g, name, s.error_cost[kinds[k]], g->costs[k], COST_CLOSE);
        }
        th_ap_scores_release(&s);
        n++;
    }
    assert_int_equal(n, 4);
}

static void more_can_be_added_after_finishing(void **state)
{
    const struct th_object o = {.box = {0, 0, 10, 10}, .area = 100};
    const struct th_detection good = {.score = 0.5f, .box = {0, 0, 10, 10}};
    const struct th_detection bad = {.score = 0.75f, .box = {20, 20, 30, 30}};
    struct th_ap ap;
    struct th_ap_scores s;
    (void)state;
    must(th_ap_init(&ap, 1));
    must(th_ap_finish(&ap, &s));
    assert_true(isnan(s.figure[TH_AP]) && isnan(s.voc07));
    th_ap_scores_release(&s);
    must(th_ap_add(&ap, &o, 1, &good, 1));
    must(th_ap_finish(&ap, &s));
    assert_float_equal(s.figure[TH_AP], 1, 0);
    assert_float_equal(s.classes[0].best_f1, 1, 1e-12);
    assert_float_equal(s.classes[0].best_threshold, 0.5, 0);
    th_ap_scores_release(&s);
    must(th_ap_add(&ap, NULL, 0, &bad, 1));
    must(th_ap_finish(&ap, &s));
    assert_float_equal(s.figure[TH_AP50], 0.5, 1e-12);
    assert_int_equal(s.errors[TH_ERROR_BACKGROUND], 1);
    assert_float_equal(s.error_cost[TH_ERROR_BACKGROUND], 0.5, 1e-12);
    th_ap_scores_release(&s);
    th_ap_release(&ap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_figures_are_pycocotools),
        cmocka_unit_test(each_class_and_its_curve_are_pycocotools),
        cmocka_unit_test(nothing_is_left_after_a_reset),
        cmocka_unit_test(vocs_two_are_by_its_rules),
        cmocka_unit_test(kinds_of_errors_and_their_costs_are_tides),
        cmocka_unit_test(more_can_be_added_after_finishing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
