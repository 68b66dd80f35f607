/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: JPEG, whole and in part. */
#include "decoder.h"
#include "rng.h"
#include "tensor.h"

extern const struct th_decoder th_decoder_jpeg;

/* A part that the bytes themselves draw. */
static struct th_box draw_part(const void *context, int w, int h)
{
    uint64_t key = *(const uint64_t *)context;
    struct th_box b;
    b.w = 1 + (int)th_rng_below(key, 0, (uint64_t)w);
    b.h = 1 + (int)th_rng_below(key, 1, (uint64_t)h);
    b.x = (int)th_rng_below(key, 2, (uint64_t)(w - b.w + 1));
    b.y = (int)th_rng_below(key, 3, (uint64_t)(h - b.h + 1));
    return b;
}

static void check_rows(
    const struct th_image *whole, const struct th_picture *p, const struct th_box *b)
{
    ALWAYS(b->x >= p->x && b->x + b->w <= p->x + p->held.w);
    ALWAYS(b->y >= p->y && b->y + b->h <= p->y + p->held.h);
    for (int y = b->y; y < b->y + b->h; y++) {
        size_t from = (size_t)y * (size_t)whole->w + (size_t)b->x;
        size_t at = (size_t)(y - p->y) * (size_t)p->held.w + (size_t)(b->x - p->x);
        ALWAYS(!memcmp(whole->rgb + from * 3, p->held.rgb + at * 3, (size_t)b->w * 3));
    }
}

/* A part has the whole's pixels, and the file the same verdict. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct th_image whole = {0};
    struct th_picture picture = {0};
    bool damaged = false, part_damaged = false;
    fuzz_decoder(&th_decoder_jpeg, bytes, n);
    if (!th_decoder_jpeg.recognises(bytes, n))
        return 0;
    uint64_t key = th_hash(bytes, n, 0);
    const struct th_wanted wanted = {.part = draw_part, .context = &key};
    thaw_status status = th_decoder_jpeg.decode(bytes, n, &whole, &damaged);
    thaw_status part =
        th_decoder_jpeg.decode_part(bytes, n, &wanted, &picture, &part_damaged);
    /* The whole may be too large for memory where the part is not. */
    ALWAYS(part == status || status == THAW_E_MEMORY);
    if (status == THAW_OK) {
        ALWAYS(damaged == part_damaged);
        ALWAYS(picture.w == whole.w && picture.h == whole.h);
        struct th_box box = draw_part(&key, whole.w, whole.h);
        check_rows(&whole, &picture, &box);
    }
    th_image_release(&whole);
    th_image_release(&picture.held);
    return 0;
}
