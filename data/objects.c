/* SPDX-License-Identifier: Apache-2.0
 * Owns what tells two objects apart. */
#include "objects.h"

#include "tensor.h"

uint64_t th_object_hash(const struct th_object *o, uint64_t seed)
{
    const float value[6] = {
        o->box[0], o->box[1], o->box[2], o->box[3], o->area, o->crowd};
    return th_hash(value, sizeof value, seed);
}
