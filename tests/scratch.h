/* SPDX-License-Identifier: Apache-2.0
 * A folder for a test's files, and datasets opened from it. */
#ifndef TH_TESTS_SCRATCH_H
#define TH_TESTS_SCRATCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dataset.h"
#include "error.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch[64];

static inline void must(thaw_status status)
{
    if (status != THAW_OK)
        fail_msg("%s", thaw_error());
}

static inline void scratch_clear(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s/*", scratch);
    assert_int_equal(system(command), 0);
}

static inline int scratch_make(void **state)
{
    (void)state;
    snprintf(scratch, sizeof scratch, "/tmp/thaw_scratch_XXXXXX");
    return mkdtemp(scratch) ? 0 : -1;
}

static inline int scratch_remove(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", scratch);
    return system(command);
}

/* A file below the folder, with the folders it needs. */
static inline void put_bytes(const char *name, const char *bytes, size_t n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    for (char *slash = path + strlen(scratch) + 1; (slash = strchr(slash, '/'));
         slash++) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    fclose(file);
}

static inline void put(const char *name, const char *text)
{
    put_bytes(name, text, strlen(text));
}

static inline thaw_status open_boxes(const char *data, struct th_dataset *d)
{
    const struct th_dataset_options o = {.objects = true, .as_is = true};
    return th_dataset_open(data, &o, d);
}

/* FORMAT:SCRATCH/BELOW, as a detector opens it. */
static inline thaw_status open_scratch(
    const char *format, const char *below, struct th_dataset *d)
{
    char data[512];
    snprintf(data, sizeof data, "%s:%s%s", format, scratch, below);
    return open_boxes(data, d);
}

static inline void expect_refusal(
    const char *format, const char *below, const char *a, const char *b)
{
    struct th_dataset d;
    thaw_status status = open_scratch(format, below, &d);
    if (status == THAW_OK)
        fail_msg("was read; \"%s\" was wanted", a);
    assert_int_equal(status, THAW_E_DATA);
    if (!strstr(thaw_error(), a) || !strstr(thaw_error(), b))
        fail_msg("\"%s\" and \"%s\" are not in: %s", a, b, thaw_error());
}

/* Whether some warning has the words. */
static inline void expect_warning(const struct th_dataset *d, const char *words)
{
    for (int64_t i = 0; i < d->warnings.n; i++)
        if (strstr(d->warnings.name[i], words))
            return;
    for (int64_t i = 0; i < d->warnings.n; i++)
        print_message("%s\n", d->warnings.name[i]);
    fail_msg("no warning says \"%s\"", words);
}

static inline void expect_object(const struct th_dataset *d, const struct th_object *o,
    const char *class, const float box[4])
{
    assert_string_equal(d->classes[o->class], class);
    for (int i = 0; i < 4; i++)
        assert_float_equal(o->box[i], box[i], 1e-4f);
}

#endif
