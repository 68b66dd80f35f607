/* SPDX-License-Identifier: Apache-2.0
 * What a run will take: seconds and bytes from what its plans say of themselves and from
 * the machine's rates, measured in a few hundredths of a second. Changes nothing that is
 * computed: no choice depends on it. */
#ifndef TH_FORECAST_H
#define TH_FORECAST_H

#include "plan.h"

/* What the machine does in a second, as busy as it is now. */
struct th_rates {
    double macs;  /* multiply-adds of a matrix product, on the device's threads */
    double bytes; /* of the operands of a sum of two tensors */
    double image; /* seconds in which one thread makes one training image's input */
    int threads;  /* of the device */
    int workers;  /* that make images */
    int cores;    /* that both share */
};

/* macs, bytes and threads of a device. Some 20 ms. */
thaw_status th_rates_measure(struct th_device *device, struct th_rates *rates);

/* What a device does at its best, threads as it was opened: multiply-adds of a large
 * matrix product, and bytes of a sum of tensors that no cache holds. Some 0.2 s. */
thaw_status th_rates_best(struct th_device *device, double *macs, double *bytes);

/* One phase of the timetable: what its plans say, and how often they run. */
struct th_phase_cost {
    double epochs;              /* that are left of it */
    int64_t images, val_images; /* an epoch */
    int64_t batch, val_batch;   /* of the plans */
    struct th_plan_stats train, eval;
    /* With a cache, beside these the plans below the cut: they run in `full` epochs for
     * every image, later for the share that has no room. No work without a cache. */
    struct th_plan_stats below, eval_below;
    double full, missing;
    int64_t cache_bytes; /* of memory */
    int64_t slot_bytes;  /* of the store: all but parameters and buffers */
};

/* Seconds of an epoch's training, and of its validation. */
double th_forecast_train(const struct th_phase_cost *p, const struct th_rates *rates);
double th_forecast_eval(
    const struct th_phase_cost *p, int64_t images, const struct th_rates *rates);
/* Of both, in an epoch that finds features in the cache. */
double th_forecast_kept(const struct th_phase_cost *p, const struct th_rates *rates);
/* And of writing so many bytes of checkpoints and models. */
double th_forecast_save(int64_t bytes, const struct th_rates *rates);

/* Memory beside the plans. */
struct th_memory {
    int64_t base;    /* resident before the first step, less what the phases count */
    int64_t params;  /* of the store: parameters and buffers; base holds them */
    int64_t loading; /* images under way in the workers */
    bool shadow;     /* EMA's copy of the parameters */
};

/* Bytes at the highest point of all phases. */
int64_t th_forecast_peak(
    const struct th_phase_cost *phases, int n, const struct th_memory *memory);

/* Bytes of a run folder while its last checkpoint is written. */
int64_t th_forecast_disk(
    const struct th_phase_cost *phases, int n, const struct th_memory *memory);

#endif
