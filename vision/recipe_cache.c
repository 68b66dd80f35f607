/* SPDX-License-Identifier: Apache-2.0
 * Owns how options say what is kept of images (--views, --cache), and what excludes it. */
#include "recipe.h"

#include "options.h"

#include <stdlib.h>
#include <string.h>

bool th_augment_is_random(const struct th_augment *a)
{
    return a->crop || a->pad > 0 || a->n_ops > 0 || a->mirror > 0 || a->flip > 0 ||
           a->jitter > 0 || a->hue > 0 || a->erase > 0 || a->iou_crop > 0 ||
           a->mosaic > 0;
}

/* "500M" */
static thaw_status read_limit(const char *text, size_t *bytes)
{
    static const char units[] = "KMG";
    char *end = NULL;
    unsigned long long n = text && *text != '-' ? strtoull(text, &end, 10) : 0;
    if (!text)
        return THAW_OK;
    const char *unit = end && end > text && *end ? strchr(units, *end) : NULL;
    int shift = unit ? 10 * (int)(unit - units + 1) : 0;
    bool good =
        end && end > text && !end[unit != NULL] && n > 0 && n >> (50 - shift) == 0;
    if (!good)
        return th_fail(THAW_E_USAGE,
            "--cache-limit: '%s' is no number of bytes such as 500M or 8G", text);
    *bytes = (size_t)n << shift;
    return THAW_OK;
}

static enum th_cache_place read_place(const char *name)
{
    if (!strcmp(name, "off"))
        return TH_CACHE_OFF;
    if (!strcmp(name, "memory"))
        return TH_CACHE_MEMORY;
    return strcmp(name, "disk") ? TH_CACHE_AUTO : TH_CACHE_DISK;
}

thaw_status th_recipe_cache(const thaw_options *o, struct th_recipe *r)
{
    const char *place = th_option_text(o, "cache");
    bool mixes = r->mix.mixup > 0 || r->mix.cutmix > 0;
    r->views = th_augment_is_random(&r->augment) ? th_option_int(o, "views") : 1;
    if (r->augment.mosaic > 0 && r->views)
        return th_fail(THAW_E_USAGE, "--mosaic draws three other images for each, anew "
                                     "in every epoch, and --views "
                                     "would show the same ones again: leave one out");
    r->cache = read_place(place);
    r->cache_half = !strcmp(th_option_text(o, "cache-dtype"), "fp16");
    r->cache_dir = th_option_text(o, "cache-dir");
    TRY(read_limit(th_option_text(o, "cache-limit"), &r->cache_limit));
    r->cache_asked = r->cache != TH_CACHE_AUTO;
    if (r->cache == TH_CACHE_AUTO)
        r->cache = mixes || !r->views ? TH_CACHE_OFF : TH_CACHE_MEMORY;
    if (r->cache == TH_CACHE_OFF)
        return THAW_OK;
    if (mixes)
        return th_fail(THAW_E_USAGE,
            "--cache %s keeps what single images look like, and --mixup and --cutmix "
            "mix "
            "them anew in every step: leave one out",
            place);
    if (!r->views)
        return th_fail(THAW_E_USAGE,
            "--cache %s: augmentation draws a new variant of every image in every "
            "epoch, "
            "and none comes again: give --views V for V variants of each, or --augment "
            "none",
            place);
    return THAW_OK;
}
