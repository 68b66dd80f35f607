/* SPDX-License-Identifier: Apache-2.0
 * Owns linear, linear_dx and linear_dw, matrix products on row-major memory: own kernels
 * where they are faster, else oneDNN's with weights as they are, else plain C; and the pairs
 * of a linear_dw and a bias_grad that run as one. */
#include "cpu.h"

#include "mem.h"
#include "ref/ref.h"

/* The one of three that runs it. */
struct state {
    struct th_matmul_job own;  /* own.isa NULL: not it; first, for th_matmul_run */
    struct th_dnnl_step *step; /* NULL as well: the plain C kernel */
};

/* With R rows, I input and O output features, in row-major memory:
 *   y[R][O] = x[R][I] w[O][I]^T + b,  dx[R][I] = dy[R][O] w[O][I],
 *   dw[O][I] = dy[R][O]^T x[R][I] */
static struct th_dnnl_matmul describe(const struct th_call *call)
{
    const struct th_shape *a = &call->in[0].shape, *b = &call->in[1].shape;
    int64_t columns = a->dim[a->rank - 1], rows = th_shape_count(a) / columns;
    if (call->op == TH_OP_linear)
        return (struct th_dnnl_matmul){.m = rows,
            .n = b->dim[0],
            .k = columns,
            .w_transposed = true,
            .bias = call->in[2].present};
    if (call->op == TH_OP_linear_dx)
        return (struct th_dnnl_matmul){.m = rows, .n = b->dim[1], .k = columns};
    return (struct th_dnnl_matmul){
        .m = b->dim[b->rank - 1], .n = columns, .k = rows, .x_transposed = true};
}

/* Of the peak, over ViT-S's products with two threads: on AVX2 (Zen 3) oneDNN's reach 82 %,
 * own ones 88 %; on AVX-512 (Sapphire Rapids) 70 to 80 %, as the machine's neighbours
 * allow, own ones 1.03 to 1.08 times that. Of ViT-B's, 66 and 81 %. */
static bool prefers_own(const struct th_cpu *cpu, const struct th_matmul *p)
{
    return cpu->level != TH_ISA_BASE && th_matmul_can(p, cpu->isa->matmul);
}

static void linear_release(struct th_call *call)
{
    struct state *s = call->state;
    if (s)
        th_dnnl_step_free(s->step);
    th_free(s);
    call->state = NULL;
}

static struct th_matmul sizes_of(const struct th_dnnl_matmul *mm)
{
    return (struct th_matmul){.m = mm->m,
        .n = mm->n,
        .k = mm->k,
        .a_row = mm->x_transposed ? 1 : mm->k,
        .a_k = mm->x_transposed ? mm->m : 1,
        .b_k = mm->w_transposed ? 1 : mm->n,
        .b_column = mm->w_transposed ? mm->k : 1};
}

static thaw_status linear_prepare(struct th_call *call)
{
    struct th_cpu *cpu = th_cpu(call);
    struct th_dnnl_matmul mm = describe(call);
    struct th_matmul p = sizes_of(&mm);
    struct state *s = call->state = th_alloc(1, sizeof *s);
    if (!s)
        return THAW_E_MEMORY;
    if (prefers_own(cpu, &p)) {
        th_matmul_init(&p, cpu->isa->matmul, call->device->threads);
        s->own = (struct th_matmul_job){.isa = cpu->isa->matmul, .sizes = p};
        call->scratch_bytes = sizeof(float) * (size_t)p.n_scratch;
        return THAW_OK;
    }
    thaw_status status = th_dnnl_matmul_new(cpu->dnnl, &mm, &s->step);
    if (status != THAW_OK)
        linear_release(call);
    else
        call->scratch_bytes = th_dnnl_scratch_bytes(s->step);
    return status;
}

/* Roles of a product's operands: y = x w + b; see describe. */
static void operands(const struct th_call *call, void *ptr[TH_DNNL_ROLES])
{
    ptr[TH_DNNL_SCRATCH] = call->scratch;
    if (call->op == TH_OP_linear) {
        const struct th_args_linear *a = (const void *)call->args;
        ptr[TH_DNNL_X] = a->x;
        ptr[TH_DNNL_W] = a->w;
        ptr[TH_DNNL_B] = a->b_;
        ptr[TH_DNNL_Y] = a->y;
    } else if (call->op == TH_OP_linear_dx) {
        const struct th_args_linear_dx *a = (const void *)call->args;
        ptr[TH_DNNL_X] = a->dy;
        ptr[TH_DNNL_W] = a->w;
        ptr[TH_DNNL_Y] = a->dx;
    } else {
        const struct th_args_linear_dw *a = (const void *)call->args;
        ptr[TH_DNNL_X] = a->dy;
        ptr[TH_DNNL_W] = a->x;
        ptr[TH_DNNL_Y] = a->dw;
    }
}

static thaw_status linear_run(const struct th_call *call)
{
    struct state *s = call->state;
    void *ptr[TH_DNNL_ROLES] = {0};
    operands(call, ptr);
    if (s->step)
        return th_dnnl_run(s->step, ptr);
    if (!s->own.isa)
        return th_ref_kernel(call->op)->run(call);
    s->own.args = (struct th_matmul_args){.a = ptr[TH_DNNL_X],
        .b = ptr[TH_DNNL_W],
        .bias = ptr[TH_DNNL_B],
        .c = ptr[TH_DNNL_Y],
        .scratch = call->scratch};
    if (call->second)
        s->own.args.sums = ((const struct th_args_bias_grad *)call->second->args)->db;
    th_matmul_run(call, &s->own);
    return THAW_OK;
}

const struct th_kernel th_cpu_linear = {
    .layout = th_layout_plain,
    .prepare = linear_prepare,
    .run = linear_run,
    .release = linear_release,
};
const struct th_kernel th_cpu_linear_dx = {
    .layout = th_layout_plain,
    .prepare = linear_prepare,
    .run = linear_run,
    .release = linear_release,
};
const struct th_kernel th_cpu_linear_dw = {
    .layout = th_layout_plain,
    .prepare = linear_prepare,
    .run = linear_run,
    .release = linear_release,
};

/* linear_dw with the bias_grad of the same dy, which is summed while it is copied. */
static thaw_status linear_dw_db_prepare(struct th_call *call)
{
    struct th_cpu *cpu = th_cpu(call);
    struct th_dnnl_matmul mm = describe(call);
    struct th_matmul p = sizes_of(&mm);
    if (prefers_own(cpu, &p) && cpu->isa->matmul->sums)
        return linear_prepare(call);
    call->second = NULL; /* they run apart */
    return THAW_OK;
}

const struct th_kernel th_cpu_linear_dw_db = {
    .layout = th_layout_plain,
    .prepare = linear_dw_db_prepare,
    .run = linear_run,
    .release = linear_release,
};

static int bias_grad_of(const struct th_pair_step *steps, int n, int dw)
{
    for (int j = dw + 1; j < n; j++)
        if (steps[j].call->op == TH_OP_bias_grad && steps[j].partner < 0 &&
            !steps[j].alone && steps[j].in[0] == steps[dw].in[1])
            return j;
    return -1;
}

/* A pair runs where the first stands: all that bias_grad reads, the first reads, too. */
void th_cpu_pair(struct th_pair_step *steps, int n)
{
    for (int i = 0; i < n; i++) {
        if (steps[i].call->op != TH_OP_linear_dw || steps[i].alone)
            continue;
        int j = bias_grad_of(steps, n, i);
        if (j < 0)
            continue;
        steps[i].partner = j;
        steps[j].partner = i;
        steps[j].second = true;
        steps[i].early = steps[j].early = true;
        steps[i].keep = steps[j].keep = true;
    }
}
