/* SPDX-License-Identifier: Apache-2.0
 * A command of the program. Adding one is one file tools/cmd_NAME.c that ends with
 * `const struct th_command th_command_NAME`. Tools use thaw.h and nothing else. */
#ifndef TH_COMMAND_H
#define TH_COMMAND_H

#include "thaw.h"

/* What the command line said. */
struct th_call {
    thaw_options *options;
    char **args; /* what is not an option, in order */
    int n_args;
};

struct th_command {
    const char *name;
    const char *usage;   /* what follows "thaw NAME" */
    const char *about;   /* one line */
    const char *details; /* paragraphs of --help, each line whole; NULL: none */
    unsigned bit;        /* THAW_CMD_ bit: which options it takes; 0: none */
    int least, most;     /* arguments; most -1: any number */
    const char
        *gathers; /* an option whose repetitions add to it, with commas; NULL: the
                            last one counts for all */
    bool raw;     /* all that follows the name is an argument, options too */
    /* The exit code: 0, or a status negated (th_report), or 128 + signal. */
    int (*run)(struct th_call *call);
};

extern const struct th_command *const th_command_list[]; /* NULL at the end */

/* By name, NULL if there is none. */
const struct th_command *th_command_find(const char *name);

/* Nothing for THAW_OK, else "thaw: thaw_error()" on stderr; the exit code. */
int th_report(thaw_status status);

/* "thaw: ..." on stderr; exit code 2. */
int th_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Set an option, or where it is set already, add to it behind a comma. */
thaw_status th_add_option(thaw_options *o, const char *name, const char *value);

/* The text of `thaw COMMAND --help` (c) or `thaw help` (NULL). */
void th_print_help(const struct th_command *c);

#endif
