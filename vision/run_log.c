/* SPDX-License-Identifier: Apache-2.0
 * Owns metrics.jsonl: one object a line, each written at once, numbers as %.9g, null for
 * what is not finite (JSON has no other word). */
#include "run_folder.h"

#include "file.h"
#include "mem.h"
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct number {
    char text[32];
};

static struct number number(double x)
{
    struct number n;
    if (isfinite(x))
        snprintf(n.text, sizeof n.text, "%.9g", x);
    else
        strcpy(n.text, "null");
    return n;
}

/* The text between quotes: quotes, backslashes and control characters escaped. */
static void escape(const char *from, char *to, size_t size)
{
    for (size_t at = 0; *from && at + 7 < size; from++) {
        unsigned char c = (unsigned char)*from;
        if (c < 0x20)
            at += (size_t)snprintf(to + at, size - at, "\\u%04x", c);
        else if (c == '"' || c == '\\')
            at += (size_t)snprintf(to + at, size - at, "\\%c", c);
        else
            to[at++] = *from;
        to[at] = 0;
    }
}

/* Takes ownership of the line. */
static thaw_status append(const struct th_run_folder *f, char *line)
{
    char *path = line ? th_run_folder_path(f, "metrics.jsonl") : NULL;
    thaw_status status = path ? th_file_append_line(path, line, NULL) : THAW_E_MEMORY;
    th_free(path);
    th_free(line);
    return status;
}

thaw_status th_run_log_size(const struct th_run_folder *f, int64_t *bytes)
{
    struct stat st;
    char *path = th_run_folder_path(f, "metrics.jsonl");
    if (!path)
        return THAW_E_MEMORY;
    *bytes = stat(path, &st) ? 0 : (int64_t)st.st_size;
    th_free(path);
    return THAW_OK;
}

thaw_status th_run_log_cut(const struct th_run_folder *f, int64_t bytes)
{
    thaw_status status = THAW_OK;
    int64_t now = 0;
    TRY(th_run_log_size(f, &now));
    if (now <= bytes)
        return THAW_OK;
    char *path = th_run_folder_path(f, "metrics.jsonl");
    if (!path)
        return THAW_E_MEMORY;
    if (truncate(path, (off_t)bytes))
        status = th_fail_errno(THAW_E_IO, "%s: cannot be shortened", path);
    th_free(path);
    return status;
}

thaw_status th_run_log_step(
    const struct th_run_folder *f, int64_t epoch, int64_t step, double loss, double lr)
{
    return append(f, th_format("{\"event\":\"step\",\"epoch\":%" PRId64
                               ",\"step\":%" PRId64 ",\"loss\":%s,\"lr\":%s}",
                         epoch, step, number(loss).text, number(lr).text));
}

thaw_status th_run_log_epoch(
    const struct th_run_folder *f, const struct th_epoch_log *e)
{
    char thawed[512] = "";
    escape(e->thawed, thawed, sizeof thawed);
    double loss = e->val ? th_metrics_loss(e->val) : (double)NAN;
    double top1 = e->val ? th_metrics_top1(e->val) : (double)NAN;
    double top5 = e->val ? th_metrics_top5(e->val) : (double)NAN;
    return append(f,
        th_format("{\"event\":\"epoch\",\"epoch\":%" PRId64
                  ",\"train_loss\":%s,\"val_loss\":%s,\"val_top1\":%s,\"val_top5\":%s,"
                  "\"images_per_s\":%s,\"seconds\":%s,\"peak_bytes\":%" PRId64
                  ",\"thawed\":\"%s\",\"skipped\":%" PRId64 "}",
            e->epoch, number(e->train_loss).text, number(loss).text, number(top1).text,
            number(top5).text, number(e->images_per_s).text, number(e->seconds).text,
            th_peak_bytes(), thawed, e->skipped));
}

thaw_status th_run_log_end(const struct th_run_folder *f, double best_top1,
    int frozen_tensors, const struct th_metrics *test)
{
    char tested[96] = "";
    if (test)
        snprintf(tested, sizeof tested, ",\"test_loss\":%s,\"test_top1\":%s",
            number(th_metrics_loss(test)).text, number(th_metrics_top1(test)).text);
    return append(
        f, th_format("{\"event\":\"end\",\"best_top1\":%s,\"frozen_tensors\":%d,"
                     "\"frozen_verified\":true%s}",
               number(best_top1).text, frozen_tensors, tested));
}
