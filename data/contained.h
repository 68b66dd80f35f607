/* SPDX-License-Identifier: Apache-2.0
 * Paths that an annotation file names: they may not lead out of the folder of images. */
#ifndef TH_CONTAINED_H
#define TH_CONTAINED_H

#include "thaw.h"

#include <stdbool.h>

/* ROOT/NAME as a fresh string, where that is a file below root, also after following links
 * below it; root itself may be one. Else THAW_E_DATA, or THAW_E_MEMORY; `said` is who names
 * it, as in "a.xml, line 3". */
thaw_status th_contained(
    const char *root, const char *name, const char *said, char **path);

/* Whether the name could lead out: absolute, or with a component "..". */
bool th_leads_out(const char *name);

#endif
