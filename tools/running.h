/* SPDX-License-Identifier: Apache-2.0
 * Training under signals, for `train` and `resume`. */
#ifndef TH_RUNNING_H
#define TH_RUNNING_H

#include "terminal.h"

/* Runs the trainer to its end; SIGINT, SIGTERM and SIGHUP make it save and stop, a second
 * one ends the program at once. `run` is the run folder as the user named it. The exit
 * code: 128 + signal when stopped and saved. */
int th_run_trainer(thaw_trainer *t, const char *run, struct th_terminal *terminal);

#endif
