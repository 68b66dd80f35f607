/* SPDX-License-Identifier: Apache-2.0
 * Owns parsing: from PTX text to kernels of decoded instructions. A statement that is not
 * understood ends it, with its line. */
#include "parse.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void ptx_no(struct parse *p, const char *format, ...)
{
    va_list args;
    char text[256];
    if (p->failed)
        return;
    p->failed = true;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(p->why, p->why_size, "line %d: %s%s%s", p->line, text,
        p->kernel ? ", in kernel " : "", p->kernel ? p->kernel->name : "");
}

void *ptx_more(void *old, int n, size_t size)
{
    /* doubles whenever n is a power of two */
    if (n & (n - 1))
        return old;
    void *grown = realloc(old, (n ? 2 * (size_t)n : 1) * size);
    if (!grown)
        abort();
    memset((char *)grown + (size_t)n * size, 0, (n ? (size_t)n : 1) * size);
    return grown;
}

/* Comments become blanks; lines stay. */
static void strip_comments(char *s)
{
    for (; *s; s++) {
        if (s[0] == '"') { /* names of files */
            for (s++; *s && *s != '"'; s++)
                ;
            if (!*s)
                return;
        } else if (s[0] == '/' && s[1] == '/') {
            for (; *s && *s != '\n'; s++)
                *s = ' ';
            if (!*s)
                return;
        } else if (s[0] == '/' && s[1] == '*') {
            for (; *s && !(s[0] == '*' && s[1] == '/'); s++)
                if (*s != '\n')
                    *s = ' ';
            if (!*s)
                return;
            s[0] = s[1] = ' ';
        }
    }
}

static void skip_blanks(struct parse *p)
{
    for (; isspace((unsigned char)*p->at); p->at++)
        p->line += *p->at == '\n';
}

/* Ends a piece of text at `end`, and goes on behind it. */
static char *take(struct parse *p, const char *stops)
{
    char *start = p->at, *end = start + strcspn(start, stops);
    if (!*end) {
        ptx_no(p, "the text ends within a statement");
        return start;
    }
    for (char *s = start; s < end; s++)
        if (*s == '\n') {
            p->line++;
            *s = ' ';
        }
    p->at = end + 1;
    p->line += *end == '\n';
    *end = '\0';
    for (; isspace((unsigned char)*start); start++)
        ;
    for (; end > start && isspace((unsigned char)end[-1]); end--)
        end[-1] = '\0';
    return start;
}

static bool begins(const struct parse *p, const char *word)
{
    return strncmp(p->at, word, strlen(word)) == 0;
}

/* .param .align 8 .b8 name[32]   or   .param .u64 name */
static void parse_param(struct parse *p, char *text)
{
    struct ptx_kernel *k = p->kernel;
    size_t align = 0, bytes = 0;
    char *save = NULL, *name = NULL;
    for (char *w = strtok_r(text, " \t", &save); w; w = strtok_r(NULL, " \t", &save)) {
        if (strcmp(w, ".align") == 0)
            align = strtoul(strtok_r(NULL, " \t", &save), NULL, 10);
        else if (w[0] == '.' && strcmp(w, ".param") != 0)
            bytes = ptx_type_bytes(w);
        else if (w[0] != '.')
            name = w;
    }
    if (!name || !bytes) {
        ptx_no(p, "a parameter of no known type");
        return;
    }
    if (!align)
        align = bytes;
    char *bracket = strchr(name, '[');
    if (bracket) {
        *bracket = '\0';
        bytes *= strtoul(bracket + 1, NULL, 10);
    }
    size_t at = (k->param_bytes + align - 1) / align * align;
    k->params = ptx_more(k->params, k->n_params, sizeof *k->params);
    k->params[k->n_params++] = (struct param){at, bytes};
    k->param_bytes = at + bytes;
    ptx_define(p, name, PARAM, at, bytes, align);
}

/* From behind ".entry" to the "{" of its body. */
static void parse_head(struct parse *p)
{
    struct ptx_module *m = p->module;
    struct ptx_kernel *k = calloc(1, sizeof *k);
    if (!k)
        abort();
    m->kernels = ptx_more(m->kernels, m->n_kernels, sizeof *m->kernels);
    m->kernels[m->n_kernels++] = k;
    *k = (struct ptx_kernel){.module = m, .max_threads = 1024};
    for (int i = 0; i < N_SPECIALS; i++)
        k->special[i] = -1;
    p->at += strlen(".entry");
    k->name = take(p, "(");
    p->kernel = k;
    char *params = take(p, ")"), *save = NULL;
    for (char *w = strtok_r(params, ",", &save); w && !p->failed;
         w = strtok_r(NULL, ",", &save))
        if (strstr(w, ".param"))
            parse_param(p, w);
    char *rest = take(p, "{"), *limit = strstr(rest, ".maxntid");
    if (limit) {
        unsigned x = 1, y = 1, z = 1;
        sscanf(limit, ".maxntid %u, %u, %u", &x, &y, &z);
        k->max_threads = x * y * z;
    }
}

/* .shared .align 16 .b8 name[64];  or, for the dynamic part, .extern ... name[]; */
static void parse_shared(struct parse *p, char *text, bool is_extern)
{
    char name[256];
    unsigned align = 0, n = 0;
    char type[8] = "";
    int got =
        sscanf(text, ".shared .align %u %7s %255[^[][%u]", &align, type, name, &n);
    size_t bytes = ptx_type_bytes(type);
    if (got < 3 || !bytes || (got < 4 && !is_extern)) {
        if (sscanf(text, ".shared .align %u %7s %255[^[ ]", &align, type, name) != 3) {
            ptx_no(p, "a shared variable that is no array: %s", text);
            return;
        }
        n = 1;
    }
    if (is_extern) {
        ptx_define(p, name, SHARED, PTX_DYNAMIC, 0, align);
        return;
    }
    bytes *= n;
    size_t at = p->kernel ? ptx_place(p, bytes, align) : PTX_UNPLACED;
    ptx_define(p, name, SHARED, at, bytes, align);
}

/* .reg .b32 %r<8>   or   .reg .b16 name, name */
static void parse_registers(struct parse *p, char *text)
{
    char *save = NULL, *type;
    strtok_r(text, " \t", &save);
    type = strtok_r(NULL, " \t", &save);
    for (char *w = strtok_r(NULL, ", \t", &save); w;
         w = strtok_r(NULL, ", \t", &save)) {
        char *count = strchr(w, '<');
        int n = -1;
        if (count) {
            *count = '\0';
            n = atoi(count + 1);
        }
        ptx_define_registers(p, w, type, n);
    }
}

/* .loc file line column, ... */
static void parse_loc(struct parse *p)
{
    char *text = take(p, "\n");
    sscanf(text, ".loc %d %d", &p->file, &p->source_line);
}

static bool parse_label(struct parse *p)
{
    size_t n = strspn(p->at, "$_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                             "0123456789");
    if (!n || p->at[n] != ':')
        return false;
    p->at[n] = '\0';
    ptx_define_label(p, p->at);
    p->at += n + 1;
    return true;
}

static void parse_body(struct parse *p)
{
    for (int depth = 1; depth && !p->failed;) {
        skip_blanks(p);
        if (*p->at == '{' || *p->at == '}') {
            depth += *p->at == '{' ? 1 : -1;
            p->at++;
        } else if (begins(p, ".loc"))
            parse_loc(p);
        else if (parse_label(p))
            continue;
        else {
            char *text = take(p, ";");
            if (strncmp(text, ".reg", 4) == 0)
                parse_registers(p, text);
            else if (strncmp(text, ".shared", 7) == 0)
                parse_shared(p, text, false);
            else if (*text && strncmp(text, ".pragma", 7) != 0)
                ptx_parse_insn(p, text);
        }
    }
    if (!p->failed)
        ptx_resolve(p);
}

/* .file 1 "path" */
static void parse_file(struct parse *p)
{
    char *text = take(p, "\n"), *name = strchr(text, '"');
    int n = atoi(text + strlen(".file"));
    if (!name || n < 0 || n >= 64)
        return;
    name++;
    name[strcspn(name, "\"")] = '\0';
    char *slash = strrchr(name, '/');
    p->module->files[n] = slash ? slash + 1 : name;
}

static void skip_section(struct parse *p)
{
    int depth = 0;
    for (; *p->at; p->at++) {
        p->line += *p->at == '\n';
        depth += (*p->at == '{') - (*p->at == '}');
        if (*p->at == '}' && depth == 0)
            break;
    }
    p->at += *p->at == '}';
}

static void parse_module(struct parse *p)
{
    for (skip_blanks(p); *p->at && !p->failed; skip_blanks(p)) {
        if (begins(p, ".visible") || begins(p, ".weak"))
            p->at += strcspn(p->at, " \t\n");
        else if (begins(p, ".entry")) {
            parse_head(p);
            parse_body(p);
            ptx_forget(p);
            p->kernel = NULL;
        } else if (begins(p, ".extern")) {
            p->at += strlen(".extern");
            skip_blanks(p);
            parse_shared(p, take(p, ";"), true);
        } else if (begins(p, ".shared"))
            parse_shared(p, take(p, ";"), false);
        else if (begins(p, ".file"))
            parse_file(p);
        else if (begins(p, ".section"))
            skip_section(p);
        else if (begins(p, ".version") || begins(p, ".target") ||
                 begins(p, ".address_size"))
            take(p, "\n");
        else
            ptx_no(p, "not understood: %.40s", p->at);
    }
}

struct ptx_module *ptx_parse(const char *text, size_t bytes, char *why, size_t why_size)
{
    struct ptx_module *m = calloc(1, sizeof *m);
    char *copy = malloc(bytes + 2);
    if (!m || !copy)
        abort();
    memcpy(copy, text, bytes);
    memcpy(copy + bytes, "\n", 2);
    m->text = copy;
    strip_comments(copy);
    struct parse p = {
        .module = m, .at = copy, .line = 1, .why = why, .why_size = why_size};
    parse_module(&p);
    ptx_forget_all(&p);
    if (!p.failed)
        return m;
    ptx_free(m);
    return NULL;
}

void ptx_free(struct ptx_module *m)
{
    for (int i = 0; m && i < m->n_kernels; i++) {
        struct ptx_kernel *k = m->kernels[i];
        free(k->params);
        free(k->code);
        free(k->constants);
        free(k->seen);
        free(k->executed);
        free(k);
    }
    if (m) {
        free(m->kernels);
        free(m->text);
    }
    free(m);
}
