/* SPDX-License-Identifier: Apache-2.0
 * Small training runs for tests: a folder of generated images, options by name, and what
 * a run left behind. */
#ifndef TH_TESTS_RUN_H
#define TH_TESTS_RUN_H

#include "file.h"
#include "image.h"
#include "mem.h"
#include "must.h"
#include "rng.h"
#include "trainer.h"
#include "weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RUN_SIZE = 8, RUN_CLASSES = 3 }; /* pixels of the network's input */

static char run_root[64]; /* of this program's files; removed at its end */

static inline void run_path(char path[256], const char *name)
{
    snprintf(path, 256, "%s/%s", run_root, name);
}

/* One image: the class's colour and noise drawn from its number. */
static inline int write_image(const char *split, int class, int i)
{
    char path[256], name[128];
    struct th_image image = {0};
    snprintf(name, sizeof name, "data/%s/class_%c", split, 'a' + class);
    run_path(path, name);
    if (th_file_mkdir(path) != THAW_OK || th_image_init(&image, 11, 10) != THAW_OK)
        return -1;
    uint64_t key = th_rng_mix(th_rng_mix_name(7, name), (uint64_t)i);
    for (int k = 0; k < 11 * 10 * 3; k++) {
        float noise = th_rng_uniform(key, (uint64_t)k);
        image.rgb[k] = (uint8_t)(120.0F * noise + (k % 3 == class ? 120.0F : 0.0F));
    }
    size_t used = strlen(path);
    snprintf(path + used, sizeof path - used, "/%03d.png", i);
    thaw_status status = th_image_write_png(path, &image);
    th_image_release(&image);
    return status == THAW_OK ? 0 : -1;
}

/* Group setup: `n_train` and 4 validation images in all, spread over the classes. */
static inline int make_data(int n_train)
{
    snprintf(run_root, sizeof run_root, "/tmp/thaw_run_XXXXXX");
    if (!mkdtemp(run_root))
        return -1;
    for (int i = 0; i < n_train; i++)
        if (write_image("train", i % RUN_CLASSES, i))
            return -1;
    for (int i = 0; i < 4; i++)
        if (write_image("val", i % RUN_CLASSES, i))
            return -1;
    return 0;
}

static inline int remove_data(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", run_root);
    return system(command);
}

static inline void set(thaw_options *o, const char *name, const char *value)
{
    must(thaw_options_set(o, name, value));
}

/* A run of resnet20 with random weights into RUN; pairs of further options, NULL last. */
static inline thaw_options *make_options(const char *run, ...)
{
    static const char *const base[] = {"weights", "random", "backbone", "resnet20",
        "image-size", "8", "crop", "1", "batch", "4", "epochs", "2", "device", "ref",
        "threads", "1", "workers", "2", "log-every", "1", "lr", "0.05"};
    char path[256];
    thaw_options *o = NULL;
    va_list more;
    must(thaw_options_new(&o));
    for (size_t i = 0; i < sizeof base / sizeof base[0]; i += 2)
        set(o, base[i], base[i + 1]);
    run_path(path, "data");
    set(o, "data", path);
    run_path(path, run);
    set(o, "out", path);
    va_start(more, run);
    for (const char *name; (name = va_arg(more, const char *));)
        set(o, name, va_arg(more, const char *));
    va_end(more);
    return o;
}

/* Train from these options, which are freed. */
static inline thaw_status train(
    thaw_options *o, const thaw_events *events, thaw_result *r)
{
    thaw_trainer *t = NULL;
    thaw_status status = thaw_trainer_new(o, events, &t);
    thaw_options_free(o);
    if (status == THAW_OK)
        status = thaw_trainer_run(t, r);
    thaw_trainer_free(t);
    return status;
}

/* Fresh, for th_free. */
static inline char *read_text(const char *run, const char *name)
{
    char path[256], both[128];
    unsigned char *bytes = NULL;
    size_t n = 0;
    snprintf(both, sizeof both, "%s/%s", run, name);
    run_path(path, both);
    must(th_file_read(path, 1 << 24, &bytes, &n));
    char *text = th_strdup((const char *)bytes);
    th_free(bytes);
    assert_non_null(text);
    return text;
}

static inline bool has_file(const char *run, const char *name)
{
    char path[256], both[128];
    snprintf(both, sizeof both, "%s/%s", run, name);
    run_path(path, both);
    return th_file_exists(path);
}

/* Something of this name lies in the tests' folder. */
static inline bool is_there(const char *name)
{
    char path[256];
    run_path(path, name);
    return th_file_exists(path);
}

static inline void forget(const char *name)
{
    char path[256], command[300];
    run_path(path, name);
    snprintf(command, sizeof command, "rm -rf %s", path);
    assert_int_equal(system(command), 0);
}

/* Both runs left the same tensors, bit for bit. */
static inline void assert_same_model(const char *a, const char *b, const char *name)
{
    struct th_weights x, y;
    char path[256], both[128];
    th_weights_init(&x);
    th_weights_init(&y);
    snprintf(both, sizeof both, "%s/%s", a, name);
    run_path(path, both);
    must(th_weights_read(path, &x));
    snprintf(both, sizeof both, "%s/%s", b, name);
    run_path(path, both);
    must(th_weights_read(path, &y));
    assert_int_equal(x.n, y.n);
    for (size_t i = 0; i < x.n; i++) {
        const struct th_weight *other = th_weights_find(&y, x.weight[i].name);
        assert_non_null(other);
        if (memcmp(x.weight[i].tensor.data, other->tensor.data,
                th_dtype_bytes(TH_F32, th_shape_count(&x.weight[i].tensor.shape))))
            fail_msg("%s differs between %s and %s", x.weight[i].name, a, b);
    }
    th_weights_release(&x);
    th_weights_release(&y);
}

/* metrics.jsonl with the numbers of time and memory, and the device, blanked. */
static inline char *timeless_log(const char *run)
{
    static const char *const fields[] = {
        "\"images_per_s\":", "\"seconds\":", "\"peak_bytes\":", "\"forecast_seconds\":",
        "\"forecast_peak_bytes\":", "\"device\":"};
    const size_t n_fields = sizeof fields / sizeof fields[0];
    char *text = read_text(run, "metrics.jsonl");
    for (size_t f = 0; f < n_fields; f++)
        for (char *at = text; (at = strstr(at, fields[f]));) {
            at += strlen(fields[f]);
            size_t n = f + 1 < n_fields ? strcspn(at, ",}")
                                        : (size_t)(strstr(at, ",\"threads\"") - at);
            memmove(at, at + n, strlen(at + n) + 1);
        }
    return text;
}

static inline void assert_same_log(const char *a, const char *b)
{
    char *x = timeless_log(a), *y = timeless_log(b);
    assert_string_equal(x, y);
    th_free(x);
    th_free(y);
}

#endif
