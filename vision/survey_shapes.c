/* SPDX-License-Identifier: Apache-2.0
 * Owns what is asked of pictures' shapes: how many are wide, high and square, and whether an
 * input of their shape would compute less. */
#include "survey.h"

enum { MULTIPLE = 32 }; /* of sides that waste next to nothing (docs/detection.md) */

static int rounded_up(double side)
{
    int n = (int)side;
    n += n < side;
    return (n + MULTIPLE - 1) / MULTIPLE * MULTIPLE;
}

/* An input in which pictures that are all wide, or all high, are as large as on the square around
 * it; none where they are not, or where that is the square. `flat`: the largest share of the
 * longer side that the shorter one has. */
static struct th_size input_for(const struct th_shapes *s, int longest, double flat)
{
    const struct th_size none = {0, 0};
    int side = rounded_up(longest), other = rounded_up(side * flat);
    if (other >= side || s->square || (s->wide && s->high))
        return none;
    return s->wide ? (struct th_size){side, other} : (struct th_size){other, side};
}

void th_survey_shapes(struct th_survey *survey)
{
    struct th_shapes *s = &survey->shapes;
    int longest = 1;
    double flat = 0;
    for (int64_t i = 0; i < survey->n; i++) {
        const struct th_survey_image *x = &survey->image[i];
        int longer = x->w > x->h ? x->w : x->h, shorter = x->w < x->h ? x->w : x->h;
        if (x->status != THAW_OK || shorter < 1)
            continue;
        s->wide += x->w > x->h;
        s->high += x->w < x->h;
        s->square += x->w == x->h;
        longest = longer > longest ? longer : longest;
        flat = (double)shorter / longer > flat ? (double)shorter / longer : flat;
    }
    if (survey->input.w)
        longest = survey->input.w > survey->input.h ? survey->input.w : survey->input.h;
    s->input = input_for(s, longest, flat);
}
