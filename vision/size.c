/* SPDX-License-Identifier: Apache-2.0
 * Owns how a size is written, and read. */
#include "size.h"

#include <stdio.h>
#include <string.h>

enum { MOST_DIGITS = 7 };

struct th_size_text th_size_text(struct th_size s)
{
    struct th_size_text t;
    if (s.w == s.h)
        snprintf(t.text, sizeof t.text, "%d", s.w);
    else
        snprintf(t.text, sizeof t.text, "%dx%d", s.w, s.h);
    return t;
}

/* Moves behind the digits; false where there are none, or too many. */
static bool take_side(const char **at, int *side)
{
    size_t n = strspn(*at, "0123456789");
    *side = 0;
    for (size_t i = 0; i < n && n <= MOST_DIGITS; i++)
        *side = *side * 10 + ((*at)[i] - '0');
    *at += n;
    return n > 0 && n <= MOST_DIGITS;
}

bool th_size_parse(const char *text, struct th_size *out)
{
    struct th_size s;
    if (!take_side(&text, &s.w))
        return false;
    s.h = s.w;
    if (*text == 'x' && (text++, !take_side(&text, &s.h)))
        return false;
    *out = *text ? *out : s;
    return !*text;
}
