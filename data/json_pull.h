/* SPDX-License-Identifier: Apache-2.0
 * JSON of any length, read from a file value by value, in the memory of one buffer.
 *
 *     TRY(th_pull_enter(&p, '{'));
 *     for (;;) {
 *         TRY(th_pull_key(&p, &key));
 *         if (!key)
 *             break;                        the object has ended
 *         if (strcmp(key, "id") == 0)
 *             TRY(th_pull_whole(&p, &id));
 *         else
 *             TRY(th_pull_skip(&p));
 *     }
 *
 * Refused with file and byte: what is no JSON or another kind of value than is asked for,
 * strings of more than 1 MiB, more than 64 levels. NaN and Infinity, which Python writes,
 * are numbers. What is skipped is looked at for brackets and strings only. */
#ifndef TH_JSON_PULL_H
#define TH_JSON_PULL_H

#include "thaw.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TH_PULL_DEPTH = 64 };

struct th_pull {
    int fd;
    const char *path;
    char *buffer;   /* owned */
    char *at, *end; /* what is left of it; *end is 0 */
    int64_t behind; /* place in the file of *end */
    bool at_end;    /* nothing is left in the file */
    int depth;
    char close[TH_PULL_DEPTH + 1]; /* the bracket that ends each level */
    bool any[TH_PULL_DEPTH + 1];   /* the level has had a value */
    char key[64];                  /* of the object that is read */
};

/* THAW_E_IO, THAW_E_MEMORY; to be closed also after a failure. */
thaw_status th_pull_open(struct th_pull *p, const char *path);
void th_pull_close(struct th_pull *p);

thaw_status th_pull_enter(struct th_pull *p, char bracket); /* '{' or '[' */

/* The next key, valid until the next call; NULL: the object has ended. */
thaw_status th_pull_key(struct th_pull *p, const char **key);

/* Whether there is another item; if not, the array has ended. */
thaw_status th_pull_item(struct th_pull *p, bool *more);

thaw_status th_pull_string(
    struct th_pull *p, const char **text); /* until the next call */
thaw_status th_pull_number(struct th_pull *p, double *value);
thaw_status th_pull_whole(
    struct th_pull *p, int64_t *value); /* below 2^53; 1.0 is, too */
thaw_status th_pull_skip(struct th_pull *p);

/* Whether null comes next; if so it is passed. */
thaw_status th_pull_null(struct th_pull *p, bool *is_null);

/* That nothing but blanks follows. */
thaw_status th_pull_finish(struct th_pull *p);

/* Where the next value begins; and to go there again, at the depth that there was. */
thaw_status th_pull_tell(struct th_pull *p, int64_t *place);
thaw_status th_pull_seek(struct th_pull *p, int64_t place);

/* "PATH, byte 123: why"; THAW_E_DATA. */
thaw_status th_pull_refuse(const struct th_pull *p, const char *why);

#endif
