/* SPDX-License-Identifier: Apache-2.0
 * Other processors than x86-64: the plain loops. */
#include "resize_pass.h"

const struct th_resize_pass *th_resize_fastest(void)
{
    return &th_resize_plain;
}
