/* SPDX-License-Identifier: Apache-2.0
 * Owns the thread-local error sentence, the library's only mutable global. A plugin has a copy
 * of this file, and writes into the sentence of the library that opened it. */
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { ROOM = 1024 };
static _Thread_local char error_text[ROOM];
static char *(*lender)(void); /* set before a plugin's first call */

char *th_error_sentence(void)
{
    return lender ? lender() : error_text;
}

void th_error_borrow(char *(*sentence)(void))
{
    lender = sentence;
}

const char *thaw_error(void)
{
    return th_error_sentence();
}

thaw_status th_fail(thaw_status status, const char *fmt, ...)
{
    /* Formatted aside first: an argument may be the old sentence itself. */
    char text[ROOM];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    memcpy(th_error_sentence(), text, sizeof text);
    return status;
}

thaw_status th_fail_errno(thaw_status status, const char *fmt, ...)
{
    int cause = errno;
    char text[ROOM];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return th_fail(status, "%s: %s", text, strerror(cause));
}
