/* SPDX-License-Identifier: Apache-2.0
 * JPEG through libjpeg-turbo: accurate integer DCT, fancy upsampling, no scaled
 * decoding, so pixels are Pillow's. Four-channel files are read by Adobe's convention
 * (inverted) and turned to RGB as Pillow does.
 *
 * Invariants: libjpeg leaves by longjmp, so the frame that calls setjmp owns nothing;
 * all state is in struct reader. A file whose data end or break off late is used
 * (*damaged), as long as MIN_ROWS of its rows came before the break. */
#include "error.h"
#include "image.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

enum { MAX_SCANS = 256 }; /* a progressive photo has about 10; each costs a pass */
static const double MIN_ROWS = 0.95;

struct reader {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf leave;
    char reason[JMSG_LENGTH_MAX];
    thaw_status status;
    struct th_image *image;   /* the caller's */
    bool ended;               /* before the end marker, perhaps with nothing lost */
    bool broken;              /* data are lost */
    double rows_before_break; /* fraction */
    int orientation;
};

static struct reader *reader_of(j_common_ptr jpeg)
{
    return jpeg->client_data;
}

static void on_error(j_common_ptr jpeg)
{
    struct reader *r = reader_of(jpeg);
    jpeg->err->format_message(jpeg, r->reason);
    longjmp(r->leave, 1);
}

static void leave_with_reason(struct reader *r, const char *reason)
{
    snprintf(r->reason, sizeof r->reason, "%s", reason);
    longjmp(r->leave, 1);
}

/* Note how far decoding had come at the first sign of damage. While rows are put out
 * that is the output row; before (progressive files), the input row of this scan. */
static void note_break(struct reader *r)
{
    const struct jpeg_decompress_struct *jpeg = &r->jpeg;
    if (r->broken)
        return;
    r->broken = true;
    double rows = jpeg->output_scanline;
    if (jpeg->output_scanline == 0 && jpeg->max_v_samp_factor > 0)
        rows = (double)jpeg->input_iMCU_row * jpeg->max_v_samp_factor * DCTSIZE;
    r->rows_before_break = jpeg->image_height ? rows / jpeg->image_height : 0;
}

static void on_message(j_common_ptr jpeg, int level)
{
    int code = jpeg->err->msg_code;
    bool data_lost = code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE ||
                     code == JWRN_JPEG_EOF || code == JWRN_MUST_RESYNC;
    if (level < 0 && data_lost)
        note_break(reader_of(jpeg));
}

static void on_progress(j_common_ptr jpeg)
{
    struct reader *r = reader_of(jpeg);
    if (r->jpeg.input_scan_number > MAX_SCANS)
        leave_with_reason(r, "more scans than any real photo has");
}

static void do_nothing(j_decompress_ptr jpeg)
{
    (void)jpeg;
}

/* The data are all in memory: being asked for more means that the file ends early. What
 * that costs, if anything, libjpeg says in a warning when it lacks bits. */
static boolean on_end_of_data(j_decompress_ptr jpeg)
{
    static const JOCTET end_of_image[2] = {0xFF, JPEG_EOI};
    reader_of((j_common_ptr)jpeg)->ended = true;
    jpeg->src->next_input_byte = end_of_image;
    jpeg->src->bytes_in_buffer = sizeof end_of_image;
    return TRUE;
}

static void on_skip(j_decompress_ptr jpeg, long n)
{
    struct jpeg_source_mgr *source = jpeg->src;
    if (n <= 0)
        return;
    if ((size_t)n >= source->bytes_in_buffer) {
        on_end_of_data(jpeg);
        return;
    }
    source->next_input_byte += n;
    source->bytes_in_buffer -= (size_t)n;
}

static unsigned tiff_number(const uint8_t *p, int n, bool big)
{
    unsigned value = 0;
    for (int i = 0; i < n; i++)
        value |= (unsigned)p[i] << 8 * (big ? n - 1 - i : i);
    return value;
}

/* The orientation tag of an Exif segment's first directory, or 1. (TIFF 6.0, section 2;
 * Exif 2.3, tag 0x0112.) */
static int exif_orientation(const uint8_t *p, size_t n)
{
    enum { TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3, ENTRY = 12 };
    if (n < 6 + 8 || memcmp(p, "Exif\0", 6) != 0)
        return 1;
    p += 6;
    n -= 6;
    bool big = p[0] == 'M';
    if (memcmp(p, big ? "MM" : "II", 2) != 0 || tiff_number(p + 2, 2, big) != 42)
        return 1;
    size_t at = tiff_number(p + 4, 4, big);
    if (at > n || n - at < 2)
        return 1;
    size_t n_entries = tiff_number(p + at, 2, big);
    at += 2;
    for (size_t i = 0; i < n_entries && n - at >= ENTRY; i++, at += ENTRY)
        if (tiff_number(p + at, 2, big) == TAG_ORIENTATION &&
            tiff_number(p + at + 2, 2, big) == TYPE_SHORT)
            return (int)tiff_number(p + at + 8, 2, big);
    return 1;
}

static int find_orientation(const struct jpeg_decompress_struct *jpeg)
{
    for (jpeg_saved_marker_ptr m = jpeg->marker_list; m; m = m->next)
        if (m->data_length >= 6 && memcmp(m->data, "Exif\0", 6) == 0)
            return exif_orientation(m->data, m->data_length);
    return 1;
}

static void open_reader(struct reader *r, const uint8_t *bytes, size_t n_bytes)
{
    jpeg_create_decompress(&r->jpeg);
    r->source = (struct jpeg_source_mgr){.next_input_byte = bytes,
        .bytes_in_buffer = n_bytes,
        .init_source = do_nothing,
        .fill_input_buffer = on_end_of_data,
        .skip_input_data = on_skip,
        .resync_to_restart = jpeg_resync_to_restart,
        .term_source = do_nothing};
    r->progress.progress_monitor = on_progress;
    r->jpeg.src = &r->source;
    r->jpeg.progress = &r->progress;
    jpeg_save_markers(&r->jpeg, JPEG_APP0 + 1, 0xFFFF);
}

/* Inverted CMYK, [n][4], to RGB: Pillow's "CMYK;I", then convert("RGB"). */
static void cmyk_to_rgb(const JSAMPLE *cmyk, int n, uint8_t *rgb)
{
    for (int i = 0; i < n; i++)
        for (int c = 0; c < 3; c++) {
            int light = cmyk[i * 4 + 3];
            int product = (255 - cmyk[i * 4 + c]) * light + 128;
            rgb[i * 3 + c] = (uint8_t)(light - (((product >> 8) + product) >> 8));
        }
}

/* Whether a progressive file ended before each coefficient had all its bits. */
static bool lacks_scans(const struct jpeg_decompress_struct *jpeg)
{
    for (int c = 0; jpeg->coef_bits && c < jpeg->num_components; c++)
        for (int k = 0; k < DCTSIZE2; k++)
            if (jpeg->coef_bits[c][k] != 0)
                return true;
    return false;
}

static void read_rows(struct reader *r)
{
    struct jpeg_decompress_struct *jpeg = &r->jpeg;
    bool cmyk = jpeg->num_components == 4;
    size_t row = (size_t)r->image->w * 3;
    JSAMPARRAY line = NULL;
    if (cmyk)
        line = jpeg->mem->alloc_sarray(
            (j_common_ptr)jpeg, JPOOL_IMAGE, (JDIMENSION)r->image->w * 4, 1);
    while (jpeg->output_scanline < jpeg->output_height) {
        uint8_t *to = r->image->rgb + jpeg->output_scanline * row;
        if (jpeg_read_scanlines(jpeg, cmyk ? line : &to, 1) != 1)
            leave_with_reason(r, "decoding stalled");
        if (cmyk)
            cmyk_to_rgb(line[0], r->image->w, to);
    }
}

/* Everything between setjmp and clean-up; owns nothing. */
static void read_image(struct reader *r, const uint8_t *bytes, size_t n_bytes)
{
    struct jpeg_decompress_struct *jpeg = &r->jpeg;
    if (setjmp(r->leave)) {
        r->status = th_fail(THAW_E_DATA, "damaged JPEG: %s", r->reason);
        return;
    }
    open_reader(r, bytes, n_bytes);
    jpeg_read_header(jpeg, TRUE);
    if (jpeg->image_width > TH_IMAGE_MAX_SIDE || jpeg->image_height > TH_IMAGE_MAX_SIDE)
        leave_with_reason(r, "its sides are too long");
    r->status =
        th_image_init(r->image, (int)jpeg->image_width, (int)jpeg->image_height);
    if (r->status != THAW_OK)
        return;
    if (jpeg->num_components == 2)
        leave_with_reason(r, "two colour channels, a kind that does not exist");
    jpeg->out_color_space = jpeg->num_components == 4 ? JCS_CMYK : JCS_RGB;
    jpeg->dct_method = JDCT_ISLOW;
    jpeg->do_fancy_upsampling = TRUE;
    jpeg_start_decompress(jpeg);
    if (r->ended && lacks_scans(jpeg))
        leave_with_reason(r, "it ends before its last scans");
    r->orientation = find_orientation(jpeg);
    read_rows(r);
}

static thaw_status decode(
    const uint8_t *bytes, size_t n_bytes, struct th_image *image, bool *damaged)
{
    struct reader r = {.image = image, .orientation = 1};
    r.jpeg.err = jpeg_std_error(&r.errors);
    r.errors.error_exit = on_error;
    r.errors.emit_message = on_message;
    r.jpeg.client_data = &r;
    read_image(&r, bytes, n_bytes);
    jpeg_destroy_decompress(&r.jpeg);
    TRY(r.status);
    if (r.broken && r.rows_before_break < MIN_ROWS)
        return th_fail(THAW_E_DATA,
            "damaged JPEG: the data end or break after %.0f %% of the rows",
            r.rows_before_break * 100);
    *damaged = r.broken || r.ended;
    return th_image_orient(image, r.orientation);
}

static bool recognises(const uint8_t *bytes, size_t n_bytes)
{
    return n_bytes >= 3 && bytes[0] == 0xFF && bytes[1] == 0xD8 && bytes[2] == 0xFF;
}

const struct th_decoder th_decoder_jpeg = {
    .name = "jpeg",
    .endings = "jpg jpeg jpe jfif",
    .recognises = recognises,
    .decode = decode,
};
