/* SPDX-License-Identifier: Apache-2.0
 * Owns the rule which boxes can be trained on. */
#include "box_report.h"

#include "error.h"

#include <math.h>

enum { N_NAMED = 5 }; /* boxes left out that are warned of one by one */

/* Pixels; no image that can be read is as large, and areas stay finite. */
static const double FARTHEST = 1e7;

/* Why the box has no inside in the image, NULL: it has. */
static const char *what_is_wrong(const double box[4], double w, double h)
{
    for (int i = 0; i < 4; i++)
        if (!isfinite(box[i]))
            return "is no number";
    for (int i = 0; i < 4; i++)
        if (fabs(box[i]) > FARTHEST)
            return "is outside the image";
    if ((float)box[0] >= (float)box[2] || (float)box[1] >= (float)box[3])
        return "is empty";
    if (w > 0 && h > 0 && (box[0] >= w || box[1] >= h || box[2] <= 0 || box[3] <= 0))
        return "is outside the image";
    return NULL;
}

thaw_status th_box_fit(struct th_box_report *r, const double box[4], double w, double h,
    struct th_place at, float fit[4], bool *kept)
{
    const char *wrong = what_is_wrong(box, w, h);
    bool clipped = false;
    *kept = !wrong;
    if (wrong && r->n_left_out++ < N_NAMED)
        return th_dataset_warn(r->d, "%s, %s %lld: box %g %g %g %g %s; left out",
            at.file, at.unit, (long long)at.number, box[0], box[1], box[2], box[3],
            wrong);
    if (wrong)
        return THAW_OK;
    for (int i = 0; i < 4; i++) {
        double end = i % 2 ? h : w;
        double cut = w > 0 && h > 0 ? fmin(fmax(box[i], 0), end) : box[i];
        clipped = clipped || cut != box[i];
        fit[i] = (float)cut;
    }
    r->n_clipped += clipped;
    /* What is left may be thinner than a float can say. */
    *kept = fit[0] < fit[2] && fit[1] < fit[3];
    r->n_left_out += !*kept;
    return THAW_OK;
}

thaw_status th_box_report_end(const struct th_box_report *r)
{
    if (r->n_left_out > N_NAMED)
        TRY(th_dataset_warn(r->d,
            "%s: %lld boxes in all are left out (empty, no number, or outside the "
            "image)",
            r->where, (long long)r->n_left_out));
    if (r->n_clipped)
        TRY(th_dataset_warn(r->d,
            "%s: %lld boxes reach over the image's edge; cut there", r->where,
            (long long)r->n_clipped));
    return THAW_OK;
}
