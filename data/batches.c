/* SPDX-License-Identifier: Apache-2.0
 * Owns the cutting of an order into batches. */
#include "batches.h"

#include "mem.h"

#include <string.h>

struct th_cutting th_cutting_of(int64_t n, int64_t batch, bool join_single)
{
    struct th_cutting c = {n / batch, n % batch};
    if (join_single && c.last == 1 && c.full > 0 && batch > 1) {
        c.full--;
        c.last = batch + 1;
    }
    return c;
}

static int bucket_of(
    const struct th_samples *samples, const struct th_sizes *sizes, int64_t i)
{
    const struct th_sample *s = &samples->sample[i];
    return th_sizes_choose(sizes, s->w, s->h);
}

void th_bucket_count(
    const struct th_samples *samples, const struct th_sizes *sizes, int64_t *images)
{
    for (int k = 0; k < sizes->n; k++)
        images[k] = 0;
    for (int64_t i = 0; i < samples->n; i++)
        images[bucket_of(samples, sizes, i)]++;
}

/* How many batches there are, and how large. */
static void count(struct th_batches *b, const int64_t *images, bool join_single)
{
    int64_t first = 0;
    for (int k = 0; k < b->n_buckets; k++) {
        struct th_cutting c = th_cutting_of(images[k], b->batch, join_single);
        int64_t most = c.full && c.last < b->batch ? b->batch : c.last;
        b->cutting[k] = c;
        b->first[k] = first;
        b->n += c.full + (c.last > 0);
        b->most = most > b->most ? most : b->most;
        first += images[k];
    }
}

thaw_status th_batches_init(struct th_batches *b, const struct th_samples *samples,
    const struct th_sizes *sizes, int64_t batch, bool join_single)
{
    size_t n = (size_t)samples->n;
    int64_t images[TH_MAX_SIZES] = {0};
    *b = (struct th_batches){
        .batch = batch, .n_samples = samples->n, .n_buckets = sizes->n};
    b->bucket = th_alloc(n, sizeof *b->bucket);
    b->rank = th_alloc(n, sizeof *b->rank);
    b->sorted = th_alloc(n, sizeof *b->sorted);
    if (!b->bucket || !b->rank || !b->sorted)
        return THAW_E_MEMORY;
    for (int64_t i = 0; i < samples->n; i++) {
        int k = bucket_of(samples, sizes, i);
        b->bucket[i] = (uint8_t)k;
        b->rank[i] = images[k]++;
    }
    count(b, images, join_single);
    b->at = th_alloc((size_t)b->n, sizeof *b->at);
    return b->at ? THAW_OK : THAW_E_MEMORY;
}

void th_batches_release(struct th_batches *b)
{
    th_free(b->bucket);
    th_free(b->rank);
    th_free(b->sorted);
    th_free(b->at);
    *b = (struct th_batches){0};
}

/* Images of the bucket's batch that begins with its image `from`. */
static int64_t size_at(const struct th_batches *b, int bucket, int64_t from)
{
    const struct th_cutting *c = &b->cutting[bucket];
    return from < c->full * b->batch ? b->batch : c->last;
}

/* Places by bucket; a batch is told when its last image is met. */
static void sort(struct th_batches *b, const struct th_order *order)
{
    int64_t met[TH_MAX_SIZES] = {0}, begun[TH_MAX_SIZES] = {0}, told = 0;
    for (int64_t place = 0; place < b->n_samples; place++) {
        int k = b->bucket[order->sample[place]];
        b->sorted[b->first[k] + met[k]++] = order->sample[place];
        int64_t n = size_at(b, k, begun[k]);
        if (met[k] < begun[k] + n)
            continue;
        b->at[told++] = (struct th_batch_images){
            .from = b->first[k] + begun[k], .n = n, .bucket = k};
        begun[k] = met[k];
    }
}

void th_batches_draw(struct th_batches *b, struct th_order *order)
{
    sort(b, order);
    if (b->n_buckets > 1) /* else it is sorted: a balanced one keeps its repeats */
        memcpy(order->sample, b->sorted, (size_t)b->n_samples * sizeof *b->sorted);
}
