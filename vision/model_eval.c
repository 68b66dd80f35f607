/* SPDX-License-Identifier: Apache-2.0
 * Owns thaw_model_eval: a labelled data set against a model, classes matched by name. */
#include "labels.h"
#include "mem.h"
#include "model_open.h"
#include "options.h"
#include "report.h"
#include "scores.h"

#include <string.h>

/* Names of classes that one side lacks, as many as fit in a line. */
static void say_unmatched(const thaw_model *m, const struct th_dataset *d,
    const int32_t *map, int found, const thaw_events *events)
{
    for (int32_t i = 0; i < d->n_classes; i++)
        if (map[i] < 0)
            th_say(events, "warning",
                "class \"%s\" of the data is not one of the model's: %s left out",
                d->classes[i], d->many ? "it is" : "its images are");
    if (found < m->net.model.n_classes)
        th_say(events, "data", "%d of the model's %d classes have no images here",
            m->net.model.n_classes - found, m->net.model.n_classes);
}

/* By name; a model without names takes the data's order where the counts agree. */
static thaw_status match(const thaw_model *m, const struct th_dataset *d, int32_t *map,
    const thaw_events *events)
{
    int n = m->net.model.n_classes;
    int found = th_labels_map(d, (const char *const *)m->net.model.classes, n, map);
    if (!found && !m->named && d->n_classes == n) {
        th_say(events, "warning",
            "%s has no class names: matched to the data's in order", m->path);
        for (int32_t i = 0; i < n; i++)
            map[i] = i;
        return THAW_OK;
    }
    if (!found)
        return th_fail(THAW_E_DATA,
            "no class in common: the model has \"%s\" ..., the data \"%s\" ...",
            m->net.model.classes[0], d->classes[0]);
    say_unmatched(m, d, map, found, events);
    return THAW_OK;
}

/* Only a data set without other splits is all that there is. */
static const char *split_text(const struct th_dataset *d, enum th_split split)
{
    int64_t others = d->split[TH_SPLIT_VAL].n + d->split[TH_SPLIT_TEST].n;
    return split == TH_SPLIT_TRAIN && !others ? "all of it" : th_split_name(split);
}

/* Whether the model has seen these very images before. */
static void say_seen(const thaw_model *m, const struct th_dataset *d,
    enum th_split split, const thaw_events *events)
{
    enum { TRAIN = 1 << TH_SPLIT_TRAIN, VAL = 1 << TH_SPLIT_VAL };
    static const struct {
        unsigned splits;
        const char *what;
    } kinds[] = {{TRAIN, "trained on"}, {TRAIN | VAL, "trained on and chosen by"},
        {VAL, "chosen by (its validation images)"}};
    const struct th_fingerprint *then = &m->net.model.trained_on;
    struct th_fingerprint now = th_fingerprint_of(d);
    bool said = false; /* without validation images, all of them are training images */
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && !said; i++) {
        said = th_fingerprint_same(then, kinds[i].splits, &now, 1U << split);
        if (said)
            th_say(events, "data",
                "note: these are the very images that the model was %s", kinds[i].what);
    }
}

struct bad_images {
    const thaw_events *events;
};

static void on_bad_image(void *context, const struct th_bad_image *bad)
{
    const struct bad_images *b = context;
    th_say(b->events, "warning", "%s: %s%s", bad->path, bad->reason,
        bad->replaced ? "; left out" : "");
}

static thaw_status run(thaw_model *m, const struct th_dataset *d, enum th_split split,
    const thaw_options *o, const thaw_events *events, const int32_t *map,
    struct th_metrics *metrics, int64_t *unreadable)
{
    struct bad_images bad = {events};
    double max_bad = th_option_real(o, "max-bad");
    const struct th_loader_options options = {.split = split,
        .batch = m->batch,
        .preprocess = th_network_preprocess(&m->net),
        .sizes = th_input_sizes(&m->net.model.input),
        .workers = m->workers,
        .max_bad = max_bad > 0 ? max_bad : -1,
        .report = on_bad_image,
        .context = &bad};
    struct th_loader *loader = NULL;
    bool stopped = false;
    TRY(th_model_evaluators(m, m->batch));
    th_network_warn(&m->net, events);
    TRY(th_loader_open(d, &options, &loader));
    thaw_status status =
        th_evaluate(&m->evaluators, loader, map, NULL, metrics, &stopped);
    *unreadable = th_loader_n_unreadable(loader);
    th_loader_close(loader);
    return status;
}

static thaw_status evaluate(thaw_model *m, const struct th_dataset *d,
    const thaw_options *o, const thaw_events *events, int32_t *map,
    thaw_evaluation *out)
{
    struct th_metrics metrics;
    enum th_split split;
    TRY(match(m, d, map, events));
    TRY(th_split_choose(d, th_option_split(o), &split));
    th_say(events, "data", "%lld images (%s)", (long long)d->split[split].n,
        split_text(d, split));
    say_seen(m, d, split, events);
    TRY(th_network_metrics(&m->net, &metrics));
    metrics.threshold = m->threshold;
    thaw_status status = run(m, d, split, o, events, map, &metrics, &out->unreadable);
    if (status == THAW_OK)
        status = th_scores_take(&metrics, m->net.model.classes, out);
    th_metrics_release(&metrics);
    if (status != THAW_OK)
        thaw_evaluation_release(out);
    return status;
}

thaw_status thaw_model_eval(thaw_model *m, const char *data, const thaw_options *o,
    const thaw_events *events, thaw_evaluation *out)
{
    struct th_dataset d;
    *out = (thaw_evaluation){0};
    const struct th_dataset_options as_is = {.as_is = true,
        .many = m->net.model.head->many,
        .objects = m->net.model.head->detector != NULL};
    TRY(th_dataset_open(data, &as_is, &d));
    for (int64_t i = 0; i < d.warnings.n; i++)
        th_say(events, "warning", "%s", d.warnings.name[i]);
    int32_t *map = th_alloc((size_t)d.n_classes, sizeof *map);
    thaw_status status = map ? THAW_OK : THAW_E_MEMORY;
    if (status == THAW_OK && m->net.model.input.others.n)
        status = th_dataset_measure(&d);
    if (status == THAW_OK)
        status = evaluate(m, &d, o, events, map, out);
    th_free(map);
    th_dataset_close(&d);
    return status;
}
