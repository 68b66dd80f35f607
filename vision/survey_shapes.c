/* SPDX-License-Identifier: Apache-2.0
 * Owns what is asked of pictures' shapes: how many are wide, high and square, and which few input
 * sizes of their shapes would show all as large as a square does, on fewer pixels. */
#include "survey.h"

enum {
    MULTIPLE = 32,  /* of sides that waste next to nothing (docs/detection.md) */
    MOST_SIZES = 4, /* each is a plan of its own, and a last batch that is not full */
};
static const double WORTH_A_SIZE = 0.05; /* of the square's pixels, saved by one more */

static int rounded_up(double side)
{
    int n = (int)side;
    n += n < side;
    return (n + MULTIPLE - 1) / MULTIPLE * MULTIPLE;
}

/* In which the picture is as large as on the square. */
static struct th_size size_for(const struct th_survey_image *x, int side)
{
    bool wide = x->w >= x->h;
    int other = rounded_up((double)side * (wide ? x->h : x->w) / (wide ? x->w : x->h));
    return wide ? (struct th_size){side, other} : (struct th_size){other, side};
}

static bool counts(const struct th_survey_image *x)
{
    return x->status == THAW_OK && x->w > 0 && x->h > 0;
}

/* Pixels of all inputs; `used`: how many pictures each size has. */
static double cost_of(
    const struct th_survey *s, const struct th_sizes *sizes, int64_t used[TH_MAX_SIZES])
{
    double pixels = 0;
    for (int i = 0; i < sizes->n; i++)
        used[i] = 0;
    for (int64_t i = 0; i < s->n; i++) {
        const struct th_survey_image *x = &s->image[i];
        int k = th_sizes_choose(sizes, x->w, x->h);
        used[k] += counts(x);
        pixels += counts(x) ? (double)th_size_pixels(sizes->at[k]) : 0;
    }
    return pixels;
}

static void add(struct th_sizes *sizes, struct th_size size)
{
    for (int i = 0; i < sizes->n; i++)
        if (th_size_same(sizes->at[i], size))
            return;
    sizes->at[sizes->n++] = size;
}

/* One size in which all wide pictures are whole, and one for the high ones. */
static struct th_sizes least_sizes(const struct th_survey *s, int side)
{
    struct th_size wide = {side, 0}, high = {0, side};
    struct th_sizes sizes = {0};
    for (int64_t i = 0; i < s->n; i++) {
        if (!counts(&s->image[i]))
            continue;
        struct th_size own = size_for(&s->image[i], side);
        if (own.w == side && own.h > wide.h)
            wide = own;
        if (own.w < side && own.w > high.w)
            high = own;
    }
    if (wide.h)
        add(&sizes, wide);
    if (high.w)
        add(&sizes, high);
    return sizes;
}

/* With one more, the one that saves most; the pixels that are then left. */
static double with_one_more(const struct th_survey *s, int side, struct th_sizes *sizes)
{
    int64_t used[TH_MAX_SIZES];
    const struct th_sizes before = *sizes;
    double least = cost_of(s, sizes, used);
    for (int other = MULTIPLE; other < side; other += MULTIPLE)
        for (int turned = 0; turned < 2; turned++) {
            struct th_sizes more = before;
            add(&more,
                turned ? (struct th_size){other, side} : (struct th_size){side, other});
            double cost = cost_of(s, &more, used);
            if (cost < least) {
                least = cost;
                *sizes = more;
            }
        }
    return least;
}

/* The most frequent first: it is the model's own; those that no picture has go. */
static void by_use(const struct th_survey *s, struct th_sizes *sizes)
{
    int64_t used[TH_MAX_SIZES];
    struct th_sizes sorted = {0};
    cost_of(s, sizes, used);
    for (;;) {
        int best = 0;
        for (int i = 1; i < sizes->n; i++)
            best = used[i] > used[best] ? i : best;
        if (used[best] <= 0)
            break;
        sorted.at[sorted.n++] = sizes->at[best];
        used[best] = 0;
    }
    *sizes = sorted;
}

static void find_sizes(const struct th_survey *s, struct th_shapes *shapes)
{
    int64_t used[TH_MAX_SIZES];
    int64_t n = shapes->wide + shapes->high + shapes->square;
    double square = (double)n * shapes->side * shapes->side;
    struct th_sizes sizes = least_sizes(s, shapes->side);
    if (!sizes.n)
        return;
    double cost = cost_of(s, &sizes, used);
    while (sizes.n < MOST_SIZES) {
        struct th_sizes more = sizes;
        double less = with_one_more(s, shapes->side, &more);
        if (cost - less < WORTH_A_SIZE * square)
            break;
        sizes = more;
        cost = less;
    }
    by_use(s, &sizes);
    shapes->saved = 1 - cost / square;
    if (shapes->saved > 0)
        shapes->sizes = sizes;
}

void th_survey_shapes(struct th_survey *survey)
{
    struct th_shapes *s = &survey->shapes;
    int longest = 1;
    for (int64_t i = 0; i < survey->n; i++) {
        const struct th_survey_image *x = &survey->image[i];
        int longer = x->w > x->h ? x->w : x->h;
        if (!counts(x))
            continue;
        s->wide += x->w > x->h;
        s->high += x->w < x->h;
        s->square += x->w == x->h;
        longest = longer > longest ? longer : longest;
    }
    for (int i = 0; i < survey->inputs.n; i++) {
        struct th_size in = survey->inputs.at[i];
        int longer = in.w > in.h ? in.w : in.h;
        longest = i == 0 || longer > longest ? longer : longest;
    }
    s->side = rounded_up(longest);
    find_sizes(survey, s);
}
