/* SPDX-License-Identifier: Apache-2.0
 * Decimal numbers in texts, the same in every locale. */
#ifndef TH_DECIMAL_H
#define TH_DECIMAL_H

#include <stdbool.h>

/* The number at the start of a terminated text, as strtod reads it ("nan" and "inf", too);
 * *end stands behind it, at `text` where there is none. */
double th_decimal(const char *text, const char **end);

/* Whether the text is one number and nothing else but blanks around it. */
bool th_decimal_whole(const char *text, double *value);

#endif
