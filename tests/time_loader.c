/* SPDX-License-Identifier: Apache-2.0
 * Drives the loader alone, for tests/peers/loading.py: no network, nothing but reading,
 * decoding, cropping and normalising. Not a test: it only measures.
 * Usage: time_loader DATA SIDE none|basic|strong WORKERS EPOCHS [BATCH]
 * One line of JSON an epoch: images, seconds by the clock, seconds of processor time.
 * Epoch 0 warms up (files into the page cache, buffers grown) and is printed too. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "loader.h"

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Reads a value of each row, so that what is measured was really made. */
static thaw_status time_epoch(struct th_loader *loader, int64_t epoch, size_t pixels)
{
    struct th_batch batch;
    int64_t n = 0;
    double sum = 0, wall = seconds(CLOCK_MONOTONIC);
    double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    thaw_status status = th_loader_start(loader, epoch, 0);
    while (status == THAW_OK) {
        status = th_loader_next(loader, &batch);
        if (status != THAW_OK || batch.n == 0)
            break;
        for (int64_t i = 0; i < batch.n; i++)
            sum += (double)batch.images[(size_t)i * pixels + pixels / 2];
        n += batch.n;
    }
    wall = seconds(CLOCK_MONOTONIC) - wall;
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    if (status == THAW_OK)
        printf("{\"epoch\":%" PRId64 ",\"images\":%" PRId64
               ",\"seconds\":%.9g,\"cpu_seconds\":%.9g,\"sum\":%.9g}\n",
            epoch, n, wall, cpu, sum);
    fflush(stdout);
    return status;
}

static thaw_status run(const char *const *word, int n_words, struct th_dataset *data,
    struct th_loader **loader)
{
    const struct th_dataset_options as_is = {.as_is = true};
    int side = atoi(word[1]);
    struct th_loader_options o = {.batch = n_words > 5 ? atoi(word[5]) : 32,
        .shuffle = true,
        .preprocess = th_preprocess_imagenet(side),
        .workers = atoi(word[3])};
    thaw_status status = th_augment_named(word[2], &o.augment);
    if (status == THAW_OK)
        status = th_dataset_open(word[0], &as_is, data);
    if (status == THAW_OK)
        status = th_loader_open(data, &o, loader);
    for (int64_t epoch = 0; status == THAW_OK && epoch <= atoi(word[4]); epoch++)
        status = time_epoch(*loader, epoch, (size_t)side * (size_t)side * 3);
    return status;
}

int main(int argc, char **argv)
{
    struct th_dataset data = {0};
    struct th_loader *loader = NULL;
    if (argc < 6) {
        fprintf(
            stderr, "usage: time_loader DATA SIDE AUGMENT WORKERS EPOCHS [BATCH]\n");
        return 2;
    }
    thaw_status status = run((const char *const *)argv + 1, argc - 1, &data, &loader);
    if (status != THAW_OK)
        fprintf(stderr, "time_loader: %s\n", thaw_error());
    th_loader_close(loader);
    th_dataset_close(&data);
    return status == THAW_OK ? 0 : 1;
}
