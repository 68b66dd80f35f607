/* SPDX-License-Identifier: Apache-2.0
 * Decimals are strtod's, bit for bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "decimal.h"
#include "rng.h"

#include <math.h>
#include <string.h>

static void same_as_strtod(const char *text)
{
    const char *end;
    char *wanted_end;
    double got = th_decimal(text, &end), wanted = strtod(text, &wanted_end);
    if (end != wanted_end || (memcmp(&got, &wanted, sizeof got) && !isnan(wanted)))
        fail_msg("%s: %.17g, not %.17g", text, got, wanted);
}

static void decimals_are_strtods(void **state)
{
    static const char *const texts[] = {"0", "-0", "1", "-1.5", "12.", ".5", "-.5",
        "1e5", "1E-3", "123456789012345", "1234567890123456", "0.1234567890123456789",
        "nan", "inf", "-inf", "", "-", "x", "1x", "0x10", "3.4e38", "1e400", "00012.50",
        "1.5.5", "1,5"};
    char text[64];
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        same_as_strtod(texts[i]);
    for (uint64_t i = 0; i < 200000; i++) {
        double value = (double)th_rng_normal(1, i) * pow(10, (double)(i % 12) - 3);
        snprintf(text, sizeof text, "%.*f", (int)(i % 14), value);
        same_as_strtod(text);
        snprintf(text, sizeof text, "%.*g", (int)(i % 18), value);
        same_as_strtod(text);
    }
}

static void a_whole_text_is_one_number(void **state)
{
    double value;
    (void)state;
    assert_true(th_decimal_whole(" 12.5\r\n", &value) && value == 12.5);
    assert_false(th_decimal_whole("", &value));
    assert_false(th_decimal_whole("12 13", &value));
    assert_false(th_decimal_whole("twelve", &value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decimals_are_strtods),
        cmocka_unit_test(a_whole_text_is_one_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
