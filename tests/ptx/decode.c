/* SPDX-License-Identifier: Apache-2.0
 * Owns decoding one instruction, and the names that its operands may be. */
#include "parse.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPERANDS = 8 };

/* ---- names ---- */

size_t ptx_type_bytes(const char *type)
{
    size_t bits = type[0] == '.' && type[1] ? strtoul(type + 2, NULL, 10) : 0;
    if (strchr("busf", type[0] == '.' ? type[1] : '?') == NULL)
        return 0;
    return bits == 8 || bits == 16 || bits == 32 || bits == 64 ? bits / 8 : 0;
}

void ptx_define(struct parse *p, const char *name, enum space space, size_t at,
    size_t bytes, size_t align)
{
    p->symbols = ptx_more(p->symbols, p->n_symbols, sizeof *p->symbols);
    p->symbols[p->n_symbols++] = (struct symbol){strdup(name), space, at, bytes, align};
    if (!p->kernel)
        p->n_module_symbols = p->n_symbols;
}

static int new_units(struct parse *p, int n)
{
    int first = p->kernel->n_units;
    p->kernel->n_units += n;
    return first;
}

void ptx_define_registers(struct parse *p, char *prefix, const char *type, int n)
{
    size_t bytes = type ? ptx_type_bytes(type) : 0;
    char letter = bytes == 8 ? 'd' : bytes == 4 ? 'r' : bytes == 2 ? 'h' : '\0';
    if (type && strcmp(type, ".pred") == 0)
        letter = 'p';
    if (!letter) {
        ptx_no(p, "registers of type %s", type ? type : "?");
        return;
    }
    int each = letter == 'd' ? 2 : 1;
    p->registers = ptx_more(p->registers, p->n_registers, sizeof *p->registers);
    p->registers[p->n_registers++] =
        (struct registers){prefix, n, new_units(p, each * (n < 0 ? 1 : n)), letter};
}

void ptx_define_label(struct parse *p, char *name)
{
    p->labels = ptx_more(p->labels, p->n_labels, sizeof *p->labels);
    p->labels[p->n_labels++] = (struct label){name, p->kernel->n_code};
}

void ptx_forget(struct parse *p)
{
    while (p->n_symbols > p->n_module_symbols)
        free(p->symbols[--p->n_symbols].name);
    free(p->registers);
    free(p->labels);
    free(p->jumps);
    p->registers = NULL;
    p->labels = p->jumps = NULL;
    p->n_registers = p->n_labels = p->n_jumps = 0;
}

void ptx_forget_all(struct parse *p)
{
    p->n_module_symbols = 0;
    ptx_forget(p);
    free(p->symbols);
}

size_t ptx_place(struct parse *p, size_t bytes, size_t align)
{
    struct ptx_kernel *k = p->kernel;
    size_t at = (k->shared_bytes + align - 1) / align * align;
    k->shared_bytes = at + bytes;
    return at;
}

static const struct symbol *find_symbol(struct parse *p, const char *name)
{
    for (int i = p->n_symbols; i-- > 0;) {
        const struct symbol s = p->symbols[i];
        if (strcmp(s.name, name) != 0)
            continue;
        if (s.at != PTX_UNPLACED)
            return &p->symbols[i];
        size_t at = ptx_place(p, s.bytes, s.align);
        ptx_define(p, name, s.space, at, s.bytes, s.align);
        return &p->symbols[p->n_symbols - 1];
    }
    return NULL;
}

/* Unit of a register, the last declared of its name; -1: none. */
static int find_register(const struct parse *p, const char *name, char *type)
{
    size_t length = strlen(name), digits = length;
    while (digits > 0 && isdigit((unsigned char)name[digits - 1]))
        digits--;
    for (int i = p->n_registers; i-- > 0;) {
        const struct registers *r = &p->registers[i];
        *type = r->type;
        if (r->n < 0 && strcmp(r->prefix, name) == 0)
            return r->first;
        if (r->n < 0 || digits == length || strlen(r->prefix) != digits ||
            strncmp(r->prefix, name, digits) != 0)
            continue;
        int k = atoi(name + digits);
        if (k < r->n)
            return r->first + k * (r->type == 'd' ? 2 : 1);
    }
    return -1;
}

static int find_special(struct parse *p, const char *name)
{
    static const char *const names[N_SPECIALS] = {"%tid.x", "%tid.y", "%tid.z",
        "%ntid.x", "%ntid.y", "%ntid.z", "%ctaid.x", "%ctaid.y", "%ctaid.z",
        "%nctaid.x", "%nctaid.y", "%nctaid.z", "%laneid"};
    for (int i = 0; i < N_SPECIALS; i++)
        if (strcmp(name, names[i]) == 0) {
            if (p->kernel->special[i] < 0)
                p->kernel->special[i] = new_units(p, 1);
            return p->kernel->special[i];
        }
    return -1;
}

static int constant(struct parse *p, uint64_t value, char type, bool dynamic)
{
    struct ptx_kernel *k = p->kernel;
    int unit = new_units(p, type == 'd' ? 2 : 1);
    k->constants = ptx_more(k->constants, k->n_constants, sizeof *k->constants);
    k->constants[k->n_constants++] = (struct constant){unit, value, type, dynamic};
    return unit;
}

/* 12, -3, 0x1F, 0f3F800000, 0d3FF0000000000000 */
static bool number(const char *text, uint64_t *value)
{
    bool real = text[0] == '0' && (text[1] == 'f' || text[1] == 'd');
    char *end;
    if (real)
        *value = strtoull(text + 2, &end, 16);
    else if (text[0] == '-')
        *value = (uint64_t)strtoll(text, &end, 0);
    else
        *value = strtoull(text, &end, 0);
    if (*end == 'U')
        end++;
    return *text && *end == '\0';
}

/* ---- operands ---- */

/* The unit of an operand of this type; -1: it is none. */
static int operand(struct parse *p, const char *text, char type, bool result)
{
    char found = '\0';
    uint64_t value;
    int unit = find_register(p, text, &found);
    if (unit >= 0)
        return found == type ? unit : -1;
    if (result)
        return strcmp(text, "_") == 0 ? new_units(p, 2) : -1;
    if (text[0] == '%')
        return type == 'r' ? find_special(p, text) : -1;
    if (number(text, &value))
        return constant(p, value, type, false);
    const struct symbol *s = find_symbol(p, text);
    if (s && s->space == SHARED && (type == 'r' || type == 'd'))
        return constant(p, s->at, type, s->at == PTX_DYNAMIC);
    if (s && s->space == PARAM && type == 'd')
        return constant(p, s->at, type, false);
    return -1;
}

/* Cuts at commas, of {a, b} too; and a|b. */
static int cut(char *text, char **to, int most)
{
    int n = 0;
    bool inside = false;
    for (char *s = text; *s && n < most;) {
        s += strspn(s, " \t,{}|");
        if (!*s)
            break;
        to[n++] = s;
        for (; *s && (inside || !strchr(",{}|", *s)); s++)
            inside = *s == '[' || (inside && *s != ']');
        char *end = s;
        if (*s)
            *s++ = '\0';
        for (; end > to[n - 1] && isspace((unsigned char)end[-1]); end--)
            end[-1] = '\0';
    }
    return n;
}

/* Whether the operands fit the row; fills in what they are. */
static bool fits(
    struct parse *p, const struct op *op, char **text, int n, struct insn *to)
{
    bool result = true;
    int at = 0;
    to->n_results = to->n_sources = 0;
    for (const char *c = op->signature; *c; c++) {
        if (*c == '=') {
            result = false;
            continue;
        }
        if (*c == '|') { /* the next one may be left out */
            c++;
            char type;
            if (at >= n || find_register(p, text[at], &type) < 0 || type != *c)
                continue;
        }
        int unit = at < n ? operand(p, text[at++], *c, result) : -1;
        if (unit < 0)
            return false;
        if (result)
            to->result[to->n_results++] = unit;
        else
            to->source[to->n_sources++] = unit;
    }
    return at == n;
}

static bool decode_row(
    struct parse *p, const char *name, char **text, int n, struct insn *to, bool *known)
{
    static const struct op *const tables[] = {
        ptx_int_ops, ptx_float_ops, ptx_convert_ops, ptx_warp_ops};
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const struct op *op = tables[t]; op->text; op++) {
            if (strcmp(op->text, name) != 0)
                continue;
            *known = true;
            if (!fits(p, op, text, n, to))
                continue;
            to->run = op->run;
            to->kind = (uint8_t)op->kind;
            return true;
        }
    return false;
}

/* ---- memory ---- */

/* [%rd1+16], [%r2], [name+4], [name] */
static bool address(struct parse *p, char *text, struct insn *to)
{
    size_t n = strlen(text);
    char found = '\0';
    if (n < 3 || text[0] != '[' || text[n - 1] != ']')
        return false;
    text[n - 1] = '\0';
    char *base = text + 1, *plus = strchr(base, '+');
    if (plus) {
        *plus = '\0';
        to->offset = strtoll(plus + 1, NULL, 0);
    }
    int unit = find_register(p, base, &found);
    const struct symbol *s = unit < 0 ? find_symbol(p, base) : NULL;
    if (s && s->space == PARAM && to->space == PARAM) {
        if (to->offset < 0 ||
            (size_t)to->offset + (size_t)to->width * to->vector > s->bytes) {
            ptx_no(p, "it reads %d bytes at %lld of a parameter of %zu",
                to->width * to->vector, (long long)to->offset, s->bytes);
            return false;
        }
        to->offset += (int64_t)s->at;
        to->n_sources = 0;
        return true;
    }
    if (s && s->space == SHARED && to->space == SHARED) {
        unit = constant(p, s->at, 'd', s->at == PTX_DYNAMIC);
        found = 'd';
    }
    to->source[0] = unit;
    to->n_sources = 1;
    to->narrow = found == 'r';
    return unit >= 0 && (found == 'd' || (found == 'r' && to->space == SHARED));
}

/* ld.SPACE[.nc][.vN].TYPE, st. the same: false where it is none of these. */
static bool memory_opcode(const char *name, struct insn *to, bool *load)
{
    static const char *const spaces[] = {".global", ".shared", ".param"};
    *load = strncmp(name, "ld", 2) == 0;
    if (!*load && strncmp(name, "st", 2) != 0)
        return false;
    const char *at = name + 2;
    int space = -1;
    for (int i = 0; i < 3; i++)
        if (strncmp(at, spaces[i], strlen(spaces[i])) == 0)
            space = i;
    if (space < 0)
        return false;
    at += strlen(spaces[space]);
    if (*load && strncmp(at, ".nc", 3) == 0)
        at += 3;
    to->space = (uint8_t)space;
    to->vector = 1;
    if (at[0] == '.' && at[1] == 'v' && (at[2] == '2' || at[2] == '4')) {
        to->vector = (uint8_t)(at[2] - '0');
        at += 3;
    }
    to->width = (uint8_t)ptx_type_bytes(at);
    to->sign = at[1] == 's';
    return to->width > 0 && strchr(at + 1, '.') == NULL;
}

static bool decode_memory(
    struct parse *p, bool load, char **text, int n, struct insn *to)
{
    int first = load ? 0 : 1, last = load ? n - 1 : n;
    char type = '\0';
    if (last - first != to->vector || (to->space == PARAM && !load))
        return false;
    if (!address(p, text[load ? n - 1 : 0], to))
        return false;
    for (int i = first; i < last; i++) {
        int unit = find_register(p, text[i], &type);
        if (unit < 0 && !load) {
            type = to->width == 8 ? 'd' : 'r';
            unit = operand(p, text[i], type, false);
        }
        if (unit < 0 || type == 'p' || (to->width == 8) > (type == 'd'))
            return false;
        to->wide = type == 'd';
        if (load)
            to->result[to->n_results++] = unit;
        else
            to->source[to->n_sources++] = unit;
    }
    to->run = to->space == PARAM ? ptx_load_param : load ? ptx_load : ptx_store;
    return true;
}

/* ---- instructions ---- */

static bool guard(struct parse *p, char **text, struct insn *to)
{
    char type = '\0';
    to->guard = -1;
    if (**text != '@')
        return true;
    char *name = *text + 1 + ((*text)[1] == '!');
    size_t n = strcspn(name, " \t");
    to->guard_negated = (*text)[1] == '!';
    *text = name + n + strspn(name + n, " \t");
    name[n] = '\0';
    to->guard = find_register(p, name, &type);
    return to->guard >= 0 && type == 'p';
}

static bool decode_jump(
    struct parse *p, const char *name, char **text, int n, struct insn *to)
{
    bool jump = strcmp(name, "bra") == 0 || strcmp(name, "bra.uni") == 0;
    if (jump && n == 1) {
        to->kind = BRANCH;
        p->jumps = ptx_more(p->jumps, p->n_jumps, sizeof *p->jumps);
        p->jumps[p->n_jumps++] = (struct label){text[0], p->kernel->n_code};
        return true;
    }
    to->kind = END;
    return !jump && n == 0 && (strcmp(name, "ret") == 0 || strcmp(name, "exit") == 0);
}

void ptx_parse_insn(struct parse *p, char *text)
{
    struct ptx_kernel *k = p->kernel;
    struct insn in = {.line = p->line, .file = p->file, .source_line = p->source_line};
    char *operands[MAX_OPERANDS];
    bool load, known = false;
    if (!guard(p, &text, &in)) {
        ptx_no(p, "a guard that is no predicate: %s", text);
        return;
    }
    char *name = text, *rest = text + strcspn(text, " \t");
    if (*rest)
        *rest++ = '\0';
    char shown[96];
    strncpy(shown, rest, sizeof shown - 1);
    shown[sizeof shown - 1] = '\0';
    int n = cut(rest, operands, MAX_OPERANDS);
    in.text = name;
    bool done =
        memory_opcode(name, &in, &load)
            ? (known = true, decode_memory(p, load, operands, n, &in))
            : decode_jump(p, name, operands, n, &in) ||
                  (in.kind = PLAIN, decode_row(p, name, operands, n, &in, &known));
    if (!done) {
        ptx_no(p,
            known ? "%s with operands that do not fit: %s" : "unknown opcode %s %s",
            name, shown);
        return;
    }
    k->code = ptx_more(k->code, k->n_code, sizeof *k->code);
    k->code[k->n_code++] = in;
}

void ptx_resolve(struct parse *p)
{
    struct ptx_kernel *k = p->kernel;
    for (int i = 0; i < p->n_jumps; i++) {
        int target = -1;
        for (int j = 0; j < p->n_labels; j++)
            if (strcmp(p->labels[j].name, p->jumps[i].name) == 0)
                target = p->labels[j].pc;
        if (target < 0 || target >= k->n_code)
            ptx_no(p, "a branch to %s, which is nowhere", p->jumps[i].name);
        else
            k->code[p->jumps[i].pc].target = target;
    }
    if (!k->n_code || k->code[k->n_code - 1].kind != END)
        if (!k->n_code || k->code[k->n_code - 1].kind != BRANCH)
            ptx_no(p, "the code has no end");
    for (int i = 0; i < k->n_constants; i++)
        if (k->constants[i].dynamic)
            k->constants[i].value = (k->shared_bytes + 15) / 16 * 16;
    k->seen = calloc((size_t)k->n_code + 1, sizeof *k->seen);
    k->executed = calloc(1, sizeof *k->executed);
    if (!k->seen || !k->executed)
        abort();
}
