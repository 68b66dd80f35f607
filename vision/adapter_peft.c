/* SPDX-License-Identifier: Apache-2.0
 * Owns PEFT's layout of adapters (huggingface/peft, src/peft/utils/save_and_load.py): a folder
 * with adapter_config.json and adapter_model.safetensors, whose tensors are called
 * base_model.model.LAYER.lora_A.weight and, of modules that are saved whole (the head),
 * base_model.model.MODULE.weight. Convolutions have four axes there as here. */
#include "adapter.h"

#include "file.h"
#include "json.h"
#include "mem.h"
#include "options.h"

#include <stdio.h>
#include <string.h>

enum { MAX_CONFIG = 1 << 20, MAX_NAME = 256 };

static const char prefix[] = "base_model.model.";
static const char config_name[] = "adapter_config.json";
static const char tensors_name[] = "adapter_model.safetensors";

/* ---- Reading ---- */

/* The config beside the tensors. */
static char *config_path(const char *tensors)
{
    const char *slash = strrchr(tensors, '/');
    int n = slash ? (int)(slash - tensors) + 1 : 0;
    return th_format("%.*s%s", n, tensors, config_name);
}

static bool is_true(const struct th_json *j)
{
    return j && j->kind == TH_JSON_BOOL && j->is_true;
}

static thaw_status refuse(const char *where, const char *what)
{
    return th_fail(THAW_E_DATA,
        "%s: %s, which Thaw does not read; merge it in PEFT (merge_and_unload) and "
        "give "
        "the merged weights",
        where, what);
}

/* Variants that are other formulas. */
static thaw_status check_variant(const struct th_json *c, const char *where)
{
    static const char *const flags[] = {
        "use_dora", "fan_in_fan_out", "lora_bias", "use_qalora", "use_bdlora"};
    static const char *const patterns[] = {"rank_pattern", "alpha_pattern"};
    const struct th_json *type = th_json_get(c, "peft_type"),
                         *bias = th_json_get(c, "bias");
    if (!type || type->kind != TH_JSON_STRING || strcmp(type->text, "LORA") != 0)
        return refuse(where, "peft_type is not LORA");
    if (bias && bias->kind == TH_JSON_STRING && strcmp(bias->text, "none") != 0)
        return refuse(where, "bias is not none");
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (is_true(th_json_get(c, flags[i])))
            return refuse(where, flags[i]);
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        const struct th_json *p = th_json_get(c, patterns[i]);
        if (p && p->kind == TH_JSON_OBJECT && p->n > 0)
            return refuse(where, patterns[i]);
    }
    return THAW_OK;
}

static double number(const struct th_json *c, const char *key, double absent)
{
    const struct th_json *j = th_json_get(c, key);
    return j && j->kind == TH_JSON_NUMBER ? j->real : absent;
}

static thaw_status take_config(
    struct th_adapter *a, const struct th_json *c, const char *where)
{
    const struct th_json *r = th_json_get(c, "r");
    double alpha = number(c, "lora_alpha", 0), dropout = number(c, "lora_dropout", 0);
    TRY(check_variant(c, where));
    if (!r || r->kind != TH_JSON_NUMBER || !r->is_whole || r->whole < 1 ||
        r->whole > TH_LORA_MAX_RANK || !(alpha > 0 && alpha <= 1e6) ||
        !(dropout >= 0 && dropout < 1))
        return th_fail(THAW_E_DATA,
            "%s: r, lora_alpha or lora_dropout is missing or no usable number", where);
    a->lora.rank = (int)r->whole;
    a->lora.alpha = (float)alpha;
    a->lora.dropout = (float)dropout;
    a->lora.rslora = is_true(th_json_get(c, "use_rslora"));
    return THAW_OK;
}

static thaw_status read_config(struct th_adapter *a)
{
    unsigned char *bytes = NULL;
    size_t n = 0;
    struct th_json *root = NULL;
    char *path = config_path(a->path);
    thaw_status status =
        path ? th_file_read(path, MAX_CONFIG, &bytes, &n) : THAW_E_MEMORY;
    if (status == THAW_OK)
        status = th_json_parse((const char *)bytes, n, path, &root);
    if (status == THAW_OK)
        status = take_config(a, root, path);
    th_json_free(root);
    th_free(bytes);
    th_free(path);
    return status;
}

/* Takes `part` out of the name, where it is in it. */
static void without(char *name, const char *part)
{
    char *at = strstr(name, part);
    if (at)
        memmove(at, at + strlen(part), strlen(at + strlen(part)) + 1);
}

/* Ours: without the prefix, and without the adapter's name where a state dict that PEFT
 * did not write has it. */
static void our_name(const char *theirs, char *name, size_t size)
{
    size_t n = sizeof prefix - 1;
    snprintf(name, size, "%s", strncmp(theirs, prefix, n) ? theirs : theirs + n);
    without(name, ".modules_to_save");
    without(name, ".default");
}

static thaw_status add_layer(struct th_lora *lora, const char *name)
{
    char layer[MAX_NAME];
    th_lora_layer(name, layer, sizeof layer);
    char *longer =
        lora->targets ? th_format("%s,%s", lora->targets, layer) : th_strdup(layer);
    if (!longer)
        return THAW_E_MEMORY;
    th_free(lora->targets);
    lora->targets = longer;
    return THAW_OK;
}

/* The adapted layers are those that have an A. */
static thaw_status take_tensors(struct th_adapter *a, const struct th_weights *theirs)
{
    char name[MAX_NAME];
    for (size_t i = 0; i < theirs->n; i++) {
        const struct th_weight *t = &theirs->weight[i];
        our_name(t->name, name, sizeof name);
        TRY(th_weights_add(&a->w, name, t->tensor.shape, t->tensor.data, NULL));
        if (strstr(name, ".lora_A.weight"))
            TRY(add_layer(&a->lora, name));
    }
    return a->lora.targets ? THAW_OK
                           : th_fail(THAW_E_DATA, "%s: no lora_A in it", a->path);
}

thaw_status th_adapter_read_peft(struct th_adapter *a)
{
    struct th_weights theirs;
    TRY(read_config(a));
    th_weights_init(&theirs);
    thaw_status status = th_weights_read(a->path, &theirs);
    if (status == THAW_OK)
        status = take_tensors(a, &theirs);
    th_weights_release(&theirs);
    return status;
}

/* ---- Writing ---- */

static bool is_lora(const char *name)
{
    return strstr(name, ".lora_A.weight") || strstr(name, ".lora_B.weight");
}

/* The module of the head, from its tensors: whatever is neither A nor B. What else
 * changed has no place in PEFT's layout. */
static thaw_status find_head(const struct th_adapter *a, char *module, size_t size)
{
    const char *backbone = th_weights_string(&a->w, "backbone");
    struct th_network_spec spec;
    *module = '\0';
    if (!backbone)
        return th_fail(THAW_E_DATA, "%s: its backbone is not in it", a->path);
    TRY(th_variant_find(backbone, &spec.backbone, &spec.variant));
    const char *head = spec.backbone->head_name(spec.variant);
    size_t n = strlen(head);
    for (size_t i = 0; i < a->w.n; i++) {
        const char *name = a->w.weight[i].name;
        if (is_lora(name))
            continue;
        if (strncmp(name, head, n) != 0 || name[n] != '.')
            return th_fail(THAW_E_USAGE,
                "%s: %s changed too, and PEFT's layout has no place for it; thaw merge "
                "makes a whole model of it",
                a->path, name);
        snprintf(module, size, "%s", head);
    }
    return THAW_OK;
}

static void put_list(struct th_json_out *j, const char *key, const char *words)
{
    char word[MAX_NAME];
    th_json_key(j, key);
    th_json_open(j, '[');
    while (th_next_word(&words, word, sizeof word))
        th_json_string(j, word);
    th_json_close(j, ']');
}

static void put_flag(struct th_json_out *j, const char *key, bool value)
{
    th_json_key(j, key);
    th_json_bool(j, value);
}

/* The layers by their whole names: PEFT takes a name of the list for those that end in
 * it, and a whole name ends in itself alone. */
static void write_config(struct th_json_out *j, const struct th_adapter *a,
    const char *layers, const char *head)
{
    th_json_open(j, '{');
    th_json_put_string(j, "peft_type", "LORA");
    th_json_key(j, "task_type");
    th_json_null(j);
    th_json_key(j, "base_model_name_or_path");
    th_json_null(j);
    th_json_put_whole(j, "r", a->lora.rank);
    th_json_put_real(j, "lora_alpha", (double)a->lora.alpha);
    th_json_put_real(j, "lora_dropout", (double)a->lora.dropout);
    put_flag(j, "use_rslora", a->lora.rslora);
    put_flag(j, "fan_in_fan_out", false);
    put_flag(j, "inference_mode", true);
    th_json_put_string(j, "bias", "none");
    put_list(j, "target_modules", layers);
    put_list(j, "modules_to_save", head);
    th_json_close(j, '}');
}

static thaw_status their_tensors(
    const struct th_adapter *a, struct th_weights *theirs, struct th_lora *layers)
{
    char name[MAX_NAME + sizeof prefix];
    for (size_t i = 0; i < a->w.n; i++) {
        const struct th_weight *t = &a->w.weight[i];
        snprintf(name, sizeof name, "%s%s", prefix, t->name);
        TRY(th_weights_add(theirs, name, t->tensor.shape, t->tensor.data, NULL));
        if (strstr(t->name, ".lora_A.weight"))
            TRY(add_layer(layers, t->name));
    }
    return THAW_OK;
}

static thaw_status write_files(const struct th_adapter *a, const char *folder,
    const struct th_weights *theirs, const char *layers, const char *head)
{
    struct th_json_out j = {0};
    char *config = th_format("%s/%s", folder, config_name);
    char *tensors = th_format("%s/%s", folder, tensors_name);
    write_config(&j, a, layers, head);
    thaw_status status = config && tensors ? th_json_out_status(&j) : THAW_E_MEMORY;
    if (status == THAW_OK)
        status = th_file_mkdir(folder);
    if (status == THAW_OK)
        status = th_weights_write(tensors, "safetensors", theirs);
    if (status == THAW_OK)
        status = th_file_write_atomic(config, j.text, j.n, NULL);
    th_json_out_release(&j);
    th_free(config);
    th_free(tensors);
    return status;
}

thaw_status th_adapter_write_peft(const struct th_adapter *a, const char *folder)
{
    struct th_weights theirs;
    struct th_lora layers = {.rank = 0};
    char head[MAX_NAME];
    if (th_file_exists(folder))
        return th_fail(THAW_E_USAGE, "%s exists: choose another name", folder);
    TRY(find_head(a, head, sizeof head));
    th_weights_init(&theirs);
    thaw_status status = their_tensors(a, &theirs, &layers);
    if (status == THAW_OK)
        status = write_files(a, folder, &theirs, layers.targets, head);
    th_lora_release(&layers);
    th_weights_release(&theirs);
    return status;
}
