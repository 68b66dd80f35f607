/* SPDX-License-Identifier: Apache-2.0
 * thaw help: the commands, one command, and from the same tables the man page
 * (thaw help --man) and the completion (thaw help --completion bash). */
#include "command.h"

#include <stdio.h>
#include <string.h>

enum { TEXT_COLUMN = 26, LINE_WIDTH = 88 };

/* In the order in which they are shown; others follow. */
static const char *const order[] = {"train", "resume", "eval", "predict", "bench",
    "inspect", "convert", "list", "doctor", "help"};

enum { N_ORDER = sizeof order / sizeof order[0] };

static const struct th_command *command_at(int i)
{
    if (i < N_ORDER)
        return th_command_find(order[i]);
    for (int c = 0, other = N_ORDER; th_command_list[c]; c++) {
        bool shown = false;
        for (int k = 0; k < N_ORDER; k++)
            shown = shown || !strcmp(order[k], th_command_list[c]->name);
        if (!shown && other++ == i)
            return th_command_list[c];
    }
    return NULL;
}

/* ---- --help ---- */

/* `text` from column `at` on, wrapped, later lines indented to TEXT_COLUMN. */
static void print_wrapped(const char *text, int at)
{
    while (*text) {
        int word = (int)strcspn(text, " ");
        if (at > TEXT_COLUMN && at + 1 + word > LINE_WIDTH) {
            printf("\n%*s", TEXT_COLUMN, "");
            at = TEXT_COLUMN;
        } else if (at > TEXT_COLUMN) {
            putchar(' ');
            at++;
        }
        printf("%.*s", word, text);
        at += word;
        text += word;
        text += strspn(text, " ");
    }
}

/* "--lr X", as --help, man page and completion call it. */
static void option_form(const thaw_option *o, char form[128])
{
    const char *dash = !strcmp(o->name, "out") ? "-o, --" : "--";
    const char *value = o->choices ? o->choices : o->value;
    snprintf(
        form, 128, "%s%s%s%s", dash, o->name, value ? " " : "", value ? value : "");
}

static void print_option(const thaw_option *o)
{
    char form[128], text[512];
    option_form(o, form);
    bool fits = strlen(form) + 2 < TEXT_COLUMN - 1;
    snprintf(text, sizeof text, "%s%s%s%s", o->help,
        o->default_value ? " (default " : "", o->default_value ? o->default_value : "",
        o->default_value ? ")" : "");
    printf("  %-*s", TEXT_COLUMN - 2, form);
    if (!fits)
        printf("\n%*s", TEXT_COLUMN, "");
    print_wrapped(text, TEXT_COLUMN);
    putchar('\n');
}

static void print_command_help(const struct th_command *c)
{
    size_t n = 0;
    const thaw_option *table = thaw_option_table(&n);
    printf("usage: thaw %s %s\n\n%s\n", c->name, c->usage, c->about);
    if (c->details)
        printf("\n%s", c->details);
    if (c->bit)
        puts("\noptions:");
    for (size_t i = 0; i < n; i++)
        if (table[i].commands & c->bit)
            print_option(&table[i]);
}

void th_print_help(const struct th_command *c)
{
    if (c) {
        print_command_help(c);
        return;
    }
    puts("usage: thaw COMMAND ...\n\nTransfer learning for images: fine-tune a "
         "pretrained "
         "network on a folder of\nphotographs, with the layers you choose thawed and "
         "the "
         "rest proven frozen.\n");
    for (int i = 0; (c = command_at(i)); i++)
        printf("  %-8s  %s\n", c->name, c->about);
    puts("\nthaw COMMAND --help shows a command's options.\n\n"
         "  thaw train flowers/ -o run --weights resnet18-f37072fd.pth\n"
         "  thaw predict run photo.jpg");
}

/* ---- The man page ---- */

/* Text with roff's special letters escaped. */
static void roff(const char *text)
{
    bool start = true;
    for (; *text; text++) {
        if (start && (*text == '.' || *text == '\''))
            fputs("\\&", stdout);
        if (*text == '-')
            fputs("\\-", stdout);
        else if (*text == '\\')
            fputs("\\e", stdout);
        else
            putchar(*text);
        start = *text == '\n';
    }
}

static void man_command(const struct th_command *c)
{
    fputs(".TP\n.B thaw ", stdout);
    roff(c->name);
    fputs("\n", stdout);
    roff(c->usage);
    fputs("\n.br\n", stdout);
    roff(c->about);
    fputs(".\n", stdout);
    if (c->details)
        roff(c->details);
}

static void man_option(const thaw_option *o)
{
    char form[128];
    option_form(o, form);
    fputs(".TP\n.B ", stdout);
    roff(form);
    putchar('\n');
    roff(o->help);
    if (o->default_value) {
        fputs(" (default ", stdout);
        roff(o->default_value);
        putchar(')');
    }
    fputs("\n(", stdout);
    bool first = true;
    for (int i = 0; command_at(i); i++) {
        if (!(command_at(i)->bit & o->commands))
            continue;
        printf("%s%s", first ? "" : ", ", command_at(i)->name);
        first = false;
    }
    fputs(")\n", stdout);
}

static void print_man(void)
{
    size_t n = 0;
    const thaw_option *table = thaw_option_table(&n);
    printf(
        ".TH THAW 1 \"\" \"thaw %s\"\n.SH NAME\nthaw \\- transfer learning for images\n"
        ".SH SYNOPSIS\n.B thaw\n.I COMMAND\n[\\fIoption\\fR ...]\n.SH COMMANDS\n",
        thaw_version());
    for (int i = 0; command_at(i); i++)
        man_command(command_at(i));
    puts(".SH OPTIONS\n\\fB\\-\\-option value\\fR and \\fB\\-\\-option=value\\fR both "
         "work.");
    for (size_t i = 0; i < n; i++)
        if (table[i].commands)
            man_option(&table[i]);
    puts(".SH EXIT STATUS\n"
         "0 success; 1 failure; 2 usage: an option, name or command that does not\n"
         "exist, an output that does; 3 bad data or weights: what a file holds; 4\n"
         "diverged: the loss is no longer finite; 5 a file that was named cannot be\n"
         "opened, or reading or writing failed, or the disk is full; 6 out of memory;\n"
         "129, 130, 143 stopped by SIGHUP, SIGINT, SIGTERM with the run saved.\n"
         ".SH ENVIRONMENT\n.TP\n.B THAW_WEIGHTS\nweights file, or a folder "
         "with BACKBONE.h5, when \\-\\-weights is not given\n"
         ".TP\n.B NO_COLOR\nif set and not empty, no colours");
}

/* ---- Completion ---- */

static void print_bash(void)
{
    size_t n = 0;
    const thaw_option *table = thaw_option_table(&n);
    fputs(
        "# Generated by: thaw help --completion bash\n_thaw()\n{\n"
        "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
        "    local options=\"\"\n"
        "    if [ \"$COMP_CWORD\" = 1 ]; then\n"
        "        COMPREPLY=($(compgen -W \"",
        stdout);
    for (int i = 0; command_at(i); i++)
        printf("%s%s", i ? " " : "", command_at(i)->name);
    fputs("\" -- \"$word\"))\n        return\n    fi\n    case $before in\n", stdout);
    for (size_t i = 0; i < n; i++) {
        if (!table[i].choices)
            continue;
        printf(
            "    --%s)\n        local choices='%s'\n", table[i].name, table[i].choices);
        puts("        COMPREPLY=($(compgen -W \"${choices//|/ }\" -- \"$word\"))\n"
             "        return ;;");
    }
    puts("    esac\n    case ${COMP_WORDS[1]} in");
    for (int c = 0; command_at(c); c++) {
        printf("    %s) options=\"--help", command_at(c)->name);
        for (size_t i = 0; i < n; i++)
            if (table[i].commands & command_at(c)->bit)
                printf(" --%s", table[i].name);
        puts("\" ;;");
    }
    puts("    esac\n    if [[ $word == -* ]]; then\n"
         "        COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
         "    else\n        COMPREPLY=($(compgen -f -- \"$word\"))\n    fi\n}\n"
         "complete -o filenames -F _thaw thaw");
}

static int run(struct th_call *call)
{
    const char *first = call->n_args ? call->args[0] : NULL;
    if (!first || !strcmp(first, "--help") || !strcmp(first, "-h")) {
        th_print_help(NULL);
        return 0;
    }
    if (!strcmp(first, "--man")) {
        print_man();
        return 0;
    }
    if (!strcmp(first, "--completion")) {
        if (call->n_args < 2 || strcmp(call->args[1], "bash"))
            return th_usage("completion is made for bash: thaw help --completion bash");
        print_bash();
        return 0;
    }
    const struct th_command *c = th_command_find(first);
    if (!c)
        return th_usage("no help on '%s'; see: thaw help", first);
    th_print_help(c);
    return 0;
}

const struct th_command th_command_help = {
    .name = "help",
    .usage = "[COMMAND]",
    .about = "the commands, or the options of one",
    .details = NULL,
    .bit = 0,
    .least = 0,
    .most = 2,
    .raw = true,
    .run = run,
};
