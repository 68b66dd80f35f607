/* SPDX-License-Identifier: Apache-2.0
 * Owns the signal handlers and, for them, the program's only mutable globals. */
#include "running.h"

#include "command.h"

#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <unistd.h>

static void (*volatile call_stop)(void *what);
static void *volatile stopped_by_call;
static volatile sig_atomic_t caught_signal;

static void on_signal(int number)
{
    if (caught_signal)
        _exit(128 + number);
    caught_signal = number;
    call_stop(stopped_by_call);
}

void th_catch_signals(void (*stop)(void *what), void *what)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    call_stop = stop;
    stopped_by_call = what;
    for (int i = 0; i < 3; i++) {
        struct sigaction old,
            action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
        sigemptyset(&action.sa_mask);
        sigaction(numbers[i], NULL, &old);
        /* A hang-up that nohup ignores stays ignored. SIGINT does not: shells ignore it
         * in every background job, and `kill -INT` is to save there too. */
        if (numbers[i] != SIGHUP || old.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
    }
}

int th_caught_signal(void)
{
    return caught_signal;
}

static void stop_trainer(void *trainer)
{
    thaw_trainer_stop(trainer);
}

static void print_json(const thaw_result *r, const char *run)
{
    fputs("{\"event\":\"end\",\"run\":", stdout);
    th_json_string(stdout, run);
    bool many = !isnan(r->best_map);
    fputs(many ? ",\"best_map\":" : ",\"best_top1\":", stdout);
    th_json_real(stdout, many ? r->best_map : r->best_top1);
    fputs(",\"last_loss\":", stdout);
    th_json_real(stdout, r->last_loss);
    printf(",\"best_epoch\":%d,\"epochs\":%d,\"steps\":%" PRId64
           ",\"skipped\":%" PRId64,
        r->best_epoch, r->epochs, r->steps, r->skipped);
    printf(",\"frozen_tensors\":%d,\"frozen_verified\":%s,\"stopped\":%s}\n",
        r->frozen_tensors, r->frozen_verified ? "true" : "false",
        r->stopped ? "true" : "false");
}

int th_run_trainer(thaw_trainer *t, const char *run, struct th_terminal *terminal)
{
    thaw_result result = {0};
    th_catch_signals(stop_trainer, t);
    thaw_status status = thaw_trainer_run(t, &result);
    th_terminal_clear(terminal);
    if (status != THAW_OK)
        return th_report(status);
    if (terminal->json)
        print_json(&result, run);
    if (!result.stopped)
        return 0;
    fprintf(stderr, "saved %s; resume with: thaw resume %s\n", run, run);
    return caught_signal ? 128 + caught_signal : 0;
}
