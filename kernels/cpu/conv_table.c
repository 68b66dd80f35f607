/* SPDX-License-Identifier: Apache-2.0
 * Owns the built-in table of convolution algorithms, measured with oneDNN 2.6.3 on an
 * EPYC with AVX-512; docs/convolution.md has the figures, and the errors. */
#include "cpu.h"

/* 3x3, stride 1: where own Winograd wins, by instruction set and direction. It needs some
 * 4x4 tiles of outputs to share the transformed weights, and tiles that are at least half
 * full. It beats oneDNN's in all that was measured, so that the table never has that. */
static const struct row {
    enum th_isa_level level;
    enum th_dnnl_direction direction;
    int64_t tiles; /* of a batch, at least */
} rows[] = {
    {TH_ISA_AVX512, TH_DNNL_FORWARD, 4},
    {TH_ISA_AVX512, TH_DNNL_DX, 4},
    {TH_ISA_AVX512, TH_DNNL_DW, 8},
    {TH_ISA_AVX2, TH_DNNL_FORWARD, 4},
    {TH_ISA_AVX2, TH_DNNL_DX, 4},
    {TH_ISA_AVX2, TH_DNNL_DW, 8},
    {TH_ISA_BASE, TH_DNNL_FORWARD, 4},
    {TH_ISA_BASE, TH_DNNL_DX, 4},
};

static enum th_conv_algorithm built_in(
    enum th_isa_level level, const struct th_dnnl_conv *c)
{
    bool dx = c->direction == TH_DNNL_DX;
    int64_t h = dx ? c->h : c->oh, w = dx ? c->w : c->ow;
    int64_t tiles = th_parts(h, TH_WINOGRAD_OUT) * th_parts(w, TH_WINOGRAD_OUT);
    bool full = 2 * h * w >= tiles * TH_WINOGRAD_OUT * TH_WINOGRAD_OUT;
    for (size_t i = 0; full && i < sizeof rows / sizeof *rows; i++)
        if (level == rows[i].level && c->direction == rows[i].direction &&
            c->n * tiles >= rows[i].tiles)
            return TH_CONV_WINOGRAD;
    return TH_CONV_DIRECT;
}

/* What Winograd of either kind can do; of oneDNN's, it finds out itself. */
enum th_conv_algorithm th_conv_algorithm(
    const struct th_call *call, const struct th_dnnl_conv *c)
{
    const struct th_cpu *cpu = th_cpu(call);
    const struct th_device *device = call->device;
    struct th_conv_choice wanted = th_conv_choice_of(call);
    if (!th_winograd_can(c, cpu->isa->winograd))
        return TH_CONV_DIRECT;
    for (size_t i = 0; i < device->n_choices; i++)
        if (th_conv_choice_same(&device->choices[i], &wanted))
            return device->choices[i].algorithm;
    return built_in(cpu->level, c);
}

/* Beside oneDNN's matrix product, which does 55 GMAC/s on one core of that machine; medians
 * over ResNet-20 at 32 pixels and ResNet-50 and ResNeXt-50 at 96, batch 8 and 32. */
double th_conv_effort(
    const struct th_dnnl_conv *c, enum th_conv_algorithm algorithm, bool plain)
{
    static const double plain_c = 50, grouped = 4;
    static const double efforts[TH_CONV_ALGORITHMS] = {[TH_CONV_DIRECT] = 1.1,
        [TH_CONV_DNNL_WINOGRAD] = 0.5,
        [TH_CONV_WINOGRAD] = 0.45};
    double effort = c->groups > 1 ? grouped : efforts[algorithm];
    if (plain)
        return plain_c;
    return c->direction == TH_DNNL_DW ? 1.15 * effort : effort;
}
