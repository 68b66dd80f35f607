/* SPDX-License-Identifier: Apache-2.0
 * Options: values by name, as text, checked when set (so the getters cannot fail).
 * The public part is in thaw.h; these getters are for the layers above. All of them take
 * NULL for "everything at its default". */
#ifndef TH_OPTIONS_H
#define TH_OPTIONS_H

#include "error.h"
#include "size.h"

/* The value in force. Unset and without a default: 0, 0, NULL, false; ask
 * thaw_options_is_set first where 0 is a value. The name must be in the table. */
int64_t th_option_int(const thaw_options *o, const char *name);
double th_option_real(const thaw_options *o, const char *name);
const char *th_option_text(const thaw_options *o, const char *name);
bool th_option_flag(const thaw_options *o, const char *name);

/* "mean" and "std": three numbers. false and untouched `out` when unset. */
bool th_option_rgb(const thaw_options *o, const char *name, float out[3]);

/* "image-size"; none when unset. */
struct th_sizes th_option_sizes(const thaw_options *o, const char *name);
/* The first of them; all zero when unset. */
struct th_size th_option_size(const thaw_options *o, const char *name);

/* Every value in force (defaults too, so that a later version runs the same), as a JSON
 * object of strings, a line each, in table order: config.json. Fresh string (th_free), NULL out of memory. */
char *th_options_json(const thaw_options *o);

/* Set options from such a text, except those that are set already. THAW_E_USAGE for
 * anything else than an object of strings, numbers and booleans, for unknown names and
 * bad values; `where` names the text in the sentence. */
thaw_status th_options_from_json(thaw_options *o, const char *text, const char *where);

/* As th_options_from_json, from a file. THAW_E_IO when it cannot be read. Setting
 * "config" does this, so that what is set before or after wins over the file. */
thaw_status th_options_load(thaw_options *o, const char *path);

/* A decimal number in the C locale that fills the whole text; no "inf", "nan" or hex. */
bool th_parse_real(const char *text, double *out);

/* The next word of a list with commas at *at, which may be NULL, into word[size], cut to
 * it; false at the end. */
bool th_next_word(const char **at, char *word, size_t size);

#endif
