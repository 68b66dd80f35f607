/* SPDX-License-Identifier: Apache-2.0
 * Owns the text of an HTML document and what is let into it. */
#include "html.h"

#include "json.h"
#include "mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void put(struct th_html *h, const char *bytes, size_t n)
{
    if (!h->failed && h->n + n + 1 > h->capacity) {
        size_t capacity = 2 * (h->n + n) + 4096;
        char *grown = th_realloc(h->text, h->n, capacity, 1);
        h->failed = !grown;
        h->text = grown ? grown : h->text;
        h->capacity = grown ? capacity : h->capacity;
    }
    if (h->failed)
        return;
    memcpy(h->text + h->n, bytes, n);
    h->n += n;
    h->text[h->n] = 0;
}

void th_html_put(struct th_html *h, const char *fmt, ...)
{
    char text[4096]; /* markup comes in short pieces */
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    h->failed = h->failed || n < 0 || (size_t)n >= sizeof text;
    if (!h->failed)
        put(h, text, (size_t)n);
}

/* C1 controls are two bytes, 0xc2 and 0x80..0x9f. */
static bool is_control(const unsigned char *at)
{
    return *at < ' ' || *at == 127 || (*at == 0xc2 && at[1] < 0xa0);
}

void th_html_text(struct th_html *h, const char *text)
{
    while (*text) {
        size_t n = th_utf8_length(text);
        if (n == 0 || is_control((const unsigned char *)text))
            put(h, "\xef\xbf\xbd", 3);
        else if (strchr("<>&\"'", *text)) {
            char escape[8];
            put(h, escape, (size_t)snprintf(escape, sizeof escape, "&#%d;", *text));
        } else
            put(h, text, n);
        text += n ? n : 1;
    }
}

void th_html_base64(struct th_html *h, const uint8_t *bytes, size_t n)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        size_t left = n - i;
        unsigned b = left > 1 ? bytes[i + 1] : 0, c = left > 2 ? bytes[i + 2] : 0;
        unsigned group = (unsigned)bytes[i] << 16 | b << 8 | c;
        const char four[4] = {digits[group >> 18], digits[group >> 12 & 63],
            left > 1 ? digits[group >> 6 & 63] : '=',
            left > 2 ? digits[group & 63] : '='};
        put(h, four, 4);
    }
}

thaw_status th_html_status(const struct th_html *h)
{
    return h->failed ? th_fail(THAW_E_MEMORY, "out of memory while HTML was written")
                     : THAW_OK;
}

void th_html_release(struct th_html *h)
{
    th_free(h->text);
    *h = (struct th_html){0};
}
