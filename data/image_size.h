/* SPDX-License-Identifier: Apache-2.0
 * How large an image is when it is shown, without decoding it where its header says so. */
#ifndef TH_IMAGE_SIZE_H
#define TH_IMAGE_SIZE_H

#include "thaw.h"

/* After EXIF's orientation, as th_image_read gives it. JPEG and PNG are looked at, others
 * decoded. Fails as th_image_read does, but what comes after a header is not looked at. */
thaw_status th_image_size(const char *path, int *w, int *h);

#endif
