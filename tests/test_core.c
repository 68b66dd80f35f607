/* SPDX-License-Identifier: Apache-2.0
 * Errors, memory, random streams, tensors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "error.h"
#include "mem.h"
#include "rng.h"
#include "tensor.h"

static void an_error_may_quote_the_one_before(void **state)
{
    (void)state;
    assert_int_equal(th_fail(THAW_E_DATA, "%s", "inner"), THAW_E_DATA);
    assert_int_equal(th_fail(THAW_E_IO, "outer: %s", thaw_error()), THAW_E_IO);
    assert_string_equal(thaw_error(), "outer: inner");
}

static void memory_is_aligned_and_zero(void **state)
{
    (void)state;
    unsigned char *p = th_alloc(1000, 3);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % TH_ALIGN, 0);
    for (size_t i = 0; i < 3000; i++)
        assert_int_equal(p[i], 0);
    th_free(p);
}

static void an_overflowing_allocation_is_refused(void **state)
{
    (void)state;
    assert_null(th_alloc(SIZE_MAX / 2, 3));
    assert_non_null(strstr(thaw_error(), "too large"));
}

static void growing_keeps_the_old_and_zeroes_the_new(void **state)
{
    (void)state;
    int *p = th_alloc(3, sizeof *p);
    assert_non_null(p);
    p[2] = 7;
    p = th_realloc(p, 3, 100, sizeof *p);
    assert_non_null(p);
    assert_int_equal(p[2], 7);
    assert_int_equal(p[99], 0);
    th_free(p);
}

/* Known answers of Philox4x32-10 from the authors' Random123 (kat_vectors). */
static void philox_gives_its_published_answers(void **state)
{
    (void)state;
    uint32_t w[4];
    th_rng_block(0, 0, w);
    const uint32_t zeros[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    assert_memory_equal(w, zeros, sizeof w);
}

static void a_permutation_holds_each_index_once(void **state)
{
    (void)state;
    enum { N = 257 };
    int64_t order[N];
    int seen[N] = {0}, moved = 0;
    th_rng_permutation(th_rng_mix(3, 1), N, order);
    for (int i = 0; i < N; i++) {
        seen[order[i]]++;
        moved += order[i] != i;
    }
    for (int i = 0; i < N; i++)
        assert_int_equal(seen[i], 1);
    assert_true(moved > N / 2);
}

static void uniform_numbers_lie_in_range_with_the_right_mean(void **state)
{
    (void)state;
    double sum = 0;
    for (uint64_t i = 0; i < 100000; i++) {
        float u = th_rng_uniform(42, i);
        assert_true(u >= 0.0f && u < 1.0f);
        sum += (double)u;
    }
    assert_true(sum / 100000 > 0.495 && sum / 100000 < 0.505);
}

static void normal_numbers_have_unit_variance(void **state)
{
    (void)state;
    double sum = 0, squares = 0;
    for (uint64_t i = 0; i < 100000; i++) {
        double z = (double)th_rng_normal(42, i);
        sum += z;
        squares += z * z;
    }
    assert_true(sum / 100000 > -0.02 && sum / 100000 < 0.02);
    assert_true(squares / 100000 > 0.98 && squares / 100000 < 1.02);
}

static void a_hash_sees_every_bit_and_the_length(void **state)
{
    (void)state;
    unsigned char bytes[67] = {0};
    uint64_t zero = th_hash(bytes, sizeof bytes, 0);
    assert_int_not_equal(zero, th_hash(bytes, sizeof bytes - 1, 0));
    for (size_t i = 0; i < 8 * sizeof bytes; i++) {
        bytes[i / 8] ^= (unsigned char)(1u << i % 8);
        assert_int_not_equal(zero, th_hash(bytes, sizeof bytes, 0));
        bytes[i / 8] ^= (unsigned char)(1u << i % 8);
    }
}

static void shapes_count_print_and_compare(void **state)
{
    (void)state;
    struct th_shape a = TH_SHAPE(64, 3, 7, 7), b = TH_SHAPE(64, 3, 7);
    char text[64];
    assert_int_equal(th_shape_count(&a), 9408);
    assert_string_equal(th_shape_text(&a, text, sizeof text), "[64,3,7,7]");
    assert_false(th_shape_equal(&a, &b));
    assert_int_equal(th_dtype_bytes(TH_BIT, 9), 2);
    struct th_tensor t;
    assert_int_equal(th_tensor_init(&t, TH_F32, a), THAW_OK);
    th_tensor_release(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_may_quote_the_one_before),
        cmocka_unit_test(memory_is_aligned_and_zero),
        cmocka_unit_test(an_overflowing_allocation_is_refused),
        cmocka_unit_test(growing_keeps_the_old_and_zeroes_the_new),
        cmocka_unit_test(philox_gives_its_published_answers),
        cmocka_unit_test(a_permutation_holds_each_index_once),
        cmocka_unit_test(uniform_numbers_lie_in_range_with_the_right_mean),
        cmocka_unit_test(normal_numbers_have_unit_variance),
        cmocka_unit_test(a_hash_sees_every_bit_and_the_length),
        cmocka_unit_test(shapes_count_print_and_compare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
