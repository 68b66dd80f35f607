/* SPDX-License-Identifier: Apache-2.0
 * Owns kept features: pages of memory, or a file KEY.features of
 *
 *     header    what is kept, under which key, and a hash of that: 64 bytes
 *     flags     a byte an entry: 1 once it has been written
 *     entries   each its hash and its values, at multiples of 64 bytes
 *
 * Invariants. C1 A file gets its name only when header and size are whole (link), so a
 * file that is not is somebody else's or damaged, and is replaced. C2 An entry is written
 * before its flag; a process that is killed in between leaves it unwritten. After a power
 * cut the flag may have reached the disk alone: the hash tells, and it counts as unwritten.
 * C3 Two processes that write one entry write the same bytes, since the key covers all
 * that they depend on. C4 Entries are read and written, never mapped: a full disk or a file
 * that was cut off is an error here and not a signal. Nothing is synced: what is lost is
 * computed again. */
#include "feature_cache.h"

#include "error.h"
#include "file.h"
#include "half.h"
#include "host.h"
#include "mem.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

struct header {
    char magic[8];
    uint64_t key[2];
    int64_t entries, values;
    uint64_t half;
    uint64_t unused;
    uint64_t hash; /* of all before */
};

enum { ENTRIES_AT = 64 }; /* their places are multiples of this */
static const char magic[8] = "THAWFT1";
static const size_t memory_unknown = (size_t)1
                                     << 30; /* where the system does not say */

struct th_feature_cache {
    struct header header;
    size_t bytes, stride; /* of an entry's values as stored; from one to the next */
    int64_t room;
    _Atomic unsigned char *flags; /* [entries] */
    char *memory;                 /* [room][stride]; NULL: in the file */
    int fd;
    char *path;
    char *entry; /* one as stored: hash, values */
    bool full;   /* a write failed: no more are tried */
};

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static off_t place(const struct th_feature_cache *c, int64_t entry)
{
    size_t first = round_up(sizeof c->header + (size_t)c->header.entries, ENTRIES_AT);
    return (off_t)(first + (size_t)entry * c->stride);
}

static uint64_t entry_hash(const struct th_feature_cache *c, int64_t entry)
{
    uint64_t seed = c->header.key[0] ^ (c->header.key[1] + (uint64_t)entry);
    return th_hash(c->entry + sizeof(uint64_t), c->bytes, seed);
}

/* ---- Files ---- */

static bool read_at(int fd, void *to, size_t n, off_t at)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(fd, (char *)to + done, n - done, at + (off_t)done);
        if (got > 0)
            done += (size_t)got;
        else if (got == 0 || errno != EINTR)
            return false;
    }
    return true;
}

static bool write_at(int fd, const void *from, size_t n, off_t at)
{
    for (size_t done = 0; done < n;) {
        ssize_t put = pwrite(fd, (const char *)from + done, n - done, at + (off_t)done);
        if (put > 0)
            done += (size_t)put;
        else if (put == 0 || errno != EINTR)
            return false;
    }
    return true;
}

/* A file with a header and holes, under its name; where another process was faster, its
 * file stays. */
static thaw_status make_file(const struct th_feature_cache *c)
{
    char *temp = th_format("%s.tmp.%ld", c->path, (long)getpid());
    if (!temp)
        return THAW_E_MEMORY;
    thaw_status status = THAW_OK;
    int fd = open(temp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0 || ftruncate(fd, place(c, c->header.entries)) != 0 ||
        !write_at(fd, &c->header, sizeof c->header, 0) ||
        (link(temp, c->path) != 0 && errno != EEXIST && rename(temp, c->path) != 0))
        status = th_fail_errno(THAW_E_IO, "%s: cannot be written", c->path);
    if (fd >= 0)
        close(fd);
    unlink(temp);
    th_free(temp);
    return status;
}

/* What is wrong with the open file; NULL: nothing. */
static const char *what_is_wrong(const struct th_feature_cache *c)
{
    struct header found;
    struct stat s;
    if (fstat(c->fd, &s) != 0 || !S_ISREG(s.st_mode) ||
        !read_at(c->fd, &found, sizeof found, 0) ||
        memcmp(found.magic, magic, sizeof magic) != 0)
        return "is no file of features";
    if (found.hash != th_hash(&found, offsetof(struct header, hash), 0))
        return "is damaged";
    if (memcmp(&found, &c->header, sizeof found) != 0)
        return "holds other features";
    return s.st_size == place(c, c->header.entries) ? NULL : "was cut off";
}

static thaw_status open_path(struct th_feature_cache *c)
{
    c->fd = open(c->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (c->fd >= 0 || errno == ENOENT)
        return THAW_OK;
    return th_fail_errno(THAW_E_IO, "%s: cannot be opened", c->path);
}

static thaw_status open_file(struct th_feature_cache *c, char **note)
{
    TRY(open_path(c));
    const char *wrong = c->fd >= 0 ? what_is_wrong(c) : NULL;
    if (wrong) {
        *note =
            th_format("%s %s: it is thrown away, and computed again", c->path, wrong);
        close(c->fd);
        c->fd = -1;
        if (unlink(c->path) != 0)
            return th_fail_errno(THAW_E_IO, "%s: cannot be removed", c->path);
    }
    if (c->fd < 0) {
        TRY(make_file(c));
        TRY(open_path(c));
    }
    if (c->fd < 0 || what_is_wrong(c))
        return th_fail(THAW_E_IO, "%s: another program writes there", c->path);
    th_feature_cache_refresh(c);
    return THAW_OK;
}

/* Half of the free disk, and what the file has of it already. */
static size_t disk_limit(const struct th_feature_cache *c)
{
    struct statvfs fs;
    struct stat s;
    if (fstatvfs(c->fd, &fs) != 0 || fstat(c->fd, &s) != 0)
        return SIZE_MAX;
    return (size_t)fs.f_bavail * (size_t)fs.f_frsize / 2 + (size_t)s.st_blocks * 512;
}

static void find_room(struct th_feature_cache *c, size_t limit)
{
    uint64_t fit = limit / c->stride;
    c->room = fit < (uint64_t)c->header.entries ? (int64_t)fit : c->header.entries;
}

static thaw_status open_disk(
    struct th_feature_cache *c, const struct th_cache_spec *spec, char **note)
{
    TRY(th_file_mkdir(spec->dir));
    c->path = th_format("%s/%016" PRIx64 "%016" PRIx64 ".features", spec->dir,
        spec->key[0], spec->key[1]);
    if (!c->path)
        return THAW_E_MEMORY;
    TRY(open_file(c, note));
    find_room(c, spec->limit ? spec->limit : disk_limit(c));
    return THAW_OK;
}

static thaw_status open_memory(
    struct th_feature_cache *c, const struct th_cache_spec *spec)
{
    size_t available = (size_t)th_available_bytes() / 2;
    size_t limit = available ? available : memory_unknown;
    find_room(c, spec->limit ? spec->limit : limit);
    c->memory = c->room ? th_host_alloc(NULL, (size_t)c->room * c->stride) : NULL;
    return c->room && !c->memory ? THAW_E_MEMORY : THAW_OK;
}

static void make_header(struct header *h, const struct th_cache_spec *spec)
{
    *h = (struct header){.key = {spec->key[0], spec->key[1]},
        .entries = spec->entries,
        .values = spec->values,
        .half = spec->half};
    memcpy(h->magic, magic, sizeof magic);
    h->hash = th_hash(h, offsetof(struct header, hash), 0);
}

thaw_status th_feature_cache_open(
    const struct th_cache_spec *spec, struct th_feature_cache **out, char **note)
{
    struct th_feature_cache *c = th_alloc(1, sizeof *c);
    *out = NULL;
    *note = NULL;
    if (!c)
        return THAW_E_MEMORY;
    c->fd = -1;
    make_header(&c->header, spec);
    c->bytes = (size_t)spec->values * (spec->half ? sizeof(uint16_t) : sizeof(float));
    c->stride = round_up(sizeof(uint64_t) + c->bytes, ENTRIES_AT);
    c->flags = th_alloc((size_t)spec->entries, sizeof *c->flags);
    c->entry = th_alloc(c->stride, 1);
    thaw_status status = c->flags && c->entry ? THAW_OK : THAW_E_MEMORY;
    if (status == THAW_OK)
        status = spec->place == TH_CACHE_DISK ? open_disk(c, spec, note)
                                              : open_memory(c, spec);
    if (status != THAW_OK)
        th_feature_cache_close(c);
    else
        *out = c;
    return status;
}

void th_feature_cache_close(struct th_feature_cache *c)
{
    if (!c)
        return;
    if (c->fd >= 0)
        close(c->fd);
    if (c->memory)
        th_host_free(NULL, c->memory, (size_t)c->room * c->stride);
    th_free((void *)c->flags);
    th_free(c->path);
    th_free(c->entry);
    th_free(c);
}

void th_feature_cache_unlink(struct th_feature_cache *c)
{
    if (c->path)
        unlink(c->path);
}

/* ---- Entries ---- */

int64_t th_feature_cache_room(const struct th_feature_cache *c)
{
    return c->room;
}

size_t th_feature_cache_entry_bytes(const struct th_feature_cache *c)
{
    return c->stride;
}

bool th_feature_cache_has(const struct th_feature_cache *c, int64_t entry)
{
    return atomic_load_explicit(&c->flags[entry], memory_order_acquire) == 1;
}

int64_t th_feature_cache_filled(const struct th_feature_cache *c)
{
    int64_t n = 0;
    for (int64_t i = 0; i < c->header.entries; i++)
        n += th_feature_cache_has(c, i);
    return n;
}

static void set_flag(struct th_feature_cache *c, int64_t entry, unsigned char flag)
{
    atomic_store_explicit(&c->flags[entry], flag, memory_order_release);
}

void th_feature_cache_refresh(struct th_feature_cache *c)
{
    unsigned char some[4096];
    for (int64_t from = 0; c->fd >= 0 && from < c->header.entries;) {
        int64_t n = c->header.entries - from;
        n = n < (int64_t)sizeof some ? n : (int64_t)sizeof some;
        if (!read_at(c->fd, some, (size_t)n, (off_t)sizeof c->header + (off_t)from))
            return;
        for (int64_t i = 0; i < n; i++)
            if (some[i] == 1)
                set_flag(c, from + i, 1);
        from += n;
    }
}

thaw_status th_feature_cache_get(struct th_feature_cache *c, int64_t entry, float *x)
{
    uint64_t hash = 0;
    const char *stored = c->entry;
    if (c->memory)
        stored = c->memory + (size_t)entry * c->stride;
    else if (read_at(c->fd, c->entry, sizeof hash + c->bytes, place(c, entry)))
        memcpy(&hash, c->entry, sizeof hash);
    if (!c->memory && hash != entry_hash(c, entry)) {
        set_flag(c, entry, 0);
        return th_fail(THAW_E_DATA, "%s: entry %" PRId64 " is damaged", c->path, entry);
    }
    if (c->header.half)
        th_half_to_float(x, (const uint16_t *)(const void *)(stored + sizeof hash),
            (size_t)c->header.values);
    else
        memcpy(x, stored + sizeof hash, c->bytes);
    return THAW_OK;
}

static thaw_status write_entry(struct th_feature_cache *c, int64_t entry)
{
    const unsigned char whole = 1;
    uint64_t hash = entry_hash(c, entry);
    memcpy(c->entry, &hash, sizeof hash);
    if (write_at(c->fd, c->entry, sizeof hash + c->bytes, place(c, entry)) &&
        write_at(c->fd, &whole, 1, (off_t)sizeof c->header + (off_t)entry))
        return THAW_OK;
    c->full = true;
    return th_fail_errno(THAW_E_IO, "%s: cannot be written", c->path);
}

thaw_status th_feature_cache_put(
    struct th_feature_cache *c, int64_t entry, const float *x)
{
    if (entry >= c->room || c->full || th_feature_cache_has(c, entry))
        return THAW_OK;
    char *to = c->memory ? c->memory + (size_t)entry * c->stride : c->entry;
    if (c->header.half)
        th_half_from_float(
            (uint16_t *)(void *)(to + sizeof(uint64_t)), x, (size_t)c->header.values);
    else
        memcpy(to + sizeof(uint64_t), x, c->bytes);
    if (!c->memory)
        TRY(write_entry(c, entry));
    set_flag(c, entry, 1);
    return THAW_OK;
}
