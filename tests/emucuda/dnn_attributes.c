/* SPDX-License-Identifier: Apache-2.0
 * Owns the attributes of descriptors: which there are, of which type, and what was set. What
 * is not in the table is a finding: nobody has said what it means. */
#include "dnn.h"

#include <stdlib.h>
#include <string.h>

#define OF(type) CUDNN_BACKEND_##type##_DESCRIPTOR
#define WORD(of, name, type, flags)                                                    \
    {                                                                                  \
        OF(of), CUDNN_ATTR_##name, CUDNN_TYPE_##type, 1, flags, -1                     \
    }
#define NUMBERS(of, name, most, flags)                                                 \
    {                                                                                  \
        OF(of), CUDNN_ATTR_##name, CUDNN_TYPE_INT64, most, flags, -1                   \
    }
#define POINTS(of, name, to, most, flags)                                              \
    {                                                                                  \
        OF(of), CUDNN_ATTR_##name, CUDNN_TYPE_BACKEND_DESCRIPTOR, most, flags, OF(to)  \
    }
#define TENSOR(of, name, flags) POINTS(of, name, TENSOR, 1, flags)
#define NEED DNN_NEEDED
#define OUT (DNN_NEEDED | DNN_OUTPUT)
#define MAYBE_OUT DNN_OUTPUT

static const struct dnn_rule rules[] = {
    WORD(TENSOR, TENSOR_DATA_TYPE, DATA_TYPE, NEED),
    NUMBERS(TENSOR, TENSOR_DIMENSIONS, DNN_RANK, NEED),
    NUMBERS(TENSOR, TENSOR_STRIDES, DNN_RANK, NEED),
    NUMBERS(TENSOR, TENSOR_UNIQUE_ID, 1, NEED),
    NUMBERS(TENSOR, TENSOR_BYTE_ALIGNMENT, 1, NEED),
    WORD(TENSOR, TENSOR_IS_VIRTUAL, BOOLEAN, 0),
    WORD(TENSOR, TENSOR_IS_BY_VALUE, BOOLEAN, 0),

    WORD(CONVOLUTION, CONVOLUTION_COMP_TYPE, DATA_TYPE, NEED),
    WORD(CONVOLUTION, CONVOLUTION_CONV_MODE, CONVOLUTION_MODE, NEED),
    NUMBERS(CONVOLUTION, CONVOLUTION_SPATIAL_DIMS, 1, NEED),
    NUMBERS(CONVOLUTION, CONVOLUTION_DILATIONS, DNN_RANK, NEED),
    NUMBERS(CONVOLUTION, CONVOLUTION_FILTER_STRIDES, DNN_RANK, NEED),
    NUMBERS(CONVOLUTION, CONVOLUTION_PRE_PADDINGS, DNN_RANK, NEED),
    NUMBERS(CONVOLUTION, CONVOLUTION_POST_PADDINGS, DNN_RANK, NEED),

    POINTS(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
        CONVOLUTION, 1, NEED),
    TENSOR(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_X, NEED),
    TENSOR(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_W, NEED),
    TENSOR(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_Y, OUT),
    WORD(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_ALPHA, FLOAT, 0),
    WORD(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_BETA, FLOAT, 0),

    POINTS(OPERATION_CONVOLUTION_BACKWARD_DATA,
        OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CONVOLUTION, 1, NEED),
    TENSOR(OPERATION_CONVOLUTION_BACKWARD_DATA, OPERATION_CONVOLUTION_BWD_DATA_DX, OUT),
    TENSOR(OPERATION_CONVOLUTION_BACKWARD_DATA, OPERATION_CONVOLUTION_BWD_DATA_W, NEED),
    TENSOR(
        OPERATION_CONVOLUTION_BACKWARD_DATA, OPERATION_CONVOLUTION_BWD_DATA_DY, NEED),
    WORD(OPERATION_CONVOLUTION_BACKWARD_DATA, OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
        FLOAT, 0),
    WORD(OPERATION_CONVOLUTION_BACKWARD_DATA, OPERATION_CONVOLUTION_BWD_DATA_BETA,
        FLOAT, 0),

    POINTS(OPERATION_CONVOLUTION_BACKWARD_FILTER,
        OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CONVOLUTION, 1, NEED),
    TENSOR(OPERATION_CONVOLUTION_BACKWARD_FILTER, OPERATION_CONVOLUTION_BWD_FILTER_X,
        NEED),
    TENSOR(OPERATION_CONVOLUTION_BACKWARD_FILTER, OPERATION_CONVOLUTION_BWD_FILTER_DW,
        OUT),
    TENSOR(OPERATION_CONVOLUTION_BACKWARD_FILTER, OPERATION_CONVOLUTION_BWD_FILTER_DY,
        NEED),
    WORD(OPERATION_CONVOLUTION_BACKWARD_FILTER, OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
        FLOAT, 0),
    WORD(OPERATION_CONVOLUTION_BACKWARD_FILTER, OPERATION_CONVOLUTION_BWD_FILTER_BETA,
        FLOAT, 0),

    WORD(POINTWISE, POINTWISE_MODE, POINTWISE_MODE, NEED),
    WORD(POINTWISE, POINTWISE_MATH_PREC, DATA_TYPE, NEED),
    POINTS(OPERATION_POINTWISE, OPERATION_POINTWISE_PW_DESCRIPTOR, POINTWISE, 1, NEED),
    TENSOR(OPERATION_POINTWISE, OPERATION_POINTWISE_XDESC, NEED),
    TENSOR(OPERATION_POINTWISE, OPERATION_POINTWISE_BDESC, 0),
    TENSOR(OPERATION_POINTWISE, OPERATION_POINTWISE_YDESC, MAYBE_OUT),
    TENSOR(OPERATION_POINTWISE, OPERATION_POINTWISE_DYDESC, 0),
    TENSOR(OPERATION_POINTWISE, OPERATION_POINTWISE_DXDESC, MAYBE_OUT),

    WORD(REDUCTION, REDUCTION_OPERATOR, REDUCTION_OPERATOR_TYPE, NEED),
    WORD(REDUCTION, REDUCTION_COMP_TYPE, DATA_TYPE, NEED),
    POINTS(OPERATION_REDUCTION, OPERATION_REDUCTION_DESC, REDUCTION, 1, NEED),
    TENSOR(OPERATION_REDUCTION, OPERATION_REDUCTION_XDESC, NEED),
    TENSOR(OPERATION_REDUCTION, OPERATION_REDUCTION_YDESC, OUT),

    WORD(MATMUL, MATMUL_COMP_TYPE, DATA_TYPE, NEED),
    POINTS(OPERATION_MATMUL, OPERATION_MATMUL_DESC, MATMUL, 1, NEED),
    TENSOR(OPERATION_MATMUL, OPERATION_MATMUL_ADESC, NEED),
    TENSOR(OPERATION_MATMUL, OPERATION_MATMUL_BDESC, NEED),
    TENSOR(OPERATION_MATMUL, OPERATION_MATMUL_CDESC, OUT),

    TENSOR(OPERATION_RESHAPE, OPERATION_RESHAPE_XDESC, NEED),
    TENSOR(OPERATION_RESHAPE, OPERATION_RESHAPE_YDESC, OUT),

    WORD(RESAMPLE, RESAMPLE_MODE, RESAMPLE_MODE, NEED),
    WORD(RESAMPLE, RESAMPLE_COMP_TYPE, DATA_TYPE, NEED),
    WORD(RESAMPLE, RESAMPLE_PADDING_MODE, PADDING_MODE, NEED),
    NUMBERS(RESAMPLE, RESAMPLE_SPATIAL_DIMS, 1, NEED),
    NUMBERS(RESAMPLE, RESAMPLE_WINDOW_DIMS, DNN_RANK, NEED),
    NUMBERS(RESAMPLE, RESAMPLE_STRIDES, DNN_RANK, NEED),
    NUMBERS(RESAMPLE, RESAMPLE_PRE_PADDINGS, DNN_RANK, NEED),
    NUMBERS(RESAMPLE, RESAMPLE_POST_PADDINGS, DNN_RANK, NEED),
    POINTS(OPERATION_RESAMPLE_FWD, OPERATION_RESAMPLE_FWD_DESC, RESAMPLE, 1, NEED),
    TENSOR(OPERATION_RESAMPLE_FWD, OPERATION_RESAMPLE_FWD_XDESC, NEED),
    TENSOR(OPERATION_RESAMPLE_FWD, OPERATION_RESAMPLE_FWD_YDESC, OUT),
    TENSOR(OPERATION_RESAMPLE_FWD, OPERATION_RESAMPLE_FWD_IDXDESC, MAYBE_OUT),
    POINTS(OPERATION_RESAMPLE_BWD, OPERATION_RESAMPLE_BWD_DESC, RESAMPLE, 1, NEED),
    TENSOR(OPERATION_RESAMPLE_BWD, OPERATION_RESAMPLE_BWD_DXDESC, OUT),
    TENSOR(OPERATION_RESAMPLE_BWD, OPERATION_RESAMPLE_BWD_DYDESC, NEED),
    TENSOR(OPERATION_RESAMPLE_BWD, OPERATION_RESAMPLE_BWD_IDXDESC, 0),

    WORD(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_MODE, NORM_MODE, NEED),
    WORD(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_PHASE, NORM_FWD_PHASE, NEED),
    TENSOR(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_XDESC, NEED),
    TENSOR(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_SCALE_DESC, 0),
    TENSOR(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_BIAS_DESC, 0),
    TENSOR(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_EPSILON_DESC, 0),
    TENSOR(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_MEAN_DESC, MAYBE_OUT),
    TENSOR(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_INV_VARIANCE_DESC, MAYBE_OUT),
    TENSOR(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_YDESC, OUT),
    WORD(OPERATION_NORM_BACKWARD, OPERATION_NORM_BWD_MODE, NORM_MODE, NEED),
    TENSOR(OPERATION_NORM_BACKWARD, OPERATION_NORM_BWD_XDESC, NEED),
    TENSOR(OPERATION_NORM_BACKWARD, OPERATION_NORM_BWD_DYDESC, NEED),
    TENSOR(OPERATION_NORM_BACKWARD, OPERATION_NORM_BWD_MEAN_DESC, 0),
    TENSOR(OPERATION_NORM_BACKWARD, OPERATION_NORM_BWD_INV_VARIANCE_DESC, 0),
    TENSOR(OPERATION_NORM_BACKWARD, OPERATION_NORM_BWD_SCALE_DESC, 0),
    TENSOR(OPERATION_NORM_BACKWARD, OPERATION_NORM_BWD_DSCALE_DESC, MAYBE_OUT),
    TENSOR(OPERATION_NORM_BACKWARD, OPERATION_NORM_BWD_DBIAS_DESC, MAYBE_OUT),
    TENSOR(OPERATION_NORM_BACKWARD, OPERATION_NORM_BWD_DXDESC, OUT),

    TENSOR(OPERATION_SDPA_FWD, OPERATION_SDPA_FWD_QDESC, NEED),
    TENSOR(OPERATION_SDPA_FWD, OPERATION_SDPA_FWD_KDESC, NEED),
    TENSOR(OPERATION_SDPA_FWD, OPERATION_SDPA_FWD_VDESC, NEED),
    TENSOR(OPERATION_SDPA_FWD, OPERATION_SDPA_FWD_SCALEDESC, 0),
    TENSOR(OPERATION_SDPA_FWD, OPERATION_SDPA_FWD_ODESC, OUT),
    TENSOR(OPERATION_SDPA_FWD, OPERATION_SDPA_FWD_STATSDESC, MAYBE_OUT),

    {OF(OPERATIONGRAPH), CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
        DNN_NODES, NEED, -1},
    POINTS(ENGINEHEUR, ENGINEHEUR_OPERATION_GRAPH, OPERATIONGRAPH, 1, NEED),
    WORD(ENGINEHEUR, ENGINEHEUR_MODE, HEUR_MODE, NEED),
    POINTS(ENGINEHEUR, ENGINEHEUR_DEVICEPROP, DEVICEPROP, 1, 0),
    POINTS(ENGINEHEUR, ENGINEHEUR_RESULTS, ENGINECFG, 64, DNN_GIVEN),

    POINTS(ENGINE, ENGINE_OPERATION_GRAPH, OPERATIONGRAPH, 1, NEED),
    NUMBERS(ENGINE, ENGINE_GLOBAL_INDEX, 1, NEED),
    POINTS(ENGINE, ENGINE_DEVICEPROP, DEVICEPROP, 1, 0),
    WORD(ENGINE, ENGINE_NUMERICAL_NOTE, NUMERICAL_NOTE, DNN_GIVEN),
    WORD(ENGINE, ENGINE_BEHAVIOR_NOTE, BEHAVIOR_NOTE, DNN_GIVEN),
    POINTS(ENGINECFG, ENGINECFG_ENGINE, ENGINE, 1, NEED),
    POINTS(EXECUTION_PLAN, EXECUTION_PLAN_ENGINE_CONFIG, ENGINECFG, 1, 0),
    {OF(EXECUTION_PLAN), CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
        1 << 22, 0, -1},
    POINTS(EXECUTION_PLAN, EXECUTION_PLAN_DEVICEPROP, DEVICEPROP, 1, 0),
    NUMBERS(EXECUTION_PLAN, EXECUTION_PLAN_WORKSPACE_SIZE, 1, DNN_GIVEN),

    NUMBERS(VARIANT_PACK, VARIANT_PACK_UNIQUE_IDS, DNN_TENSORS, NEED),
    {OF(VARIANT_PACK), CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR,
        DNN_TENSORS, NEED, -1},
    WORD(VARIANT_PACK, VARIANT_PACK_WORKSPACE, VOID_PTR, 0),

    WORD(DEVICEPROP, DEVICEPROP_HANDLE, HANDLE, 0),
    {OF(DEVICEPROP), CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 8192,
        0, -1},
};
enum { N_RULES = sizeof rules / sizeof *rules };

static const struct {
    cudnnBackendDescriptorType_t type;
    const char *name;
} types[] = {
#define TYPE(x)                                                                        \
    {                                                                                  \
        OF(x), #x                                                                      \
    }
    TYPE(TENSOR),
    TYPE(CONVOLUTION),
    TYPE(OPERATION_CONVOLUTION_FORWARD),
    TYPE(OPERATION_CONVOLUTION_BACKWARD_DATA),
    TYPE(OPERATION_CONVOLUTION_BACKWARD_FILTER),
    TYPE(POINTWISE),
    TYPE(OPERATION_POINTWISE),
    TYPE(REDUCTION),
    TYPE(OPERATION_REDUCTION),
    TYPE(MATMUL),
    TYPE(OPERATION_MATMUL),
    TYPE(OPERATION_RESHAPE),
    TYPE(RESAMPLE),
    TYPE(OPERATION_RESAMPLE_FWD),
    TYPE(OPERATION_RESAMPLE_BWD),
    TYPE(OPERATION_NORM_FORWARD),
    TYPE(OPERATION_NORM_BACKWARD),
    TYPE(OPERATION_SDPA_FWD),
    TYPE(OPERATIONGRAPH),
    TYPE(ENGINEHEUR),
    TYPE(ENGINE),
    TYPE(ENGINECFG),
    TYPE(EXECUTION_PLAN),
    TYPE(VARIANT_PACK),
    TYPE(DEVICEPROP),
};
enum { N_TYPES = sizeof types / sizeof *types };

bool dnn_is_type(cudnnBackendDescriptorType_t type)
{
    for (int i = 0; i < N_TYPES; i++)
        if (types[i].type == type)
            return true;
    return false;
}

const char *dnn_name(cudnnBackendDescriptorType_t type)
{
    for (int i = 0; i < N_TYPES; i++)
        if (types[i].type == type)
            return types[i].name;
    return "?";
}

const struct dnn_rule *dnn_rules(cudnnBackendDescriptorType_t of, int *n)
{
    int first = 0;
    while (first < N_RULES && rules[first].of != of)
        first++;
    for (*n = 0; first + *n < N_RULES && rules[first + *n].of == of;)
        ++*n;
    return &rules[first];
}

const struct dnn_rule *dnn_rule(
    cudnnBackendDescriptorType_t of, cudnnBackendAttributeName_t name)
{
    for (int i = 0; i < N_RULES; i++)
        if (rules[i].of == of && rules[i].name == name)
            return &rules[i];
    return NULL;
}

size_t dnn_size(cudnnBackendAttributeType_t type)
{
    switch ((int)type) {
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR:
        return 1;
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
        return 8;
    default:
        return 4;
    }
}

/* ---- what was set ---- */

const struct dnn_value *dnn_value(
    const struct dnn_descriptor *d, cudnnBackendAttributeName_t name)
{
    for (int i = 0; i < d->n_values; i++)
        if (d->values[i].name == name)
            return &d->values[i];
    return NULL;
}

int dnn_word(
    const struct dnn_descriptor *d, cudnnBackendAttributeName_t name, int otherwise)
{
    const struct dnn_value *v = dnn_value(d, name);
    int word = otherwise;
    if (v && v->type == CUDNN_TYPE_BOOLEAN)
        word = *(const char *)v->data != 0;
    else if (v)
        memcpy(&word, v->data, sizeof word);
    return word;
}

const int64_t *dnn_numbers(
    const struct dnn_descriptor *d, cudnnBackendAttributeName_t name)
{
    const struct dnn_value *v = dnn_value(d, name);
    return v ? v->data : NULL;
}

struct dnn_descriptor *dnn_inner(
    const struct dnn_descriptor *d, cudnnBackendAttributeName_t name)
{
    const struct dnn_value *v = dnn_value(d, name);
    return v ? *(struct dnn_descriptor **)v->data : NULL;
}

/* ---- setting ---- */

static cudnnStatus_t check_pointed(
    const struct dnn_rule *rule, int64_t n, struct dnn_descriptor *const *given)
{
    for (int64_t i = 0; i < n; i++) {
        if (!dnn_is_live(given[i], "an attribute"))
            return CUDNN_STATUS_BAD_PARAM;
        if (rule->points_to >= 0 && (int)given[i]->type != rule->points_to)
            return dnn_stricter("attribute %d: a %s descriptor", (int)rule->name,
                dnn_name(given[i]->type));
        if (!given[i]->final)
            return dnn_stricter("attribute %d: the %s descriptor is not finalised",
                (int)rule->name, dnn_name(given[i]->type));
    }
    return CUDNN_STATUS_SUCCESS;
}

/* An attribute that some descriptor has is an error of the caller; one that none has is one
 * that this double does not know. */
static cudnnStatus_t no_rule(
    const struct dnn_descriptor *d, cudnnBackendAttributeName_t name)
{
    bool elsewhere = false;
    for (int i = 0; i < N_RULES; i++)
        elsewhere = elsewhere || rules[i].name == name;
    if (!elsewhere)
        emu_find(
            "unknown: attribute %d of a %s descriptor", (int)name, dnn_name(d->type));
    bool odd =
        d->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR;
    return dnn_refuse(odd ? CUDNN_STATUS_NOT_SUPPORTED : CUDNN_STATUS_BAD_PARAM,
        "a %s descriptor has no attribute %d", dnn_name(d->type), (int)name);
}

static struct dnn_value *slot(
    struct dnn_descriptor *d, cudnnBackendAttributeName_t name)
{
    for (int i = 0; i < d->n_values; i++)
        if (d->values[i].name == name)
            return &d->values[i];
    d->values = emu_grow(d->values, d->n_values, sizeof *d->values);
    d->values[d->n_values] = (struct dnn_value){.name = name};
    return &d->values[d->n_values++];
}

static void let_go_values(struct dnn_value *v)
{
    for (int64_t i = 0; v->type == CUDNN_TYPE_BACKEND_DESCRIPTOR && i < v->n; i++)
        dnn_let_go(((struct dnn_descriptor **)v->data)[i]);
    free(v->data);
}

static void put(struct dnn_descriptor *d, const struct dnn_rule *rule, int64_t n,
    const void *elements)
{
    size_t bytes = (size_t)n * dnn_size(rule->type);
    void *copy = malloc(bytes + 8);
    if (!copy)
        abort();
    memcpy(copy, elements, bytes);
    for (int64_t i = 0; rule->type == CUDNN_TYPE_BACKEND_DESCRIPTOR && i < n; i++)
        dnn_hold(((struct dnn_descriptor **)copy)[i]);
    struct dnn_value *v = slot(d, rule->name);
    let_go_values(v);
    v->type = rule->type;
    v->n = n;
    v->data = copy;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor,
    cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t n,
    const void *elements)
{
    struct dnn_descriptor *d = descriptor;
    if (!dnn_is_open("cudnnBackendSetAttribute"))
        return CUDNN_STATUS_NOT_INITIALIZED;
    if (!dnn_is_live(d, "cudnnBackendSetAttribute"))
        return CUDNN_STATUS_BAD_PARAM;
    if (d->final)
        return dnn_refuse(CUDNN_STATUS_BAD_PARAM, "the %s descriptor is finalised",
            dnn_name(d->type));
    const struct dnn_rule *rule = dnn_rule(d->type, name);
    if (!rule)
        return no_rule(d, name);
    if (rule->flags & DNN_GIVEN)
        return dnn_refuse(
            CUDNN_STATUS_BAD_PARAM, "attribute %d cannot be set", (int)name);
    double scale = 0; /* alpha and beta may be double */
    bool narrows = rule->type == CUDNN_TYPE_FLOAT && type == CUDNN_TYPE_DOUBLE;
    if (narrows && elements)
        memcpy(&scale, elements, sizeof scale);
    if (type != rule->type && !narrows)
        return dnn_refuse(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE,
            "attribute %d has another type than %d", (int)name, (int)type);
    if (!elements)
        return dnn_refuse(
            CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "attribute %d: NULL", (int)name);
    if (n < 1 || n > rule->most)
        return dnn_stricter("attribute %d of a %s descriptor: %lld elements", (int)name,
            dnn_name(d->type), (long long)n);
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
        cudnnStatus_t status = check_pointed(rule, n, elements);
        if (status != CUDNN_STATUS_SUCCESS)
            return status;
    }
    put(d, rule, n, narrows ? &(float){(float)scale} : elements);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor)
{
    struct dnn_descriptor *d = descriptor;
    if (!dnn_is_open("cudnnBackendFinalize"))
        return CUDNN_STATUS_NOT_INITIALIZED;
    if (!dnn_is_live(d, "cudnnBackendFinalize"))
        return CUDNN_STATUS_BAD_PARAM;
    if (d->final)
        return dnn_refuse(CUDNN_STATUS_BAD_PARAM, "the %s descriptor is finalised",
            dnn_name(d->type));
    int n;
    const struct dnn_rule *rule = dnn_rules(d->type, &n);
    for (int i = 0; i < n; i++)
        if (rule[i].flags & DNN_NEEDED && !dnn_value(d, rule[i].name))
            return dnn_stricter("a %s descriptor without attribute %d",
                dnn_name(d->type), (int)rule[i].name);
    cudnnStatus_t status = dnn_check(d);
    d->final = status == CUDNN_STATUS_SUCCESS;
    return status;
}

/* ---- getting ---- */

static cudnnStatus_t get_notes(unsigned bits, int64_t room, int64_t *n, int *notes)
{
    *n = 0;
    for (int i = 0; i < 32; i++)
        if (bits & 1U << i) {
            if (*n < room)
                notes[*n] = i;
            ++*n;
        }
    return CUDNN_STATUS_SUCCESS;
}

/* The engine of a configuration, or a plan's configuration, into a descriptor of the
 * caller's. */
static cudnnStatus_t get_part(
    const struct dnn_descriptor *d, struct dnn_descriptor *const *out)
{
    if (!dnn_is_live(*out, "cudnnBackendGetAttribute into a descriptor"))
        return CUDNN_STATUS_BAD_PARAM;
    struct dnn_descriptor *part = *out;
    bool engine = d->type == OF(ENGINECFG);
    if (part->type != (engine ? OF(ENGINE) : OF(ENGINECFG)) || part->final)
        return dnn_refuse(CUDNN_STATUS_BAD_PARAM, "no fresh descriptor for a part");
    part->graph = dnn_hold(d->graph);
    part->engine = d->engine;
    if (engine)
        put(part, dnn_rule(OF(ENGINE), CUDNN_ATTR_ENGINE_GLOBAL_INDEX), 1,
            &(int64_t){d->engine});
    part->final = true;
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t get_given(const struct dnn_descriptor *d,
    cudnnBackendAttributeName_t name, int64_t room, int64_t *n, void *elements)
{
    switch ((int)name) {
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
        return get_notes(
            dnn_numerical(d->graph->operations, d->engine), room, n, elements);
    case CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE:
        return get_notes(dnn_behaviour(d->engine), room, n, elements);
    case CUDNN_ATTR_ENGINEHEUR_RESULTS:
        return dnn_heuristics(d, room, n, elements);
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
        *n = 1;
        if (room >= 1)
            *(int64_t *)elements = d->workspace;
        return CUDNN_STATUS_SUCCESS;
    }
    return dnn_refuse(CUDNN_STATUS_BAD_PARAM, "attribute %d", (int)name);
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const descriptor,
    cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t room,
    int64_t *count, void *elements)
{
    const struct dnn_descriptor *d = descriptor;
    int64_t unused, *n = count ? count : &unused;
    if (!dnn_is_open("cudnnBackendGetAttribute"))
        return CUDNN_STATUS_NOT_INITIALIZED;
    if (!dnn_is_live(d, "cudnnBackendGetAttribute"))
        return CUDNN_STATUS_BAD_PARAM;
    if (!d->final)
        return dnn_refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED,
            "the %s descriptor is not finalised", dnn_name(d->type));
    const struct dnn_rule *rule = dnn_rule(d->type, name);
    if (!rule)
        return no_rule(d, name);
    if (type != rule->type)
        return dnn_refuse(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE,
            "attribute %d has another type than %d", (int)name, (int)type);
    if (room < 0 || (room > 0 && !elements))
        return dnn_refuse(
            CUDNN_STATUS_BAD_PARAM, "no room for attribute %d", (int)name);
    if (rule->flags & DNN_GIVEN)
        return get_given(d, name, room, n, elements);
    if ((name == CUDNN_ATTR_ENGINECFG_ENGINE ||
            name == CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG) &&
        room > 0) {
        *n = 1;
        return get_part(d, elements);
    }
    if (name == CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION ||
        name == CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION)
        return dnn_json(d, room, n, elements);
    const struct dnn_value *v = dnn_value(d, name);
    *n = v ? v->n : 0;
    if (v && type != CUDNN_TYPE_BACKEND_DESCRIPTOR)
        memcpy(elements, v->data, (size_t)(v->n < room ? v->n : room) * dnn_size(type));
    return CUDNN_STATUS_SUCCESS;
}
