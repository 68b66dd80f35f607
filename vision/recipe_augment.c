/* SPDX-License-Identifier: Apache-2.0
 * Owns how options say what is done to training images: --augment names a row of
 * defaults, each option beside it wins over that row. */
#include "recipe.h"

#include "options.h"
#include "randaugment.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_OPS = 16, DEFAULT_BIN = 9 }; /* torchvision's magnitude */

/* A number of one or two digits, and what follows it. */
static bool read_number(const char **at, int most, int *out)
{
    size_t digits = strspn(*at, "0123456789");
    if (digits < 1 || digits > 2)
        return false;
    *out = atoi(*at);
    *at += digits;
    return *out <= most;
}

/* "N" or "N,M". */
static thaw_status read_randaugment(const char *text, struct th_augment *a)
{
    const char *at = text;
    a->bin = DEFAULT_BIN;
    bool good = read_number(&at, MAX_OPS, &a->n_ops);
    if (good && *at == ',') {
        at++;
        good = read_number(&at, TH_RANDAUGMENT_BINS - 1, &a->bin);
    }
    if (good && !*at)
        return THAW_OK;
    return th_fail(THAW_E_USAGE,
        "--randaugment: '%s' is not N,M: N operations, 0 to %d, at magnitude M, 0 to "
        "%d, as in 2,9",
        text, MAX_OPS, TH_RANDAUGMENT_BINS - 1);
}

thaw_status th_recipe_augment(const thaw_options *o, struct th_augment *out)
{
    TRY(th_augment_named(th_option_text(o, "augment"), out));
    out->scale = th_option_real(o, "scale");
    out->pad = (int)th_option_int(o, "pad");
    out->flip = th_option_real(o, "vflip");
    out->jitter = th_option_real(o, "color-jitter");
    out->hue = th_option_real(o, "hue");
    out->iou_crop = th_option_real(o, "iou-crop");
    out->mosaic = th_option_real(o, "mosaic");
    if (thaw_options_is_set(o, "flip"))
        out->mirror = th_option_real(o, "flip");
    if (thaw_options_is_set(o, "erase"))
        out->erase = th_option_real(o, "erase");
    const char *operations = th_option_text(o, "randaugment");
    return operations ? read_randaugment(operations, out) : THAW_OK;
}
