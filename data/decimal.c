/* SPDX-License-Identifier: Apache-2.0
 * Owns the reading of decimals. Up to 15 digits and a power of ten up to 22 are exact
 * doubles, so that one multiplication or division rounds as it should (Clinger, "How to
 * read floating point numbers accurately", 1990); all else is strtod's. */
#include "decimal.h"

#include <locale.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { EXACT_DIGITS = 15, EXACT_POWER = 22 };

static const double power_of_ten[EXACT_POWER + 1] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6,
    1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22};

static double slow(const char *text, const char **end)
{
    char *behind;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    double value = c ? strtod_l(text, &behind, c) : strtod(text, &behind);
    if (c)
        freelocale(c);
    *end = behind;
    return value;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

double th_decimal(const char *text, const char **end)
{
    const char *at = text + (*text == '-');
    uint64_t digits = 0;
    int n = 0, fraction = 0;
    for (; is_digit(*at) && n <= EXACT_DIGITS; at++, n++)
        digits = digits * 10 + (uint64_t)(*at - '0');
    if (n == 0)
        return slow(text, end);
    if (*at == '.')
        for (at++; is_digit(*at) && n <= EXACT_DIGITS; at++, n++, fraction++)
            digits = digits * 10 + (uint64_t)(*at - '0');
    if (n > EXACT_DIGITS || *at == 'e' || *at == 'E' || *at == 'x' || *at == 'X')
        return slow(text, end);
    *end = at;
    double value = (double)digits / power_of_ten[fraction];
    return *text == '-' ? -value : value;
}

bool th_decimal_whole(const char *text, double *value)
{
    static const char blank[] = " \t\r\n";
    const char *end;
    text += strspn(text, blank);
    *value = th_decimal(text, &end);
    return end != text && end[strspn(end, blank)] == '\0';
}
