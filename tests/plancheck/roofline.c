/* SPDX-License-Identifier: Apache-2.0
 * A roofline MODEL of training steps in bf16 on an H100 SXM and an A100 80 GB, from what the
 * plans move and multiply. No GPU was asked: it is what a step takes at the least if every
 * kernel reaches 85 % of the memory's bandwidth or all of the tensor cores' peak, launched
 * without a gap (Williams, Waterman, Patterson, "Roofline", CACM 2009; NVIDIA's data sheets).
 *
 *     seconds = sum over launches of max(2 macs / flops, bytes / (0.85 bandwidth), 3e-6)
 *
 * What is counted: cost.c. */
#include "calls.h"
#include "cost.h"

#include <stdio.h>

int main(void)
{
    enum { BATCH = 256 };
    static const struct plan_case cases[] = {
        {"resnet50", "all", "train", TH_TRAIN},
        {"resnet50", "all", "frozen", TH_TRAIN},
        {"resnet50", "stage4,head", "auto", TH_TRAIN},
        {"resnet50", "head", "auto", TH_TRAIN},
        {"vit_base_patch16_224", "all", "auto", TH_TRAIN},
        {"vit_base_patch16_224", "block10,block11,norm,head", "auto", TH_TRAIN},
        {"vit_base_patch16_224", "head", "auto", TH_TRAIN},
    };
    printf("a MODEL (roofline), not a measurement: bf16, batch %d\n", BATCH);
    printf("%-21s %-25s %-7s %8s %7s %6s %14s %14s\n", "network", "trains", "bn",
        "launches", "TFLOP", "GB", "H100 images/s", "A100 images/s");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cost c = {0};
        if (plan_case_visit(&cases[i], BATCH, cost_add, &c) != THAW_OK) {
            fprintf(stderr, "%s: %s\n", cases[i].variant, thaw_error());
            return 1;
        }
        printf("%-21s %-25s %-7s %8d %7.2f %6.1f %14.0f %14.0f\n", cases[i].variant,
            cases[i].thaw, cases[i].bn, c.launches, 2e-12 * c.macs, 1e-9 * c.bytes,
            BATCH / c.seconds[H100], BATCH / c.seconds[A100]);
    }
    return 0;
}
