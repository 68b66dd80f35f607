/* SPDX-License-Identifier: Apache-2.0
 * JPEG through libjpeg-turbo: accurate integer DCT, fancy upsampling, no scaled
 * decoding, so pixels are Pillow's. Four-channel files are read by Adobe's convention
 * (inverted) and turned to RGB as Pillow does.
 *
 * Where only a part is wanted, the inverse DCT, upsampling and colours of the rest are left
 * out; the bits of all of it are still read, so that a file gets the same verdict whatever
 * part of it is looked at. What bounds that is the Huffman decoder, half of the time.
 *
 * Writes them, too, for people to look at.
 *
 * Invariants: libjpeg leaves by longjmp, so the frame that calls setjmp owns nothing;
 * all state is in struct reader. A file whose data end or break off late is used
 * (*damaged), as long as MIN_ROWS of its rows came before the break. */
#include "error.h"
#include "exif.h"
#include "image.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

enum { MAX_SCANS = 256 }; /* a progressive photo has about 10; each costs a pass */
/* Columns decoded beside the wanted ones: upsampling looks one chroma sample to either
 * side, and libjpeg takes the decoded strip's edges for the image's. Rows need none: it
 * keeps those above and below. */
enum { MARGIN = 8, CHANNELS = 3 };
static const double MIN_ROWS = 0.95;

struct reader {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf leave;
    char reason[JMSG_LENGTH_MAX];
    thaw_status status;
    const struct th_wanted *wanted; /* NULL: all */
    struct th_picture *picture;     /* the caller's */
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

/* Note how far reading had come at the first sign of damage: the row of blocks, of this
 * scan, which is the same whatever rows are put out. */
static void note_break(struct reader *r)
{
    const struct jpeg_decompress_struct *jpeg = &r->jpeg;
    if (r->broken)
        return;
    r->broken = true;
    double rows = (double)jpeg->input_iMCU_row * jpeg->max_v_samp_factor * DCTSIZE;
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

static int find_orientation(const struct jpeg_decompress_struct *jpeg)
{
    for (jpeg_saved_marker_ptr m = jpeg->marker_list; m; m = m->next)
        if (m->data_length >= 6 && memcmp(m->data, "Exif\0", 6) == 0)
            return th_exif_orientation(m->data, m->data_length);
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

/* The next row into `to`, of output_width pixels; line is needed for CMYK. */
static void read_row(struct reader *r, JSAMPARRAY line, uint8_t *to)
{
    struct jpeg_decompress_struct *jpeg = &r->jpeg;
    bool cmyk = jpeg->out_color_space == JCS_CMYK;
    if (jpeg_read_scanlines(jpeg, cmyk ? line : &to, 1) != 1)
        leave_with_reason(r, "decoding stalled");
    if (cmyk)
        cmyk_to_rgb(line[0], (int)jpeg->output_width, to);
}

/* Whether leaving columns and rows out gives the same pixels. Smoothing between blocks, of
 * progressive files that lack bits, looks far; other samplings are rare and untried. */
static bool can_leave_out(const struct reader *r)
{
    const struct jpeg_decompress_struct *jpeg = &r->jpeg;
    bool turned = r->orientation >= 2 && r->orientation <= 8;
    for (int c = 0; c < jpeg->num_components; c++)
        if (jpeg->comp_info[c].h_samp_factor > 2 ||
            jpeg->comp_info[c].v_samp_factor > 2)
            return false;
    return r->wanted && !turned && !lacks_scans(jpeg);
}

/* The wanted part, cut to the picture and widened to the columns libjpeg will give. */
static struct th_box choose_part(struct reader *r)
{
    struct jpeg_decompress_struct *jpeg = &r->jpeg;
    int w = (int)jpeg->output_width, h = (int)jpeg->output_height;
    struct th_box all = {0, 0, w, h};
    if (!can_leave_out(r))
        return all;
    struct th_box part = r->wanted->part(r->wanted->context, w, h);
    int left = part.x - MARGIN < 0 ? 0 : part.x - MARGIN;
    int right = part.x + part.w + MARGIN > w ? w : part.x + part.w + MARGIN;
    int top = part.y < 0 ? 0 : part.y;
    int bottom = part.y + part.h > h ? h : part.y + part.h;
    if (left >= right || top >= bottom)
        return all;
    JDIMENSION x = (JDIMENSION)left, n = (JDIMENSION)(right - left);
    jpeg_crop_scanline(jpeg, &x, &n);
    return (struct th_box){(int)x, top, (int)n, bottom - top};
}

/* Rows of the part; the rest is read for its damage alone. Files of several scans have
 * been read whole by now. */
static void read_rows(struct reader *r)
{
    struct jpeg_decompress_struct *jpeg = &r->jpeg;
    struct th_picture *picture = r->picture;
    picture->w = (int)jpeg->output_width;
    picture->h = (int)jpeg->output_height;
    struct th_box part = choose_part(r);
    picture->x = part.x;
    picture->y = part.y;
    r->status = th_image_reuse(&picture->held, part.w, part.h);
    if (r->status != THAW_OK)
        return;
    j_common_ptr common = (j_common_ptr)jpeg;
    JSAMPARRAY line =
        jpeg->mem->alloc_sarray(common, JPOOL_IMAGE, (JDIMENSION)part.w * 4, 1);
    JSAMPARRAY beyond =
        jpeg->mem->alloc_sarray(common, JPOOL_IMAGE, (JDIMENSION)part.w * 4, 1);
    if (part.y)
        jpeg_skip_scanlines(jpeg, (JDIMENSION)part.y);
    for (int y = 0; y < part.h; y++)
        read_row(r, line, picture->held.rgb + (size_t)y * (size_t)part.w * CHANNELS);
    JDIMENSION left = jpeg->output_height - jpeg->output_scanline;
    if (left && !jpeg_has_multiple_scans(jpeg) && !(r->wanted && r->wanted->sound)) {
        /* Skipping to the end would stop reading at once, so the last row is read. */
        jpeg_skip_scanlines(jpeg, left - 1);
        read_row(r, line, beyond[0]);
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
    r->status = th_image_check_size((int)jpeg->image_width, (int)jpeg->image_height);
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

static thaw_status decode_part(const uint8_t *bytes, size_t n_bytes,
    const struct th_wanted *wanted, struct th_picture *picture, bool *damaged)
{
    struct reader r = {.picture = picture, .wanted = wanted, .orientation = 1};
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
    if (r.orientation < 2 || r.orientation > 8)
        return THAW_OK;
    TRY(th_image_orient(&picture->held, r.orientation));
    *picture = th_picture_of(&picture->held);
    return THAW_OK;
}

static thaw_status decode(
    const uint8_t *bytes, size_t n_bytes, struct th_image *image, bool *damaged)
{
    struct th_picture picture = {.held = *image};
    thaw_status status = decode_part(bytes, n_bytes, NULL, &picture, damaged);
    *image = picture.held;
    return status;
}

/* ---- Writing ---- */

struct writer {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_destination_mgr to;
    jmp_buf leave;
    bool failed;
    uint8_t *bytes; /* of the file so far, and room behind them */
    size_t capacity;
};

static void on_write_error(j_common_ptr jpeg)
{
    struct writer *w = jpeg->client_data;
    longjmp(w->leave, 1);
}

/* The buffer is full, or not there yet: room for as much again. */
static boolean make_room(j_compress_ptr jpeg)
{
    struct writer *w = jpeg->client_data;
    size_t more = w->capacity ? w->capacity * 2 : 1 << 16;
    uint8_t *grown = th_realloc(w->bytes, w->capacity, more, 1);
    if (!grown)
        longjmp(w->leave, 1);
    w->to.next_output_byte = grown + w->capacity;
    w->to.free_in_buffer = more - w->capacity;
    w->bytes = grown;
    w->capacity = more;
    return TRUE;
}

static void start_writing(j_compress_ptr jpeg)
{
    make_room(jpeg);
}

static void stop_writing(j_compress_ptr jpeg)
{
    (void)jpeg;
}

/* Everything between setjmp and clean-up. */
static void write_image(struct writer *w, const struct th_image *image, int quality)
{
    struct jpeg_compress_struct *jpeg = &w->jpeg;
    if (setjmp(w->leave)) {
        w->failed = true;
        return;
    }
    jpeg_create_compress(jpeg);
    jpeg->dest = &w->to;
    jpeg->image_width = (JDIMENSION)image->w;
    jpeg->image_height = (JDIMENSION)image->h;
    jpeg->input_components = CHANNELS;
    jpeg->in_color_space = JCS_RGB;
    jpeg_set_defaults(jpeg);
    jpeg_set_quality(jpeg, quality, TRUE);
    jpeg->comp_info[0].h_samp_factor = jpeg->comp_info[0].v_samp_factor = 1;
    jpeg_start_compress(jpeg, TRUE);
    for (int y = 0; y < image->h; y++) {
        JSAMPLE *row = image->rgb + (size_t)y * (size_t)image->w * CHANNELS;
        jpeg_write_scanlines(jpeg, &row, 1);
    }
    jpeg_finish_compress(jpeg);
}

thaw_status th_image_encode_jpeg(
    const struct th_image *image, int quality, uint8_t **bytes, size_t *n)
{
    struct writer w = {.to = {.init_destination = start_writing,
                           .empty_output_buffer = make_room,
                           .term_destination = stop_writing}};
    w.jpeg.err = jpeg_std_error(&w.errors);
    w.errors.error_exit = on_write_error;
    w.jpeg.client_data = &w;
    write_image(&w, image, quality);
    jpeg_destroy_compress(&w.jpeg);
    *bytes = w.failed ? NULL : w.bytes;
    *n = w.capacity - w.to.free_in_buffer;
    if (!w.failed)
        return THAW_OK;
    th_free(w.bytes);
    return th_fail(THAW_E_MEMORY, "out of memory while a JPEG was written");
}

static bool recognises(const uint8_t *bytes, size_t n_bytes)
{
    return n_bytes >= 3 && bytes[0] == 0xFF && bytes[1] == 0xD8 && bytes[2] == 0xFF;
}

/* The macro is a bare number, 2.1.5. */
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

static void library(char *text, size_t size)
{
    snprintf(text, size, "libjpeg-turbo %s", TEXT(LIBJPEG_TURBO_VERSION));
}

const struct th_decoder th_decoder_jpeg = {
    .name = "jpeg",
    .endings = "jpg jpeg jpe jfif",
    .recognises = recognises,
    .decode = decode,
    .decode_part = decode_part,
    .library = library,
};
