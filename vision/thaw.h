/* SPDX-License-Identifier: Apache-2.0
 * Thaw: transfer learning for computer vision. The only public header. */
#ifndef THAW_H
#define THAW_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define THAW_API __attribute__((visibility("default")))
#else
#define THAW_API
#endif

/* What a call that can fail returns. A failure's negative is the program's exit code. */
typedef enum thaw_status {
    THAW_OK = 0,
    THAW_E_FAIL = -1,     /* anything else */
    THAW_E_USAGE = -2,    /* the caller asked for something that does not exist */
    THAW_E_DATA = -3,     /* bad images, annotations or weights */
    THAW_E_DIVERGED = -4, /* the loss is no longer finite */
    THAW_E_IO = -5,       /* reading or writing failed, disk full */
    THAW_E_MEMORY = -6    /* out of memory */
} thaw_status;

/* The sentence about this thread's last failed call: what, where, why, what to do.
 * Valid until this thread's next failure; "" before the first. */
THAW_API const char *thaw_error(void);

#ifdef __cplusplus
}
#endif
#endif
