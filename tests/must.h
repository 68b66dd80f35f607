/* SPDX-License-Identifier: Apache-2.0
 * Calls of tests that have to succeed: else the test fails with the call and its error. */
#ifndef TH_TESTS_MUST_H
#define TH_TESTS_MUST_H

#include "error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define must(call)                                                                     \
    do {                                                                               \
        thaw_status must_status_ = (call);                                             \
        if (must_status_ != THAW_OK)                                                   \
            fail_msg("%s: %s", #call, thaw_error());                                   \
    } while (0)

#endif
