/* SPDX-License-Identifier: Apache-2.0
 * Options as JSON (config.json) and back. Reads exactly what such a file may hold, a flat
 * object of strings, numbers and booleans: no nesting, so no depth to bound. Values are
 * paths too, whose bytes need not be UTF-8; json.h would refuse or replace those. */
#include "options.h"

#include "file.h"
#include "mem.h"

#include <stdio.h>
#include <string.h>

enum {
    MAX_TEXT = 8192,    /* bytes of a name or value in a file */
    MAX_FILE = 1 << 20, /* bytes of a file */
};

static bool is_written(const thaw_options *o, const char *name)
{
    return thaw_options_get(o, name) && strcmp(name, "config") != 0;
}

/* ---- Writing ---- */

/* Append `text` as a JSON string; `to` has 6 bytes a letter and two for the quotes. */
static char *put_string(char *to, const char *text)
{
    *to++ = '"';
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20) {
            to += sprintf(to, "\\u%04x", c);
            continue;
        }
        if (c == '"' || c == '\\')
            *to++ = '\\';
        *to++ = *text;
    }
    *to++ = '"';
    return to;
}

char *th_options_json(const thaw_options *o)
{
    size_t n = 0, bytes = 8;
    const thaw_option *table = thaw_option_table(&n);
    for (size_t i = 0; i < n; i++)
        if (is_written(o, table[i].name))
            bytes += 6 * strlen(thaw_options_get(o, table[i].name)) +
                     strlen(table[i].name) + 16;
    char *text = th_alloc(bytes, 1);
    if (!text)
        return NULL;
    char *to = text;
    *to++ = '{';
    for (size_t i = 0; i < n; i++) {
        if (!is_written(o, table[i].name))
            continue;
        to += sprintf(to, "%s\n  \"%s\": ", to == text + 1 ? "" : ",", table[i].name);
        to = put_string(to, thaw_options_get(o, table[i].name));
    }
    strcpy(to, "\n}\n");
    return text;
}

/* ---- Reading ---- */

struct reader {
    const char *at;
};

static void skip_space(struct reader *r)
{
    r->at += strspn(r->at, " \t\r\n");
}

static bool take(struct reader *r, char c)
{
    skip_space(r);
    if (*r->at != c)
        return false;
    r->at++;
    return true;
}

/* The code point of "XXXX" as UTF-8 in out (at most 3 bytes); 0 bytes when malformed.
 * Surrogates are refused: th_options_json never writes them. */
static size_t take_escape(struct reader *r, char *out)
{
    unsigned code = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        const char *digits = "0123456789abcdef0123456789ABCDEF";
        const char *d = *r->at ? strchr(digits, *r->at) : NULL;
        if (!d)
            return 0;
        code = code * 16 + (unsigned)((d - digits) % 16);
    }
    if (!code || (code >= 0xd800 && code < 0xe000))
        return 0;
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 63));
        return 2;
    }
    out[0] = (char)(0xe0 | code >> 12);
    out[1] = (char)(0x80 | (code >> 6 & 63));
    out[2] = (char)(0x80 | (code & 63));
    return 3;
}

static bool take_string(struct reader *r, char out[MAX_TEXT])
{
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    size_t n = 0;
    if (!take(r, '"'))
        return false;
    while (*r->at != '"') {
        if ((unsigned char)*r->at < 0x20 || n + 4 > MAX_TEXT)
            return false;
        char c = *r->at++;
        if (c != '\\') {
            out[n++] = c;
            continue;
        }
        const char *which = *r->at ? strchr(letters, *r->at) : NULL;
        char kind = *r->at;
        if (which)
            out[n++] = meant[which - letters];
        else if (kind != 'u')
            return false;
        r->at++;
        if (kind != 'u')
            continue;
        size_t bytes = take_escape(r, out + n);
        if (!bytes)
            return false;
        n += bytes;
    }
    r->at++;
    out[n] = 0;
    return true;
}

/* A string, number, true or false, as the text that thaw_options_set takes. */
static bool take_value(struct reader *r, char out[MAX_TEXT])
{
    skip_space(r);
    if (*r->at == '"')
        return take_string(r, out);
    size_t n = strspn(r->at, "+-.0123456789eEtrufals");
    if (!n || n >= 64)
        return false;
    memcpy(out, r->at, n);
    out[n] = 0;
    r->at += n;
    if (!strcmp(out, "true"))
        strcpy(out, "1");
    if (!strcmp(out, "false"))
        strcpy(out, "0");
    double ignored = 0;
    return th_parse_real(out, &ignored);
}

static thaw_status read_pairs(
    thaw_options *o, struct reader *r, char *name, char *value, const char *where)
{
    const char *start = r->at;
    bool good = take(r, '{'), more = good && !take(r, '}');
    while (more) {
        good = take_string(r, name) && take(r, ':') && take_value(r, value);
        if (!good)
            break;
        if (!strcmp(name, "config"))
            return th_fail(THAW_E_USAGE, "%s: cannot name another config", where);
        if (!thaw_options_is_set(o, name)) {
            thaw_status status = thaw_options_set(o, name, value);
            if (status != THAW_OK)
                return th_fail(status, "%s: %s", where, thaw_error());
        }
        more = take(r, ',');
        good = more || take(r, '}');
    }
    skip_space(r);
    if (good && !*r->at)
        return THAW_OK;
    return th_fail(THAW_E_USAGE, "%s: not a list of options: bad JSON at byte %td",
        where, r->at - start);
}

thaw_status th_options_from_json(thaw_options *o, const char *text, const char *where)
{
    struct reader r = {text};
    char *name = th_alloc(2, MAX_TEXT);
    if (!name)
        return THAW_E_MEMORY;
    thaw_status status = read_pairs(o, &r, name, name + MAX_TEXT, where);
    th_free(name);
    return status;
}

thaw_status th_options_load(thaw_options *o, const char *path)
{
    unsigned char *text = NULL;
    size_t n = 0;
    TRY(th_file_read(path, MAX_FILE, &text, &n));
    thaw_status status = strlen((const char *)text) == n
                             ? th_options_from_json(o, (const char *)text, path)
                             : th_fail(THAW_E_USAGE, "%s: not a config.json", path);
    th_free(text);
    return status;
}
