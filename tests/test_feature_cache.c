/* SPDX-License-Identifier: Apache-2.0
 * Kept features as entries: half precision, memory, and a file that processes share and
 * that may be damaged, cut off or somebody else's. */
#include "run.h"

#include "feature_cache.h"
#include "half.h"
#include "kept.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>

enum { ENTRIES = 7, VALUES = 5 };

static int setup(void **state)
{
    (void)state;
    return make_data(0);
}

/* ---- Half precision ---- */

/* The nearest half of all there are, ties to the even one: by search. */
static float nearest_half(float x)
{
    float best = 0;
    uint16_t best_bits = 0;
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        uint16_t h = (uint16_t)bits;
        float y;
        th_half_to_float(&y, &h, 1);
        if (!isfinite(y))
            continue;
        float d = fabsf(y - x), e = fabsf(best - x);
        if (d < e || (!(d > e) && !(h & 1) && (best_bits & 1))) {
            best = y;
            best_bits = h;
        }
    }
    return best;
}

static void half_precision_rounds_to_the_nearest_even_and_saturates(void **state)
{
    (void)state;
    static const float known[][2] = {{1.0F, 1.0F}, {0.1F, 0.0999755859375F},
        {65504.0F, 65504.0F}, {65519.0F, 65504.0F}, {1e30F, 65504.0F},
        {-1e9F, -65504.0F}, {2049.0F, 2048.0F}, {2051.0F, 2052.0F},
        {5.9604645e-8F, 5.9604645e-8F}, {2.9802322e-8F, 0.0F},
        {2.99e-8F, 5.9604645e-8F}, {6.1035156e-5F, 6.1035156e-5F}, {1e-20F, 0.0F},
        {-0.0F, -0.0F}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint16_t h;
        float y;
        th_half_from_float(&h, &known[i][0], 1);
        th_half_to_float(&y, &h, 1);
        assert_memory_equal(&y, &known[i][1], sizeof y);
    }
    for (uint64_t i = 0; i < 200; i++) {
        float scale = ldexpf(1, (int)(i % 36) - 20), y;
        float x = th_rng_normal(9, i) * scale;
        uint16_t h;
        th_half_from_float(&h, &x, 1);
        th_half_to_float(&y, &h, 1);
        if (y < nearest_half(x) || y > nearest_half(x))
            fail_msg("%.9g became %.9g", (double)x, (double)y);
    }
    const float odd[] = {INFINITY, -INFINITY, NAN};
    float back[3];
    uint16_t h[3];
    th_half_from_float(h, odd, 3);
    th_half_to_float(back, h, 3);
    assert_true(isinf(back[0]) && isinf(back[1]) && back[1] < 0 && isnan(back[2]));
}

/* ---- Entries ---- */

static struct th_cache_spec spec_of(enum th_cache_place place, const char *dir)
{
    return (struct th_cache_spec){.place = place,
        .dir = dir,
        .key = {11, 22},
        .entries = ENTRIES,
        .values = VALUES,
        .limit = 1 << 20};
}

static void make_entry(int64_t entry, float x[VALUES])
{
    for (int k = 0; k < VALUES; k++)
        x[k] = th_rng_normal(5, (uint64_t)(entry * VALUES + k));
}

static struct th_feature_cache *open_noting(
    const struct th_cache_spec *spec, bool expect_note)
{
    struct th_feature_cache *c = NULL;
    char *note = NULL;
    must(th_feature_cache_open(spec, &c, &note));
    if ((note != NULL) != expect_note)
        fail_msg("note: %s", note ? note : "(none)");
    th_free(note);
    return c;
}

static void put_all(struct th_feature_cache *c)
{
    float x[VALUES];
    for (int64_t i = 0; i < ENTRIES; i++) {
        make_entry(i, x);
        must(th_feature_cache_put(c, i, x));
    }
}

static void expect_entry(struct th_feature_cache *c, int64_t i)
{
    float want[VALUES], got[VALUES];
    make_entry(i, want);
    assert_true(th_feature_cache_has(c, i));
    must(th_feature_cache_get(c, i, got));
    assert_memory_equal(got, want, sizeof got);
}

static void what_was_put_is_what_one_gets(void **state)
{
    (void)state;
    char dir[256];
    run_path(dir, "entries");
    for (int place = TH_CACHE_MEMORY; place <= TH_CACHE_DISK; place++) {
        struct th_cache_spec spec = spec_of((enum th_cache_place)place, dir);
        struct th_feature_cache *c = open_noting(&spec, false);
        assert_int_equal(th_feature_cache_room(c), ENTRIES);
        assert_int_equal(th_feature_cache_filled(c), 0);
        put_all(c);
        for (int64_t i = ENTRIES - 1; i >= 0; i--)
            expect_entry(c, i);
        th_feature_cache_close(c);
    }
    forget("entries");
}

static void beyond_the_limit_nothing_is_kept(void **state)
{
    (void)state;
    struct th_cache_spec spec = spec_of(TH_CACHE_MEMORY, NULL);
    spec.limit = 3 * 64;
    struct th_feature_cache *c = open_noting(&spec, false);
    put_all(c);
    assert_int_equal(th_feature_cache_filled(c), 3);
    expect_entry(c, 2);
    assert_false(th_feature_cache_has(c, 3));
    th_feature_cache_close(c);
    spec.limit = 1; /* less than one */
    c = open_noting(&spec, false);
    put_all(c);
    assert_int_equal(th_feature_cache_filled(c), 0);
    th_feature_cache_close(c);
}

static void a_file_is_used_again_by_others_at_the_same_time_too(void **state)
{
    (void)state;
    char dir[256], path[600];
    float x[VALUES];
    run_path(dir, "shared");
    struct th_cache_spec spec = spec_of(TH_CACHE_DISK, dir);
    struct th_feature_cache *a = open_noting(&spec, false);
    struct th_feature_cache *b = open_noting(&spec, false);
    make_entry(4, x);
    must(th_feature_cache_put(a, 4, x));
    assert_false(th_feature_cache_has(b, 4));
    th_feature_cache_refresh(b);
    expect_entry(b, 4);
    put_all(b);
    put_all(a);
    th_feature_cache_close(a);
    th_feature_cache_close(b);
    a = open_noting(&spec, false);
    for (int64_t i = 0; i < ENTRIES; i++)
        expect_entry(a, i);
    th_feature_cache_close(a);
    file_of(dir, path); /* and no temporary file is left */
    forget("shared");
}

/* Every byte of the file in turn: an entry is right, or it is known to be damaged, or the
 * file is thrown away. */
static void no_damaged_byte_passes_for_a_feature(void **state)
{
    (void)state;
    char dir[256], path[600];
    run_path(dir, "damaged");
    struct th_cache_spec spec = spec_of(TH_CACHE_DISK, dir);
    th_feature_cache_close(open_noting(&spec, false));
    file_of(dir, path);
    for (long at = 0; at < size_of(path); at++) {
        struct th_feature_cache *c = open_noting(&spec, false);
        int64_t lost = 0;
        put_all(c);
        th_feature_cache_close(c);
        unsigned char was = 0, other = 0;
        FILE *f = fopen(path, "rb");
        assert_int_equal(fseek(f, at, SEEK_SET), 0);
        assert_int_equal(fread(&was, 1, 1, f), 1);
        fclose(f);
        other = was ^ 0x41;
        overwrite(path, at, &other, 1);
        c = open_noting(&spec, at < 64);
        for (int64_t i = 0; i < ENTRIES; i++) {
            float want[VALUES], got[VALUES];
            make_entry(i, want);
            if (th_feature_cache_has(c, i) &&
                th_feature_cache_get(c, i, got) == THAW_OK)
                assert_memory_equal(got, want, sizeof got);
            else
                lost++;
        }
        assert_true(lost <= 1 || at < 64);
        put_all(c); /* what was lost is written again */
        for (int64_t i = 0; i < ENTRIES; i++)
            expect_entry(c, i);
        th_feature_cache_close(c);
    }
    forget("damaged");
}

static void foreign_short_and_other_files_are_replaced(void **state)
{
    (void)state;
    char dir[256], path[600];
    run_path(dir, "foreign");
    struct th_cache_spec spec = spec_of(TH_CACHE_DISK, dir);
    struct th_feature_cache *c = open_noting(&spec, false);
    put_all(c);
    th_feature_cache_close(c);
    file_of(dir, path);
    assert_int_equal(truncate(path, size_of(path) - 1), 0);
    th_feature_cache_close(open_noting(&spec, true));
    assert_int_equal(truncate(path, 0), 0);
    th_feature_cache_close(open_noting(&spec, true));
    overwrite(path, 0, "PK\3\4", 4);
    c = open_noting(&spec, true);
    assert_int_equal(th_feature_cache_filled(c), 0);
    th_feature_cache_close(c);
    spec.values = VALUES + 1; /* the same name, other features */
    th_feature_cache_close(open_noting(&spec, true));
    forget("foreign");
}

/* As long as the file may not grow, which is what a full disk looks like. */
static void a_full_disk_is_told_once_and_what_is_kept_stays(void **state)
{
    (void)state;
    char dir[256], path[600];
    float x[VALUES];
    struct rlimit before;
    run_path(dir, "full");
    struct th_cache_spec spec = spec_of(TH_CACHE_DISK, dir);
    struct th_feature_cache *c = open_noting(&spec, false);
    file_of(dir, path);
    make_entry(0, x);
    must(th_feature_cache_put(c, 0, x));
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    const struct rlimit least = {.rlim_cur = 200, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &least), 0);
    make_entry(5, x);
    thaw_status first = th_feature_cache_put(c, 5, x);
    thaw_status second = th_feature_cache_put(c, 6, x);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(first, THAW_E_IO);
    assert_int_equal(second, THAW_OK);
    assert_int_equal(th_feature_cache_filled(c), 1);
    expect_entry(c, 0);
    th_feature_cache_close(c);
    c = open_noting(&spec, false); /* room again */
    put_all(c);
    assert_int_equal(th_feature_cache_filled(c), ENTRIES);
    th_feature_cache_close(c);
    forget("full");
}

static void a_folder_that_cannot_be_made_is_said_to_be(void **state)
{
    (void)state;
    struct th_cache_spec spec = spec_of(TH_CACHE_DISK, "/proc/nowhere");
    struct th_feature_cache *c = NULL;
    char *note = NULL;
    assert_int_equal(th_feature_cache_open(&spec, &c, &note), THAW_E_IO);
    assert_null(c);
    assert_non_null(strstr(thaw_error(), "/proc/nowhere"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_precision_rounds_to_the_nearest_even_and_saturates),
        cmocka_unit_test(what_was_put_is_what_one_gets),
        cmocka_unit_test(beyond_the_limit_nothing_is_kept),
        cmocka_unit_test(a_file_is_used_again_by_others_at_the_same_time_too),
        cmocka_unit_test(no_damaged_byte_passes_for_a_feature),
        cmocka_unit_test(foreign_short_and_other_files_are_replaced),
        cmocka_unit_test(a_full_disk_is_told_once_and_what_is_kept_stays),
        cmocka_unit_test(a_folder_that_cannot_be_made_is_said_to_be),
    };
    return cmocka_run_group_tests(tests, setup, remove_data);
}
