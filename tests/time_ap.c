/* SPDX-License-Identifier: Apache-2.0
 * Average precision of detections in a file, and how long it takes; for peers/ap.py, which
 * writes the file: int32 images and classes; for each image int32 objects, detections, then
 * each object as float x0 y0 x1 y1 area and int32 class crowd, each detection as float x0 y0
 * x1 y1 score and int32 class. */
#include "ap.h"
#include "error.h"
#include "file.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { MOST = 1 << 12 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static const unsigned char *take(const unsigned char *from, void *to, size_t n)
{
    memcpy(to, from, n);
    return from + n;
}

static thaw_status add_images(const unsigned char *at, struct th_ap *ap, int32_t images)
{
    static struct th_object object[MOST];
    static struct th_detection detection[MOST];
    for (int32_t i = 0, n[2]; i < images; i++) {
        at = take(at, n, sizeof n);
        if (n[0] > MOST || n[1] > MOST)
            return th_fail(THAW_E_DATA, "image %d has too much", i);
        for (int32_t k = 0, crowd; k < n[0]; k++) {
            at = take(at, object[k].box, sizeof object[k].box);
            at = take(at, &object[k].area, sizeof(float));
            at = take(at, &object[k].class, sizeof(int32_t));
            at = take(at, &crowd, sizeof crowd);
            object[k].crowd = crowd;
        }
        for (int32_t k = 0; k < n[1]; k++) {
            at = take(at, detection[k].box, sizeof detection[k].box);
            at = take(at, &detection[k].score, sizeof(float));
            at = take(at, &detection[k].class, sizeof(int32_t));
            detection[k].image = i;
        }
        TRY(th_ap_add(ap, object, n[0], detection, n[1]));
    }
    return THAW_OK;
}

int main(int argc, char **argv)
{
    unsigned char *bytes = NULL;
    size_t n;
    int32_t head[2];
    struct th_ap ap = {0};
    struct th_ap_scores scores = {0};
    thaw_status status = argc == 2 ? th_file_read(argv[1], (size_t)1 << 32, &bytes, &n)
                                   : th_fail(THAW_E_USAGE, "time_ap FILE");
    double start = now();
    if (status == THAW_OK) {
        memcpy(head, bytes, sizeof head);
        status = th_ap_init(&ap, head[1]);
    }
    if (status == THAW_OK)
        status = add_images(bytes + sizeof head, &ap, head[0]);
    if (status == THAW_OK)
        status = th_ap_finish(&ap, &scores);
    if (status != THAW_OK)
        fprintf(stderr, "time_ap: %s\n", thaw_error());
    else
        printf("%.6f", now() - start);
    for (int i = 0; i < TH_N_AP_FIGURES && status == THAW_OK; i++)
        printf(" %.12g", scores.figure[i]);
    printf("\n");
    th_ap_scores_release(&scores);
    th_ap_release(&ap);
    th_free(bytes);
    return status == THAW_OK ? 0 : 1;
}
