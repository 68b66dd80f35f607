/* SPDX-License-Identifier: Apache-2.0
 * Owns the form of tables of convolution algorithms:
 *
 *     {"thaw_conv_table":1, ..., "convolutions":[
 *      {"op":"conv_dx","channels":64,"height":56,"width":56,"outputs":64,"kernel":[3,3],
 *       "stride":[1,1],"dilation":[1,1],"pad":[1,1,1,1],"groups":1,
 *       "algorithm":"winograd", ...}, ...]}
 *
 * Other members are for people. Whether a kernel can do what a row says is the kernel's
 * business: it falls back to the direct one. */
#include "conv_table.h"

#include "file.h"
#include "mem.h"
#include "rng.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MOST_BYTES = 1 << 24, MOST = 1 << 24 };

static const enum th_op ops[] = {TH_OP_conv, TH_OP_conv_dx, TH_OP_conv_dw};
enum { N_OPS = sizeof ops / sizeof *ops };

/* Reading --------------------------------------------------------------------------- */

/* A row being read: the first thing wrong with it. */
struct reader {
    const struct th_json *row;
    const char *wrong; /* a member's name; NULL: nothing */
};

static int64_t whole(
    struct reader *r, const struct th_json *j, const char *key, int least)
{
    if (j && j->kind == TH_JSON_NUMBER && j->is_whole && j->whole >= least &&
        j->whole <= MOST)
        return j->whole;
    r->wrong = r->wrong ? r->wrong : key;
    return 0;
}

static int64_t member(struct reader *r, const char *key)
{
    return whole(r, th_json_get(r->row, key), key, 1);
}

static void members(struct reader *r, const char *key, int n, int least, int *to)
{
    const struct th_json *list = th_json_get(r->row, key);
    bool fits = list && list->kind == TH_JSON_ARRAY && list->n == (size_t)n;
    const struct th_json *item = fits ? list->first : NULL;
    for (int i = 0; i < n; i++, item = item ? item->next : NULL)
        to[i] = (int)whole(r, item, key, least);
}

/* Which of n names a member has. */
static int name_of(struct reader *r, const char *key, const char *(*name)(int), int n)
{
    const struct th_json *text = th_json_get(r->row, key);
    for (int i = 0; text && text->kind == TH_JSON_STRING && i < n; i++)
        if (!strcmp(text->text, name(i)))
            return i;
    r->wrong = r->wrong ? r->wrong : key;
    return 0;
}

static const char *op_name(int i)
{
    return th_op_rule(ops[i])->name;
}

static const char *algorithm_name(int i)
{
    return th_conv_algorithm_name((enum th_conv_algorithm)i);
}

static const char *read_row(const struct th_json *json, struct th_conv_choice *row)
{
    struct reader r = {.row = json};
    int kernel[2];
    *row = (struct th_conv_choice){.op = ops[name_of(&r, "op", op_name, N_OPS)],
        .c = member(&r, "channels"),
        .h = member(&r, "height"),
        .w = member(&r, "width"),
        .o = member(&r, "outputs")};
    members(&r, "kernel", 2, 1, kernel);
    row->kh = kernel[0];
    row->kw = kernel[1];
    members(&r, "stride", 2, 1, row->attr.stride);
    members(&r, "dilation", 2, 1, row->attr.dilation);
    members(&r, "pad", 4, 0, row->attr.pad);
    row->attr.groups = (int)member(&r, "groups");
    row->algorithm = (enum th_conv_algorithm)name_of(
        &r, "algorithm", algorithm_name, TH_CONV_ALGORITHMS);
    return r.wrong;
}

static thaw_status read_rows(
    struct th_conv_table *t, const struct th_json *root, const char *path)
{
    const struct th_json *version = th_json_get(root, TH_CONV_TABLE_KEY);
    const struct th_json *rows = th_json_get(root, TH_CONV_TABLE_ROWS);
    if (!version || version->kind != TH_JSON_NUMBER || !version->is_whole ||
        version->whole != TH_CONV_TABLE_VERSION || !rows || rows->kind != TH_JSON_ARRAY)
        return th_fail(THAW_E_DATA,
            "%s: not a table of convolutions (\"" TH_CONV_TABLE_KEY
            "\":%d): make one with thaw tune",
            path, TH_CONV_TABLE_VERSION);
    t->rows = th_alloc(rows->n, sizeof *t->rows);
    if (!t->rows)
        return THAW_E_MEMORY;
    for (const struct th_json *j = rows->first; j; j = j->next) {
        const char *wrong = read_row(j, &t->rows[t->n++]);
        if (wrong)
            return th_fail(THAW_E_DATA,
                "%s: convolution %zu: \"%s\" is missing or has no sense: make the "
                "table again with thaw tune",
                path, t->n, wrong);
    }
    return THAW_OK;
}

thaw_status th_conv_table_read(struct th_conv_table *t, const char *path)
{
    unsigned char *bytes = NULL;
    size_t n = 0;
    struct th_json *root = NULL;
    *t = (struct th_conv_table){.hash = "built-in"};
    if (!path || !strcmp(path, t->hash))
        return THAW_OK;
    TRY(th_file_read(path, MOST_BYTES, &bytes, &n));
    snprintf(t->hash, sizeof t->hash, "%016" PRIx64,
        th_rng_mix_name(0, (const char *)bytes));
    thaw_status status = th_json_parse((const char *)bytes, n, path, &root);
    if (status == THAW_OK)
        status = read_rows(t, root, path);
    th_json_free(root);
    th_free(bytes);
    return status;
}

void th_conv_table_release(struct th_conv_table *t)
{
    th_free(t->rows);
    *t = (struct th_conv_table){.rows = NULL};
}

/* Writing --------------------------------------------------------------------------- */

static void put_list(struct th_json_out *o, const char *key, const int *list, int n)
{
    th_json_key(o, key);
    th_json_open(o, '[');
    for (int i = 0; i < n; i++)
        th_json_whole(o, list[i]);
    th_json_close(o, ']');
}

void th_conv_table_put(struct th_json_out *o, const struct th_conv_choice *row)
{
    const int kernel[2] = {(int)row->kh, (int)row->kw};
    th_json_put_string(o, "op", th_op_rule(row->op)->name);
    th_json_put_whole(o, "channels", row->c);
    th_json_put_whole(o, "height", row->h);
    th_json_put_whole(o, "width", row->w);
    th_json_put_whole(o, "outputs", row->o);
    put_list(o, "kernel", kernel, 2);
    put_list(o, "stride", row->attr.stride, 2);
    put_list(o, "dilation", row->attr.dilation, 2);
    put_list(o, "pad", row->attr.pad, 4);
    th_json_put_whole(o, "groups", row->attr.groups);
    th_json_put_string(o, "algorithm", th_conv_algorithm_name(row->algorithm));
}
