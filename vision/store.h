/* SPDX-License-Identifier: Apache-2.0
 * The store: every tensor that outlives a step, by name, on one device. Parameters and
 * buffers under their own names; optimizer slots as "momentum/NAME", "adam.m/NAME",
 * "adam.v/NAME", "adam.t/NAME"; "ema/NAME"; "start/NAME", where L2-SP decays to; of a
 * group of batches "total/NAME" and "kept/NAME"; the scalars as "scalars".
 *
 * Invariants: a tensor's memory never moves; its version grows whenever it may have
 * changed, so that what was derived from it knows; a tensor that is read-only traps on a
 * write where the device can. A checkpoint is a dump of the store. */
#ifndef TH_STORE_H
#define TH_STORE_H

#include "backend.h"

struct th_state {
    char *name;
    struct th_shape shape;
    void *data; /* device memory, fp32 */
    size_t bytes;
    uint64_t version;
    bool readonly;
};

struct th_store {
    struct th_device *device;
    struct th_state *states;
    int n, cap;
};

void th_store_init(struct th_store *s, struct th_device *device);
void th_store_release(struct th_store *s);

int th_store_find(const struct th_store *s, const char *name); /* -1: none */
/* Zero-filled; an existing one of the same name and shape is returned as it is. */
thaw_status th_store_add(
    struct th_store *s, const char *name, struct th_shape shape, int *id);
thaw_status th_store_put(struct th_store *s, int id, const float *host);
thaw_status th_store_get(const struct th_store *s, int id, float *host);
/* Its values where they are, until the next run; NULL: the host cannot read them there. */
const float *th_store_view(const struct th_store *s, int id);
thaw_status th_store_protect(struct th_store *s, int id, bool readonly);
/* Content hash of one tensor. */
thaw_status th_store_hash(const struct th_store *s, int id, uint64_t *hash);
/* Forget a tensor (a slot of what no longer trains); the others keep their ids. */
void th_store_drop(struct th_store *s, int id);

#endif
