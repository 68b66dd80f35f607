/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: the JSON beside a hub's weights file, as either of the two files. */
#include "fuzz.h"
#include "hub.h"

#include <unistd.h>

static char folder[64];

static void remove_folder(void)
{
    char path[128];
    static const char *const names[] = {"preprocessor_config.json", "config.json"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void put_file(const char *name, const uint8_t *bytes, size_t n)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    ALWAYS(file != NULL);
    ALWAYS(fwrite(bytes, 1, n, file) == n);
    fclose(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    char path[128];
    struct th_weights w;
    if (!*folder) {
        snprintf(folder, sizeof folder, "/tmp/thaw-fuzz-hub-XXXXXX");
        ALWAYS(mkdtemp(folder) != NULL);
        atexit(remove_folder);
    }
    put_file("preprocessor_config.json", bytes, n);
    put_file("config.json", bytes, n);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    th_weights_init(&w);
    check_answer(th_hub_describe(path, &w));
    th_weights_release(&w);
    return 0;
}
