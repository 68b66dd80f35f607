/* SPDX-License-Identifier: Apache-2.0
 * Owns what is said of kernels: findings, what a kernel is made of, what was reached. */
#include "inside.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* "act.cu:20" where the module says so, else the line of PTX. */
static void place(const struct ptx_kernel *k, int pc, char *text, size_t size)
{
    const struct insn *in = &k->code[pc];
    const char *file =
        in->file > 0 && in->file < 64 ? k->module->files[in->file] : NULL;
    if (file)
        snprintf(text, size, "%s:%d, PTX line %d", file, in->source_line, in->line);
    else
        snprintf(text, size, "PTX line %d", in->line);
}

void ptx_found(struct warp *w, int lane, const char *format, ...)
{
    struct run *run = w->run;
    const unsigned *at = run->block_at;
    char what[384], where[160], who[64] = "", text[768];
    va_list args;
    if (run->failed)
        return;
    run->failed = true;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    place(run->kernel, w->pc, where, sizeof where);
    if (lane >= 0)
        snprintf(who, sizeof who, ", thread %d", w->index * LANES + lane);
    snprintf(text, sizeof text, "%s (%s), block %u,%u,%u%s: %s", run->kernel->name,
        where, at[0], at[1], at[2], who, what);
    run->host->find(run->host->context, text);
}

void ptx_refuse(struct run *run, const char *format, ...)
{
    char what[384], text[512];
    va_list args;
    if (run->failed)
        return;
    run->failed = true;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    snprintf(text, sizeof text, "%s: %s", run->kernel->name, what);
    run->host->find(run->host->context, text);
}

const struct ptx_kernel *ptx_at(const struct ptx_module *m, int i)
{
    return i < m->n_kernels ? m->kernels[i] : NULL;
}

const struct ptx_kernel *ptx_find(const struct ptx_module *m, const char *name)
{
    for (int i = 0; i < m->n_kernels; i++)
        if (strcmp(m->kernels[i]->name, name) == 0)
            return m->kernels[i];
    return NULL;
}

const char *ptx_name(const struct ptx_kernel *k)
{
    return k->name;
}

int ptx_n_params(const struct ptx_kernel *k)
{
    return k->n_params;
}

size_t ptx_param_bytes(const struct ptx_kernel *k, int i)
{
    return k->params[i].bytes;
}

int ptx_count(const struct ptx_kernel *k, const char *opcode)
{
    int n = 0;
    for (int i = 0; i < k->n_code; i++)
        n += strcmp(k->code[i].text, opcode) == 0;
    return n;
}

/* ---- coverage ---- */

static bool conditional(const struct insn *in)
{
    return in->kind == BRANCH && in->guard >= 0;
}

static bool reached(const struct ptx_kernel *k, int pc)
{
    /* a branch that is never taken was reached by those that pass it */
    return k->seen[pc].reached || (conditional(&k->code[pc]) && k->seen[pc].passed);
}

struct ptx_coverage ptx_coverage(const struct ptx_kernel *k)
{
    struct ptx_coverage c = {.n_instructions = k->n_code, .executed = *k->executed};
    for (int i = 0; i < k->n_code; i++) {
        bool branch = conditional(&k->code[i]);
        c.n_reached += reached(k, i);
        c.n_branches += branch;
        c.n_taken += branch && k->seen[i].taken;
        c.n_passed += branch && k->seen[i].passed;
    }
    return c;
}

bool ptx_missed_line(const struct ptx_kernel *k, int i, char *text, size_t size)
{
    for (int pc = 0; pc < k->n_code; pc++) {
        bool found = false; /* the line before, or reached */
        for (int other = 0; other < k->n_code && !found; other++)
            found = k->code[other].file == k->code[pc].file &&
                    k->code[other].source_line == k->code[pc].source_line &&
                    (other < pc || reached(k, other));
        if (found || i-- > 0)
            continue;
        char where[160];
        place(k, pc, where, sizeof where);
        snprintf(text, size, "%s: %s", k->name, where);
        return true;
    }
    return false;
}

bool ptx_missed(const struct ptx_kernel *k, int i, char *text, size_t size)
{
    char where[160];
    for (int pc = 0; pc < k->n_code; pc++) {
        const struct seen *s = &k->seen[pc];
        bool branch = conditional(&k->code[pc]);
        if (branch ? s->taken && s->passed : reached(k, pc))
            continue;
        if (i-- > 0)
            continue;
        place(k, pc, where, sizeof where);
        snprintf(text, size, "%s (%s): %s %s", k->name, where, k->code[pc].text,
            !reached(k, pc) ? "not reached"
            : !s->taken     ? "never taken"
                            : "always taken");
        return true;
    }
    return false;
}
