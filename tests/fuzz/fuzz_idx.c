/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: MNIST's idx files. The input is two bytes, how many bytes the file of
 * images has (big-endian), that file, and the file of labels; either may be gzipped.
 * Both splits are the same files. */
#include "dataset.h"
#include "fuzz.h"

#include <fcntl.h>
#include <unistd.h>

static char folder[64];

static void remove_folder(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command))
        perror(folder);
}

static void make_folder(void)
{
    static const char *const name[] = {"images-idx3-ubyte", "labels-idx1-ubyte"};
    char from[32], to[128];
    snprintf(folder, sizeof folder, "/tmp/thaw-fuzz-idx-XXXXXX");
    ALWAYS(mkdtemp(folder) != NULL);
    atexit(remove_folder);
    for (int i = 0; i < 2; i++) {
        snprintf(from, sizeof from, "train-%s", name[i]);
        snprintf(to, sizeof to, "%s/t10k-%s", folder, name[i]);
        ALWAYS(symlink(from, to) == 0);
    }
}

static void write_file(const char *name, const uint8_t *bytes, size_t n)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ALWAYS(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    char where[80];
    struct th_dataset d;
    if (n < 2)
        return 0;
    if (!*folder)
        make_folder();
    size_t n_images = (size_t)bytes[0] << 8 | bytes[1];
    n_images = n_images > n - 2 ? n - 2 : n_images;
    write_file("train-images-idx3-ubyte", bytes + 2, n_images);
    write_file("train-labels-idx1-ubyte", bytes + 2 + n_images, n - 2 - n_images);
    snprintf(where, sizeof where, "idx:%s", folder);
    thaw_status status =
        th_dataset_open(where, &(struct th_dataset_options){.as_is = true}, &d);
    check_answer(status);
    if (status == THAW_OK) {
        for (int split = 0; split < TH_N_SPLITS; split++)
            for (int64_t i = 0; i < d.split[split].n; i++) {
                const struct th_sample *s = &d.split[split].sample[i];
                ALWAYS(s->label >= 0 && s->label < d.n_classes);
                look_at(s->pixels, (size_t)s->w * (size_t)s->h);
            }
        th_dataset_close(&d);
    }
    return 0;
}
