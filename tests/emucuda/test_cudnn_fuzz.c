/* SPDX-License-Identifier: Apache-2.0
 * The double of cuDNN beside cuDNN: random sequences of attributes, mostly sensible, give
 * statuses of the same class in the real library, which runs in a process of its own. The
 * double may be stricter, but only with a finding. Descriptors alone: they need no GPU. */
#include "dnn.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { SCRIPTS = 5000, STEPS = 160, DESCRIPTORS = 14, ROOM = 8 };

/* The library or its double. */
struct calls {
    cudnnStatus_t (*create)(cudnnBackendDescriptorType_t, cudnnBackendDescriptor_t *);
    cudnnStatus_t (*destroy)(cudnnBackendDescriptor_t);
    cudnnStatus_t (*set)(cudnnBackendDescriptor_t, cudnnBackendAttributeName_t,
        cudnnBackendAttributeType_t, int64_t, const void *);
    cudnnStatus_t (*finalize)(cudnnBackendDescriptor_t);
};

/* What a script has done, and what came of it. */
struct step {
    int descriptor, name, type, n; /* name -1: finalised, -2: made */
    int category;
    int findings; /* of the double, so far */
    int64_t values[ROOM];
};

struct script {
    const struct calls *calls;
    uint64_t random;
    cudnnBackendDescriptor_t at[DESCRIPTORS];
    cudnnBackendDescriptorType_t types[DESCRIPTORS];
    bool final[DESCRIPTORS];
    int n, n_steps;
    struct step steps[STEPS];
};

static int draw(struct script *s, int n)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return (int)((s->random >> 11) % (uint64_t)n);
}

static bool rarely(struct script *s)
{
    return draw(s, 40) == 0;
}

static struct step *step(struct script *s, int descriptor, int name)
{
    struct step *t = &s->steps[s->n_steps < STEPS ? s->n_steps++ : STEPS - 1];
    *t = (struct step){.descriptor = descriptor, .name = name};
    return t;
}

static void came_of_it(struct step *t, cudnnStatus_t status)
{
    t->category = (int)status / 1000;
    t->findings = emu_findings();
}

/* ---- sensible values ---- */

static const int types[] = {
    CUDNN_DATA_FLOAT, CUDNN_DATA_FLOAT, CUDNN_DATA_BFLOAT16, CUDNN_DATA_HALF};
static const int modes[] = {CUDNN_POINTWISE_ADD, CUDNN_POINTWISE_MUL,
    CUDNN_POINTWISE_RELU_FWD, CUDNN_POINTWISE_IDENTITY, CUDNN_POINTWISE_GELU_FWD,
    CUDNN_POINTWISE_SUB};
static const int64_t sizes[][4] = {{2, 8, 6, 6}, {2, 8, 6, 6}, {2, 8, 6, 6},
    {8, 8, 3, 3}, {1, 8, 1, 1}, {2, 8, 5, 6}, {2, 16, 6, 6}};

static void word(struct script *s, cudnnBackendAttributeType_t type, int64_t *value)
{
    int w = 0;
    switch ((int)type) {
    case CUDNN_TYPE_DATA_TYPE:
        w = types[draw(s, 4)];
        break;
    case CUDNN_TYPE_POINTWISE_MODE:
        w = modes[draw(s, 6)];
        break;
    case CUDNN_TYPE_CONVOLUTION_MODE:
        w = CUDNN_CROSS_CORRELATION;
        break;
    case CUDNN_TYPE_RESAMPLE_MODE:
        w = draw(s, 2) ? CUDNN_RESAMPLE_MAXPOOL : CUDNN_RESAMPLE_AVGPOOL;
        break;
    case CUDNN_TYPE_NORM_MODE:
        w = draw(s, 2) ? CUDNN_BATCH_NORM : CUDNN_LAYER_NORM;
        break;
    case CUDNN_TYPE_NORM_FWD_PHASE:
        w = CUDNN_NORM_FWD_TRAINING;
        break;
    case CUDNN_TYPE_BOOLEAN:
        w = draw(s, 8) == 0;
        break;
    }
    memcpy(value, &w, sizeof w);
}

static int integers(struct script *s, cudnnBackendAttributeName_t name, int64_t *v)
{
    static const int64_t alignments[] = {16, 16, 16, 16, 4, 2, 3, 0};
    const int64_t *d = sizes[draw(s, 7)];
    switch ((int)name) {
    case CUDNN_ATTR_TENSOR_UNIQUE_ID:
        v[0] = s->n; /* mostly its own */
        return 1;
    case CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT:
        v[0] = alignments[draw(s, 8)];
        return 1;
    case CUDNN_ATTR_TENSOR_DIMENSIONS:
        memcpy(v, d, 4 * sizeof *v);
        return rarely(s) ? 3 : 4;
    case CUDNN_ATTR_TENSOR_STRIDES:
        memcpy(v, (int64_t[]){d[1] * d[2] * d[3], 1, d[1] * d[3], d[1]}, 4 * sizeof *v);
        return rarely(s) ? 3 : 4;
    case CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS:
    case CUDNN_ATTR_RESAMPLE_SPATIAL_DIMS:
        v[0] = 2;
        return 1;
    case CUDNN_ATTR_RESAMPLE_WINDOW_DIMS:
        v[0] = v[1] = 3;
        return 2;
    }
    v[0] = v[1] = rarely(s) ? draw(s, 3) : 1;
    return rarely(s) ? 3 : 2;
}

/* A finalised descriptor (the library crashes on others) of the type that is wanted; -1:
 * there is none. */
static int pick(struct script *s, int wanted)
{
    int start = draw(s, s->n), loose = rarely(s) && rarely(s);
    for (int i = 0; i < s->n; i++) {
        int k = (start + i) % s->n;
        bool fits = wanted < 0 ? strncmp(dnn_name(s->types[k]), "OPERATION_", 10) == 0
                               : loose || (int)s->types[k] == wanted;
        if (s->final[k] && fits)
            return k;
    }
    return -1;
}

/* ---- a script ---- */

static void set(struct script *s, int d, const struct dnn_rule *rule)
{
    struct step *t = step(s, d, (int)rule->name);
    cudnnBackendDescriptor_t to = NULL;
    const void *values = t->values;
    t->type = (int)rule->type;
    t->n = 1;
    if (rule->type == CUDNN_TYPE_INT64)
        t->n = integers(s, rule->name, t->values);
    else if (rule->type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
        int k = pick(s, rule->points_to);
        if (k < 0) {
            s->n_steps--;
            return;
        }
        t->values[0] = k;
        to = s->at[k];
        values = &to;
    } else if (rule->type == CUDNN_TYPE_FLOAT) {
        const float one = 1;
        memcpy(t->values, &one, sizeof one);
        if (strstr(dnn_name(rule->of), "CONVOLUTION") && (rule->name & 1))
            memset(t->values, 0, sizeof one); /* of alpha and beta, one is odd */
    } else
        word(s, rule->type, t->values);
    if (rarely(s))
        t->type = CUDNN_TYPE_DOUBLE;
    if (rarely(s) && rarely(s))
        t->n = 0;
    came_of_it(t, s->calls->set(s->at[d], (cudnnBackendAttributeName_t)t->name,
                      (cudnnBackendAttributeType_t)t->type, t->n, values));
}

static void run_script(struct script *s)
{
    static const cudnnBackendDescriptorType_t all[] = {CUDNN_BACKEND_TENSOR_DESCRIPTOR,
        CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_BACKEND_TENSOR_DESCRIPTOR,
        CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_BACKEND_POINTWISE_DESCRIPTOR,
        CUDNN_BACKEND_MATMUL_DESCRIPTOR,
        CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
        CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
        CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
        CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR,
        CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, CUDNN_BACKEND_RESAMPLE_DESCRIPTOR,
        CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR,
        CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR};
    for (int i = 0; i < DESCRIPTORS; i++) {
        int n, kind = i < 4 ? 0 : draw(s, (int)(sizeof all / sizeof *all));
        struct step *made = step(s, s->n, -2);
        s->types[s->n] = all[kind];
        made->type = (int)all[kind];
        came_of_it(made, s->calls->create(all[kind], &s->at[s->n]));
        if (made->category != 0)
            return;
        int d = s->n++;
        const struct dnn_rule *rules = dnn_rules(all[kind], &n);
        for (int k = 0; k < n; k++)
            if (draw(s, 200) && (rules[k].flags & DNN_NEEDED || draw(s, 2)))
                set(s, d, &rules[k]);
        if (rarely(s)) /* of another descriptor */
            set(s, d,
                dnn_rule(CUDNN_BACKEND_REDUCTION_DESCRIPTOR,
                    CUDNN_ATTR_REDUCTION_COMP_TYPE));
        for (int k = 0; k < 1 + rarely(s); k++) {
            struct step *t = step(s, d, -1);
            came_of_it(t, s->calls->finalize(s->at[d]));
            s->final[d] = s->final[d] || t->category == 0;
        }
        if (rarely(s) && n > 0)
            set(s, d, &rules[0]);
    }
}

static void clear(struct script *s)
{
    while (s->n > 0)
        s->calls->destroy(s->at[--s->n]);
}

/* ---- the library, in a child ---- */

static bool load(struct calls *c)
{
    void *library = dlopen(CUDNN_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    static const char *const names[] = {"cudnnBackendCreateDescriptor",
        "cudnnBackendDestroyDescriptor", "cudnnBackendSetAttribute",
        "cudnnBackendFinalize"};
    void *found[4];
    for (int i = 0; i < 4; i++)
        if (!library || !(found[i] = dlsym(library, names[i])))
            return false;
    memcpy(c, found, sizeof found);
    return true;
}

static void run_library(int out, uint64_t from)
{
    struct calls library;
    signal(SIGSEGV, SIG_DFL); /* cmocka would go on */
    signal(SIGABRT, SIG_DFL);
    signal(SIGFPE, SIG_DFL);
    fclose(stderr); /* what a crash says */
    if (!load(&library))
        _exit(77);
    for (uint64_t seed = from; seed < SCRIPTS; seed++) {
        struct script s = {.calls = &library, .random = seed * 2654435761U + 1};
        run_script(&s);
        clear(&s);
        if (write(out, s.steps, sizeof s.steps) != (ssize_t)sizeof s.steps)
            _exit(1);
    }
    _exit(0);
}

static bool read_all(int in, void *to, size_t bytes)
{
    for (size_t n = 0; n < bytes;) {
        ssize_t got = read(in, (char *)to + n, bytes - n);
        if (got <= 0)
            return false;
        n += (size_t)got;
    }
    return true;
}

/* How many steps were alike. */
static int same(const struct script *s, const struct step *library)
{
    int i = 0;
    while (i < s->n_steps && library[i].category == s->steps[i].category)
        i++;
    return i;
}

/* The first step whose class differs, or -1. Stricter with a finding is as it should be:
 * what follows is another story. */
static int differ(const struct script *s, const struct step *library)
{
    for (int i = 0; i < s->n_steps; i++) {
        bool stricter = s->steps[i].category != 0 &&
                        s->steps[i].findings > (i ? s->steps[i - 1].findings : 0);
        if (stricter)
            return -1;
        if (library[i].category != s->steps[i].category)
            return i;
    }
    return -1;
}

static void tell_step(const struct script *s, const struct step *library, int i)
{
    const struct step *t = &s->steps[i];
    print_message("  %d %s: %s %d of type %d, %d elements (%lld %lld %lld %lld): %d in "
                  "the library, %d here\n",
        t->descriptor, dnn_name(s->types[t->descriptor]),
        t->name == -1   ? "finalised"
        : t->name == -2 ? "made"
                        : "attribute",
        t->name, t->type, t->n, (long long)t->values[0], (long long)t->values[1],
        (long long)t->values[2], (long long)t->values[3], library[i].category,
        t->category);
}

/* All that was done to the descriptor of that step, and to those that it was given. */
static void tell(const struct script *s, const struct step *library, int i)
{
    bool about[DESCRIPTORS] = {false};
    about[s->steps[i].descriptor] = true;
    for (int k = i; k >= 0; k--)
        if (about[s->steps[k].descriptor] &&
            s->steps[k].type == CUDNN_TYPE_BACKEND_DESCRIPTOR && s->steps[k].name >= 0)
            about[s->steps[k].values[0]] = true;
    print_message("a difference:\n");
    for (int k = 0; k <= i; k++)
        if (about[s->steps[k].descriptor])
            tell_step(s, library, k);
}

static void the_double_refuses_what_the_library_refuses(void **state)
{
    (void)state;
    static const struct calls here = {cudnnBackendCreateDescriptor,
        cudnnBackendDestroyDescriptor, cudnnBackendSetAttribute, cudnnBackendFinalize};
    int different = 0, compared = 0, crashed = 0, refused = 0, stricter = 0;
    for (uint64_t seed = 0; seed < SCRIPTS;) {
        int ends[2], status;
        struct step library[STEPS];
        assert_int_equal(pipe(ends), 0);
        fflush(NULL);
        pid_t child = fork();
        if (child == 0)
            run_library(ends[1], seed);
        close(ends[1]);
        for (; seed < SCRIPTS && read_all(ends[0], library, sizeof library); seed++) {
            struct script s = {.calls = &here, .random = seed * 2654435761U + 1};
            emu_open(&(struct emu_options){.order = EMU_LATE});
            run_script(&s);
            int i = differ(&s, library);
            stricter += emu_findings() > 0;
            for (int k = 0; k < s.n_steps; k++)
                refused += library[k].category > 0;
            compared += i < 0 ? same(&s, library) : i;
            if (i >= 0 && different++ < 5)
                tell(&s, library, i);
            clear(&s);
            emu_close();
        }
        close(ends[0]);
        assert_int_equal(waitpid(child, &status, 0), child);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
            skip();
        if (seed < SCRIPTS) { /* that script was too much for the library */
            crashed++;
            seed++;
        }
    }
    print_message("%d steps, %d refused by the library, %d scripts where the double is "
                  "stricter, %d crashes of the library\n",
        compared, refused, stricter, crashed);
    assert_int_equal(different, 0);
    assert_true(
        compared > 20 * SCRIPTS && refused > SCRIPTS && crashed < SCRIPTS / 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_double_refuses_what_the_library_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
