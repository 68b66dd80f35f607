/* SPDX-License-Identifier: Apache-2.0
 * The order of an epoch: who comes, how often, and for how long the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "order.h"

enum { MAX_N = 400, MAX_CLASSES = 7 };

struct sizes {
    int n_classes, size[MAX_CLASSES];
};

/* Small beside large, an empty class, one image, a remainder, one class. */
static const struct sizes cases[] = {{3, {2, 11, 5}}, {2, {1, 99}}, {4, {50, 0, 3, 7}},
    {7, {1, 2, 3, 4, 5, 6, 13}}, {1, {9}}, {3, {0, 0, 1}}, {5, {1, 1, 0, 0, 1}}};

enum { N_CASES = sizeof cases / sizeof cases[0] };

static struct th_sample sample[MAX_N];

/* Labels in turn, as a listing would not have them. */
static struct th_samples make_samples(const struct sizes *c)
{
    int left[MAX_CLASSES];
    int64_t n = 0;
    memcpy(left, c->size, sizeof left);
    for (bool more = true; more;) {
        more = false;
        for (int k = 0; k < c->n_classes; k++)
            if (left[k]-- > 0) {
                sample[n++] = (struct th_sample){.label = k};
                more = true;
            }
    }
    return (struct th_samples){.n = n, .sample = sample};
}

static void must_init(
    struct th_order *o, enum th_order_kind kind, const struct sizes *c)
{
    struct th_samples s = make_samples(c);
    assert_int_equal(th_order_init(o, kind, &s, c->n_classes), THAW_OK);
}

static void listed_and_shuffled_orders_have_each_image_once(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASES; i++)
        for (int shuffled = 0; shuffled < 2; shuffled++) {
            struct th_order o;
            int seen[MAX_N] = {0};
            must_init(&o, shuffled ? TH_ORDER_SHUFFLED : TH_ORDER_LISTED, &cases[i]);
            th_order_draw(&o, 3, 1);
            for (int64_t p = 0; p < o.n; p++) {
                seen[o.sample[p]]++;
                assert_true(shuffled || o.sample[p] == p);
            }
            for (int64_t p = 0; p < o.n; p++)
                assert_int_equal(seen[p], 1);
            th_order_release(&o);
        }
}

/* One epoch: shares differ by one at most, none over another's; an image comes k times
 * only where all of its class came k - 1 times, and its repeats are numbered. */
static void check_epoch(const struct th_order *o, const struct sizes *c)
{
    int count[MAX_N] = {0}, share[MAX_CLASSES] = {0}, least = MAX_N, most = 0;
    uint64_t repeats[MAX_N] = {0}; /* bits */
    for (int64_t p = 0; p < o->n; p++) {
        count[o->sample[p]]++;
        share[sample[o->sample[p]].label]++;
        assert_in_range(o->repeat[p], 0, 63);
        assert_false(repeats[o->sample[p]] >> o->repeat[p] & 1);
        repeats[o->sample[p]] |= UINT64_C(1) << o->repeat[p];
    }
    for (int k = 0; k < c->n_classes; k++) {
        if (!c->size[k]) {
            assert_int_equal(share[k], 0);
            continue;
        }
        least = share[k] < least ? share[k] : least;
        most = share[k] > most ? share[k] : most;
        for (int64_t i = 0; i < o->n; i++)
            if (sample[i].label == k)
                assert_in_range(count[i], share[k] / c->size[k],
                    (share[k] + c->size[k] - 1) / c->size[k]);
    }
    assert_true(most - least <= 1);
    for (int64_t i = 0; i < o->n; i++)
        assert_int_equal(repeats[i], (UINT64_C(1) << count[i]) - 1);
}

static void balanced_shares_differ_by_one_at_most(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        struct th_order o;
        must_init(&o, TH_ORDER_BALANCED, &cases[i]);
        for (int64_t epoch = 0; epoch < 20; epoch++) {
            th_order_draw(&o, 3, epoch);
            check_epoch(&o, &cases[i]);
        }
        th_order_release(&o);
    }
}

/* Over many epochs the odd place goes to every class, and every image comes. */
static void over_epochs_classes_and_images_of_a_class_come_equally_often(void **state)
{
    (void)state;
    enum { EPOCHS = 700 };
    const struct sizes *c = &cases[3]; /* 34 images: 4 each and 6 over */
    struct th_order o;
    int share[MAX_CLASSES] = {0}, of_last[MAX_N] = {0};
    must_init(&o, TH_ORDER_BALANCED, c);
    for (int64_t epoch = 0; epoch < EPOCHS; epoch++) {
        th_order_draw(&o, 5, epoch);
        for (int64_t p = 0; p < o.n; p++) {
            int k = sample[o.sample[p]].label;
            share[k]++;
            of_last[o.sample[p]] += k == 6;
        }
    }
    for (int k = 0; k < 7; k++) /* 4 6/7 an epoch, deviation 0.35 */
        assert_in_range(share[k], 3400 - 50, 3400 + 50);
    for (int64_t i = 0; i < o.n; i++) /* 3400 over 13 images */
        if (sample[i].label == 6)
            assert_in_range(of_last[i], 261 - 65, 261 + 65);
    th_order_release(&o);
}

static void a_drawn_order_is_of_seed_and_epoch_alone(void **state)
{
    (void)state;
    for (int kind = TH_ORDER_SHUFFLED; kind <= TH_ORDER_BALANCED; kind++) {
        struct th_order a, b;
        must_init(&a, (enum th_order_kind)kind, &cases[3]);
        must_init(&b, (enum th_order_kind)kind, &cases[3]);
        size_t bytes = (size_t)a.n * sizeof *a.sample;
        th_order_draw(&a, 3, 7);
        th_order_draw(&b, 3, 6);
        assert_memory_not_equal(a.sample, b.sample, bytes);
        th_order_draw(&b, 4, 7);
        assert_memory_not_equal(a.sample, b.sample, bytes);
        th_order_draw(&b, 3, 7);
        assert_memory_equal(a.sample, b.sample, bytes);
        th_order_release(&a);
        th_order_release(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(listed_and_shuffled_orders_have_each_image_once),
        cmocka_unit_test(balanced_shares_differ_by_one_at_most),
        cmocka_unit_test(over_epochs_classes_and_images_of_a_class_come_equally_often),
        cmocka_unit_test(a_drawn_order_is_of_seed_and_epoch_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
