/* SPDX-License-Identifier: Apache-2.0
 * Owns the search for a weights file, and what is said where there is none. */
#include "pretrained.h"

#include "file.h"
#include "files.h"
#include "hub.h"
#include "mem.h"
#include "options.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Public files; torchvision's names carry the first digits of their SHA-256. */
static const struct published {
    const char *backbone, *file;
} published[] = {
    {"resnet18", "https://download.pytorch.org/models/resnet18-f37072fd.pth"},
    {"resnet34", "https://download.pytorch.org/models/resnet34-b627a593.pth"},
    {"resnet50", "https://download.pytorch.org/models/resnet50-0676ba61.pth"},
    {"resnet101", "https://download.pytorch.org/models/resnet101-63fe2227.pth"},
    {"resnet152", "https://download.pytorch.org/models/resnet152-394f9c45.pth"},
    {"wide_resnet50_2",
        "https://download.pytorch.org/models/wide_resnet50_2-95faca4d.pth"},
    {"wide_resnet101_2",
        "https://download.pytorch.org/models/wide_resnet101_2-32ee1156.pth"},
    {"resnext50_32x4d",
        "https://download.pytorch.org/models/resnext50_32x4d-7cdf4587.pth"},
    {"resnext101_32x8d",
        "https://download.pytorch.org/models/resnext101_32x8d-8ba56ff5.pth"},
    {"resnet20", "examples/weights/resnet20-cifar10.h5 of Thaw's source"},
    {"resnet32", "resnet32-d509ac18.th of github.com/akamaster/pytorch_resnet_cifar10"},
    {"resnet44", "resnet44-014dd654.th of github.com/akamaster/pytorch_resnet_cifar10"},
    {"resnet56", "resnet56-4bfd9763.th of github.com/akamaster/pytorch_resnet_cifar10"},
    {"resnet110",
        "resnet110-1d1ed7c2.th of github.com/akamaster/pytorch_resnet_cifar10"},
};

static thaw_status fail_absent(const char *backbone)
{
    const char *file = "docs/weights.md says where there are some";
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++)
        if (!strcmp(published[i].backbone, backbone))
            file = published[i].file;
    return th_fail(THAW_E_USAGE,
        "no pretrained weights for %s were found; get %s\n"
        "then: thaw train DATA -o RUN --backbone %s --weights FILE   "
        "(or --weights random, to start from nothing)",
        backbone, file, backbone);
}

/* Takes ownership of `path`; keeps it in *found if there is such a file. */
static bool take(char *path, char **found)
{
    if (path && !th_is_folder(path) && th_file_exists(path)) {
        *found = path;
        return true;
    }
    th_free(path);
    return false;
}

/* share/thaw/weights beside the program's bin, or below here. */
static bool find_shared(const char *backbone, char **path)
{
    char program[4096];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    char *slash = NULL;
    if (n > 0) {
        program[n] = 0;
        slash = strrchr(program, '/');
    }
    if (slash) {
        *slash = 0;
        if (take(th_format("%s/../share/thaw/weights/%s.h5", program, backbone), path))
            return true;
    }
    return take(th_format("share/thaw/weights/%s.h5", backbone), path);
}

thaw_status th_pretrained_model_path(const char *model, char **path)
{
    bool folder = th_is_folder(model);
    thaw_status status = THAW_OK;
    *path = folder ? th_format("%s/best.h5", model) : th_strdup(model);
    if (*path && folder && !th_file_exists(*path)) { /* a folder of a hub, perhaps */
        char *weights = NULL;
        status = th_hub_find(model, &weights);
        th_free(weights ? *path : NULL);
        *path = weights ? weights : *path;
    }
    if (!*path)
        return THAW_E_MEMORY;
    if (status == THAW_OK && folder && !th_file_exists(*path))
        status = th_fail(THAW_E_USAGE,
            "%s: a folder without best.h5, so not a run that validated; name a weights "
            "file",
            model);
    else if (status == THAW_OK)
        status = th_file_check(*path);
    if (status == THAW_OK)
        return THAW_OK;
    th_free(*path);
    *path = NULL;
    return status;
}

thaw_status th_pretrained_find(const thaw_options *o, char **path)
{
    const char *given = th_option_text(o, "weights");
    const char *backbone = th_option_text(o, "backbone");
    const char *home = getenv("THAW_WEIGHTS");
    *path = NULL;
    backbone = backbone ? backbone : "resnet18";
    if (given && !strcmp(given, "random"))
        return THAW_OK;
    if (given)
        return th_pretrained_model_path(given, path);
    if (home && *home && th_is_folder(home)) {
        if (take(th_format("%s/%s.h5", home, backbone), path))
            return THAW_OK;
    } else if (home && *home) {
        return th_pretrained_model_path(home, path);
    }
    return find_shared(backbone, path) ? THAW_OK : fail_absent(backbone);
}
