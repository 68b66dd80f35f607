/* SPDX-License-Identifier: Apache-2.0
 * Owns JSON's syntax. The input is copied once, and strings are unescaped in that copy:
 * an escape is never shorter than what it stands for. */
#include "json.h"

#include "error.h"
#include "mem.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 64, BLOCK_NODES = 64 };

/* Values are made in blocks, so that they never move. */
struct block {
    struct block *next;
    size_t n;
    struct th_json node[BLOCK_NODES];
};

/* A tree; the root stands first so that it is what th_json_free gets. */
struct document {
    struct th_json root;
    struct block *blocks;
    char *text;
};

struct parser {
    struct document *doc;
    char *at, *end; /* *end is 0 */
    const char *where;
    locale_t locale; /* "C" */
    int depth;
};

static thaw_status bad(const struct parser *p, const char *why)
{
    size_t line = 1;
    for (const char *c = p->doc->text; c < p->at; c++)
        line += *c == '\n';
    return th_fail(THAW_E_DATA, "%s: not JSON: %s at byte %zu, line %zu", p->where, why,
        (size_t)(p->at - p->doc->text), line);
}

static struct th_json *new_node(struct document *doc)
{
    if (!doc->blocks || doc->blocks->n == BLOCK_NODES) {
        struct block *b = th_alloc(1, sizeof *b);
        if (!b)
            return NULL;
        b->next = doc->blocks;
        doc->blocks = b;
    }
    return &doc->blocks->node[doc->blocks->n++];
}

static void skip_space(struct parser *p)
{
    p->at += strspn(p->at, " \t\r\n");
}

size_t th_utf8_length(const char *at)
{
    const unsigned char *c = (const unsigned char *)at;
    size_t n = c[0] < 0x80   ? 1
               : c[0] < 0xc2 ? 0
               : c[0] < 0xe0 ? 2
               : c[0] < 0xf0 ? 3
                             : 4;
    if (c[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((c[i] & 0xc0) != 0x80)
            return 0;
    bool is_bad = (c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) ||
                  (c[0] == 0xf0 && c[1] < 0x90) || (c[0] == 0xf4 && c[1] > 0x8f);
    return is_bad ? 0 : n;
}

/* Four hexadecimal digits; -1 for anything else. */
static long hex4(const char *at)
{
    long code = 0;
    for (int i = 0; i < 4; i++) {
        static const char digits[] = "0123456789abcdef0123456789ABCDEF";
        const char *d = at[i] ? strchr(digits, at[i]) : NULL;
        if (!d)
            return -1;
        code = code * 16 + (d - digits) % 16;
    }
    return code;
}

static char *put_utf8(char *to, long code)
{
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    int n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, code >>= 6)
        to[i] = (char)(0x80 | (code & 0x3f));
    to[0] = (char)(lead[n] | code);
    return to + n;
}

const char *th_json_unescape(const char **at, char **to)
{
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const char *c = *at, *letter = *c ? strchr(letters, *c) : NULL;
    if (letter) {
        *(*to)++ = meant[letter - letters];
        *at = c + 1;
        return NULL;
    }
    long code = *c == 'u' ? hex4(c + 1) : -1;
    if (code <= 0)
        return "a bad escape";
    c += 5;
    *at = c;                               /* where to complain */
    if (code >= 0xd800 && code < 0xe000) { /* two halves of one character */
        long low = c[0] == '\\' && c[1] == 'u' ? hex4(c + 2) : -1;
        if (code >= 0xdc00 || low < 0xdc00 || low >= 0xe000)
            return "half a surrogate pair";
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        *at = c + 6;
    }
    *to = put_utf8(*to, code);
    return NULL;
}

/* The escape at p->at, behind its backslash, to *to. */
static thaw_status parse_escape(struct parser *p, char **to)
{
    const char *at = p->at, *why = th_json_unescape(&at, to);
    p->at += at - p->at;
    return why ? bad(p, why) : THAW_OK;
}

/* A string; p->at is on its opening quote. */
static thaw_status parse_string(struct parser *p, const char **text)
{
    char *to = ++p->at;
    *text = to;
    while (*p->at != '"') {
        if ((unsigned char)*p->at < ' ')
            return bad(p,
                p->at == p->end ? "an unfinished string" : "a bare control character");
        if (*p->at == '\\') {
            p->at++;
            TRY(parse_escape(p, &to));
            continue;
        }
        size_t n = th_utf8_length(p->at);
        if (n == 0)
            return bad(p, "bad UTF-8");
        memmove(to, p->at, n);
        to += n;
        p->at += n;
    }
    p->at++;
    *to = 0;
    return THAW_OK;
}

/* Length of -?(0|[1-9][0-9]*)(.[0-9]+)?([eE][+-]?[0-9]+)? at `at`, 0 if it is none. */
static size_t number_length(const char *at, bool *is_whole)
{
    static const char digits[] = "0123456789";
    const char *c = at + (*at == '-');
    size_t n = strspn(c, digits);
    if (n == 0 || (*c == '0' && n > 1))
        return 0;
    c += n;
    *is_whole = *c != '.' && *c != 'e' && *c != 'E';
    if (*c == '.') {
        n = strspn(++c, digits);
        if (n == 0)
            return 0;
        c += n;
    }
    if (*c == 'e' || *c == 'E') {
        c += c[1] == '+' || c[1] == '-' ? 2 : 1;
        n = strspn(c, digits);
        if (n == 0)
            return 0;
        c += n;
    }
    return (size_t)(c - at);
}

static thaw_status parse_number(struct parser *p, struct th_json *out)
{
    size_t n = number_length(p->at, &out->is_whole);
    if (n == 0)
        return bad(p, "neither a value nor a number");
    out->kind = TH_JSON_NUMBER;
    out->real = strtod_l(p->at, NULL, p->locale);
    if (!isfinite(out->real))
        return bad(p, "a number too large");
    if (out->is_whole) {
        errno = 0;
        out->whole = strtoll(p->at, NULL, 10);
        out->is_whole = errno != ERANGE;
    }
    p->at += n;
    return THAW_OK;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static thaw_status check_keys(const struct parser *p, const struct th_json *object)
{
    size_t n = 0;
    const char **keys = th_alloc(object->n, sizeof *keys);
    if (!keys)
        return THAW_E_MEMORY;
    for (const struct th_json *item = object->first; item; item = item->next)
        keys[n++] = item->key;
    qsort(keys, n, sizeof *keys, by_key);
    thaw_status status = THAW_OK;
    for (size_t i = 1; i < n; i++)
        if (strcmp(keys[i - 1], keys[i]) == 0)
            status = bad(p, "a key twice in the object that ends");
    th_free(keys);
    return status;
}

static thaw_status parse_value(struct parser *p, struct th_json *out);

/* An object or array; p->at is on its bracket. */
static thaw_status parse_items(struct parser *p, struct th_json *out)
{
    bool is_object = *p->at++ == '{';
    char end = is_object ? '}' : ']';
    out->kind = is_object ? TH_JSON_OBJECT : TH_JSON_ARRAY;
    if (++p->depth > MAX_DEPTH)
        return bad(p, "more than 64 levels");
    struct th_json **link = &out->first;
    skip_space(p);
    while (out->n > 0 || *p->at != end) {
        struct th_json *item = new_node(p->doc);
        if (!item)
            return THAW_E_MEMORY;
        *link = item;
        link = &item->next;
        out->n++;
        if (is_object) {
            skip_space(p);
            if (*p->at != '"')
                return bad(p, "no key");
            TRY(parse_string(p, &item->key));
            skip_space(p);
            if (*p->at != ':')
                return bad(p, "no colon");
            p->at++;
        }
        TRY(parse_value(p, item));
        if (*p->at != ',')
            break;
        p->at++;
    }
    if (*p->at != end)
        return bad(p, is_object ? "no comma or }" : "no comma or ]");
    p->at++;
    p->depth--;
    return is_object ? check_keys(p, out) : THAW_OK;
}

/* A value and the space around it. */
static thaw_status parse_value(struct parser *p, struct th_json *out)
{
    static const struct {
        const char *word;
        size_t n;
        enum th_json_kind kind;
    } words[] = {{"true", 4, TH_JSON_BOOL}, {"false", 5, TH_JSON_BOOL},
        {"null", 4, TH_JSON_NULL}};
    skip_space(p);
    for (size_t i = 0; i < 3; i++) {
        if (strncmp(p->at, words[i].word, words[i].n) != 0)
            continue;
        out->kind = words[i].kind;
        out->is_true = i == 0;
        p->at += words[i].n;
        skip_space(p);
        return THAW_OK;
    }
    if (*p->at == '"') {
        out->kind = TH_JSON_STRING;
        TRY(parse_string(p, &out->text));
    } else if (*p->at == '{' || *p->at == '[') {
        TRY(parse_items(p, out));
    } else {
        TRY(parse_number(p, out));
    }
    skip_space(p);
    return THAW_OK;
}

thaw_status th_json_parse(
    const char *bytes, size_t n, const char *where, struct th_json **out)
{
    *out = NULL;
    struct document *doc = th_alloc(1, sizeof *doc);
    if (!doc)
        return THAW_E_MEMORY;
    doc->text = th_alloc(n + 1, 1);
    struct parser p = {.doc = doc, .at = doc->text, .where = where};
    p.locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    thaw_status status = THAW_E_MEMORY;
    if (doc->text && p.locale) {
        memcpy(doc->text, bytes, n);
        p.end = doc->text + n;
        status = parse_value(&p, &doc->root);
        if (status == THAW_OK && p.at != p.end)
            status = bad(&p, "something behind the value");
    }
    if (p.locale)
        freelocale(p.locale);
    if (status == THAW_OK)
        *out = &doc->root;
    else
        th_json_free(&doc->root);
    return status;
}

void th_json_free(struct th_json *root)
{
    struct document *doc = (struct document *)root;
    if (!doc)
        return;
    for (struct block *b = doc->blocks; b;) {
        struct block *next = b->next;
        th_free(b);
        b = next;
    }
    th_free(doc->text);
    th_free(doc);
}

const struct th_json *th_json_get(const struct th_json *object, const char *key)
{
    if (!object || object->kind != TH_JSON_OBJECT)
        return NULL;
    const struct th_json *item = object->first;
    while (item && strcmp(item->key, key) != 0)
        item = item->next;
    return item;
}
