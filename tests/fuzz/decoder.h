/* SPDX-License-Identifier: Apache-2.0
 * One image decoder under fuzzing: its own kind of file, or any file at all. */
#ifndef FUZZ_DECODER_H
#define FUZZ_DECODER_H

#include "fuzz.h"
#include "image.h"

static inline int fuzz_decoder(
    const struct th_decoder *d, const uint8_t *bytes, size_t n)
{
    struct th_image image = {0};
    bool damaged = false;
    if (!d->recognises(bytes, n))
        return 0;
    thaw_status status = d->decode(bytes, n, &image, &damaged);
    check_answer(status);
    if (status == THAW_OK) {
        ALWAYS(image.w > 0 && image.h > 0);
        look_at(image.rgb, (size_t)image.w * (size_t)image.h * 3);
    }
    th_image_release(&image);
    return 0;
}

#endif
