/* SPDX-License-Identifier: Apache-2.0
 * Owns what a run tells TensorBoard, by optimizer step: which scalars, and under which
 * names. */
#include "trainer.h"

#include "report.h"

static void warn_of(struct thaw_trainer *t, thaw_status status)
{
    if (status != THAW_OK)
        th_say(&t->events, "warning", "for TensorBoard: %s", thaw_error());
}

void th_trainer_begin_events(struct thaw_trainer *t)
{
    warn_of(t, th_tfevents_begin(&t->tfevents, t->folder.path, t->at.global + 1));
}

void th_trainer_step_events(struct thaw_trainer *t, double loss, double lr)
{
    thaw_status status =
        th_tfevents_scalar(&t->tfevents, "train/loss", t->at.global, loss);
    if (status == THAW_OK)
        status = th_tfevents_scalar(&t->tfevents, "train/lr", t->at.global, lr);
    warn_of(t, status);
}

static thaw_status add_epoch(struct thaw_trainer *t, const struct th_epoch_log *e)
{
    struct th_tfevents *to = &t->tfevents;
    int64_t step = t->at.global;
    TRY(th_tfevents_scalar(to, "train/epoch_loss", step, e->train_loss));
    TRY(th_tfevents_scalar(to, "train/images_per_s", step, e->images_per_s));
    if (!e->val)
        return THAW_OK;
    TRY(th_tfevents_scalar(to, "val/loss", step, th_metrics_loss(e->val)));
    if (e->val->many)
        return th_tfevents_scalar(to, "val/map", step, e->val->map);
    TRY(th_tfevents_scalar(to, "val/top1", step, th_metrics_top1(e->val)));
    return th_tfevents_scalar(to, "val/top5", step, th_metrics_top5(e->val));
}

void th_trainer_epoch_events(struct thaw_trainer *t, const struct th_epoch_log *e)
{
    thaw_status status = add_epoch(t, e);
    if (status == THAW_OK)
        status = th_tfevents_flush(&t->tfevents);
    warn_of(t, status);
}
