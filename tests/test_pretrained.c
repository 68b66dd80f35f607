/* SPDX-License-Identifier: Apache-2.0
 * Real weights on real images: logits against the float64 ones of PyTorch. The files are
 * not in the repository: THAW_TEST_ASSETS names the folder that has them. */
#include "thaw.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { CLASSES = 10 };

static const char *assets;
static char root[64];

static int setup(void **state)
{
    char command[600];
    (void)state;
    snprintf(root, sizeof root, "/tmp/thaw_pretrained_XXXXXX");
    if (!mkdtemp(root))
        return -1;
    snprintf(command, sizeof command,
        "tar xzf %s/data/cifar10-lossless-train4000-png.tar.gz -C %s", assets, root);
    return system(command);
}

static int teardown(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

struct comparison {
    double expected[CLASSES], worst;
    int images;
};

static void on_prediction(void *context, const thaw_prediction *p)
{
    struct comparison *c = context;
    assert_null(p->error);
    for (int i = 0; i < CLASSES; i++)
        c->worst = fmax(c->worst, fabs((double)p->logits[i] - c->expected[i]));
    c->images++;
}

/* "model,image,logit,..." */
static void compare_row(thaw_model *m, char *row, struct comparison *c)
{
    char path[600];
    char *image = strchr(row, ',') + 1, *number = strchr(image, ',');
    *number++ = 0;
    for (int i = 0; i < CLASSES; i++) {
        c->expected[i] = strtod(number, &number);
        number += *number == ',';
    }
    snprintf(path, sizeof path, "%s/cifar10-lossless/%s", root, image);
    if (thaw_model_predict(m, path, on_prediction, c) != THAW_OK)
        fail_msg("%s", thaw_error());
}

/* Largest difference of a weights file's logits over the 20 images of the reference. */
static double worst_difference(const char *file, const char *model)
{
    char path[600], row[1024];
    struct comparison c = {0};
    thaw_model *m = NULL;
    thaw_options *o = NULL;
    assert_int_equal(thaw_options_new(&o), THAW_OK);
    snprintf(path, sizeof path, "%s/weights/%s", assets, file);
    if (thaw_model_open(path, o, &m) != THAW_OK)
        fail_msg("%s", thaw_error());
    assert_string_equal(thaw_model_class(m, 9), "truck");
    snprintf(path, sizeof path, "%s/reference/cifar10-logits.csv", assets);
    FILE *csv = fopen(path, "r");
    assert_non_null(csv);
    while (fgets(row, sizeof row, csv))
        if (!strncmp(row, model, strlen(model)) && row[strlen(model)] == ',')
            compare_row(m, row, &c);
    fclose(csv);
    assert_int_equal(c.images, 20);
    thaw_model_free(m);
    thaw_options_free(o);
    print_message("%s: largest difference %.2e\n", file, c.worst);
    return c.worst;
}

static void real_cifar_networks_give_the_reference_logits(void **state)
{
    (void)state;
    static const char *const names[] = {"cifar10-resnet20-12fca82f",
        "cifar10-resnet32-d509ac18", "cifar10-resnet56-4bfd9763"};
    for (int i = 0; i < 3; i++) {
        char file[128];
        snprintf(file, sizeof file, "%s.th", names[i]);
        assert_true(worst_difference(file, names[i]) <= 1e-4);
    }
}

static void nested_hdf5_groups_give_them_too(void **state)
{
    (void)state;
    assert_true(worst_difference("cifar10-resnet20-12fca82f.converted.h5",
                    "cifar10-resnet20-12fca82f") <= 1e-4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_cifar_networks_give_the_reference_logits),
        cmocka_unit_test(nested_hdf5_groups_give_them_too),
    };
    assets = getenv("THAW_TEST_ASSETS");
    if (!assets) {
        puts("skipped: THAW_TEST_ASSETS does not name a folder with real weights");
        return 77;
    }
    return cmocka_run_group_tests(tests, setup, teardown);
}
