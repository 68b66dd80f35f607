/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: JSON. What was read is written and read again, until the same text comes:
 * at the second time (-0.0 is written as -0, which is the whole number 0). */
#include "fuzz.h"
#include "json.h"

static void write_value(struct th_json_out *o, const struct th_json *v)
{
    switch (v->kind) {
    case TH_JSON_NULL:
        th_json_null(o);
        break;
    case TH_JSON_BOOL:
        th_json_bool(o, v->is_true);
        break;
    case TH_JSON_NUMBER:
        if (v->is_whole)
            th_json_whole(o, v->whole);
        else
            th_json_real(o, v->real);
        break;
    case TH_JSON_STRING:
        th_json_string(o, v->text);
        break;
    case TH_JSON_ARRAY:
    case TH_JSON_OBJECT:
        th_json_open(o, v->kind == TH_JSON_OBJECT ? '{' : '[');
        for (const struct th_json *item = v->first; item; item = item->next) {
            if (v->kind == TH_JSON_OBJECT)
                th_json_key(o, item->key);
            write_value(o, item);
        }
        th_json_close(o, v->kind == TH_JSON_OBJECT ? '}' : ']');
        break;
    }
}

/* The text of the bytes read and written; empty and false where they are no JSON. */
static bool rewrite(const char *bytes, size_t n, struct th_json_out *o)
{
    struct th_json *root = NULL;
    thaw_status status = th_json_parse(bytes, n, "fuzz", &root);
    check_answer(status);
    if (status != THAW_OK)
        return false;
    write_value(o, root);
    th_json_free(root);
    ALWAYS(th_json_out_status(o) == THAW_OK);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct th_json_out o[3] = {{0}, {0}, {0}};
    if (rewrite((const char *)bytes, n, &o[0])) {
        ALWAYS(rewrite(o[0].text, o[0].n, &o[1]));
        ALWAYS(rewrite(o[1].text, o[1].n, &o[2]));
        ALWAYS(o[1].n == o[2].n && memcmp(o[1].text, o[2].text, o[1].n) == 0);
    }
    for (int i = 0; i < 3; i++)
        th_json_out_release(&o[i]);
    return 0;
}
