/* SPDX-License-Identifier: Apache-2.0
 * Owns the way from YAML's events to data.yaml. Scalars are texts: what they mean is decided
 * here, not by YAML's rules for plain words. */
#include "yolo_yaml.h"

#include "error.h"
#include "file.h"
#include "mem.h"

#include <stdlib.h>
#include <string.h>

#include <yaml.h>

enum { MAX_BYTES = 1 << 20, MAX_LEVELS = 8, MAX_CLASSES = 1 << 16 };

struct reader {
    yaml_parser_t yaml;
    yaml_event_t event; /* the one looked at */
    bool has_event;
    const char *path;
    int depth;
};

static thaw_status refuse(const struct reader *r, const char *why)
{
    size_t line = r->has_event ? r->event.start_mark.line : r->yaml.problem_mark.line;
    return th_fail(THAW_E_DATA, "%s, line %zu: %s", r->path, line + 1, why);
}

/* The next event into r->event. */
static thaw_status next(struct reader *r)
{
    if (r->has_event)
        yaml_event_delete(&r->event);
    r->has_event = yaml_parser_parse(&r->yaml, &r->event) != 0;
    if (!r->has_event && r->yaml.error == YAML_MEMORY_ERROR)
        return th_fail(THAW_E_MEMORY, "%s: out of memory", r->path);
    if (!r->has_event)
        return refuse(r, r->yaml.problem ? r->yaml.problem : "not YAML");
    switch (r->event.type) {
    case YAML_ALIAS_EVENT:
        return refuse(r, "an alias, which data.yaml has no use for; write it out");
    case YAML_MAPPING_START_EVENT:
    case YAML_SEQUENCE_START_EVENT:
        return ++r->depth > MAX_LEVELS ? refuse(r, "more than 8 levels") : THAW_OK;
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        r->depth--;
        return THAW_OK;
    default:
        return THAW_OK;
    }
}

static const char *scalar(const struct reader *r)
{
    return r->event.type == YAML_SCALAR_EVENT ? (const char *)r->event.data.scalar.value
                                              : NULL;
}

/* Past the value that begins with the event looked at. */
static thaw_status skip(struct reader *r)
{
    bool nested = r->event.type == YAML_MAPPING_START_EVENT ||
                  r->event.type == YAML_SEQUENCE_START_EVENT;
    for (int outside = r->depth - 1; nested && r->depth > outside;)
        TRY(next(r));
    return THAW_OK;
}

/* A text, or a list of texts; an empty text is none. */
static thaw_status read_texts(struct reader *r, struct th_names *out)
{
    const char *text = scalar(r);
    if (text)
        return *text ? th_names_add(out, text) : THAW_OK;
    if (r->event.type != YAML_SEQUENCE_START_EVENT)
        return refuse(r, "a text or a list of texts is wanted here");
    for (;;) {
        TRY(next(r));
        if (r->event.type == YAML_SEQUENCE_END_EVENT)
            return THAW_OK;
        text = scalar(r);
        if (!text)
            return refuse(r, "a text is wanted here");
        TRY(th_names_add(out, text));
    }
}

/* number: name, in any order, from 0 without gaps. */
static thaw_status read_numbered(struct reader *r, struct th_names *out)
{
    for (;;) {
        TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT)
            break;
        char *end;
        const char *key = scalar(r);
        long number = key ? strtol(key, &end, 10) : -1;
        if (!key || end == key || *end || number < 0 || number >= MAX_CLASSES)
            return refuse(r, "a class's number is wanted here");
        while (out->n <= number)
            TRY(th_names_add(out, ""));
        TRY(next(r));
        if (!scalar(r) || !*scalar(r) || *out->name[number])
            return refuse(r, "a class's name is wanted here, and each number once");
        char *name = th_strdup(scalar(r));
        if (!name)
            return THAW_E_MEMORY;
        th_free(out->name[number]);
        out->name[number] = name;
    }
    for (int64_t i = 0; i < out->n; i++)
        if (!*out->name[i])
            return refuse(r, "the names above have gaps in their numbers");
    return THAW_OK;
}

static thaw_status read_names(struct reader *r, struct th_names *out)
{
    if (out->n)
        return refuse(r, "names for the second time");
    if (r->event.type == YAML_MAPPING_START_EVENT)
        return read_numbered(r, out);
    if (r->event.type != YAML_SEQUENCE_START_EVENT)
        return refuse(r, "names must be a list, or number: name");
    TRY(read_texts(r, out));
    for (int64_t i = 0; i < out->n; i++)
        if (!*out->name[i])
            return refuse(r, "an empty name in the list that ends here");
    return THAW_OK;
}

/* The value of a key of the file; the event looked at is where it begins. */
static thaw_status read_value(struct reader *r, const char *key, struct th_yolo *out)
{
    static const char *const parts[] = {"train", "val", "test"};
    if (strcmp(key, "names") == 0)
        return read_names(r, &out->names);
    if (strcmp(key, "path") == 0) {
        if (!scalar(r))
            return refuse(r, "a text is wanted here");
        th_free(out->path);
        out->path = th_strdup(scalar(r));
        return out->path ? THAW_OK : THAW_E_MEMORY;
    }
    for (int i = 0; i < 3; i++)
        if (strcmp(key, parts[i]) == 0)
            return read_texts(r, &out->part[i]);
    return skip(r);
}

static thaw_status read_file(struct reader *r, struct th_yolo *out)
{
    do
        TRY(next(r));
    while (r->event.type == YAML_STREAM_START_EVENT ||
           r->event.type == YAML_DOCUMENT_START_EVENT);
    if (r->event.type != YAML_MAPPING_START_EVENT)
        return refuse(r, "not a data.yaml: keys such as train: and names: are wanted");
    for (;;) {
        char key[16] = "";
        TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT)
            return THAW_OK;
        if (!scalar(r)) {
            TRY(skip(r));
        } else {
            strncpy(key, scalar(r), sizeof key - 1); /* a cut one is none of ours */
        }
        TRY(next(r));
        TRY(read_value(r, key, out));
    }
}

thaw_status th_yolo_read(const char *path, struct th_yolo *out)
{
    unsigned char *bytes;
    size_t n;
    struct reader r = {.path = path};
    *out = (struct th_yolo){0};
    TRY(th_file_read(path, MAX_BYTES, &bytes, &n));
    thaw_status status = THAW_E_MEMORY;
    if (yaml_parser_initialize(&r.yaml)) {
        yaml_parser_set_input_string(&r.yaml, bytes, n);
        status = read_file(&r, out);
        if (r.has_event)
            yaml_event_delete(&r.event);
        yaml_parser_delete(&r.yaml);
    } else {
        th_fail(THAW_E_MEMORY, "%s: out of memory", path);
    }
    th_free(bytes);
    return status;
}

void th_yolo_release(struct th_yolo *yolo)
{
    th_free(yolo->path);
    for (int i = 0; i < 3; i++)
        th_names_release(&yolo->part[i]);
    th_names_release(&yolo->names);
    *yolo = (struct th_yolo){0};
}
