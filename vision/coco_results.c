/* SPDX-License-Identifier: Apache-2.0
 * Owns COCO's results format (cocodataset.org/#format-results), for pycocotools' loadRes. */
#include "error.h"
#include "file.h"
#include "json.h"
#include "mem.h"
#include "thaw.h"

struct thaw_coco_results {
    struct th_json_out json;
    char *path;
    int64_t images; /* so far */
};

thaw_status thaw_coco_results_new(const char *path, thaw_coco_results **out)
{
    *out = NULL;
    if (th_file_exists(path))
        return th_fail(THAW_E_USAGE, "%s exists: choose another name", path);
    thaw_coco_results *r = th_alloc(1, sizeof *r);
    char *copy = r ? th_strdup(path) : NULL;
    if (!copy) {
        th_free(r);
        return THAW_E_MEMORY;
    }
    r->path = copy;
    th_json_open(&r->json, '[');
    *out = r;
    return THAW_OK;
}

/* x, y, width, height, the differences as a reader adds them up again: in double. */
static void put_box(struct th_json_out *o, const thaw_box *b)
{
    double x = (double)b->x0, y = (double)b->y0;
    th_json_key(o, "bbox");
    th_json_open(o, '[');
    th_json_real(o, x);
    th_json_real(o, y);
    th_json_real(o, (double)b->x1 - x);
    th_json_real(o, (double)b->y1 - y);
    th_json_close(o, ']');
}

void thaw_coco_results_add(thaw_coco_results *r, const thaw_prediction *p)
{
    struct th_json_out *o = &r->json;
    bool known = p->category_ids != NULL;
    r->images++;
    for (int i = 0; i < p->n_boxes; i++) {
        const thaw_box *b = &p->boxes[i];
        int64_t category = known ? p->category_ids[b->class_index] : b->class_index + 1;
        if (category < 0)
            continue;
        th_json_open(o, '{');
        th_json_put_whole(o, "image_id", known ? p->image_id : r->images);
        th_json_put_whole(o, "category_id", category);
        put_box(o, b);
        th_json_put_real(o, "score", (double)b->score);
        if (!known)
            th_json_put_string(o, "file_name", p->file);
        th_json_close(o, '}');
    }
}

thaw_status thaw_coco_results_write(thaw_coco_results *r)
{
    th_json_close(&r->json, ']');
    TRY(th_json_out_status(&r->json));
    return th_file_write_atomic(r->path, r->json.text, r->json.n, NULL);
}

void thaw_coco_results_free(thaw_coco_results *r)
{
    if (!r)
        return;
    th_json_out_release(&r->json);
    th_free(r->path);
    th_free(r);
}
