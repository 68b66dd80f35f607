/* SPDX-License-Identifier: Apache-2.0
 * Binary PNM (P5 gray, P6 colour) of any depth, scaled to 8 bits as Pillow does. Own code,
 * because stb_image reads past its buffer on 16-bit files and does not scale. */
#include "error.h"
#include "image.h"

#include <math.h>
#include <string.h>

struct reader {
    const uint8_t *at, *end;
};

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The next number of the header, after spaces and comments; -1 if there is none. */
static int read_number(struct reader *r)
{
    while (r->at < r->end && (is_space(*r->at) || *r->at == '#')) {
        if (*r->at == '#')
            while (r->at < r->end && *r->at != '\n')
                r->at++;
        else
            r->at++;
    }
    int value = -1;
    for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++) {
        if (value > 10 * 1000 * 1000)
            return -1;
        value = (value < 0 ? 0 : value) * 10 + (*r->at - '0');
    }
    return value;
}

static uint8_t scaled(int value, int max)
{
    return (uint8_t)(value >= max ? 255 : lrint((double)value / max * 255));
}

static thaw_status decode(
    const uint8_t *bytes, size_t n_bytes, struct th_image *image, bool *damaged)
{
    (void)damaged;
    struct reader r = {bytes + 2, bytes + n_bytes};
    int w = read_number(&r), h = read_number(&r), max = read_number(&r);
    if (w < 0 || h < 0 || max < 1 || max > 65535 || r.at == r.end || !is_space(*r.at))
        return th_fail(THAW_E_DATA, "damaged PNM: its header makes no sense");
    TRY(th_image_reuse(image, w, h));
    const uint8_t *p = r.at + 1;
    size_t channels = bytes[1] == '5' ? 1 : 3, deep = max > 255;
    size_t n = (size_t)w * (size_t)h * channels;
    if ((size_t)(r.end - p) < n << deep)
        return th_fail(THAW_E_DATA, "damaged PNM: the file ends early");
    for (size_t i = 0; i < n; i++) {
        uint8_t v = scaled(deep ? p[2 * i] << 8 | p[2 * i + 1] : p[i], max);
        if (channels == 3)
            image->rgb[i] = v;
        else
            memset(image->rgb + i * 3, v, 3);
    }
    return THAW_OK;
}

static bool recognises(const uint8_t *bytes, size_t n_bytes)
{
    return n_bytes >= 3 && bytes[0] == 'P' && (bytes[1] == '5' || bytes[1] == '6') &&
           (is_space(bytes[2]) || bytes[2] == '#');
}

const struct th_decoder th_decoder_pnm = {
    .name = "pnm",
    .endings = "pgm ppm pnm",
    .recognises = recognises,
    .decode = decode,
};
