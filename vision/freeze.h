/* SPDX-License-Identifier: Apache-2.0
 * The freeze state: the one owner of what is frozen. Per parameter whether it trains, per
 * BatchNorm where its statistics come from. Everything else (planner, optimizer,
 * certificate, reports) asks here. Specs: DESIGN sections 2 and 3 in docs/design.md. */
#ifndef TH_FREEZE_H
#define TH_FREEZE_H

#include "model.h"

enum th_bn_mode {
    TH_BN_TRAIN,         /* batch statistics, running ones updated, affine may train */
    TH_BN_FROZEN,        /* running statistics, nothing moves */
    TH_BN_STATS,         /* as train, affine frozen */
    TH_BN_STATS_RUNNING, /* running statistics as before the update, updated after */
    TH_BN_AFFINE,        /* running statistics untouched, affine may train */
};

struct th_freeze {
    int n_params, n_bns;
    bool *trainable;     /* [n_params]; false for buffers */
    enum th_bn_mode *bn; /* [n_bns] */
};

/* One phase. thaw: "head", "all", "stage4,head", "bn", "layer3.*.conv2.weight", ...;
 * bn: "auto", a mode, or "stem-stage3:frozen stage4:train" (other stages: auto).
 * THAW_E_USAGE when a name matches nothing (with the nearest names), or two words of bn
 * contradict each other. Adapters train in every phase but "none", or where m->lora.by_word
 * says so only in those that name them. */
thaw_status th_freeze_init(struct th_freeze *f, const struct th_model *m,
    const char *thaw, const char *bn, int batch);
/* Whether a phase, or any of a timetable, names adapters: "lora", "layer4.*.lora_*". */
bool th_freeze_says_lora(const char *thaw);
/* What is wrong with a --bn whatever the model: its form, and the names of modes. */
thaw_status th_freeze_check_bn(const char *bn);
void th_freeze_release(struct th_freeze *f);

bool th_bn_uses_batch(enum th_bn_mode mode);
bool th_bn_updates(enum th_bn_mode mode);
const char *th_bn_mode_name(enum th_bn_mode mode);

/* Neither trained nor updated: what the certificate covers. */
bool th_freeze_is_frozen(
    const struct th_freeze *f, const struct th_model *m, int param);

/* Values that train, for "trains 2,565 of 11.2 M values". */
int64_t th_freeze_trained(const struct th_freeze *f, const struct th_model *m);
int64_t th_model_values(const struct th_model *m); /* parameters without buffers */

/* "stem-stage3 frozen, stage4 train, ..." : a fresh string. */
char *th_freeze_bn_text(const struct th_freeze *f, const struct th_model *m);

#endif
