/* SPDX-License-Identifier: Apache-2.0
 * Owns the translation of options into the numbers of a run. */
#include "recipe.h"

#include "cores.h"
#include "options.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Learning rates where none is asked for (DESIGN section 8). */
#define TH_LR_SGD 0.01
#define TH_LR_ADAMW 5e-4

int th_option_threads(const thaw_options *o, const char *name)
{
    int64_t n = th_option_int(o, name);
    return n > 0 ? (int)n : th_cores();
}

struct th_device_name th_option_device(const thaw_options *o)
{
    struct th_device_name name;
    const char *device = th_option_text(o, "device"), *isa = th_option_text(o, "isa");
    const char *precision = th_option_text(o, "precision");
    bool best = !strcmp(isa, "auto"), exact = !strcmp(precision, "fp32");
    snprintf(name.text, sizeof name.text, "%s%s%s%s%s", device, best ? "" : ":",
        best ? "" : isa, exact ? "" : ":", exact ? "" : precision);
    return name;
}

struct th_dataset_options th_recipe_data(const thaw_options *o)
{
    const char *seed = thaw_options_is_set(o, "val-seed") ? "val-seed" : "seed";
    return (struct th_dataset_options){
        .val = th_option_text(o, "val"), .seed = (uint64_t)th_option_int(o, seed)};
}

static struct th_optim read_optim(const thaw_options *o)
{
    return (struct th_optim){
        .kind = strcmp(th_option_text(o, "optimizer"), "adamw") ? TH_SGD : TH_ADAMW,
        .momentum = (float)th_option_real(o, "momentum"),
        .weight_decay = (float)th_option_real(o, "weight-decay"),
        .nesterov = th_option_flag(o, "nesterov"),
        .beta1 = 0.9f, /* PyTorch's defaults for AdamW */
        .beta2 = 0.999f,
        .eps = 1e-8f,
        .layer_decay = (float)th_option_real(o, "lr-decay"),
        .clip = (float)th_option_real(o, "clip"),
        .l2sp = (float)th_option_real(o, "l2sp"),
        .keep_head = th_option_flag(o, "keep-head"),
        .ema = th_option_real(o, "ema") > 0,
    };
}

static enum th_lr_kind read_schedule(const char *name)
{
    if (!strcmp(name, "step"))
        return TH_LR_STEP;
    if (!strcmp(name, "onecycle"))
        return TH_LR_ONE_CYCLE;
    return strcmp(name, "constant") ? TH_LR_COSINE : TH_LR_CONSTANT;
}

static thaw_status check(const struct th_recipe *r, const thaw_options *o)
{
    if (r->schedule == TH_LR_ONE_CYCLE && r->warmup_epochs > 0)
        return th_fail(THAW_E_USAGE,
            "--warmup: --lr-schedule onecycle has a warm-up of its own: leave one out");
    if (r->optim.l2sp > 0 && th_option_flag(o, "allow-missing"))
        return th_fail(THAW_E_USAGE,
            "--l2sp: what --allow-missing leaves out of the weights has nowhere to "
            "decay to: leave one out");
    return THAW_OK;
}

enum th_keep th_option_keep(const thaw_options *o)
{
    const char *level = th_option_text(o, "memory");
    return !strcmp(level, "low")    ? TH_KEEP_LITTLE
           : !strcmp(level, "high") ? TH_KEEP_ALL
                                    : TH_KEEP_NORMAL;
}

thaw_status th_recipe_init(struct th_recipe *r, const thaw_options *o)
{
    *r = (struct th_recipe){
        .epochs = (int)th_option_int(o, "epochs"),
        .batch = (int)th_option_int(o, "batch"),
        .accumulate = (int)th_option_int(o, "accumulate"),
        .patience = (int)th_option_int(o, "patience"),
        .log_every = (int)th_option_int(o, "log-every"),
        .threads = th_option_threads(o, "threads"),
        .workers = th_option_threads(o, "workers"),
        .seed = (uint64_t)th_option_int(o, "seed"),
        .optim = read_optim(o),
        .keep = th_option_keep(o),
        .schedule = read_schedule(th_option_text(o, "lr-schedule")),
        .warmup_epochs = th_option_real(o, "warmup"),
        .smoothing = (float)th_option_real(o, "label-smoothing"),
        .ema_decay = (float)th_option_real(o, "ema"),
        .dropout = (float)th_option_real(o, "dropout"),
        .drop_path = (float)th_option_real(o, "drop-path"),
        .class_weights = th_option_flag(o, "class-weights"),
        .keep_head = th_option_flag(o, "keep-head"),
        .shuffle = !th_option_flag(o, "no-shuffle"),
        .balanced = th_option_flag(o, "balanced"),
        .prefix_int8 = !strcmp(th_option_text(o, "prefix"), "int8"),
        .max_bad = th_option_real(o, "max-bad"),
        .mix = {th_option_real(o, "mixup"), th_option_real(o, "cutmix")},
        .bn = th_option_text(o, "bn"),
    };
    r->lr = r->optim.kind == TH_ADAMW ? TH_LR_ADAMW : TH_LR_SGD;
    if (thaw_options_is_set(o, "lr"))
        r->lr = th_option_real(o, "lr");
    if (r->balanced && !r->shuffle)
        return th_fail(THAW_E_USAGE,
            "--balanced draws which images an epoch shows: it cannot go with "
            "--no-shuffle");
    TRY(th_recipe_augment(o, &r->augment));
    TRY(th_recipe_cache(o, r));
    TRY(th_freeze_check_bn(r->bn));
    TRY(check(r, o));
    TRY(th_timetable_init(&r->timetable, th_option_text(o, "thaw")));
    thaw_status status = thaw_options_is_set(o, "lora")
                             ? th_lora_parse(&r->lora, th_option_text(o, "lora"))
                             : THAW_OK;
    if (status != THAW_OK)
        th_timetable_release(&r->timetable);
    return status;
}

bool th_recipe_says_lora(const struct th_recipe *r)
{
    for (int i = 0; i < r->timetable.n; i++)
        if (th_freeze_says_lora(r->timetable.spec[i]))
            return true;
    return false;
}

void th_recipe_release(struct th_recipe *r)
{
    th_timetable_release(&r->timetable);
    th_lora_release(&r->lora);
}

struct th_lr th_recipe_lr(
    const struct th_recipe *r, int64_t total, int64_t steps_per_epoch)
{
    return (struct th_lr){
        .kind = r->schedule,
        .base = (float)r->lr,
        .total = total,
        .warmup = llround(r->warmup_epochs * (double)steps_per_epoch),
    };
}
