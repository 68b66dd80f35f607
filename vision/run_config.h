/* SPDX-License-Identifier: Apache-2.0
 * The options of a run, complete: what config.json says, so that the run can be repeated
 * and resumed from anywhere. */
#ifndef TH_RUN_CONFIG_H
#define TH_RUN_CONFIG_H

#include "error.h"

struct th_model;

/* A copy in which paths are absolute and counts of threads are numbers. */
thaw_status th_run_config_copy(const thaw_options *o, thaw_options **out);

/* Write down what was found out: backbone, head, and the input of the model. */
thaw_status th_run_config_resolve(thaw_options *o, const struct th_model *m);

/* Put what may change at a resume (epochs, also +N; threads, workers, quiet, json) from
 * `overrides` (may be NULL) over `o`. */
thaw_status th_run_config_override(thaw_options *o, const thaw_options *overrides);

/* THAW_E_USAGE names the first option that differs between `o` and a checkpoint's
 * config, of those that may not change at a resume. */
thaw_status th_run_config_compare(
    const thaw_options *o, const char *checkpoint, const char *run);

#endif
