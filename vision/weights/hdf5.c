/* SPDX-License-Identifier: Apache-2.0
 * HDF5 weight files: the model file, and files of others with flat names or groups.
 * Owns the way from bytes to tensors: a child process reads (sandbox.h), what it found
 * comes back as records (weights_stream.h). Files are read from memory and written to
 * memory, so that HDF5 itself never touches the disk. */
#include "error.h"
#include "hdf5_read.h"
#include "hdf5_session.h"
#include "hdf5_write.h"
#include "sandbox.h"

#include <stdio.h>
#include <string.h>

#include <H5public.h>

/* What a child may add to this process beside the chunks and texts it has at once, of
 * which each is below the limit of the file: libhdf5's caches and tables. */
#define MEMORY_BASE ((size_t)64 << 20)
/* Seconds of computing, and bytes that even the slowest packed file yields in one. */
static const double base_seconds = 1, bytes_per_second = 4e6;

struct work {
    const unsigned char *bytes;
    size_t n, limit;
    const char *where;
};

static thaw_status read_in_child(void *context, unsigned char *shared, size_t n)
{
    const struct work *work = context;
    struct th_stream records = {.bytes = shared, .n = n, .where = work->where};
    return th_hdf5_read(work->bytes, work->n, work->limit, &records);
}

static thaw_status take_over(struct th_sandbox *s, struct th_weights *out)
{
    struct th_stream records = {.bytes = s->bytes, .n = s->n, .where = out->where};
    bool more = true;
    while (more) {
        TRY(th_stream_next(&records, out, &more));
        th_sandbox_consume(s, records.at);
    }
    return THAW_OK;
}

static thaw_status hdf5_read(
    const unsigned char *bytes, size_t n, const char *where, struct th_weights *out)
{
    struct work work = {bytes, n, out->limit, where};
    struct th_sandbox s;
    const struct th_sandbox_job job = {.where = where,
        .run = read_in_child,
        .context = &work,
        .shared_bytes = th_stream_bytes(out->limit),
        .memory_bytes = MEMORY_BASE + out->limit,
        .seconds = base_seconds + (double)n / bytes_per_second};
    th_hdf5_lock();
    thaw_status status = th_sandbox_run(&job, &s);
    th_hdf5_unlock();
    TRY(status);
    status = take_over(&s, out);
    th_sandbox_release(&s);
    return status;
}

/* The signature stands at 0 or, after a user block, at 512, 1024, 2048, ... */
static bool hdf5_sniff(const unsigned char *bytes, size_t n)
{
    static const unsigned char signature[8] = "\x89HDF\r\n\x1a\n";
    for (size_t at = 0; n >= 8 && at <= n - 8 && at <= 1 << 20; at = at ? 2 * at : 512)
        if (memcmp(bytes + at, signature, 8) == 0)
            return true;
    return false;
}

/* As built with: libhdf5 refuses to run with another. Asking it would start it. */
static void library(char *text, size_t size)
{
    snprintf(text, size, "HDF5 %d.%d.%d", H5_VERS_MAJOR, H5_VERS_MINOR, H5_VERS_RELEASE);
}

const struct th_weight_format th_weight_format_hdf5 = {
    .name = "hdf5",
    .endings = "h5 hdf5",
    .sniff = hdf5_sniff,
    .read = hdf5_read,
    .image = th_hdf5_image,
    .library = library,
};
