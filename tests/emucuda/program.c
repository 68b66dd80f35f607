/* SPDX-License-Identifier: Apache-2.0
 * Owns the device of a whole program that knows nothing of it: the environment says how it
 * is, and what was found is told at the end.
 *
 *   EMU_ORDER=late|early|random   when work runs; this or any other opens the device
 *   EMU_SEED=7                    of random, and of what else is drawn
 *   EMU_FAIL=plan:3               the third of its class fails (emucuda.h, in small letters)
 *   EMU_MISSING=34|35|100         there is no device, and that is what is said
 *   EMU_CAPACITY=1000000          bytes of device memory
 *   EMU_COUNT=1                   counters at the end, on stderr
 *
 * With findings the program ends with EMU_FOUND instead of its own status. */
#include "emu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const variables[] = {
    "EMU_ORDER", "EMU_SEED", "EMU_FAIL", "EMU_MISSING", "EMU_CAPACITY", "EMU_COUNT"};

static const char *const orders[] = {
    [EMU_LATE] = "late", [EMU_EARLY] = "early", [EMU_RANDOM] = "random"};

static const char *const classes[EMU_CLASSES] = {[EMU_ALLOC] = "alloc",
    [EMU_COPY] = "copy",
    [EMU_WORK] = "launch",
    [EMU_EVENT] = "event",
    [EMU_STREAM] = "stream",
    [EMU_ASYNC] = "async",
    [EMU_PLAN] = "plan",
    [EMU_EXECUTE] = "execute"};

static void wrong(const char *variable)
{
    fprintf(stderr, "emulated device: %s=%s is not understood\n", variable,
        getenv(variable));
    _exit(EMU_FOUND);
}

static unsigned long long number(const char *variable)
{
    const char *text = getenv(variable);
    char *end;
    if (!text)
        return 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (end == text || *end)
        wrong(variable);
    return n;
}

static enum emu_order order(void)
{
    const char *text = getenv("EMU_ORDER");
    for (int i = 0; text && i < (int)(sizeof orders / sizeof *orders); i++)
        if (strcmp(text, orders[i]) == 0)
            return (enum emu_order)i;
    if (text)
        wrong("EMU_ORDER");
    return EMU_LATE;
}

static void fail(void)
{
    const char *text = getenv("EMU_FAIL"), *colon = text ? strchr(text, ':') : NULL;
    if (!text)
        return;
    for (int i = 0; colon && i < EMU_CLASSES; i++)
        if (strlen(classes[i]) == (size_t)(colon - text) &&
            strncmp(text, classes[i], (size_t)(colon - text)) == 0 &&
            atoi(colon + 1) > 0) {
            emu_fail((enum emu_class)i, atoi(colon + 1));
            return;
        }
    wrong("EMU_FAIL");
}

static void count(void)
{
    struct emu_counters c = emu_counters();
    fprintf(stderr,
        "emulated device: %d launches (%d cuDNN, %d cuBLASLt, %d kernels), %d copies, "
        "%d synchronisations, %d allocations, %d plans (%d more read), %zu bytes at "
        "most\n",
        c.launches, c.executes, c.products, c.kernels, c.copies, c.syncs, c.allocations,
        c.plans, c.plans_read, c.peak_bytes);
}

static void at_end(void)
{
    if (!emu.open)
        return;
    if (getenv("EMU_COUNT"))
        count();
    int n = emu_close();
    for (int i = 0; i < n; i++)
        fprintf(stderr, "emulated device: %s\n", emu_finding(i));
    fflush(NULL);
    if (n > 0)
        _exit(EMU_FOUND);
}

bool emu_program_open(void)
{
    static bool registered;
    bool asked = false;
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        asked = asked || getenv(variables[i]);
    if (!asked)
        return false;
    emu_open(&(struct emu_options){.order = order(),
        .seed = number("EMU_SEED"),
        .capacity = (size_t)number("EMU_CAPACITY"),
        .missing = (cudaError_t)number("EMU_MISSING")});
    fail();
    emu_trap();
    if (!registered)
        atexit(at_end);
    registered = true;
    return true;
}
