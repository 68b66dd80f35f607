/* SPDX-License-Identifier: Apache-2.0
 * NumPy's .npz: what the reader takes and what it refuses, from headers made here. Whole
 * files of NumPy are golden/dialects/google.npz and golden/weights/types.npz. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#include "error.h"
#include "weights.h"

static size_t put(unsigned char *to, uint32_t value, int n)
{
    for (int i = 0; i < n; i++)
        to[i] = (unsigned char)(value >> 8 * i);
    return (size_t)n;
}

/* A zip of one entry "a.npy": a header of `version` with `data_n` bytes 0, 1, 2, ... */
static size_t make(unsigned char *zip, int version, const char *header, size_t data_n)
{
    unsigned char npy[512] = {0x93, 'N', 'U', 'M', 'P', 'Y', (unsigned char)version, 0};
    size_t n = 8, m = strlen(header);
    n += put(npy + n, (uint32_t)m, version == 1 ? 2 : 4);
    memcpy(npy + n, header, m);
    n += m;
    for (size_t i = 0; i < data_n; i++)
        npy[n++] = (unsigned char)i;
    uint32_t crc = (uint32_t)crc32_z(0, npy, n);
    memset(zip, 0, 30);
    memcpy(zip, "PK\3\4", 4);
    put(zip + 14, crc, 4);
    put(zip + 18, (uint32_t)n, 4);
    put(zip + 22, (uint32_t)n, 4);
    put(zip + 26, 5, 2);
    memcpy(zip + 30, "a.npy", 5);
    memcpy(zip + 35, npy, n);
    size_t at = 35 + n, central = at;
    memset(zip + at, 0, 46 + 22 + 5);
    memcpy(zip + at, "PK\1\2", 4);
    put(zip + at + 16, crc, 4);
    put(zip + at + 20, (uint32_t)n, 4);
    put(zip + at + 24, (uint32_t)n, 4);
    put(zip + at + 28, 5, 2);
    memcpy(zip + at + 46, "a.npy", 5);
    at += 51;
    memcpy(zip + at, "PK\5\6", 4);
    put(zip + at + 8, 1, 2);
    put(zip + at + 10, 1, 2);
    put(zip + at + 12, 51, 4);
    put(zip + at + 16, (uint32_t)central, 4);
    return at + 22;
}

static thaw_status read_made(
    int version, const char *header, size_t data_n, struct th_weights *w)
{
    unsigned char zip[1024];
    size_t n = make(zip, version, header, data_n);
    th_weights_init(w);
    return th_weights_read_image(zip, n, "x.npz", w);
}

#define H(descr, order, shape)                                                         \
    "{'descr': '" descr "', 'fortran_order': " order ", 'shape': " shape ", }  \n"

static void every_version_and_type_is_read(void **state)
{
    (void)state;
    struct th_weights w;
    for (int version = 1; version <= 3; version++) {
        assert_int_equal(
            read_made(version, H("|u1", "False", "(2, 3)"), 6, &w), THAW_OK);
        const struct th_weight *a = th_weights_find(&w, "a");
        assert_non_null(a);
        assert_int_equal(a->tensor.shape.dim[1], 3);
        for (int i = 0; i < 6; i++)
            assert_true(((float *)a->tensor.data)[i] == (float)i);
        assert_string_equal(w.format, "npz");
        th_weights_release(&w);
    }
    static const struct {
        const char *header;
        size_t n;
        float first; /* of the bytes 0, 1, 2, ... */
    } types[] = {{H("<f4", "False", "()"), 4, 3.8204714e-37F},
        {H("<f8", "False", "(1,)"), 8, 0},
        {H("<f2", "False", "(1,)"), 2, 1.525878906e-5F},
        {H("|V2", "False", "(1,)"), 2, 2.3509887e-38F},
        {H("<i8", "False", "(1,)"), 8, 5.0643e17F},
        {H("<i4", "False", "(1,)"), 4, 50462976}, {H("<i2", "False", "(1,)"), 2, 256},
        {H("|i1", "False", "(1,)"), 1, 0}, {H("|b1", "False", "(1,)"), 1, 0},
        {H("<u2", "False", "(1,)"), 2, 256}, {H("<u4", "False", "(1,)"), 4, 50462976},
        {H("<u8", "False", "(1,)"), 8, 5.0643e17F}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (read_made(1, types[i].header, types[i].n, &w) != THAW_OK)
            fail_msg("%s: %s", types[i].header, thaw_error());
        float have = *(float *)w.weight[0].tensor.data, want = types[i].first;
        if (!(have >= 0.999F * want && have <= 1.001F * want) && i != 1)
            fail_msg("%s: %g, not %g", types[i].header, (double)have, (double)want);
        th_weights_release(&w);
    }
}

static void column_major_arrays_become_row_major(void **state)
{
    (void)state;
    struct th_weights w;
    assert_int_equal(read_made(2, H("|u1", "True", "(2, 3)"), 6, &w), THAW_OK);
    static const float want[] = {0, 2, 4, 1, 3, 5};
    assert_memory_equal(w.weight[0].tensor.data, want, sizeof want);
    th_weights_release(&w);
    assert_int_equal(read_made(1, H("|u1", "True", "(2, 0, 3)"), 0, &w), THAW_OK);
    th_weights_release(&w);
}

static void what_numpy_does_not_write_is_refused_with_its_reason(void **state)
{
    (void)state;
    static const struct {
        int version;
        const char *header;
        size_t n;
        const char *words;
    } refused[] = {
        {4, H("<f4", "False", "(1,)"), 4, "an unknown version"},
        {1, H("<f4", "False", "(2,)"), 4, "not as many numbers"},
        {1, H("<f4", "False", "(1,)"), 5, "not as many numbers"},
        {1, H(">f4", "False", "(1,)"), 4, "little-endian"},
        {1, H("|O", "False", "(1,)"), 4, "nothing in a file is executed"},
        {1, H("<c8", "False", "(1,)"), 8, "numbers of type '<c8'"},
        {1, "{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (1,), }", 4,
            "an array of records"},
        {1, H("<f4", "Maybe", "(1,)"), 4, "no fortran_order"},
        {1, H("<f4", "False", "(-1,)"), 4, "a shape that is none"},
        {1, H("<f4", "False", "(1"), 4, "a shape that is none"},
        {1, H("<f4", "False", "(99999999999999999999,)"), 4, "an impossible shape"},
        {1, H("<f4", "False", "(4611686018427387904, 4, 0)"), 0, "an impossible shape"},
        {1, H("<f4", "False", "(1, 1, 1, 1, 1, 1, 1)"), 4, "more than 6 extents"},
        {1, H("<f4", "False", "1"), 4, "no shape"},
        {1, "{'descr': '<f4', 'shape': (1,), }", 4, "does not write"},
        {1, "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}",
            4, "does not write"},
        {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}", 4,
            "does not write"},
        {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x", 4,
            "does not write"},
        {1, "{'descr': '<f4', 'fortran_order': False 'shape': (1,)}", 4,
            "does not write"},
        {1, "{'descr': '<f4", 4, "records"},
        {1, "{", 0, "does not write"},
        {1, "", 0, "no header"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct th_weights w;
        thaw_status status =
            read_made(refused[i].version, refused[i].header, refused[i].n, &w);
        if (status != THAW_E_DATA || !strstr(thaw_error(), refused[i].words) ||
            !strstr(thaw_error(), "x.npz"))
            fail_msg("%s: %d, %s", refused[i].header, status, thaw_error());
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_version_and_type_is_read),
        cmocka_unit_test(column_major_arrays_become_row_major),
        cmocka_unit_test(what_numpy_does_not_write_is_refused_with_its_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
