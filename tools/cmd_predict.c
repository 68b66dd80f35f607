/* SPDX-License-Identifier: Apache-2.0
 * thaw predict: the class of images. */
#include "command.h"
#include "terminal.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_MODELS = 64 };

/* MODEL,MODEL...: those whose backbones are the same run as one. */
struct models {
    int n;
    thaw_model *model[MOST_MODELS];
    char *name[MOST_MODELS];  /* as typed */
    bool shares[MOST_MODELS]; /* it answers with one before it */
};

struct output {
    const struct models *models;
    bool json;
    bool any_bad;               /* an image could not be read */
    const char *adapter;        /* of several, this one; else NULL */
    const char *draw;           /* folder of pictures; NULL: none */
    thaw_coco_results *results; /* NULL: not wanted */
    thaw_status drawn;          /* the first failure */
};

/* Of several models the one that answers; else NULL. */
static const char *model_name(const struct output *out, const thaw_model *m)
{
    for (int i = 0; out->models->n > 1 && i < out->models->n; i++)
        if (out->models->model[i] == m)
            return out->models->name[i];
    return NULL;
}

static void print_floats(const float *x, int n)
{
    for (int i = 0; i < n; i++) {
        fputc(i ? ',' : '[', stdout);
        th_json_real(stdout, (double)x[i]);
    }
    fputc(']', stdout);
}

static void print_labels(const thaw_model *m, const thaw_prediction *p)
{
    fputs(",\"labels\":[", stdout);
    for (int i = 0; i < p->n_labels; i++) {
        fputs(i ? "," : "", stdout);
        th_json_string(stdout, thaw_model_class(m, p->labels[i]));
    }
    putchar(']');
}

static void put_member(const char *key, const char *value)
{
    if (!value)
        return;
    printf(",\"%s\":", key);
    th_json_string(stdout, value);
}

static void print_boxes_json(const thaw_prediction *p)
{
    printf(",\"width\":%d,\"height\":%d,\"boxes\":[", p->width, p->height);
    for (int i = 0; i < p->n_boxes; i++) {
        const thaw_box *b = &p->boxes[i];
        const float corner[4] = {b->x0, b->y0, b->x1, b->y1};
        fputs(i ? ",{\"class\":" : "{\"class\":", stdout);
        th_json_string(stdout, thaw_model_class(p->model, b->class_index));
        fputs(",\"score\":", stdout);
        th_json_real(stdout, (double)b->score);
        fputs(",\"box\":", stdout);
        print_floats(corner, 4);
        putchar('}');
    }
    puts("]}");
}

static void print_json(const struct output *out, const thaw_prediction *p)
{
    const thaw_model *m = p->model;
    int n = thaw_model_n_classes(m);
    fputs("{\"file\":", stdout);
    th_json_string(stdout, p->file);
    put_member("model", model_name(out, m));
    put_member("adapter", out->adapter);
    if (p->boxes) {
        print_boxes_json(p);
        return;
    }
    fputs(",\"class\":", stdout);
    th_json_string(stdout, thaw_model_class(m, p->best));
    fputs(",\"probability\":", stdout);
    th_json_real(stdout, (double)p->probabilities[p->best]);
    fputs(",\"probabilities\":", stdout);
    print_floats(p->probabilities, n);
    fputs(",\"logits\":", stdout);
    print_floats(p->logits, n);
    if (p->labels)
        print_labels(m, p);
    puts("}");
}

/* The most probable class below the pair (limit, before): equal ones in class order. */
static int next_best(const float *x, int n, float limit, int before)
{
    int best = -1;
    for (int i = 0; i < n; i++) {
        bool below = x[i] < limit || (x[i] <= limit && i > before);
        if (below && i != before && (best < 0 || x[i] > x[best]))
            best = i;
    }
    return best;
}

static void print_class(const thaw_model *m, const thaw_prediction *p, int c)
{
    th_print_text(stdout, thaw_model_class(m, c));
    printf(" %.1f %%", 100 * (double)p->probabilities[c]);
}

/* Every class that is there, or that none is. */
static void print_many(const thaw_model *m, const thaw_prediction *p)
{
    for (int i = 0; i < p->n_labels; i++) {
        fputs(i ? ", " : " ", stdout);
        print_class(m, p, p->labels[i]);
    }
    if (p->n_labels)
        return;
    fputs(" none; most likely ", stdout);
    print_class(m, p, p->best);
}

/* The most probable ones. */
static void print_one(const thaw_model *m, const thaw_prediction *p)
{
    enum { SHOWN = 3 };
    static const float least = 0.001f; /* what would print as 0.0 % is left out */
    int n = thaw_model_n_classes(m), c = p->best;
    for (int i = 0; i < SHOWN && c >= 0; i++) {
        float x = p->probabilities[c];
        if (i && x < least)
            break;
        fputs(i ? ", " : " ", stdout);
        print_class(m, p, c);
        c = next_best(p->probabilities, n, x, c);
    }
}

/* A line a box: where, of what, how surely. */
static void print_boxes(const thaw_prediction *p)
{
    if (p->n_boxes == 0)
        fputs(" nothing found", stdout);
    for (int i = 0; i < p->n_boxes; i++) {
        const thaw_box *b = &p->boxes[i];
        fputs("\n    ", stdout);
        th_print_text(stdout, thaw_model_class(p->model, b->class_index));
        printf(" %.1f %% at %.0f,%.0f to %.0f,%.0f", 100 * (double)b->score,
            (double)b->x0, (double)b->y0, (double)b->x1, (double)b->y1);
    }
}

static void print_text(const struct output *out, const thaw_prediction *p)
{
    const thaw_model *m = p->model;
    const char *name = out->adapter ? out->adapter : model_name(out, m);
    th_print_text(stdout, p->file);
    if (name) {
        fputs(" (", stdout);
        th_print_text(stdout, name);
        putchar(')');
    }
    putchar(':');
    if (p->boxes)
        print_boxes(p);
    else if (p->labels)
        print_many(m, p);
    else
        print_one(m, p);
    putchar('\n');
}

/* What goes to files, of images that could be read. */
static void put_files(struct output *out, const thaw_prediction *p)
{
    if (out->results)
        thaw_coco_results_add(out->results, p);
    if (!out->draw || out->drawn != THAW_OK || p->error)
        return;
    out->drawn = thaw_draw(p, out->draw);
    th_report(out->drawn);
}

static void on_prediction(void *context, const thaw_prediction *p)
{
    struct output *out = context;
    put_files(out, p);
    if (p->error) {
        fputs("thaw: ", stderr);
        th_print_text(stderr, p->file);
        fputs(": ", stderr);
        th_print_text(stderr, p->error);
        putc('\n', stderr);
        out->any_bad = true;
    } else if (out->json) {
        print_json(out, p);
    } else {
        print_text(out, p);
    }
    fflush(stdout);
}

/* Let it stand on a backbone that is open; one that fits none has its own, and that is
 * said. */
static int place(struct models *m, int i)
{
    thaw_status status = THAW_OK;
    for (int k = 0; k < i && !m->shares[i]; k++) {
        if (m->shares[k])
            continue;
        status = thaw_model_share(m->model[k], m->model[i]);
        m->shares[i] = status == THAW_OK;
        if (status != THAW_OK && status != THAW_E_DATA)
            return th_report(status);
    }
    if (status != THAW_OK) {
        fputs("model     ", stderr);
        th_print_text(stderr, thaw_error());
        putc('\n', stderr);
    }
    return 0;
}

/* Of the text, at commas; or all of it where that is there. The exit code. */
static int open_models(struct models *m, char *text, const thaw_options *o)
{
    bool one = access(text, F_OK) == 0;
    int code = 0;
    for (char *at = text, *next; at && code == 0; at = next) {
        next = one ? NULL : strchr(at, ',');
        if (next)
            *next++ = '\0';
        if (m->n == MOST_MODELS)
            return th_usage("more than %d models", MOST_MODELS);
        m->name[m->n] = at;
        code = th_report(thaw_model_open(at, o, &m->model[m->n]));
        if (code == 0)
            code = place(m, m->n++);
    }
    return code;
}

/* Every image by one model, and those that share its backbone. */
static int predict_all(const struct th_call *call, thaw_model *m, struct output *out)
{
    int code = 0, n = thaw_model_n_adapters(m);
    for (int a = 0; a < (n > 1 ? n : 1); a++) {
        int failed = n > 1 ? th_report(thaw_model_use(m, a)) : 0;
        out->adapter = n > 1 ? thaw_model_adapter(m, a) : NULL;
        for (int i = 1; !failed && i < call->n_args; i++) {
            int bad =
                th_report(thaw_model_predict(m, call->args[i], on_prediction, out));
            code = code ? code : bad;
        }
        code = code ? code : failed;
    }
    return code;
}

/* The folder, and the results to come. */
static int open_files(struct output *out, const thaw_options *o)
{
    const char *file = thaw_options_get(o, "coco-results");
    out->draw = thaw_options_get(o, "draw");
    for (int i = 0; i < out->models->n && (file || out->draw); i++)
        if (!thaw_model_is_detector(out->models->model[i]))
            return th_usage("%s is no detector: it finds nothing for --%s",
                out->models->name[i], file ? "coco-results" : "draw");
    if (out->draw && mkdir(out->draw, 0777))
        return th_usage(
            "--draw %s: cannot create the folder: %s", out->draw, strerror(errno));
    return file ? th_report(thaw_coco_results_new(file, &out->results)) : 0;
}

static void tell_warning(const thaw_model *m)
{
    const char *warning = thaw_model_warning(m);
    if (!warning)
        return;
    fputs("warning   ", stderr);
    th_print_text(stderr, warning);
    putc('\n', stderr);
}

static int run(struct th_call *call)
{
    struct th_terminal terminal;
    struct models m = {.n = 0};
    th_terminal_init(&terminal, call->options);
    struct output out = {.models = &m, .json = terminal.json};
    int code = open_models(&m, call->args[0], call->options);
    code = code ? code : open_files(&out, call->options);
    bool opened = code == 0;
    for (int i = 0; opened && i < m.n; i++)
        if (!m.shares[i]) {
            int bad = predict_all(call, m.model[i], &out);
            code = code ? code : bad;
            tell_warning(m.model[i]);
        }
    if (opened && out.results) {
        int bad = th_report(thaw_coco_results_write(out.results));
        code = code ? code : bad;
    }
    code = code ? code : -(int)out.drawn;
    thaw_coco_results_free(out.results);
    for (int i = 0; i < m.n; i++)
        thaw_model_free(m.model[i]);
    return code || !out.any_bad ? code : -THAW_E_DATA;
}

const struct th_command th_command_predict = {
    .name = "predict",
    .usage = "MODEL[,MODEL...] IMAGE... [options]",
    .about = "the class of images, or the objects in them",
    .details =
        "MODEL is a model file, a weights file or a run folder (its best.h5). IMAGE\n"
        "may be a folder, or data, as in coco:DIR, of which --split are taken. Of a "
        "detector every box from --threshold on is shown; "
        "--json\n"
        "prints one object a line: file, width, height, boxes (class, score, box as\n"
        "x0, y0, x1, y1); --draw DIR writes the images with the boxes, --coco-results\n"
        "FILE what pycocotools reads. Of a classifier --json prints: file, class,\n"
        "probability, probabilities and logits in class order, and of a model with\n"
        "any number of classes an image labels, those from --threshold on. An image "
        "that\n"
        "cannot be read is named on stderr, the others are done, the exit code is\n"
        "3. Of several models each one answers and is named; those whose backbones "
        "are\n"
        "the same, bit for bit, run as one: the backbone once, then every head. Which\n"
        "do not is said on stderr. With --adapter MODEL is the base; of several "
        "adapters each one answers\n"
        "in turn, and is named.\n",
    .bit = THAW_CMD_PREDICT,
    .least = 2,
    .most = -1,
    .run = run,
};
