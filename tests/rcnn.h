/* SPDX-License-Identifier: Apache-2.0
 * A version of Faster R-CNN beside torchvision's. Behind golden/faster_rcnn*.h, whose values it
 * compares with. */
#ifndef TH_TESTS_RCNN_H
#define TH_TESTS_RCNN_H

#include "detect.h"

/* With golden_factors on the weights. */
static void open_factored(struct net *n, const char *device, const char *head)
{
    open_detector(n, device, "resnet20_s4", head);
    for (size_t i = 0; i < sizeof golden_factors / sizeof *golden_factors; i++) {
        int id = th_store_find(&n->store, golden_factors[i].name);
        int p = th_model_param(&n->model, golden_factors[i].name);
        int64_t count = th_shape_count(&n->model.params[p].shape);
        float *v = th_alloc((size_t)count, sizeof *v);
        must(th_store_get(&n->store, id, v));
        for (int64_t k = 0; k < count; k++)
            v[k] *= (float)golden_factors[i].by;
        must(th_store_put(&n->store, id, v));
        th_free(v);
    }
}

static inline double golden_loss_sum(void)
{
    return golden_loss[0] + golden_loss[1] + golden_loss[2] + golden_loss[3];
}

/* Where it takes no seconds, as in plain C. */
static inline bool is_fast(const char *device)
{
    return net_has_device(device) && strncmp(device, "cpu", 3) == 0;
}

static inline void check_rcnn_found(void (*open)(struct net *n, const char *device))
{
    for (int i = 0; i < NET_DEVICES; i++)
        if (is_fast(net_devices[i]))
            check_found(net_devices[i], open);
}

#endif
