/* SPDX-License-Identifier: Apache-2.0
 * Fine-tune a model on a folder of images, then classify one of them.
 *
 *     finetune_folder FOLDER WEIGHTS RUN PHOTO [OPTION=VALUE...]
 *     finetune_folder flowers resnet18.pth run daisy.jpg epochs=5 thaw=stage4,head
 *
 * Build: cc finetune_folder.c $(pkg-config --cflags --libs thaw) */
#include <stdio.h>
#include <string.h>
#include <thaw.h>

static void on_line(void *context, const char *topic, const char *text)
{
    (void)context;
    printf("%-9s %s\n", topic, text);
}

static void on_prediction(void *context, const thaw_prediction *p)
{
    thaw_model *m = context;
    if (p->error)
        printf("%s: %s\n", p->file, p->error);
    else
        printf("%s: %s %.1f %%\n", p->file, thaw_model_class(m, p->best),
            100.0 * (double)p->probabilities[p->best]);
}

/* "name=value" into the options. */
static thaw_status set_pair(thaw_options *o, const char *pair)
{
    char name[64];
    size_t length = strcspn(pair, "=");
    if (!pair[length] || length >= sizeof name)
        return THAW_E_USAGE;
    memcpy(name, pair, length);
    name[length] = 0;
    return thaw_options_set(o, name, pair + length + 1);
}

static thaw_status train(const thaw_options *o)
{
    thaw_events events = {.line = on_line};
    thaw_result result = {0};
    thaw_trainer *t = NULL;
    thaw_status status = thaw_trainer_new(o, &events, &t);
    if (status == THAW_OK)
        status = thaw_trainer_run(t, &result);
    thaw_trainer_free(t);
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fputs("usage: finetune_folder FOLDER WEIGHTS RUN PHOTO [OPTION=VALUE...]\n",
            stderr);
        return 2;
    }
    thaw_options *o = NULL;
    thaw_model *m = NULL;
    thaw_status status = thaw_options_new(&o);
    const char *names[] = {"data", "weights", "out"};
    for (int i = 0; i < 3 && status == THAW_OK; i++)
        status = thaw_options_set(o, names[i], argv[1 + i]);
    for (int i = 5; i < argc && status == THAW_OK; i++)
        status = set_pair(o, argv[i]);
    if (status == THAW_OK)
        status = train(o);
    if (status == THAW_OK)
        status = thaw_model_open(argv[3], NULL, &m);
    if (status == THAW_OK)
        status = thaw_model_predict(m, argv[4], on_prediction, m);
    if (status != THAW_OK)
        fprintf(stderr, "%s\n", thaw_error());
    thaw_model_free(m);
    thaw_options_free(o);
    return -(int)status;
}
