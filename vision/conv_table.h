/* SPDX-License-Identifier: Apache-2.0
 * A table of convolution algorithms as a file: what `thaw tune` measured on a machine,
 * and `--conv-table` puts before the built-in one. */
#ifndef TH_CONV_TABLE_H
#define TH_CONV_TABLE_H

#include "backend.h"
#include "json.h"

enum { TH_CONV_TABLE_HASH = 24 };

struct th_conv_table {
    struct th_conv_choice *rows;
    size_t n;
    char hash[TH_CONV_TABLE_HASH]; /* of the file's text; "built-in" */
};

/* NULL and "built-in" give no rows. THAW_E_IO where the file cannot be read, THAW_E_DATA
 * where it is no table, with the row. Release after failure, too. */
thaw_status th_conv_table_read(struct th_conv_table *t, const char *path);
void th_conv_table_release(struct th_conv_table *t);

/* The members of a row, into an object that is open. */
void th_conv_table_put(struct th_json_out *o, const struct th_conv_choice *row);

/* What th_conv_table_read wants of the file's first member. */
#define TH_CONV_TABLE_KEY "thaw_conv_table"
#define TH_CONV_TABLE_ROWS "convolutions"
enum { TH_CONV_TABLE_VERSION = 1 };

#endif
