/* SPDX-License-Identifier: Apache-2.0
 * Owns the device "cpu": its choice of instruction set, and its table of kernels. What
 * has no kernel of its own here runs in plain C. */
#include "cpu.h"

#include "host.h"
#include "mem.h"
#include "ref/ref.h"

#include <stdio.h>
#include <string.h>

thaw_status th_cpu_run_own(const struct th_call *call)
{
    return th_cpu(call)->isa->run[call->op](call);
}

/* Instruction sets -------------------------------------------------------------------- */

static const struct {
    const struct th_isa *isa;
    int block; /* that oneDNN's convolutions want */
} levels[] = {
    [TH_ISA_BASE] = {&th_isa_base, 8},
    [TH_ISA_AVX2] = {&th_isa_avx2, 8},
    [TH_ISA_AVX512] = {&th_isa_avx512, 16},
};

static thaw_status choose_level(const struct th_device *device, enum th_isa_level *out)
{
    enum th_isa_level best = th_best_level();
    *out = best;
    if (device->isa[0] == '\0')
        return THAW_OK;
    for (int i = 0; i <= TH_ISA_AVX512; i++) {
        if (strcmp(device->isa, levels[i].isa->name) != 0)
            continue;
        *out = (enum th_isa_level)i;
        if (*out <= best)
            return THAW_OK;
        return th_fail(THAW_E_USAGE,
            "device cpu:%s: this machine has %s at most: use cpu, or cpu:%s",
            device->isa, levels[best].isa->name, levels[best].isa->name);
    }
    return th_fail(THAW_E_USAGE,
        "device cpu:%s: not an instruction set: there are base, avx2, avx512",
        device->isa);
}

/* The device ------------------------------------------------------------------------ */

static thaw_status cpu_open(struct th_device *device)
{
    enum th_isa_level level;
    TRY(choose_level(device, &level));
    struct th_cpu *cpu = th_alloc(1, sizeof *cpu);
    if (!cpu)
        return THAW_E_MEMORY;
    thaw_status status = th_dnnl_open(level, device->threads, &cpu->dnnl);
    if (status != THAW_OK) {
        th_free(cpu);
        return status;
    }
    cpu->level = level;
    cpu->isa = levels[level].isa;
    snprintf(cpu->text, sizeof cpu->text, "cpu: oneDNN %s, %s, %d thread%s",
        th_dnnl_version(cpu->dnnl), cpu->isa->name, device->threads,
        device->threads == 1 ? "" : "s");
    snprintf(device->isa, sizeof device->isa, "%s", cpu->isa->name);
    device->block = levels[level].block;
    device->int8 = th_has_vnni(level);
    device->state = cpu;
    return THAW_OK;
}

static void cpu_close(struct th_device *device)
{
    struct th_cpu *cpu = device->state;
    th_dnnl_close(cpu->dnnl);
    th_free(cpu);
}

/* Threads that OpenMP makes in between have the mode of the one that makes them, and get the
 * host's at the end like the others. */
static void cpu_begin(struct th_device *device)
{
    ((struct th_cpu *)device->state)->host_mode = th_denormals();
    th_parallel_denormals(device, TH_NO_DENORMALS);
}

static void cpu_end(struct th_device *device)
{
    th_parallel_denormals(device, ((struct th_cpu *)device->state)->host_mode);
}

static const char *cpu_describe(struct th_device *device)
{
    return ((struct th_cpu *)device->state)->text;
}

/* Kernels --------------------------------------------------------------------------- */

/* Own kernels that need no preparation, in any block. */
static const struct th_kernel own = {.run = th_cpu_run_own};
static const struct th_kernel own_in_place = {.run = th_cpu_run_own, .in_place = true};
static const struct th_kernel own_plain = {
    .layout = th_layout_plain, .run = th_cpu_run_own};

static const struct th_kernel *cpu_kernel(enum th_op op)
{
    static const struct th_kernel *const kernels[TH_OP_COUNT] = {
        [TH_OP_conv] = &th_cpu_conv,
        [TH_OP_conv_dx] = &th_cpu_conv_dx,
        [TH_OP_conv_dw] = &th_cpu_conv_dw,
        [TH_OP_linear] = &th_cpu_linear,
        [TH_OP_linear_dx] = &th_cpu_linear_dx,
        [TH_OP_linear_dw] = &th_cpu_linear_dw,
        [TH_OP_bias_grad] = &th_cpu_bias_grad,
        [TH_OP_bn_stats] = &th_cpu_bn_stats,
        [TH_OP_bn_apply] = &own_in_place,
        [TH_OP_bn_update] = &own,
        [TH_OP_bn_reduce] = &th_cpu_bn_reduce,
        [TH_OP_bn_dx_batch] = &own_in_place,
        [TH_OP_bn_dx_running] = &own_in_place,
        [TH_OP_bn_fold] = &own_plain,
        [TH_OP_layernorm] = &own,
        [TH_OP_layernorm_dx] = &own_in_place,
        [TH_OP_layernorm_dw] = &th_cpu_layernorm_dw,
        [TH_OP_groupnorm] = &th_cpu_groupnorm,
        [TH_OP_groupnorm_dx] = &th_cpu_groupnorm_dx,
        [TH_OP_groupnorm_dw] = &th_cpu_groupnorm_dw,
        [TH_OP_gelu] = &own_in_place,
        [TH_OP_gelu_dx] = &own_in_place,
        [TH_OP_tokens] = &th_cpu_tokens,
        [TH_OP_tokens_dx] = &th_cpu_tokens_dx,
        [TH_OP_attention] = &th_cpu_attention,
        [TH_OP_attention_dx] = &th_cpu_attention_dx,
        [TH_OP_relu] = &own_in_place,
        [TH_OP_relu_dx] = &own_in_place,
        [TH_OP_add] = &own_in_place,
        [TH_OP_maxpool] = &own,
        [TH_OP_maxpool_dx] = &own,
        [TH_OP_avgpool] = &own,
        [TH_OP_avgpool_dx] = &own,
        [TH_OP_gap] = &own,
        [TH_OP_gap_dx] = &own,
        [TH_OP_shortcut_a] = &th_cpu_shortcut_a,
        [TH_OP_shortcut_a_dx] = &th_cpu_shortcut_a_dx,
        [TH_OP_upsample] = &own,
        [TH_OP_upsample_dx] = &own,
        [TH_OP_map_rows] = &own,
        [TH_OP_map_rows_dx] = &own,
        [TH_OP_reorder] = &th_cpu_reorder,
        [TH_OP_quantize] = &th_cpu_quantize,
        [TH_OP_dequantize] = &th_cpu_dequantize,
        [TH_OP_conv_q] = &th_cpu_conv_q,
        [TH_OP_maxpool_q] = &th_cpu_maxpool_q,
        [TH_OP_focal] = &th_cpu_focal,
        [TH_OP_focal_dx] = &own_in_place,
        [TH_OP_roi_align] = &th_cpu_roi_align,
        [TH_OP_roi_align_dx] = &th_cpu_roi_align_dx,
        [TH_OP_sum_squares] = &th_cpu_sum_squares,
        [TH_OP_accumulate] = &own,
        [TH_OP_sgd] = &own,
        [TH_OP_adamw] = &own,
        [TH_OP_ema] = &own,
        [TH_OP_lora_merge] = &own_plain,
        [TH_OP_lora_da] = &own_plain,
        [TH_OP_lora_db] = &own_plain,
    };
    return kernels[op] ? kernels[op] : th_ref_kernel(op);
}

const struct th_backend th_backend_cpu = {
    .name = "cpu",
    .kernel = cpu_kernel,
    .pair = th_cpu_pair,
    .pair_kernel = &th_cpu_linear_dw_db,
    .open = cpu_open,
    .close = cpu_close,
    .begin = cpu_begin,
    .end = cpu_end,
    .alloc = th_host_alloc,
    .free = th_host_free,
    .upload = th_host_copy,
    .download = th_host_copy,
    .protect = th_host_protect,
    .discard = th_host_discard,
    .describe = cpu_describe,
};
