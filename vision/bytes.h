/* SPDX-License-Identifier: Apache-2.0
 * Little-endian numbers out of byte streams, on any machine and at any alignment. */
#ifndef TH_BYTES_H
#define TH_BYTES_H

#include <stdint.h>

static inline uint16_t th_le16(const unsigned char *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t th_le32(const unsigned char *p)
{
    return (uint32_t)th_le16(p) | (uint32_t)th_le16(p + 2) << 16;
}

static inline uint64_t th_le64(const unsigned char *p)
{
    return (uint64_t)th_le32(p) | (uint64_t)th_le32(p + 4) << 32;
}

#endif
