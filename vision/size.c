/* SPDX-License-Identifier: Apache-2.0
 * Owns how sizes are written and read, and which of several is a picture's. */
#include "size.h"

#include <stdint.h>
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

/* ---- Several ---- */

/* How much larger a picture is on an input: up / down. */
struct scale {
    int64_t up, down;
};

static struct scale scale_of(struct th_size s, int w, int h)
{
    bool wide = (int64_t)s.w * h <= (int64_t)s.h * w;
    return wide ? (struct scale){s.w, w} : (struct scale){s.h, h};
}

static bool is_better(struct th_size a, struct th_size b, int w, int h)
{
    struct scale x = scale_of(a, w, h), y = scale_of(b, w, h);
    int64_t more = x.up * y.down - y.up * x.down;
    return more > 0 || (more == 0 && th_size_pixels(a) < th_size_pixels(b));
}

int th_sizes_choose(const struct th_sizes *s, int w, int h)
{
    int best = 0;
    for (int i = 1; i < s->n && w > 0 && h > 0; i++)
        if (is_better(s->at[i], s->at[best], w, h))
            best = i;
    return best;
}

struct th_sizes_text th_sizes_text(const struct th_sizes *s)
{
    struct th_sizes_text t = {""};
    size_t used = 0;
    for (int i = 0; i < s->n; i++)
        used += (size_t)snprintf(t.text + used, sizeof t.text - used, "%s%s",
            i ? "," : "", th_size_text(s->at[i]).text);
    return t;
}

/* Behind those that are there. */
static bool add_size(struct th_sizes *s, const char *text, size_t n)
{
    struct th_size_text one;
    struct th_size size;
    if (n >= sizeof one.text || s->n == TH_MAX_SIZES)
        return false;
    memcpy(one.text, text, n);
    one.text[n] = '\0';
    if (!th_size_parse(one.text, &size))
        return false;
    for (int i = 0; i < s->n; i++)
        if (th_size_same(s->at[i], size))
            return false;
    s->at[s->n++] = size;
    return true;
}

bool th_sizes_parse(const char *text, struct th_sizes *out)
{
    struct th_sizes s = {0};
    for (;;) {
        size_t n = strcspn(text, ",");
        if (!add_size(&s, text, n))
            return false;
        if (!text[n])
            break;
        text += n + 1;
    }
    *out = s;
    return true;
}
