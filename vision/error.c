/* SPDX-License-Identifier: Apache-2.0
 * Owns the thread-local error sentence, the library's only mutable global. */
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char error_text[1024];

const char *thaw_error(void)
{
    return error_text;
}

thaw_status th_fail(thaw_status status, const char *fmt, ...)
{
    /* Formatted aside first: an argument may be the old sentence itself. */
    char text[sizeof error_text];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    memcpy(error_text, text, sizeof text);
    return status;
}

thaw_status th_fail_errno(thaw_status status, const char *fmt, ...)
{
    int cause = errno;
    char text[sizeof error_text];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return th_fail(status, "%s: %s", text, strerror(cause));
}
