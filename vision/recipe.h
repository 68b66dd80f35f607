/* SPDX-License-Identifier: Apache-2.0
 * The recipe: what a training run was asked to do, as numbers. Made from options, never
 * changed afterwards. Says nothing about data or weights. */
#ifndef TH_RECIPE_H
#define TH_RECIPE_H

#include "augment.h"
#include "dataset.h"
#include "feature_cache.h"
#include "mix.h"
#include "plan.h"
#include "schedule.h"

struct th_recipe {
    int epochs, batch, accumulate, patience, log_every, threads, workers;
    uint64_t seed;
    struct th_optim optim;
    enum th_keep keep;
    enum th_lr_kind schedule;
    double lr, warmup_epochs;
    float smoothing, ema_decay, dropout, drop_path;
    bool keep_head, shuffle, balanced, class_weights, prefix_int8;
    double max_bad;
    struct th_augment augment;
    /* Views of a training image: 1 where augmentation draws nothing, 0: endless. cache:
     * never TH_CACHE_AUTO; its limit 0: half of what is free; dir NULL: the run's own. */
    int64_t views;
    enum th_cache_place cache;
    bool cache_asked, cache_half;
    size_t cache_limit;
    const char *cache_dir;
    struct th_mix mix;
    struct th_timetable timetable;
    struct th_lora lora; /* rank 0: none */
    const char *bn;      /* the options' */
};

/* THAW_E_USAGE for a timetable or a --bn that does not parse, and for options that exclude
 * each other. `o` outlives the recipe. */
thaw_status th_recipe_init(struct th_recipe *r, const thaw_options *o);
void th_recipe_release(struct th_recipe *r);

/* Whether the timetable says when adapters train. */
bool th_recipe_says_lora(const struct th_recipe *r);

/* What is done to the training images. THAW_E_USAGE for a --randaugment that does not
 * parse. */
thaw_status th_recipe_augment(const thaw_options *o, struct th_augment *out);

/* Which images are held back for validation. */
struct th_dataset_options th_recipe_data(const thaw_options *o);
/* Whether two views of an image differ. */
bool th_augment_is_random(const struct th_augment *a);

/* Views and --cache of a recipe that has its augmentation and mixing. THAW_E_USAGE. */
thaw_status th_recipe_cache(const thaw_options *o, struct th_recipe *r);

/* "0": as many threads as there are cores. */
int th_option_threads(const thaw_options *o, const char *name);

/* --memory */
enum th_keep th_option_keep(const thaw_options *o);

/* "device" with what "isa" and "precision" add, for th_device_open: "cpu:avx2". */
struct th_device_name {
    char text[64];
};
struct th_device_name th_option_device(const thaw_options *o);

/* The learning rate over a run of `total` optimizer steps, so many an epoch at first. */
struct th_lr th_recipe_lr(
    const struct th_recipe *r, int64_t total, int64_t steps_per_epoch);

#endif
