/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: lists of images as csv, with one class an image and with any number. The
 * images themselves are never opened. */
#include "dataset.h"
#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

static void read_list(const char *where, bool many)
{
    struct th_dataset d;
    const int32_t *class;
    thaw_status status = th_dataset_open(
        where, &(struct th_dataset_options){.as_is = true, .many = many}, &d);
    check_answer(status);
    if (status != THAW_OK)
        return;
    for (int split = 0; split < TH_N_SPLITS; split++)
        for (int64_t i = 0; i < d.split[split].n; i++) {
            const struct th_sample *s = &d.split[split].sample[i];
            int32_t classes = th_sample_classes(s, &class);
            ALWAYS(s->path && (many || classes == 1) && s->label < d.n_classes);
            for (int32_t k = 0; k < classes; k++)
                ALWAYS(class[k] >= 0 && class[k] < d.n_classes);
        }
    th_dataset_close(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    char where[64];
    int fd = memfd_create("list.csv", MFD_CLOEXEC);
    ALWAYS(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
    snprintf(where, sizeof where, "csv:/proc/self/fd/%d", fd);
    read_list(where, false);
    read_list(where, true);
    close(fd);
    return 0;
}
