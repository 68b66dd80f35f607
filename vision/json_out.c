/* SPDX-License-Identifier: Apache-2.0
 * Owns the writing of JSON: commas, escapes, numbers. Whether brackets and keys come in a
 * sensible order is the caller's business. */
#include "error.h"
#include "json.h"
#include "mem.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(struct th_json_out *o, const char *bytes, size_t n)
{
    if (!o->failed && o->n + n + 1 > o->capacity) {
        size_t capacity = 2 * (o->n + n) + 256;
        char *grown = th_realloc(o->text, o->n, capacity, 1);
        o->failed = !grown;
        o->text = grown ? grown : o->text;
        o->capacity = grown ? capacity : o->capacity;
    }
    if (o->failed)
        return;
    memcpy(o->text + o->n, bytes, n);
    o->n += n;
    o->text[o->n] = 0;
}

/* What stands before a value or key, and what the next one will need. */
static void begin(struct th_json_out *o)
{
    if (o->needs_comma)
        put(o, ",", 1);
    o->needs_comma = true;
}

static void put_quoted(struct th_json_out *o, const char *text)
{
    put(o, "\"", 1);
    while (*text) {
        char escape[8];
        unsigned char c = (unsigned char)*text;
        size_t n = th_utf8_length(text);
        if (c == '"' || c == '\\')
            put(o, escape, (size_t)snprintf(escape, sizeof escape, "\\%c", c));
        else if (c < ' ' || c == 127)
            put(o, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", c));
        else if (n == 0)
            put(o, "\xef\xbf\xbd", 3); /* U+FFFD: file names are any bytes */
        else
            put(o, text, n);
        text += n ? n : 1;
    }
    put(o, "\"", 1);
}

void th_json_open(struct th_json_out *o, char bracket)
{
    begin(o);
    put(o, &bracket, 1);
    o->needs_comma = false;
}

void th_json_close(struct th_json_out *o, char bracket)
{
    put(o, &bracket, 1);
    o->needs_comma = true;
}

void th_json_key(struct th_json_out *o, const char *key)
{
    begin(o);
    put_quoted(o, key);
    put(o, ":", 1);
    o->needs_comma = false;
}

void th_json_string(struct th_json_out *o, const char *text)
{
    begin(o);
    put_quoted(o, text);
}

/* With `digits` significant ones, and a point if `point` asks for one. */
static void put_real(struct th_json_out *o, double value, int digits, bool point)
{
    char text[40] = "null";
    if (isfinite(value)) {
        /* This thread's locale alone, for a moment: the decimal point is a point. */
        locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
        locale_t before = plain ? uselocale(plain) : (locale_t)0;
        o->failed |= !plain;
        int n = snprintf(text, sizeof text, "%.*g", digits, value);
        if (point && !strpbrk(text, ".e"))
            memcpy(text + n, ".0", 3);
        if (plain) {
            uselocale(before);
            freelocale(plain);
        }
    }
    begin(o);
    put(o, text, strlen(text));
}

void th_json_real(struct th_json_out *o, double value)
{
    put_real(o, value, 9, false);
}

/* The shortest of 15 to 17 digits that gives the same double: 0.485 stays 0.485. */
void th_json_exact(struct th_json_out *o, double value)
{
    char text[40];
    int digits = 14;
    do
        snprintf(text, sizeof text, "%.*g", ++digits, value);
    while (digits < 17 && strtod(text, NULL) != value);
    put_real(o, value, digits, true);
}

void th_json_whole(struct th_json_out *o, int64_t value)
{
    char text[32];
    begin(o);
    put(o, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)value));
}

void th_json_bool(struct th_json_out *o, bool value)
{
    begin(o);
    put(o, value ? "true" : "false", value ? 4 : 5);
}

void th_json_null(struct th_json_out *o)
{
    begin(o);
    put(o, "null", 4);
}

void th_json_put_real(struct th_json_out *o, const char *key, double value)
{
    th_json_key(o, key);
    th_json_real(o, value);
}

void th_json_put_whole(struct th_json_out *o, const char *key, int64_t value)
{
    th_json_key(o, key);
    th_json_whole(o, value);
}

void th_json_put_size(struct th_json_out *o, const char *key, struct th_size size)
{
    if (size.w == size.h)
        th_json_put_whole(o, key, size.w);
    else
        th_json_put_string(o, key, th_size_text(size).text);
}

void th_json_put_string(struct th_json_out *o, const char *key, const char *text)
{
    th_json_key(o, key);
    th_json_string(o, text);
}

thaw_status th_json_out_status(const struct th_json_out *o)
{
    return o->failed ? th_fail(THAW_E_MEMORY, "out of memory while JSON was written")
                     : THAW_OK;
}

void th_json_out_release(struct th_json_out *o)
{
    th_free(o->text);
    *o = (struct th_json_out){0};
}
