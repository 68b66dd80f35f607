/* SPDX-License-Identifier: Apache-2.0
 * Owns the table of convolution algorithms: which shapes take Winograd's F(4x4,3x3)
 * (Lavin & Gray, arXiv:1509.09308) instead of the direct one. A table, never a clock, so
 * that results depend on the build, instruction set and thread count alone.
 *
 * Measured with oneDNN 2.6.3 on an EPYC with AVX-512, GF/s per core, direct -> Winograd,
 * batch 32:
 *   channels  image    forward        dx             dw
 *      64     56x56    117 -> 276     114 -> 271      99 -> 188
 *     128     28x28    118 -> 295     117 -> 289     113 -> 212
 *     256     14x14    122 -> 239     116 -> 245      98 -> 234
 *     512      7x7     137 -> 254     134 -> 244      70 -> 230
 * It loses below some 32 tiles (512 channels, 7x7, batch 4: 132 -> 103) and is no gain
 * below 32 channels. Relative L2 error against sums in double, normal data, He weights:
 * direct 2e-7 forward and dx, 2e-7 to 1.4e-6 dw; Winograd at most 1.1e-6 in all three. */
#include "cpu.h"

enum { TILE = 4, LEAST_TILES = 32, LEAST_CHANNELS = 32 };

bool th_conv_winograd(enum th_isa_level level, const struct th_dnnl_conv *c)
{
    int64_t tiles = c->n * th_parts(c->oh, TILE) * th_parts(c->ow, TILE);
    bool shape = c->kh == 3 && c->kw == 3 && c->stride[0] == 1 && c->stride[1] == 1 &&
                 c->dilation[0] == 1 && c->dilation[1] == 1 && c->groups == 1;
    return level >= TH_ISA_AVX512 && shape && c->x_block == 16 && c->y_block == 16 &&
           c->c >= LEAST_CHANNELS && c->o >= LEAST_CHANNELS && tiles >= LEAST_TILES;
}

/* Beside oneDNN's matrix product, which does 55 GMAC/s on one core of that machine; medians
 * over ResNet-20 at 32 pixels and ResNet-50 and ResNeXt-50 at 96, batch 8 and 32. */
double th_conv_effort(const struct th_dnnl_conv *c, bool plain)
{
    static const double plain_c = 50, grouped = 4, winograd = 0.5, direct = 1.1;
    double effort = c->winograd ? winograd : c->groups > 1 ? grouped : direct;
    if (plain)
        return plain_c;
    return c->direction == TH_DNNL_DW ? 1.15 * effort : effort;
}
