/* SPDX-License-Identifier: Apache-2.0
 * Owns the reading of zip archives (PKWARE APPNOTE 6.3.9), with zip64.
 * Not done: compression, encryption, archives in several parts. */
#include "zip.h"

#include "bytes.h"
#include "error.h"
#include "mem.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
    END_BYTES = 22,     /* end of central directory, without its comment */
    LOCATOR_BYTES = 20, /* where the zip64 end of central directory is */
    END64_BYTES = 56,
    CENTRAL_BYTES = 46, /* one entry of the central directory, without names */
    LOCAL_BYTES = 30,   /* one local header, likewise */
    FLAG_ENCRYPTED = 1,
    FLAG_SIZES_AFTER = 8, /* sizes and checksum follow the data, not in the header */
};

struct archive {
    const unsigned char *bytes;
    size_t n;
    const char *where;
};

static thaw_status damaged(const struct archive *a, const char *why)
{
    return th_fail(THAW_E_DATA, "%s: damaged zip archive (%s): fetch the file again",
        a->where, why);
}

static bool has_mark(
    const struct archive *a, uint64_t at, size_t room, const char *mark)
{
    return at <= a->n && a->n - at >= room && memcmp(a->bytes + at, mark, 4) == 0;
}

/* Where the central directory is and how many entries it has. */
static thaw_status find_directory(
    const struct archive *a, uint64_t *at, uint64_t *end, uint64_t *n)
{
    if (a->n < END_BYTES)
        return damaged(a, "cut short");
    size_t tail = a->n - END_BYTES, lowest = tail > 0xffff ? tail - 0xffff : 0;
    while (!has_mark(a, tail, END_BYTES, "PK\5\6") ||
           th_le16(a->bytes + tail + 20) != a->n - tail - END_BYTES) {
        if (tail-- == lowest)
            return damaged(a, "cut short: no end of the directory");
    }
    const unsigned char *p = a->bytes + tail;
    *n = th_le16(p + 10);
    uint64_t bytes = th_le32(p + 12);
    *at = th_le32(p + 16);
    if (tail >= LOCATOR_BYTES &&
        has_mark(a, tail - LOCATOR_BYTES, LOCATOR_BYTES, "PK\6\7")) {
        uint64_t end64 = th_le64(p - LOCATOR_BYTES + 8);
        if (!has_mark(a, end64, END64_BYTES, "PK\6\6"))
            return damaged(a, "its zip64 directory is missing");
        p = a->bytes + end64;
        *n = th_le64(p + 32);
        bytes = th_le64(p + 40);
        *at = th_le64(p + 48);
        tail = (size_t)end64;
    }
    if (*at > tail || bytes != tail - *at)
        return damaged(a, "its directory is not where it should be");
    *end = tail;
    return THAW_OK;
}

/* Sizes and place of 4 GiB and more stand in an extra field, those that need it only,
 * in this order. value[] = uncompressed, compressed, header. */
static thaw_status read_zip64(
    const struct archive *a, const unsigned char *extra, size_t n, uint64_t value[3])
{
    while (n >= 4) {
        size_t id = th_le16(extra), size = th_le16(extra + 2);
        if (size > n - 4)
            return damaged(a, "an extra field");
        const unsigned char *p = extra + 4, *end = p + size;
        for (int i = 0; id == 1 && i < 3; i++) {
            if (value[i] != 0xffffffff)
                continue;
            if (end - p < 8)
                return damaged(a, "a zip64 field");
            value[i] = th_le64(p);
            p += 8;
        }
        extra += 4 + size;
        n -= 4 + size;
    }
    return THAW_OK;
}

/* The local header must tell the same story as the central directory. */
static thaw_status check_local(const struct archive *a, struct th_zip_entry *e,
    uint64_t header, uint64_t directory)
{
    if (!has_mark(a, header, LOCAL_BYTES, "PK\3\4"))
        return damaged(a, "an entry without a header");
    const unsigned char *p = a->bytes + header;
    size_t name_n = th_le16(p + 26), extra_n = th_le16(p + 28);
    uint64_t data = header + LOCAL_BYTES + name_n + extra_n;
    if (data > directory || e->n > directory - data)
        return damaged(a, "an entry reaches beyond the data");
    if (name_n != e->name_n || memcmp(p + LOCAL_BYTES, e->name, name_n) != 0)
        return damaged(a, "an entry has two names");
    uint64_t size[3] = {th_le32(p + 22), th_le32(p + 18), 0};
    if (th_le16(p + 8) != 0 || th_le16(p + 6) & FLAG_ENCRYPTED)
        return damaged(a, "an entry is stored in two ways");
    if (!(th_le16(p + 6) & FLAG_SIZES_AFTER)) {
        TRY(read_zip64(a, p + LOCAL_BYTES + name_n, extra_n, size));
        if (size[0] != e->n || size[1] != e->n || th_le32(p + 14) != e->crc)
            return damaged(a, "an entry has two sizes or checksums");
    }
    e->header = (size_t)header;
    e->data = a->bytes + data;
    return THAW_OK;
}

/* One entry of the central directory; *at moves behind it. */
static thaw_status read_entry(const struct archive *a, uint64_t *at, uint64_t end,
    uint64_t directory, struct th_zip_entry *e)
{
    if (end - *at < CENTRAL_BYTES || !has_mark(a, *at, CENTRAL_BYTES, "PK\1\2"))
        return damaged(a, "its directory ends early");
    const unsigned char *p = a->bytes + *at;
    size_t name_n = th_le16(p + 28), extra_n = th_le16(p + 30);
    size_t bytes = CENTRAL_BYTES + name_n + extra_n + th_le16(p + 32);
    if (end - *at < bytes)
        return damaged(a, "its directory ends early");
    uint64_t value[3] = {th_le32(p + 24), th_le32(p + 20), th_le32(p + 42)};
    TRY(read_zip64(a, p + CENTRAL_BYTES + name_n, extra_n, value));
    if (th_le16(p + 8) & FLAG_ENCRYPTED || th_le16(p + 10) != 0)
        return th_fail(THAW_E_DATA,
            "%s: an entry is compressed or encrypted: unpack it and `zip -0` it again, "
            "or save again with torch.save or numpy.savez",
            a->where);
    if (value[0] != value[1] || value[0] > a->n)
        return damaged(a, "an entry has two sizes");
    e->name = (const char *)p + CENTRAL_BYTES;
    e->name_n = name_n;
    e->n = (size_t)value[0];
    e->crc = th_le32(p + 16);
    *at += bytes;
    return check_local(a, e, value[2], directory);
}

static int by_place(const void *a, const void *b)
{
    const struct th_zip_entry *x = a, *y = b;
    return (x->header > y->header) - (x->header < y->header);
}

/* No two entries share bytes; each holds what was written. */
static thaw_status check_entries(const struct archive *a, struct th_zip *zip)
{
    qsort(zip->entry, zip->n, sizeof *zip->entry, by_place);
    for (size_t i = 0; i < zip->n; i++) {
        const struct th_zip_entry *e = &zip->entry[i];
        if (i + 1 < zip->n && (size_t)(e->data - a->bytes) + e->n > e[1].header)
            return damaged(a, "entries overlap");
        if (crc32_z(0, e->data, e->n) != e->crc)
            return damaged(a, "an entry's checksum does not match its data");
    }
    return THAW_OK;
}

thaw_status th_zip_init(
    struct th_zip *out, const unsigned char *bytes, size_t n, const char *where)
{
    struct archive a = {bytes, n, where};
    uint64_t at = 0, end = 0, n_entries = 0;
    *out = (struct th_zip){0};
    TRY(find_directory(&a, &at, &end, &n_entries));
    if (n_entries > (end - at) / CENTRAL_BYTES)
        return damaged(&a, "more entries than its directory can hold");
    uint64_t directory = at;
    out->entry = th_alloc((size_t)n_entries, sizeof *out->entry);
    thaw_status status = out->entry ? THAW_OK : THAW_E_MEMORY;
    for (; status == THAW_OK && out->n < n_entries; out->n++)
        status = read_entry(&a, &at, end, directory, &out->entry[out->n]);
    if (status == THAW_OK && at != end)
        status = damaged(&a, "its directory is longer than its entries");
    if (status == THAW_OK)
        status = check_entries(&a, out);
    if (status != THAW_OK)
        th_zip_release(out);
    return status;
}

void th_zip_release(struct th_zip *zip)
{
    th_free(zip->entry);
    *zip = (struct th_zip){0};
}

void th_zip_library(char *text, size_t size)
{
    snprintf(text, size, "zlib %s", zlibVersion());
}
