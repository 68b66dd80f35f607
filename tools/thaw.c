/* SPDX-License-Identifier: Apache-2.0
 * The program: finds the command, reads its arguments by the option table, runs it.
 * Exit codes are statuses negated; 128 + signal when a run was stopped and saved. */
#include "command.h"
#include "terminal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_COMMANDS = 64, MAX_NAME = 64 };

/* Promised by the design, not built yet. */
static const char *const later[] = {"advise"};

enum { N_LATER = sizeof later / sizeof later[0] };

const struct th_command *th_command_find(const char *name)
{
    for (int i = 0; th_command_list[i]; i++)
        if (!strcmp(th_command_list[i]->name, name))
            return th_command_list[i];
    return NULL;
}

int th_report(thaw_status status)
{
    if (status != THAW_OK) {
        fputs("thaw: ", stderr);
        th_print_text(stderr, thaw_error());
        putc('\n', stderr);
    }
    return -(int)status;
}

int th_usage(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("thaw: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    return -THAW_E_USAGE;
}

static int unknown_command(const char *name)
{
    const char *names[MAX_COMMANDS];
    size_t n = 0;
    for (int i = 0; i < N_LATER; i++)
        if (!strcmp(later[i], name))
            return th_usage("not in this version yet: thaw %s", name);
    for (; th_command_list[n] && n < MAX_COMMANDS; n++)
        names[n] = th_command_list[n]->name;
    const char *near = thaw_nearest(name, names, n);
    if (near)
        return th_usage("unknown command '%s'; did you mean '%s'?", name, near);
    return th_usage("unknown command '%s'; see: thaw help", name);
}

/* ---- Arguments ---- */

static const thaw_option *find_option(const char *name)
{
    size_t n = 0;
    const thaw_option *table = thaw_option_table(&n);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(table[i].name, name))
            return &table[i];
    return NULL;
}

/* "thaw predict does not take --lr (thaw train does)" */
static int wrong_command(const struct th_command *c, const thaw_option *option)
{
    unsigned first = option->commands & -option->commands; /* train before bench */
    for (int i = 0; th_command_list[i]; i++)
        if (th_command_list[i]->bit & first)
            return th_usage("thaw %s does not take --%s (thaw %s does)", c->name,
                option->name, th_command_list[i]->name);
    return th_usage("thaw %s does not take --%s", c->name, option->name);
}

thaw_status th_add_option(thaw_options *o, const char *name, const char *value)
{
    if (!thaw_options_is_set(o, name))
        return thaw_options_set(o, name, value);
    const char *before = thaw_options_get(o, name);
    size_t bytes = strlen(before) + strlen(value) + 2;
    char *both = malloc(bytes);
    if (!both)
        return THAW_E_MEMORY;
    snprintf(both, bytes, "%s,%s", before, value);
    thaw_status status = thaw_options_set(o, name, both);
    free(both);
    return status;
}

/* Set `name` from `value` (NULL: none was attached with =) or else from *next, which is
 * then used up. Exit code. */
static int set_option(const struct th_command *c, struct th_call *call,
    const char *name, const char *value, char **next, bool *used)
{
    const thaw_option *option = find_option(name);
    *used = false;
    if (!option) /* the library knows why not, and what is near */
        return th_report(thaw_options_set(call->options, name, ""));
    if (!(option->commands & c->bit))
        return wrong_command(c, option);
    if (!value && option->type == THAW_OPTION_FLAG)
        value = "1";
    if (!value) {
        if (!*next)
            return th_usage("--%s wants a value: %s", name, option->value);
        if (!strncmp(*next, "--", 2))
            return th_usage(
                "--%s wants a value (%s), not '%s'", name, option->value, *next);
        value = *next;
        *used = true;
    }
    if (c->gathers && !strcmp(c->gathers, name))
        return th_report(th_add_option(call->options, name, value));
    return th_report(thaw_options_set(call->options, name, value));
}

/* One argument that begins with a dash. */
static int parse_dashed(
    const struct th_command *c, struct th_call *call, char **argv, bool *used)
{
    const char *arg = argv[0], *equals = strchr(arg, '=');
    char name[MAX_NAME];
    if (!strncmp(arg, "-o", 2)) {
        const char *value = arg[2] == '=' ? arg + 3 : arg[2] ? arg + 2 : NULL;
        return set_option(c, call, "out", value, argv + 1, used);
    }
    if (arg[1] != '-')
        return th_usage("unknown option %s; see: thaw %s --help", arg, c->name);
    size_t length = equals ? (size_t)(equals - arg) - 2 : strlen(arg) - 2;
    if (length >= sizeof name)
        return th_usage("unknown option %s", arg);
    memcpy(name, arg + 2, length);
    name[length] = 0;
    return set_option(c, call, name, equals ? equals + 1 : NULL, argv + 1, used);
}

static int parse(
    const struct th_command *c, struct th_call *call, char **argv, bool *help)
{
    bool only_arguments = c->raw;
    for (; *argv; argv++) {
        bool dashed = !only_arguments && argv[0][0] == '-' && argv[0][1], used = false;
        if (!dashed) {
            call->args[call->n_args++] = *argv;
        } else if (!strcmp(*argv, "--")) {
            only_arguments = true;
        } else if (!strcmp(*argv, "--help") || !strcmp(*argv, "-h")) {
            *help = true;
            return 0;
        } else {
            int code = parse_dashed(c, call, argv, &used);
            if (code)
                return code;
        }
        argv += used;
    }
    return 0;
}

static int run_call(const struct th_command *c, struct th_call *call, char **argv)
{
    bool help = false;
    int code = parse(c, call, argv, &help);
    if (code)
        return code;
    if (help) {
        th_print_help(c);
        return 0;
    }
    if (call->n_args < c->least)
        return th_usage("thaw %s wants %s", c->name, c->usage);
    if (c->most >= 0 && call->n_args > c->most)
        return th_usage("thaw %s: one argument too many: '%s'; it wants %s", c->name,
            call->args[c->most], c->usage);
    return c->run(call);
}

static int run_command(const struct th_command *c, int argc, char **argv)
{
    struct th_call call = {.args = calloc((size_t)argc + 1, sizeof *call.args)};
    int code = -THAW_E_MEMORY;
    if (call.args && thaw_options_new(&call.options) == THAW_OK)
        code = run_call(c, &call, argv);
    else
        fputs("thaw: out of memory\n", stderr);
    thaw_options_free(call.options);
    free(call.args);
    return code;
}

/* Asked of the pipe: the failed write may have been an earlier flush's. */
static bool reader_left(void)
{
    struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLERR);
}

/* Results that could not be written are a failure; a reader that left is not worth a
 * sentence. */
static int finish_output(int code)
{
    errno = 0;
    if (!fflush(stdout) && !ferror(stdout))
        return code;
    int cause = errno;
    if (!reader_left())
        fprintf(stderr, "thaw: cannot write results: %s\n",
            cause ? strerror(cause) : "output error");
    return code ? code : -THAW_E_IO;
}

/* Two settings that libraries read from the environment when they are loaded, so that the
 * program starts itself again, once.
 *
 * OpenMP's waiting threads spin some milliseconds by default, at the cost of whatever else
 * wants the core: our loader's threads, another program. A short spin is 12 % faster here
 * (resnet20, 2 cores: 824 against 730 images/s) and ten times on a busy machine.
 *
 * glibc keeps freed blocks of up to 32 MiB for itself once it has seen such a one. Plans,
 * checkpoints and models of a long run then leave holes: 57 to 69 MB resident and slowly
 * more over 50 epochs with ten plans, against 38 to 50 MB and flat. */
static void set_environment(char **argv)
{
    bool spins = !getenv("OMP_WAIT_POLICY") && !getenv("GOMP_SPINCOUNT");
    bool hoards = !getenv("MALLOC_MMAP_THRESHOLD_");
    if (!spins && !hoards)
        return;
    if (spins && setenv("GOMP_SPINCOUNT", "10000", 0))
        return;
    if (hoards && setenv("MALLOC_MMAP_THRESHOLD_", "1048576", 0))
        return;
    execv("/proc/self/exe", argv); /* comes back only if that is not possible */
}

int main(int argc, char **argv)
{
    set_environment(argv);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* so that a file limit is an error of write() */
    if (argc < 2) {
        fputs("usage: thaw COMMAND ...; see: thaw help\n", stderr);
        return -THAW_E_USAGE;
    }
    const char *name = argv[1];
    if (!strcmp(name, "--version") || !strcmp(name, "-V")) {
        printf("thaw %s\n", thaw_version());
        return finish_output(0);
    }
    if (!strcmp(name, "--help") || !strcmp(name, "-h"))
        name = "help";
    const struct th_command *c = th_command_find(name);
    if (!c && name[0] == '-')
        return th_usage("the command comes first: thaw COMMAND ...; see: thaw help");
    if (!c)
        return unknown_command(name);
    return finish_output(run_command(c, argc - 2, argv + 2));
}
