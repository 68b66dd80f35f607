/* SPDX-License-Identifier: Apache-2.0
 * JSON (RFC 8259): a strict reader into a tree, and a writer. Numbers are the same in
 * every locale.
 *
 *     struct th_json_out o = {0};
 *     th_json_open(&o, '{');
 *     th_json_key(&o, "loss");
 *     th_json_real(&o, loss);
 *     th_json_close(&o, '}');                  o.text is {"loss":0.5}
 *     TRY(th_json_out_status(&o));
 *     ...
 *     th_json_out_release(&o); */
#ifndef TH_JSON_H
#define TH_JSON_H

#include "size.h"
#include "thaw.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum th_json_kind {
    TH_JSON_NULL,
    TH_JSON_BOOL,
    TH_JSON_NUMBER,
    TH_JSON_STRING,
    TH_JSON_ARRAY,
    TH_JSON_OBJECT
};

struct th_json {
    enum th_json_kind kind;
    bool is_true;  /* BOOL */
    bool is_whole; /* NUMBER written without point or exponent that int64 holds */
    double real;
    int64_t whole;
    const char *key;       /* as a member of an object, else NULL */
    const char *text;      /* STRING: UTF-8, no NUL within */
    size_t n;              /* ARRAY, OBJECT: items */
    struct th_json *first; /* ARRAY, OBJECT: items in order, linked by next */
    struct th_json *next;
};

/* Parse n bytes: one value and nothing behind it. Refused (THAW_E_DATA): bad UTF-8, NUL
 * in strings, a key twice in an object, numbers beyond double, more than 64 levels.
 * Takes some 10 bytes of memory a byte of dense input. `out` is for th_json_free. */
thaw_status th_json_parse(
    const char *bytes, size_t n, const char *where, struct th_json **out);
void th_json_free(struct th_json *root);

/* Member of an object; NULL where there is none, or `object` is NULL or no object. */
const struct th_json *th_json_get(const struct th_json *object, const char *key);

/* Text under construction. All-zero is empty. Failures (memory) are kept to the end. */
struct th_json_out {
    char *text; /* terminated; owned */
    size_t n, capacity;
    bool needs_comma, failed;
};

void th_json_open(struct th_json_out *o, char bracket); /* '{' or '[' */
void th_json_close(struct th_json_out *o, char bracket);
void th_json_key(struct th_json_out *o, const char *key);
void th_json_string(struct th_json_out *o, const char *text); /* bad UTF-8 as U+FFFD */
void th_json_real(struct th_json_out *o, double value); /* %.9g; null if not finite */
void th_json_exact(
    struct th_json_out *o, double value); /* reads back as it was, never whole */
void th_json_whole(struct th_json_out *o, int64_t value);
void th_json_bool(struct th_json_out *o, bool value);
void th_json_null(struct th_json_out *o);
/* A key and its value. */
void th_json_put_real(struct th_json_out *o, const char *key, double value);
void th_json_put_whole(struct th_json_out *o, const char *key, int64_t value);
void th_json_put_string(struct th_json_out *o, const char *key, const char *text);
/* A number of a square, else the text "320x240". */
void th_json_put_size(struct th_json_out *o, const char *key, struct th_size size);
thaw_status th_json_out_status(const struct th_json_out *o);
void th_json_out_release(struct th_json_out *o);

/* The escape at *at, behind its backslash and terminated, to *to, no longer than it was: both
 * move on. What is wrong with it; NULL: nothing. */
const char *th_json_unescape(const char **at, char **to);

/* Length of the UTF-8 sequence at `at`, 0 if it is none (RFC 3629: no surrogates, nothing
 * overlong). `at` is terminated. */
size_t th_utf8_length(const char *at);

#endif
