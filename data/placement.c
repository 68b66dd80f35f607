/* SPDX-License-Identifier: Apache-2.0
 * Owns the way of boxes between a picture and an input. */
#include "placement.h"

#include <math.h>

static const float LEAST_SHOWN = 0.1F;

struct th_placement th_placement_whole(int w, int h, struct th_size input)
{
    struct th_placement p = {.from = {0, 0, w, h}, .to = {0, 0, input.w, input.h}};
    int64_t wide = (int64_t)w * input.h, high = (int64_t)h * input.w;
    if (wide < high)
        p.to.w = (int)fmax(1, rint((double)wide / h));
    if (high < wide)
        p.to.h = (int)fmax(1, rint((double)high / w));
    return p;
}

/* One axis: the parts of the picture and of the input, and whether they run against each
 * other. */
struct axis {
    double from, from_size, to, to_size;
    bool against;
};

static struct axis axis_of(const struct th_placement *p, int i)
{
    const struct th_box *a = &p->from, *b = &p->to;
    return i ? (struct axis){a->y, a->h, b->y, b->h, p->flip}
             : (struct axis){a->x, a->w, b->x, b->w, p->mirror};
}

static float within(double x, double low, double high)
{
    return (float)fmin(fmax(x, low), high);
}

/* Ends of a box in one axis, from the picture to the input; returns what part is shown. In
 * doubles, so that an input of the picture's size moves no box. */
static float forward(struct axis a, float *low, float *high)
{
    double x = ((double)*low - a.from) * a.to_size / a.from_size;
    double y = ((double)*high - a.from) * a.to_size / a.from_size;
    double left = a.to + (a.against ? a.to_size - y : x);
    double right = a.to + (a.against ? a.to_size - x : y);
    *low = within(left, a.to, a.to + a.to_size);
    *high = within(right, a.to, a.to + a.to_size);
    return (float)((*high - *low) / (right - left));
}

bool th_box_shows_centre(const struct th_box *part, const float box[4])
{
    float x = (box[0] + box[2]) / 2, y = (box[1] + box[3]) / 2;
    return x > (float)part->x && x < (float)(part->x + part->w) && y > (float)part->y &&
           y < (float)(part->y + part->h);
}

int32_t th_placement_objects(const struct th_placement *p,
    const struct th_object *objects, int32_t n, struct th_object *out)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < n; i++) {
        struct th_object o = objects[i];
        float shown = 1;
        if (p->by_centre && !th_box_shows_centre(&p->from, o.box))
            continue;
        for (int k = 0; k < 2; k++)
            shown *= forward(axis_of(p, k), &o.box[k], &o.box[2 + k]);
        bool empty = !(o.box[2] > o.box[0] && o.box[3] > o.box[1]);
        if (o.crowd || empty || shown < LEAST_SHOWN)
            continue;
        o.area = th_box_area(o.box);
        out[kept++] = o;
    }
    return kept;
}

void th_placement_back(
    const struct th_placement *p, int w, int h, const float box[4], float out[4])
{
    const double size[2] = {w, h};
    for (int k = 0; k < 2; k++) {
        struct axis a = axis_of(p, k);
        double x = ((double)box[k] - a.to) * a.from_size / a.to_size;
        double y = ((double)box[2 + k] - a.to) * a.from_size / a.to_size;
        double low = a.from + (a.against ? a.from_size - y : x);
        double high = a.from + (a.against ? a.from_size - x : y);
        out[k] = within(low, 0, size[k]);
        out[2 + k] = within(high, 0, size[k]);
    }
}
