/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: .npz, as it comes and one array alone in a zip made around it, whose
 * checksum holds. */
#include "fuzz.h"
#include "weights.h"

#include <zlib.h>

extern const struct th_weight_format th_weight_format_npz;

enum { LOCAL = 35, CENTRAL = 51, END = 22 };

static void read_weights(const uint8_t *bytes, size_t n)
{
    struct th_weights w;
    if (!th_weight_format_npz.sniff(bytes, n))
        return;
    th_weights_init(&w);
    w.where = "fuzz";
    w.limit = TH_WEIGHTS_BASE + TH_WEIGHTS_RATIO * n;
    check_answer(th_weight_format_npz.read(bytes, n, "fuzz", &w));
    for (size_t i = 0; i < w.n; i++)
        look_at(w.weight[i].tensor.data,
            th_dtype_bytes(TH_F32, th_shape_count(&w.weight[i].tensor.shape)));
    th_weights_release(&w);
}

static void put(uint8_t *to, size_t value, int n)
{
    for (int i = 0; i < n; i++)
        to[i] = (uint8_t)(value >> 8 * i);
}

/* The bytes as the array "a.npy" of an archive (PKWARE APPNOTE 4.3). */
static void read_as_array(const uint8_t *bytes, size_t n)
{
    uint8_t *zip = calloc(LOCAL + n + CENTRAL + END, 1);
    ALWAYS(zip != NULL);
    uint8_t *central = zip + LOCAL + n, *end = central + CENTRAL;
    uint32_t crc = (uint32_t)crc32_z(0, bytes, n);
    memcpy(zip, "PK\3\4", 4);
    put(zip + 14, crc, 4);
    put(zip + 18, n, 4);
    put(zip + 22, n, 4);
    put(zip + 26, 5, 2);
    memcpy(zip + 30, "a.npy", 5);
    memcpy(zip + LOCAL, bytes, n);
    memcpy(central, "PK\1\2", 4);
    put(central + 16, crc, 4);
    put(central + 20, n, 4);
    put(central + 24, n, 4);
    put(central + 28, 5, 2);
    memcpy(central + 46, "a.npy", 5);
    memcpy(end, "PK\5\6", 4);
    put(end + 8, 1, 2);
    put(end + 10, 1, 2);
    put(end + 12, CENTRAL, 4);
    put(end + 16, LOCAL + n, 4);
    read_weights(zip, LOCAL + n + CENTRAL + END);
    free(zip);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    read_weights(bytes, n);
    if (n < 1 << 20)
        read_as_array(bytes, n);
    return 0;
}
