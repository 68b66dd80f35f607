/* SPDX-License-Identifier: Apache-2.0
 * Schedules: the freeze timetable ("0:head 3:stage4,head 6:all") and the learning rate.
 * Both are functions of the position; neither holds state. */
#ifndef TH_SCHEDULE_H
#define TH_SCHEDULE_H

#include "error.h"

#include <stdint.h>

struct th_timetable {
    int n;
    int *epoch;  /* first epoch of each phase; epoch[0] = 0, increasing */
    char **spec; /* what it thaws */
};

thaw_status th_timetable_init(struct th_timetable *t, const char *text);
void th_timetable_release(struct th_timetable *t);
int th_timetable_phase(const struct th_timetable *t, int epoch);

enum th_lr_kind { TH_LR_COSINE, TH_LR_STEP, TH_LR_CONSTANT, TH_LR_ONE_CYCLE };

struct th_lr {
    enum th_lr_kind kind;
    float base;
    int64_t total, warmup; /* optimizer steps */
};

/* Learning rate of optimizer step i, from 0. Cosine: base/2 (1 + cos(pi i/T)); step:
 * base, a tenth from T/2 on, a hundredth from 3T/4 on. While i < W: base (i+1)/W instead.
 * One cycle: torch.optim.lr_scheduler.OneCycleLR with its defaults; base is its max_lr. */
float th_lr_at(const struct th_lr *s, int64_t i);
/* Momentum of step i, or beta1: one cycle's, against the learning rate's; else 0, which
 * stands for the optimizer's own. */
float th_momentum_at(const struct th_lr *s, int64_t i);

#endif
