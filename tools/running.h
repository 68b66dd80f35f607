/* SPDX-License-Identifier: Apache-2.0
 * Training under signals, for `train`, `resume` and `bench`. */
#ifndef TH_RUNNING_H
#define TH_RUNNING_H

#include "terminal.h"

/* From now on SIGINT, SIGTERM and SIGHUP call stop(what), which must be safe in a handler;
 * a second one ends the program at once. */
void th_catch_signals(void (*stop)(void *what), void *what);
/* The one that was caught; 0: none. */
int th_caught_signal(void);

/* Runs the trainer to its end; SIGINT, SIGTERM and SIGHUP make it save and stop, a second
 * one ends the program at once. `run` is the run folder as the user named it. The exit
 * code: 128 + signal when stopped and saved. */
int th_run_trainer(thaw_trainer *t, const char *run, struct th_terminal *terminal);

#endif
