/* SPDX-License-Identifier: Apache-2.0
 * Opens data with boxes: "seconds images objects index peak", the bytes of what is kept and
 * of the process. For peers/coco_file.py. */
#include "dataset.h"
#include "error.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Each block takes a multiple of 64 bytes, and 16 more. */
static int64_t block(size_t bytes)
{
    return bytes ? (int64_t)((bytes + 63) / 64 * 64 + 16) : 0;
}

static int64_t index_bytes(const struct th_samples *s, int64_t *objects)
{
    int64_t bytes = s->capacity * (int64_t)sizeof *s->sample;
    for (int64_t i = 0; i < s->n; i++) {
        size_t room = 4;
        while (room < (size_t)s->sample[i].n_objects)
            room *= 2;
        bytes += block(strlen(s->sample[i].path) + 1) +
                 block((size_t)s->sample[i].n_classes * sizeof(int32_t));
        bytes += s->sample[i].n_objects ? block(room * sizeof(struct th_object)) : 0;
        *objects += s->sample[i].n_objects;
    }
    return bytes;
}

int main(int argc, char **argv)
{
    struct th_dataset d;
    struct rusage usage;
    const struct th_dataset_options o = {.objects = true, .as_is = true};
    double start = now();
    if (argc != 2 || th_dataset_open(argv[1], &o, &d) != THAW_OK) {
        fprintf(stderr, "time_boxes: %s\n", argc == 2 ? thaw_error() : "FORMAT:WHERE");
        return 1;
    }
    double seconds = now() - start;
    int64_t images = 0, objects = 0, bytes = 0;
    for (int split = 0; split < TH_N_SPLITS; split++) {
        images += d.split[split].n;
        bytes += index_bytes(&d.split[split], &objects);
    }
    getrusage(RUSAGE_SELF, &usage);
    printf("%.3f %lld %lld %lld %lld\n", seconds, (long long)images, (long long)objects,
        (long long)bytes, (long long)usage.ru_maxrss * 1024);
    th_dataset_close(&d);
    return 0;
}
