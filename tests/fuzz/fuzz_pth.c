/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: PyTorch's weight files, zip or stream, to tensors; a zip as it comes and
 * with the checksums of its entries repaired, at which it would end otherwise. */
#include "bytes.h"
#include "fuzz.h"
#include "weights.h"

#include <zlib.h>

extern const struct th_weight_format th_weight_format_pth;

static void put_le32(uint8_t *to, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(value >> 8 * i);
}

/* The entry of the central directory at `central` (PKWARE APPNOTE 4.3.12), and its local
 * header, get the checksum of its bytes. */
static void repair_entry(uint8_t *bytes, size_t n, uint8_t *central)
{
    enum { CENTRAL_CRC = 16, CENTRAL_SIZE = 20, CENTRAL_PLACE = 42 };
    enum { LOCAL_CRC = 14, LOCAL_NAME = 26, LOCAL_BYTES = 30 };
    size_t size = th_le32(central + CENTRAL_SIZE),
           at = th_le32(central + CENTRAL_PLACE);
    if (at > n || n - at < LOCAL_BYTES)
        return;
    uint8_t *local = bytes + at;
    size_t head = LOCAL_BYTES + (size_t)th_le16(local + LOCAL_NAME) +
                  th_le16(local + LOCAL_NAME + 2);
    if (n - at < head || n - at - head < size)
        return;
    uint32_t crc = (uint32_t)crc32_z(0, local + head, size);
    put_le32(local + LOCAL_CRC, crc);
    put_le32(central + CENTRAL_CRC, crc);
}

static void repair(uint8_t *bytes, size_t n)
{
    enum { CENTRAL_BYTES = 46 };
    for (size_t at = 0; n >= CENTRAL_BYTES && at <= n - CENTRAL_BYTES; at++)
        if (memcmp(bytes + at, "PK\1\2", 4) == 0)
            repair_entry(bytes, n, bytes + at);
}

static void read_weights(const uint8_t *bytes, size_t n)
{
    struct th_weights w;
    if (!th_weight_format_pth.sniff(bytes, n))
        return;
    th_weights_init(&w);
    w.where = "fuzz";
    w.limit = TH_WEIGHTS_BASE + TH_WEIGHTS_RATIO * n;
    check_answer(th_weight_format_pth.read(bytes, n, "fuzz", &w));
    for (size_t i = 0; i < w.n; i++)
        look_at(w.weight[i].tensor.data,
            th_dtype_bytes(TH_F32, th_shape_count(&w.weight[i].tensor.shape)));
    th_weights_release(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    read_weights(bytes, n);
    if (n < 2 || memcmp(bytes, "PK", 2) != 0)
        return 0;
    uint8_t *copy = malloc(n);
    ALWAYS(copy != NULL);
    memcpy(copy, bytes, n);
    repair(copy, n);
    read_weights(copy, n);
    free(copy);
    return 0;
}
