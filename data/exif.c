/* SPDX-License-Identifier: Apache-2.0
 * Owns the reading of Exif's orientation: the tag 0x0112 of the first directory. (TIFF 6.0,
 * section 2; Exif 2.3.) */
#include "exif.h"

#include <stdbool.h>
#include <string.h>

static unsigned tiff_number(const uint8_t *p, int n, bool big)
{
    unsigned value = 0;
    for (int i = 0; i < n; i++)
        value |= (unsigned)p[i] << 8 * (big ? n - 1 - i : i);
    return value;
}

int th_exif_orientation(const uint8_t *p, size_t n)
{
    enum { PREFIX = 6, TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3, ENTRY = 12 };
    if (n >= PREFIX && memcmp(p, "Exif\0", PREFIX) == 0) {
        p += PREFIX;
        n -= PREFIX;
    }
    if (n < 8)
        return 1;
    bool big = p[0] == 'M';
    if (memcmp(p, big ? "MM" : "II", 2) != 0 || tiff_number(p + 2, 2, big) != 42)
        return 1;
    size_t at = tiff_number(p + 4, 4, big);
    if (at > n || n - at < 2)
        return 1;
    size_t n_entries = tiff_number(p + at, 2, big);
    at += 2;
    for (size_t i = 0; i < n_entries && n - at >= ENTRY; i++, at += ENTRY)
        if (tiff_number(p + at, 2, big) == TAG_ORIENTATION &&
            tiff_number(p + at + 2, 2, big) == TYPE_SHORT)
            return (int)tiff_number(p + at + 8, 2, big);
    return 1;
}
