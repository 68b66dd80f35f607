/* SPDX-License-Identifier: Apache-2.0
 * Owns thaw_list: what the library has of each kind, by registry. */
#include "dataset.h"
#include "model.h"

#include <string.h>

static bool nth_backbone(size_t i, const char **name, const char **about)
{
    for (const struct th_backbone *const *b = th_backbone_list; *b; b++) {
        if (i < (size_t)(*b)->n_variants) {
            *name = (*b)->variants[i].name;
            *about = (*b)->variants[i].about;
            return true;
        }
        i -= (size_t)(*b)->n_variants;
    }
    return false;
}

static bool nth_head(size_t i, const char **name, const char **about)
{
    for (const struct th_head *const *h = th_head_list; *h; h++)
        if (i-- == 0) {
            *name = (*h)->name;
            *about = (*h)->about;
            return true;
        }
    return false;
}

static bool nth_format(size_t i, const char **name, const char **about)
{
    for (const struct th_format *const *f = th_format_list; *f; f++)
        if (i-- == 0) {
            *name = (*f)->name;
            *about = (*f)->help;
            return true;
        }
    for (const struct th_weight_format *const *f = th_weight_format_list; *f; f++)
        if (i-- == 0) {
            *name = (*f)->name;
            *about = (*f)->image ? "weights, read and written" : "weights, read";
            return true;
        }
    return false;
}

bool thaw_list(const char *kind, size_t i, const char **name, const char **about)
{
    if (!strcmp(kind, "backbones"))
        return nth_backbone(i, name, about);
    if (!strcmp(kind, "heads"))
        return nth_head(i, name, about);
    return !strcmp(kind, "formats") && nth_format(i, name, about);
}
