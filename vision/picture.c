/* SPDX-License-Identifier: Apache-2.0
 * Owns thaw_draw: what a detector found in an image, on the image. */
#include "draw.h"
#include "file.h"
#include "mem.h"
#include "thaw.h"

#include "error.h"

#include <stdio.h>
#include <string.h>

enum { DOT = 240 }; /* a line is a pixel wide for so many of the shorter side */

static void draw_box(struct th_image *image, const thaw_prediction *p, int i)
{
    const thaw_box *b = &p->boxes[i];
    const float box[4] = {b->x0, b->y0, b->x1, b->y1};
    int dot = (image->w < image->h ? image->w : image->h) / DOT;
    char text[128];
    uint8_t rgb[3];
    dot = dot > 1 ? dot : 1;
    snprintf(text, sizeof text, "%s %.2f", thaw_model_class(p->model, b->class_index),
        (double)b->score);
    th_draw_colour(b->class_index, rgb);
    th_draw_outline(image, box, dot, rgb);
    int x = (int)b->x0, y = (int)b->y0 - th_draw_label_height(dot);
    int most = image->w - th_draw_label_width(text, dot);
    x = x > most ? most : x;
    th_draw_label(image, x > 0 ? x : 0, y > 0 ? y : (int)b->y0, dot, text, rgb);
}

/* FOLDER/NAME.jpg of .../NAME.ending, and NAME-2.jpg where that is there; NULL is
 * THAW_E_MEMORY. */
static char *free_path(const char *folder, const char *file)
{
    const char *slash = strrchr(file, '/');
    const char *name = slash ? slash + 1 : file, *dot = strrchr(name, '.');
    int n = (int)(dot && dot > name ? dot - name : (ptrdiff_t)strlen(name));
    char *path = th_format("%s/%.*s.jpg", folder, n, name);
    for (int i = 2; path && th_file_exists(path); i++) {
        th_free(path);
        path = th_format("%s/%.*s-%d.jpg", folder, n, name, i);
    }
    return path;
}

thaw_status thaw_draw(const thaw_prediction *p, const char *folder)
{
    struct th_image image;
    if (!p->boxes)
        return th_fail(THAW_E_USAGE, "%s: only what a detector found can be drawn",
            p->file ? p->file : "an image");
    TRY(th_image_read(p->file, &image, NULL));
    for (int i = p->n_boxes; i-- > 0;) /* the best on top */
        draw_box(&image, p, i);
    char *path = free_path(folder, p->file);
    thaw_status status = path ? th_image_write_jpeg(path, &image) : THAW_E_MEMORY;
    th_free(path);
    th_image_release(&image);
    return status;
}
