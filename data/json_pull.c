/* SPDX-License-Identifier: Apache-2.0
 * Owns the buffer and the syntax. A zero byte stands behind what is in the buffer and stops
 * every scan; one within the file is an error. */
#include "json_pull.h"

#include "decimal.h"
#include "error.h"
#include "file.h"
#include "json.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

enum {
    MAX_STRING = 1 << 20,
    READ_BYTES = 1 << 18, /* at once: stays in a core's cache */
    BUFFER_BYTES = MAX_STRING + READ_BYTES,
    MAX_TOKEN = 512 /* of numbers and words */
};

thaw_status th_pull_refuse(const struct th_pull *p, const char *why)
{
    return th_fail(THAW_E_DATA, "%s, byte %lld: %s", p->path,
        (long long)(p->behind - (p->end - p->at)), why);
}

thaw_status th_pull_open(struct th_pull *p, const char *path)
{
    *p = (struct th_pull){.fd = -1, .path = path};
    TRY(th_file_check(path));
    p->buffer = th_alloc(BUFFER_BYTES + 1, 1);
    if (!p->buffer)
        return THAW_E_MEMORY;
    p->at = p->end = p->buffer;
    p->fd = open(path, O_RDONLY | O_CLOEXEC);
    return p->fd >= 0 ? THAW_OK
                      : th_fail_errno(THAW_E_IO, "%s: cannot be opened", path);
}

void th_pull_close(struct th_pull *p)
{
    if (p->fd >= 0)
        close(p->fd);
    th_free(p->buffer);
    *p = (struct th_pull){.fd = -1};
}

/* Read on behind what is left, which goes to the front; everything that points into the
 * buffer moves by the same. */
static thaw_status read_on(struct th_pull *p)
{
    size_t left = (size_t)(p->end - p->at);
    if (p->at != p->buffer)
        memmove(p->buffer, p->at, left);
    p->at = p->buffer;
    p->end = p->buffer + left;
    size_t room = BUFFER_BYTES - left;
    ssize_t got;
    do
        got = read(p->fd, p->end, room < READ_BYTES ? room : READ_BYTES);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return th_fail_errno(THAW_E_IO, "%s: cannot be read", p->path);
    p->at_end = got == 0;
    p->end += got;
    p->behind += got;
    *p->end = '\0';
    return THAW_OK;
}

/* Whether the scan has come to the end of the buffer, and the file goes on. */
static bool wants_more(const struct th_pull *p, const char *at)
{
    return at == p->end && !p->at_end;
}

/* To the next byte that is no blank, with a whole number or word behind it. */
static thaw_status next_byte(struct th_pull *p)
{
    for (;;) {
        while (*p->at == ' ' || *p->at == '\n' || *p->at == '\r' || *p->at == '\t')
            p->at++;
        if (p->end - p->at >= MAX_TOKEN || p->at_end)
            return THAW_OK;
        TRY(read_on(p));
    }
}

thaw_status th_pull_enter(struct th_pull *p, char bracket)
{
    TRY(next_byte(p));
    if (*p->at != bracket)
        return th_pull_refuse(
            p, bracket == '{' ? "an object is wanted here" : "a list is wanted here");
    if (p->depth == TH_PULL_DEPTH)
        return th_pull_refuse(p, "more than 64 levels");
    p->at++;
    p->close[++p->depth] = bracket == '{' ? '}' : ']';
    p->any[p->depth] = false;
    return THAW_OK;
}

/* Past the comma before a value, or the bracket that ends the level. */
static thaw_status next_in_level(struct th_pull *p, bool *more)
{
    TRY(next_byte(p));
    *more = *p->at != p->close[p->depth];
    if (!*more) {
        p->at++;
        p->depth--;
        return THAW_OK;
    }
    if (p->any[p->depth]) {
        if (*p->at != ',')
            return th_pull_refuse(p, p->at == p->end ? "the file ends too early"
                                                     : "no comma or closing bracket");
        p->at++;
        TRY(next_byte(p));
    }
    p->any[p->depth] = true;
    return THAW_OK;
}

thaw_status th_pull_item(struct th_pull *p, bool *more)
{
    return next_in_level(p, more);
}

/* The length of the string at p->at, between its quotes; *plain: nothing is to be decoded
 * or checked. All of it is in the buffer then. */
static thaw_status measure_string(struct th_pull *p, size_t *n, bool *plain)
{
    *plain = true;
    for (size_t i = 1;; i++) {
        unsigned char c = (unsigned char)p->at[i];
        if (c == '"') {
            *n = i - 1;
            return THAW_OK;
        }
        if (c >= ' ' && c < 0x80 && c != '\\')
            continue;
        bool last =
            c == '\\' && p->at + i + 1 == p->end; /* what it escapes is not here */
        if ((c < ' ' || last) && !wants_more(p, p->at + i + last)) {
            p->at += i + last;
            return th_pull_refuse(p, p->at == p->end ? "the file ends within a string"
                                                     : "a bare control character");
        }
        if (i >= MAX_STRING)
            return th_pull_refuse(p, "a string of more than 1 MiB");
        if (c < ' ' || last) {
            TRY(read_on(p));
            i--; /* look at the same byte again */
            continue;
        }
        *plain = false;
        i += c == '\\';
    }
}

/* Decode *n bytes in place; terminated. */
static thaw_status decode(struct th_pull *p, char *text, size_t *n)
{
    const char *at = text, *end = text + *n;
    char *to = text;
    while (at < end) {
        const char *why = NULL;
        size_t bytes = th_utf8_length(at);
        if (*at == '\\') {
            at++;
            why = th_json_unescape(&at, &to);
        } else if (bytes == 0) {
            why = "bad UTF-8";
        } else {
            memmove(to, at, bytes);
            to += bytes;
            at += bytes;
        }
        if (why)
            return th_pull_refuse(p, why);
    }
    *to = '\0';
    *n = (size_t)(to - text);
    return THAW_OK;
}

/* A string of *length bytes. */
static thaw_status read_string(struct th_pull *p, char **text, size_t *length)
{
    size_t n;
    bool plain;
    TRY(next_byte(p));
    if (*p->at != '"')
        return th_pull_refuse(p, "a text is wanted here");
    TRY(measure_string(p, &n, &plain));
    char *start = p->at + 1;
    start[n] = '\0'; /* in place of the quote */
    *length = n;
    if (!plain)
        TRY(decode(p, start, length));
    p->at = start + n + 1;
    *text = start;
    return THAW_OK;
}

thaw_status th_pull_string(struct th_pull *p, const char **text)
{
    char *start;
    size_t unused;
    TRY(read_string(p, &start, &unused));
    *text = start;
    return THAW_OK;
}

thaw_status th_pull_key(struct th_pull *p, const char **key)
{
    bool more;
    char *text;
    size_t n;
    *key = NULL;
    TRY(next_in_level(p, &more));
    if (!more)
        return THAW_OK;
    TRY(read_string(p, &text, &n));
    n = n < sizeof p->key ? n
                          : sizeof p->key - 1; /* a cut one is none that is asked for */
    memcpy(p->key, text, n);
    p->key[n] = '\0';
    *key = p->key;
    TRY(next_byte(p));
    if (*p->at != ':')
        return th_pull_refuse(p, "no colon behind a key");
    p->at++;
    return THAW_OK;
}

thaw_status th_pull_number(struct th_pull *p, double *value)
{
    const char *end;
    TRY(next_byte(p));
    if (!*p->at || !strchr("-0123456789NI", *p->at))
        return th_pull_refuse(p, "a number is wanted here");
    *value = th_decimal(p->at, &end);
    if (end == p->at)
        return th_pull_refuse(p, "a number is wanted here");
    if (end == p->end && !p->at_end)
        return th_pull_refuse(p, "a number of more than 512 digits");
    p->at += end - p->at;
    return THAW_OK;
}

thaw_status th_pull_whole(struct th_pull *p, int64_t *value)
{
    double number = 0;
    TRY(th_pull_number(p, &number));
    if (!(fabs(number) < 0x1p53) || floor(number) != number)
        return th_pull_refuse(p, "a whole number below 2^53 is wanted before this");
    *value = (int64_t)number;
    return THAW_OK;
}

thaw_status th_pull_null(struct th_pull *p, bool *is_null)
{
    TRY(next_byte(p));
    *is_null = strncmp(p->at, "null", 4) == 0;
    p->at += *is_null ? 4 : 0;
    return THAW_OK;
}

/* ---- Skipping ---- */

/* Bytes that mean something between strings: brackets, quotes, the end. */
static const bool stops[256] = {['\0'] = true,
    ['"'] = true,
    ['['] = true,
    [']'] = true,
    ['{'] = true,
    ['}'] = true};

static thaw_status skip_string(struct th_pull *p)
{
    size_t n;
    bool plain;
    TRY(measure_string(p, &n, &plain));
    p->at += n + 2;
    return THAW_OK;
}

/* From the bracket at p->at to behind the one that closes it. */
static thaw_status skip_nested(struct th_pull *p)
{
    const int outside = p->depth;
    do {
        while (!stops[(unsigned char)*p->at])
            p->at++;
        if (*p->at == '"') {
            TRY(skip_string(p));
        } else if (*p->at == '[' || *p->at == '{') {
            TRY(th_pull_enter(p, *p->at));
        } else if (wants_more(p, p->at)) {
            TRY(read_on(p));
        } else if (*p->at && *p->at == p->close[p->depth]) {
            p->at++;
            p->depth--;
        } else {
            return th_pull_refuse(p, p->at == p->end ? "the file ends too early"
                                                     : "a bracket that nothing opened");
        }
    } while (p->depth > outside);
    return THAW_OK;
}

thaw_status th_pull_skip(struct th_pull *p)
{
    static const char *const words[] = {"true", "false", "null"};
    double unused;
    TRY(next_byte(p));
    if (*p->at == '"')
        return skip_string(p);
    if (*p->at == '[' || *p->at == '{')
        return skip_nested(p);
    for (int i = 0; i < 3; i++)
        if (strncmp(p->at, words[i], strlen(words[i])) == 0) {
            p->at += strlen(words[i]);
            return THAW_OK;
        }
    return th_pull_number(p, &unused);
}

/* ---- Places ---- */

thaw_status th_pull_finish(struct th_pull *p)
{
    TRY(next_byte(p));
    return p->at == p->end ? THAW_OK : th_pull_refuse(p, "something behind the value");
}

thaw_status th_pull_tell(struct th_pull *p, int64_t *place)
{
    TRY(next_byte(p));
    *place = p->behind - (p->end - p->at);
    return THAW_OK;
}

thaw_status th_pull_seek(struct th_pull *p, int64_t place)
{
    if (lseek(p->fd, (off_t)place, SEEK_SET) < 0)
        return th_fail_errno(THAW_E_IO, "%s: cannot be read again", p->path);
    p->at = p->end = p->buffer;
    *p->end = '\0';
    p->behind = place;
    p->at_end = false;
    return THAW_OK;
}
