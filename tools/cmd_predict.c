/* SPDX-License-Identifier: Apache-2.0
 * thaw predict: the class of images. */
#include "command.h"
#include "terminal.h"

#include <stddef.h>

struct output {
    const thaw_model *model;
    bool json;
    bool any_bad;        /* an image could not be read */
    const char *adapter; /* of several, this one; else NULL */
};

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

static void print_json(
    const thaw_model *m, const char *adapter, const thaw_prediction *p)
{
    int n = thaw_model_n_classes(m);
    fputs("{\"file\":", stdout);
    th_json_string(stdout, p->file);
    if (adapter) {
        fputs(",\"adapter\":", stdout);
        th_json_string(stdout, adapter);
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

static void print_text(
    const thaw_model *m, const char *adapter, const thaw_prediction *p)
{
    th_print_text(stdout, p->file);
    if (adapter) {
        fputs(" (", stdout);
        th_print_text(stdout, adapter);
        putchar(')');
    }
    putchar(':');
    if (p->labels)
        print_many(m, p);
    else
        print_one(m, p);
    putchar('\n');
}

static void on_prediction(void *context, const thaw_prediction *p)
{
    struct output *out = context;
    if (p->error) {
        fputs("thaw: ", stderr);
        th_print_text(stderr, p->file);
        fputs(": ", stderr);
        th_print_text(stderr, p->error);
        putc('\n', stderr);
        out->any_bad = true;
    } else if (out->json) {
        print_json(out->model, out->adapter, p);
    } else {
        print_text(out->model, out->adapter, p);
    }
    fflush(stdout);
}

static int run(struct th_call *call)
{
    struct th_terminal terminal;
    th_terminal_init(&terminal, call->options);
    thaw_model *m = NULL;
    int code = th_report(thaw_model_open(call->args[0], call->options, &m));
    struct output out = {.model = m, .json = terminal.json};
    int n = m ? thaw_model_n_adapters(m) : 0;
    for (int a = 0; m && a < (n > 1 ? n : 1); a++) {
        int failed = n > 1 ? th_report(thaw_model_use(m, a)) : 0;
        out.adapter = n > 1 ? thaw_model_adapter(m, a) : NULL;
        for (int i = 1; !failed && i < call->n_args; i++) {
            int bad =
                th_report(thaw_model_predict(m, call->args[i], on_prediction, &out));
            code = code ? code : bad;
        }
        code = code ? code : failed;
    }
    thaw_model_free(m);
    return code || !out.any_bad ? code : -THAW_E_DATA;
}

const struct th_command th_command_predict = {
    .name = "predict",
    .usage = "MODEL IMAGE... [options]",
    .about = "the class of images",
    .details =
        "MODEL is a model file, a weights file or a run folder (its best.h5). IMAGE\n"
        "may be a folder. --json prints one object a line: file, class,\n"
        "probability, probabilities and logits in class order, and of a model with\n"
        "any number of classes an image labels, those from --threshold on. An image "
        "that\n"
        "cannot be read is named on stderr, the others are done, the exit code is\n"
        "3. With --adapter MODEL is the base; of several adapters each one answers\n"
        "in turn, and is named.\n",
    .bit = THAW_CMD_PREDICT,
    .least = 2,
    .most = -1,
    .run = run,
};
