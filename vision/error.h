/* SPDX-License-Identifier: Apache-2.0
 * Errors: a status code that travels up and one sentence per thread.
 *
 * The sentence is set once, where the cause is known: what, where, why, what to do.
 * Callers above only pass the status on (TRY) and free what they hold.
 */
#ifndef TH_ERROR_H
#define TH_ERROR_H

#include "thaw.h"

#if defined(__GNUC__)
#define TH_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define TH_PRINTF(fmt, args)
#endif

/* Return from the calling function when `call` fails; nothing may be held. */
#define TRY(call)                                                                      \
    do {                                                                               \
        thaw_status try_status_ = (call);                                              \
        if (try_status_ != THAW_OK)                                                    \
            return try_status_;                                                        \
    } while (0)

/* Set this thread's sentence and return `status`. */
thaw_status th_fail(thaw_status status, const char *fmt, ...) TH_PRINTF(2, 3);

/* As th_fail, for a failed system call: appends ": strerror(errno)". */
thaw_status th_fail_errno(thaw_status status, const char *fmt, ...) TH_PRINTF(2, 3);

/* This thread's sentence; for a plugin, which has this file's code once more, to borrow. */
char *th_error_sentence(void);
void th_error_borrow(char *(*sentence)(void));

#endif
