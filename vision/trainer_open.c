/* SPDX-License-Identifier: Apache-2.0
 * Owns the making of a trainer: data, network and values from a weights file, from a
 * seed, or from a checkpoint. */
#include "trainer.h"

#include "adapter.h"
#include "labels.h"
#include "mem.h"
#include "model_file.h"
#include "options.h"
#include "pretrained.h"
#include "report.h"
#include "run_config.h"

#include <stdio.h>
#include <string.h>

/* ---- Data ---- */

/* What makes sense only where an image has one class. */
static thaw_status check_many(const struct thaw_trainer *t)
{
    if (!t->recipe.balanced)
        return THAW_OK;
    return th_fail(THAW_E_USAGE,
        "--balanced draws images by their class, and these have any number of them: "
        "leave it out; --class-weights makes a rare class count more");
}

/* What a detector does not have. */
static thaw_status check_detector(const struct thaw_trainer *t)
{
    const struct th_recipe *r = &t->recipe;
    const char *what = r->class_weights    ? "class-weights"
                       : r->smoothing > 0  ? "label-smoothing"
                       : r->mix.mixup > 0  ? "mixup"
                       : r->mix.cutmix > 0 ? "cutmix"
                       : r->augment.pad    ? "pad"
                       : r->prefix_int8    ? "prefix int8"
                                           : NULL;
    return what ? th_fail(THAW_E_USAGE, "--%s is for classifiers: leave it out", what)
                : THAW_OK;
}

static thaw_status check_classifier(const struct thaw_trainer *t)
{
    const struct th_augment *a = &t->recipe.augment;
    const char *what = a->iou_crop > 0 ? "iou-crop" : a->mosaic > 0 ? "mosaic" : NULL;
    return what ? th_fail(THAW_E_USAGE, "--%s is for detectors: leave it out", what)
                : THAW_OK;
}

static thaw_status open_data(struct thaw_trainer *t, const struct th_head *head)
{
    struct th_dataset_options o = th_recipe_data(t->options);
    const char *where = th_option_text(t->options, "data");
    char train[32], val[32], test[32];
    if (!where)
        return th_fail(THAW_E_USAGE, "no data was given: a folder of images");
    o.many = head->many;
    o.objects = head->detector != NULL;
    if (o.many)
        TRY(check_many(t));
    TRY(o.objects ? check_detector(t) : check_classifier(t));
    TRY(th_dataset_open(where, &o, &t->data));
    for (int64_t i = 0; i < t->data.warnings.n; i++)
        th_say(&t->events, "warning", "%s", t->data.warnings.name[i]);
    if (t->data.split[TH_SPLIT_TRAIN].n == 0)
        return th_fail(THAW_E_DATA, "%s: no training images", where);
    th_text_count(t->data.split[TH_SPLIT_TRAIN].n, train, sizeof train);
    th_text_count(t->data.split[TH_SPLIT_VAL].n, val, sizeof val);
    th_text_count(th_trainer_n_test(t), test, sizeof test);
    th_say(&t->events, "data",
        "%d classes%s; %s images to train on, %s to validate%s%s%s", t->data.n_classes,
        o.objects ? ", boxes"
        : o.many  ? ", any number an image"
                  : "",
        train, val, th_trainer_n_test(t) ? ", " : "", th_trainer_n_test(t) ? test : "",
        th_trainer_n_test(t) ? " to test at the end" : "");
    return THAW_OK;
}

/* With the file's own head, the data's classes take the file's order where the names are
 * the same; a file without names takes the data's. */
static thaw_status match_classes(
    struct thaw_trainer *t, struct th_network_spec *spec, bool named)
{
    int n = t->data.n_classes;
    if (n != spec->n_classes)
        return th_fail(THAW_E_DATA,
            "the head in the weights has %d classes, the data %d: leave out "
            "--keep-head",
            spec->n_classes, n);
    int32_t *map = th_alloc((size_t)n, sizeof *map);
    if (!map)
        return THAW_E_MEMORY;
    thaw_status status = THAW_OK;
    if (th_labels_map(&t->data, spec->classes, n, map) == n) {
        status = th_labels_reorder(&t->data, map);
    } else {
        if (named)
            th_say(&t->events, "warning",
                "the weights' class names differ from the data's (%s there, %s here): "
                "matched in order",
                spec->classes[0], t->data.classes[0]);
        spec->classes = (const char *const *)t->data.classes;
    }
    th_free(map);
    return status;
}

/* ---- Network ---- */

static void say_input(const struct thaw_trainer *t, bool assumed)
{
    const struct th_input *in = &t->net.model.input;
    const struct th_sizes sizes = th_input_sizes(in);
    char shown[256] = "the whole image";
    if (!t->net.model.head->detector)
        snprintf(shown, sizeof shown, "crop %.3g", (double)in->crop);
    if (sizes.n > 1)
        snprintf(shown, sizeof shown, "the whole image, where it is largest of %s",
            th_sizes_text(&sizes).text);
    th_say(&t->events, "input",
        "%d x %d, %s, %s, mean %.3g %.3g %.3g, std %.3g %.3g %.3g%s", in->size.w,
        in->size.h, shown, in->bicubic ? "bicubic" : "bilinear", (double)in->mean[0],
        (double)in->mean[1], (double)in->mean[2], (double)in->std[0],
        (double)in->std[1], (double)in->std[2],
        assumed ? " (assumed: the weights do not say)" : "");
}

static void say_weights(const struct thaw_trainer *t, const struct th_weights *w,
    const char *path, const char *report)
{
    const char *name = t->net.model.variant->name;
    bool told = th_option_text(t->options, "backbone") ||
                (w && th_weights_string(w, "backbone"));
    const char *unsure = told ? NULL : t->net.model.variant->unsure;
    if (path)
        th_say(&t->events, "weights", "%s: %s, %s%s%s", path, name, report,
            unsure ? "; " : "", unsure ? unsure : "");
    else
        th_say(&t->events, "weights", "%s, random values (seed %llu)", name,
            (unsigned long long)t->recipe.seed);
}

/* The base's hashes, then the values of --adapter over it. */
static thaw_status fill_adapters(
    struct thaw_trainer *t, const struct th_adapter *a, const char *path)
{
    if (!t->net.model.lora.rank)
        return THAW_OK;
    TRY(th_adapter_note_base(&t->net, path));
    return a ? th_adapter_load(a, &t->net, t->recipe.keep_head) : THAW_OK;
}

/* Values: what the file has; the rest, or all, from the seed. */
static thaw_status fill_values(struct thaw_trainer *t, const struct th_weights *w,
    const struct th_adapter *a, const char *path)
{
    char report[600] = "";
    const struct th_load_spec spec = {.where = path,
        .head = t->recipe.keep_head && !a,
        .allow_missing = th_option_flag(t->options, "allow-missing")};
    bool everything = !w || spec.allow_missing;
    TRY(th_network_randomise(&t->net, t->recipe.seed, !everything));
    if (w)
        TRY(th_pretrained_load(w, &t->net, &spec, report, sizeof report));
    TRY(fill_adapters(t, a, path));
    say_weights(t, w, path, report);
    return THAW_OK;
}

static void say_adapters(const struct thaw_trainer *t, const struct th_adapter *a)
{
    const struct th_model *m = &t->net.model;
    int layers = 0;
    int64_t values = 0;
    char text[32], *lora = th_lora_text(&m->lora);
    for (int i = 0; i < m->n_params; i++) {
        layers += m->params[i].role == TH_ROLE_LORA_A;
        values +=
            th_param_is_lora(&m->params[i]) ? th_shape_count(&m->params[i].shape) : 0;
    }
    if (layers)
        th_say(&t->events, "weights", "adapters on %d layers, %s values (%s)%s%s",
            layers, th_text_count(values, text, sizeof text), lora ? lora : "",
            a ? ", from " : "", a ? a->path : "");
    th_free(lora);
}

/* --lora beside --adapter may only say the same, as a config.json does. */
static thaw_status check_adapter(
    const struct thaw_trainer *t, const struct th_adapter *a)
{
    if (!t->recipe.lora.rank)
        return THAW_OK;
    char *asked = th_lora_text(&t->recipe.lora), *is = th_lora_text(&a->lora);
    thaw_status status = asked && is ? THAW_OK : THAW_E_MEMORY;
    if (status == THAW_OK && strcmp(asked, is) != 0)
        status = th_fail(THAW_E_USAGE,
            "--lora %s: %s is an adapter with %s: leave --lora out", asked, a->path,
            is);
    th_free(asked);
    th_free(is);
    return status;
}

/* The head that is kept, its classes in the data's order. */
static thaw_status keep_head(struct thaw_trainer *t, const struct th_weights *w,
    struct th_network_spec *spec, char ***names)
{
    bool named = false;
    if (!w)
        return th_fail(THAW_E_USAGE, "--keep-head: random weights have no head");
    TRY(th_pretrained_classes(w, spec, names, &spec->n_classes, &named));
    spec->classes = (const char *const *)*names;
    return match_classes(t, spec, named);
}

static thaw_status make_network(struct thaw_trainer *t, const struct th_weights *w,
    const struct th_adapter *a, const char *path)
{
    const struct th_device_name device = th_option_device(t->options);
    struct th_network_spec spec = {.classes = (const char *const *)t->data.classes,
        .n_classes = t->data.n_classes,
        .device = device.text,
        .threads = t->recipe.threads,
        .lora = &t->recipe.lora,
        .conv_table = th_option_text(t->options, "conv-table"),
        .plan_cache = th_option_text(t->options, "plan-cache")};
    char **names = NULL;
    bool assumed = false;
    thaw_status status = th_pretrained_identify(w, t->options, &spec, &assumed);
    if (status == THAW_OK && a)
        status = th_adapter_describe(a, &spec);
    th_pretrained_input_options(t->options, &spec.input);
    if (status == THAW_OK && t->recipe.keep_head)
        status = keep_head(t, a ? &a->w : w, &spec, &names);
    if (status == THAW_OK)
        status = th_network_init(&t->net, &spec);
    th_free(names);
    t->net.model.lora.by_word = th_recipe_says_lora(&t->recipe);
    if (status == THAW_OK)
        status = fill_values(t, w, a, path);
    if (status == THAW_OK)
        say_adapters(t, a);
    if (status == THAW_OK)
        say_input(t, assumed);
    return status;
}

/* Data and network; the head says what the data's labels are. */
static thaw_status open_data_and_network(struct thaw_trainer *t)
{
    struct th_weights w;
    const struct th_head *head = NULL;
    struct th_adapter a = {.path = NULL};
    char *path = NULL;
    const char *adapter = th_option_text(t->options, "adapter");
    TRY(th_pretrained_find(t->options, &path));
    th_weights_init(&w);
    thaw_status status = path ? th_weights_read(path, &w) : THAW_OK;
    if (status == THAW_OK && adapter)
        status = th_adapter_read(&a, adapter);
    if (status == THAW_OK && adapter)
        status = check_adapter(t, &a);
    if (!path && t->recipe.optim.l2sp > 0)
        status = th_fail(THAW_E_USAGE, "--l2sp pulls pretrained weights back to where "
                                       "they began: random ones have "
                                       "nowhere to go");
    bool own = adapter && th_weights_string(&a.w, "head");
    if (status == THAW_OK)
        status = th_pretrained_head(own ? &a.w : path ? &w : NULL, t->options, &head);
    if (status == THAW_OK)
        status = open_data(t, head);
    if (status == THAW_OK)
        status = make_network(t, path ? &w : NULL, adapter ? &a : NULL, path);
    if (status == THAW_OK && t->net.model.head->many != t->data.many)
        status = th_fail(THAW_E_USAGE,
            "--head %s: the adapter's head is %s: leave "
            "--head out",
            head->name, t->net.model.head->name);
    th_adapter_release(&a);
    th_weights_release(&w);
    th_free(path);
    return status;
}

/* ---- From a checkpoint ---- */

/* Optimizer slots and averages: states that are no parameters. */
static thaw_status add_states(struct thaw_trainer *t, const struct th_weights *w)
{
    for (size_t i = 0; i < w->n; i++) {
        const struct th_weight *from = &w->weight[i];
        int id = -1;
        if (th_model_param(&t->net.model, from->name) >= 0)
            continue;
        TRY(th_store_add(&t->net.store, from->name, from->tensor.shape, &id));
        TRY(th_store_put(&t->net.store, id, from->tensor.data));
    }
    return THAW_OK;
}

/* The model's classes in the model's order, or it is other data. */
static thaw_status restore_classes(
    struct thaw_trainer *t, const struct th_weights *w, struct th_network_spec *spec)
{
    size_t n = 0;
    const char *const *names = th_weights_strings(w, "classes", &n);
    int32_t *map = th_alloc((size_t)t->data.n_classes, sizeof *map);
    if (!map)
        return THAW_E_MEMORY;
    thaw_status status = THAW_OK;
    if (!names || n != (size_t)t->data.n_classes ||
        th_labels_map(&t->data, names, (int)n, map) != (int)n)
        status = th_fail(THAW_E_DATA, "the data's classes are not those of the run");
    else
        status = th_labels_reorder(&t->data, map);
    th_free(map);
    spec->classes = names;
    spec->n_classes = (int)n;
    return status;
}

static thaw_status restore_network(struct thaw_trainer *t, const struct th_weights *w)
{
    const struct th_device_name device = th_option_device(t->options);
    struct th_network_spec spec = {.device = device.text,
        .threads = t->recipe.threads,
        .lora = &t->recipe.lora,
        .conv_table = th_option_text(t->options, "conv-table"),
        .plan_cache = th_option_text(t->options, "plan-cache")};
    const struct th_load_spec load = {
        .where = "checkpoint", .head = true, .adapters = true};
    bool assumed = false;
    TRY(th_pretrained_identify(w, t->options, &spec, &assumed));
    TRY(open_data(t, spec.head));
    TRY(restore_classes(t, w, &spec));
    TRY(th_network_init(&t->net, &spec));
    t->net.model.lora.by_word = th_recipe_says_lora(&t->recipe);
    TRY(th_pretrained_load(w, &t->net, &load, NULL, 0));
    TRY(th_adapter_get_base(w, &t->net.model));
    return add_states(t, w);
}

/* ---- The rest ---- */

/* What the model is made from: the same images as when the run began. */
static thaw_status take_fingerprint(
    struct thaw_trainer *t, const struct th_weights *checkpoint)
{
    struct th_fingerprint now = th_fingerprint_of(&t->data), then;
    t->net.model.trained_on = now;
    if (!checkpoint || !th_model_file_trained_on(checkpoint, &then))
        return THAW_OK;
    for (int split = 0; split < TH_N_SPLITS; split++)
        if (now.split[split] != then.split[split] ||
            now.images[split] != then.images[split])
            return th_fail(THAW_E_DATA,
                "%s: its images are no longer those that the run began with: %s had "
                "%lld images, now it has %lld, or others; put them back, or start a "
                "new run",
                th_option_text(t->options, "data"), th_split_name((enum th_split)split),
                (long long)then.images[split], (long long)now.images[split]);
    return THAW_OK;
}

static thaw_status open_validation(struct thaw_trainer *t)
{
    struct th_loader_options o = th_trainer_judge_options(t, TH_SPLIT_VAL);
    o.views = 1;
    o.knows = th_trainer_knows_val;
    for (int b = 0; b < t->n_buckets; b++)
        o.bucket[b].knows_context = &t->bucket[b];
    if (th_judges_loss(&t->net.model))
        th_trainer_want_targets(t, &o);
    TRY(th_network_metrics(&t->net, &t->val));
    if (t->recipe.optim.ema)
        TRY(th_network_mirror(&t->net, &t->shadow));
    if (t->data.split[TH_SPLIT_VAL].n > 0)
        return th_loader_open(&t->data, &o, &t->val_loader);
    if (t->recipe.patience)
        th_say(&t->events, "warning",
            "--patience %d has no effect: there are no validation images",
            t->recipe.patience);
    return THAW_OK;
}

/* Of images with any number of classes a yes weighs, and always has its weight. */
static thaw_status take_weights(struct thaw_trainer *t, const float **weight)
{
    const struct th_samples *train = &t->data.split[TH_SPLIT_TRAIN];
    int n = t->data.n_classes;
    *weight = NULL;
    if (t->data.many) {
        TRY(th_pos_weights(train, n, &t->pos_weight));
        for (int c = 0; c < n && !t->recipe.class_weights; c++)
            t->pos_weight[c] = 1;
        *weight = t->recipe.class_weights ? t->pos_weight : NULL;
    } else if (t->recipe.class_weights) {
        if (t->recipe.balanced)
            th_say(&t->events, "warning",
                "--balanced and --class-weights both make up for small classes: "
                "together they make a small class count more than a large one");
        TRY(th_class_weights(train, n, &t->class_weight));
        *weight = t->class_weight;
    }
    return THAW_OK;
}

static thaw_status weigh_classes(struct thaw_trainer *t)
{
    int n = t->data.n_classes, least = 0, most = 0;
    const float *w = NULL;
    TRY(take_weights(t, &w));
    if (!w)
        return THAW_OK;
    for (int c = 1; c < n; c++) {
        least = w[c] < w[least] ? c : least;
        most = w[c] > w[most] ? c : most;
    }
    th_say(&t->events, "data", "class weights from %.3g (%s) to %.3g (%s)",
        (double)w[least], t->data.classes[least], (double)w[most],
        t->data.classes[most]);
    return THAW_OK;
}

static thaw_status alloc_inputs(struct thaw_trainer *t)
{
    size_t batch = (size_t)t->recipe.batch + 1; /* one may join */
    t->target = th_alloc(batch * (size_t)t->net.model.n_classes, sizeof *t->target);
    t->keys = th_alloc(batch * 2, sizeof *t->keys);
    t->weight = th_alloc(batch, sizeof *t->weight);
    TRY(th_mixer_init(&t->mixer, &t->recipe.mix, (int64_t)batch,
        t->net.model.input.size, t->net.model.n_classes));
    return t->target && t->keys && t->weight ? THAW_OK : THAW_E_MEMORY;
}

/* Remember by what convolutions are chosen; another choice than before is said. */
static thaw_status note_choices(struct thaw_trainer *t, bool resumed)
{
    const struct th_network_choices now = th_network_choices(&t->net);
    const char *then = thaw_options_get(t->options, "conv-choices");
    if (resumed && then && strcmp(then, now.text))
        th_say(&t->events, "resume",
            "convolutions are chosen by %s, until now by %s: bits may differ from an "
            "uninterrupted run's",
            now.text, then);
    return thaw_options_set(t->options, "conv-choices", now.text);
}

/* What --device auto became. */
static void say_device(const struct thaw_trainer *t)
{
    struct th_device *d = t->net.device;
    if (!strcmp(th_option_text(t->options, "device"), "auto"))
        th_say(&t->events, "device", "%s%s%s", d->backend->describe(d),
            d->missed[0] ? "; " : "", d->missed);
}

static thaw_status open_bucket(struct thaw_trainer *t, int b)
{
    struct th_train_bucket *bucket = &t->bucket[b];
    TRY(th_network_view(&t->net, b, &bucket->model));
    return t->net.model.head->detector
               ? th_model_reader(&bucket->model, &bucket->reader)
               : THAW_OK;
}

/* Views are of a model whose options are all set. */
static thaw_status make_buckets(struct thaw_trainer *t)
{
    const struct th_sizes sizes = th_input_sizes(&t->net.model.input);
    int64_t images[TH_MAX_SIZES];
    if (sizes.n > 1)
        TRY(th_dataset_measure(&t->data));
    for (t->n_buckets = 0; t->n_buckets < sizes.n; t->n_buckets++)
        TRY(open_bucket(t, t->n_buckets));
    for (int split = 0; split < TH_N_SPLITS; split++) {
        th_bucket_count(&t->data.split[split], &sizes, images);
        for (int b = 0; b < sizes.n; b++)
            t->bucket[b].images[split] = images[b];
    }
    for (int b = 0; b < sizes.n && sizes.n > 1; b++)
        th_say(&t->events, "data", "%lld images to train on in %s",
            (long long)t->bucket[b].images[TH_SPLIT_TRAIN],
            th_size_text(sizes.at[b]).text);
    return THAW_OK;
}

thaw_status th_trainer_build(
    struct thaw_trainer *t, const struct th_weights *checkpoint)
{
    TRY(th_recipe_init(&t->recipe, t->options));
    TRY(checkpoint ? restore_network(t, checkpoint) : open_data_and_network(t));
    say_device(t);
    TRY(note_choices(t, checkpoint != NULL));
    t->net.model.dropout = t->recipe.dropout;
    t->net.model.drop_path = t->recipe.drop_path;
    TRY(weigh_classes(t));
    TRY(make_buckets(t));
    t->data_hash = th_dataset_hash(&t->data);
    TRY(take_fingerprint(t, checkpoint));
    TRY(th_certificate_init(&t->certificate, &t->net.model, &t->net.store));
    TRY(th_trainer_survey(t));
    TRY(open_validation(t));
    TRY(alloc_inputs(t));
    t->at = (struct th_position){.phase = -1, .best_epoch = -1};
    return th_run_config_resolve(t->options, &t->net.model);
}
