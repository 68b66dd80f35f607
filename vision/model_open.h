/* SPDX-License-Identifier: Apache-2.0
 * struct thaw_model: an opened model file and the plan it last used. */
#ifndef TH_MODEL_OPEN_H
#define TH_MODEL_OPEN_H

#include "adapter.h"
#include "evaluate.h"

struct thaw_model {
    struct th_network net;
    struct th_evaluators evaluators; /* n 0: none yet; batch 0: not of that size */
    int batch, workers;              /* images a run at most; threads that read */
    double threshold;    /* probability from which on a class of many is predicted */
    enum th_split split; /* of data, which images */
    bool split_said;     /* somebody asked for it */
    bool named;          /* the class names are real ones */
    char *path;
    struct th_lora lora; /* to be inspected; rank 0: none */
    char *notes;         /* what reading changed or assumed; NULL: nothing */
    /* With adapters: the base's tensors, kept so that another one can be put on it. */
    struct th_weights base;
    thaw_options *options; /* NULL: no adapters */
    char **adapters;       /* [n_adapters] paths */
    int n_adapters, used;  /* used: which is on the base; -1: none */
    thaw_model **others;   /* [n_others] whose heads stand on this backbone; borrowed */
    int n_others;
};

/* Of inputs of each size, an evaluator for so many images; the one of before where it fits. */
thaw_status th_model_evaluators(struct thaw_model *m, int batch);
/* Of inputs of one. */
thaw_status th_model_evaluator(struct thaw_model *m, int bucket, int batch);

/* The option "split". */
enum th_split th_option_split(const thaw_options *o);

/* Of a dataset the images of the split that is wanted; instead of validation images that are
 * not there the training images, which in data without splits are all of it. THAW_E_DATA. */
thaw_status th_split_choose(
    const struct th_dataset *d, enum th_split wanted, enum th_split *split);

/* thaw_model_adapt, to the training images of a dataset that is open. */
thaw_status th_model_adabn(struct thaw_model *m, const struct th_dataset *d,
    const thaw_options *o, const thaw_events *events, thaw_adaptation *out);

#endif
