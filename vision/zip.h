/* SPDX-License-Identifier: Apache-2.0
 * Zip archives in memory, read strictly: stored (uncompressed) entries, whose central
 * directory and local headers agree, which do not overlap, and whose checksums hold.
 * Nothing is unpacked: an entry is a range of the archive's own bytes. */
#ifndef TH_ZIP_H
#define TH_ZIP_H

#include "thaw.h"

#include <stddef.h>
#include <stdint.h>

struct th_zip_entry {
    const char *name; /* not terminated */
    size_t name_n;
    const unsigned char *data;
    size_t n;
    size_t header; /* where its local header stands */
    uint32_t crc;
};

struct th_zip {
    size_t n;
    struct th_zip_entry *entry; /* owned; in the order of the archive */
};

/* Fill `out` with the entries of an archive that must outlive it. */
thaw_status th_zip_init(
    struct th_zip *out, const unsigned char *bytes, size_t n, const char *where);
void th_zip_release(struct th_zip *zip);

/* Of what computes the checksums: th_weight_format.library. */
void th_zip_library(char *text, size_t size);

#endif
