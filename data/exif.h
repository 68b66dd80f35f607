/* SPDX-License-Identifier: Apache-2.0
 * How a camera was held, from the Exif data of an image file. */
#ifndef TH_EXIF_H
#define TH_EXIF_H

#include <stddef.h>
#include <stdint.h>

/* The orientation tag, 1 to 8, of n bytes that begin with "Exif\0\0" or with TIFF's
 * header; 1 where there is none or the bytes are damaged. */
int th_exif_orientation(const uint8_t *bytes, size_t n);

#endif
