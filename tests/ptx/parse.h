/* SPDX-License-Identifier: Apache-2.0
 * Between the two files of the parser: parse.c reads statements, decode.c instructions. */
#ifndef PTX_PARSE_H
#define PTX_PARSE_H

#include "inside.h"

/* Offset of the dynamic part of shared memory: known when the kernel is. */
#define PTX_DYNAMIC SIZE_MAX
/* Of a shared variable of the module: a kernel has it when it names it. */
#define PTX_UNPLACED (SIZE_MAX - 1)

struct symbol { /* a variable: its offset in its space */
    char *name;
    enum space space;
    size_t at, bytes, align;
};

struct registers {
    char *prefix; /* of n registers PREFIX0 ...; n < 0: the name of one */
    int n, first;
    char type; /* letter of a signature */
};

struct label {
    char *name;
    int pc;
};

struct parse {
    struct ptx_module *module;
    struct ptx_kernel *kernel; /* whose head or body is being parsed */
    char *at;
    int line, file, source_line;
    char *why;
    size_t why_size;
    bool failed;
    struct symbol *symbols; /* those of the module first */
    struct registers *registers;
    struct label *labels, *jumps; /* jumps: name of the target of the branch at pc */
    int n_symbols, n_module_symbols, n_registers, n_labels, n_jumps;
};

/* What is not understood; the first is kept. */
void ptx_no(struct parse *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Room for one more than n values. */
void *ptx_more(void *old, int n, size_t size);

size_t ptx_type_bytes(const char *type); /* ".u64": 8; 0: none */

void ptx_define(struct parse *p, const char *name, enum space space, size_t at,
    size_t bytes, size_t align);
/* Room in the kernel's shared memory. */
size_t ptx_place(struct parse *p, size_t bytes, size_t align);
void ptx_define_registers(struct parse *p, char *prefix, const char *type, int n);
void ptx_define_label(struct parse *p, char *name);

/* One statement without its ";". */
void ptx_parse_insn(struct parse *p, char *text);

/* Targets of branches, and where dynamic shared memory starts. */
void ptx_resolve(struct parse *p);

/* The names of a kernel, of all. */
void ptx_forget(struct parse *p);
void ptx_forget_all(struct parse *p);

#endif
