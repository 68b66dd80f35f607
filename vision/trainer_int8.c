/* SPDX-License-Identifier: Apache-2.0
 * Owns a run's int8 prefix: whether there can be one, its scales in each phase, and what it
 * costs in accuracy. Training and validation have the same prefix; the model files are
 * fp32, and the last word about best.h5 is said in fp32 too. */
#include "trainer.h"

#include "int8.h"
#include "report.h"

#include <math.h>

enum { IMAGES = 32 }; /* to calibrate with, and as many others to compare on */

thaw_status th_trainer_survey_int8(struct thaw_trainer *t, const struct th_freeze *f)
{
    int n = 0;
    if (t->recipe.prefix_int8)
        TRY(th_int8_count(&t->net, f, &n));
    t->most_int8 = n > t->most_int8 ? n : t->most_int8;
    return THAW_OK;
}

thaw_status th_trainer_check_int8(const struct thaw_trainer *t)
{
    struct th_device *device = t->net.device;
    if (!t->recipe.prefix_int8)
        return THAW_OK;
    if (!device->int8)
        return th_fail(THAW_E_USAGE,
            "--prefix int8 gains nothing on the device '%s': it takes a processor with "
            "VNNI (AVX-512 or AVX) that --isa does not hold back; leave it out",
            device->backend->describe(device));
    if (t->recipe.epochs > 0 && t->most_int8 == 0)
        return th_fail(THAW_E_USAGE,
            "--prefix int8: with --thaw \"%s\" and --bn %s no convolution stays as it "
            "is "
            "from the image up: leave it out, or freeze the first stages",
            t->recipe.timetable.spec[0], t->recipe.bn);
    return THAW_OK;
}

static thaw_status calibrate(struct thaw_trainer *t)
{
    const struct th_samples *images = &t->data.split[TH_SPLIT_TRAIN];
    struct th_probe probe = {0}, others = {0};
    struct th_int8_likeness like = {0};
    int n = 0;
    thaw_status status = th_probe_init(&probe, &t->net, images, IMAGES, 0);
    if (status == THAW_OK)
        status = th_int8_calibrate(&t->net, &t->freeze, &probe, &n);
    if (status == THAW_OK && n > 0)
        status = th_probe_init(&others, &t->net, images, IMAGES, 0.5);
    if (status == THAW_OK && n > 0)
        status = th_int8_compare(&t->net, &t->freeze, &others, &like);
    if (status == THAW_OK && n == 0)
        th_say(&t->events, "int8",
            "epoch %lld: no convolution stays as it is from the image up: all in fp32",
            (long long)t->at.epoch + 1);
    else if (status == THAW_OK)
        th_say(&t->events, "int8",
            "%d convolutions below what trains; scales from %d training images, cosine "
            "similarity of the features to fp32 on %d others: least %.4f, mean %.4f",
            n, probe.n, like.images, like.least, like.mean);
    th_probe_release(&probe);
    th_probe_release(&others);
    return status;
}

thaw_status th_trainer_enter_int8(struct thaw_trainer *t, bool begins)
{
    if (!t->recipe.prefix_int8)
        return THAW_OK;
    if (begins)
        TRY(calibrate(t));
    return t->shadow.device ? th_int8_copy(&t->net.store, &t->shadow) : THAW_OK;
}

thaw_status th_trainer_best_in_fp32(struct thaw_trainer *t, double *top1, bool *stopped)
{
    struct th_store best;
    thaw_evaluation e = {0};
    *top1 = (double)NAN;
    if (!t->recipe.prefix_int8 || !t->val_loader || t->at.best_epoch < 0)
        return THAW_OK;
    thaw_status status = th_network_mirror(&t->net, &best);
    if (status == THAW_OK)
        status = th_trainer_read_best(t, &best);
    if (status == THAW_OK)
        status = th_trainer_judge(t, &best, TH_SPLIT_VAL, &e, stopped);
    th_store_release(&best);
    if (status == THAW_OK && !*stopped) {
        *top1 = e.many ? e.map : e.top1;
        th_say(&t->events, "int8",
            "best.h5 validates at %.2f %% in fp32, as thaw eval and predict run it; "
            "with "
            "the int8 prefix it was %.2f %% (%+.2f)",
            100 * *top1, 100 * t->at.best_score, 100 * (t->at.best_score - *top1));
    }
    thaw_evaluation_release(&e);
    return status;
}
