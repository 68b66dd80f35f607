/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: lists of images as csv. The images themselves are never opened. */
#include "dataset.h"
#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    char where[64];
    struct th_dataset d;
    int fd = memfd_create("list.csv", MFD_CLOEXEC);
    ALWAYS(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
    snprintf(where, sizeof where, "csv:/proc/self/fd/%d", fd);
    thaw_status status =
        th_dataset_open(where, &(struct th_dataset_options){.as_is = true}, &d);
    check_answer(status);
    if (status == THAW_OK) {
        for (int split = 0; split < TH_N_SPLITS; split++)
            for (int64_t i = 0; i < d.split[split].n; i++) {
                const struct th_sample *s = &d.split[split].sample[i];
                ALWAYS(s->path && s->label >= 0 && s->label < d.n_classes);
            }
        th_dataset_close(&d);
    }
    close(fd);
    return 0;
}
