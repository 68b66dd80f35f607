/* SPDX-License-Identifier: Apache-2.0
 * P1: running a plan allocates nothing. This program's malloc counts the calls that come
 * from Thaw's own code (it is linked in statically). oneDNN makes short-lived argument
 * maps inside dnnl_primitive_execute; those are its own and are not counted. */
#include "mix.h"
#include "net.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *p);

static atomic_bool counting;
static atomic_int count;

static void note(const void *caller)
{
    Dl_info who, me;
    if (!atomic_load(&counting))
        return;
    atomic_store(&counting, false); /* dladdr may allocate */
    if (dladdr(caller, &who) && dladdr((const void *)(uintptr_t)&note, &me) &&
        who.dli_fbase == me.dli_fbase)
        atomic_fetch_add(&count, 1);
    atomic_store(&counting, true);
}

void *malloc(size_t size)
{
    note(__builtin_return_address(0));
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    note(__builtin_return_address(0));
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
    note(__builtin_return_address(0));
    return __libc_realloc(p, size);
}

/* Thaw's own allocations come this way: one can be refused, and what is live counted. */
static int until_refused = -1;
static atomic_int live;

void *aligned_alloc(size_t alignment, size_t size)
{
    note(__builtin_return_address(0));
    if (until_refused >= 0 && until_refused-- == 0)
        return NULL;
    atomic_fetch_add(&live, 1);
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    note(__builtin_return_address(0));
    *out = __libc_memalign(alignment, size);
    return *out ? 0 : ENOMEM;
}

static void runs_without_allocating(struct th_plan *plan)
{
    atomic_store(&count, 0);
    atomic_store(&counting, true);
    thaw_status status = th_plan_run(plan);
    atomic_store(&counting, false);
    assert_int_equal(status, THAW_OK);
    assert_int_equal(atomic_load(&count), 0);
}

static void running_a_plan_allocates_nothing(void **state)
{
    (void)state;
    static const char *const thaws[] = {"all", "stage3,head", "head", "bn"};
    for (int t = 0; t < 4 * 3; t++) {
        struct net n;
        struct th_plan *update = NULL;
        struct th_plan_spec spec = {.mode = TH_TRAIN,
            .part = t < 8 ? TH_PART_ALL : TH_PART_GATHER,
            .prefix_int8 = t >= 4, /* scales are 0: what is computed is no matter */
            .batch = 16};
        net_open(&n, "cpu", "resnet20", 32, 5, 7);
        n.model.dropout = 0.5F;
        n.optim.l2sp = 0.1F;
        n.optim.clip = 1;
        net_plan(&n, spec, thaws[t % 4], "auto");
        spec.part = TH_PART_UPDATE;
        spec.model = &n.model;
        spec.freeze = &n.freeze;
        spec.optim = &n.optim;
        must(th_plan_new(&spec, &n.store, &n.arena, &update));
        net_run(&n, 1, 0.01F);
        net_run(&n, 2, 0.01F);
        must(th_plan_run(update));
        runs_without_allocating(n.plan);
        runs_without_allocating(update);
        th_plan_free(update);
        net_close(&n);
    }
}

static void nor_does_that_of_a_transformer_or_of_adapters(void **state)
{
    (void)state;
    static const struct {
        const char *variant, *thaw, *lora;
    } rows[] = {{"vit_micro_patch4_32", "all", NULL},
        {"vit_micro_patch4_32", "head", "r=4,dropout=0.1"},
        {"resnet20", "head", "r=8,targets=conv"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct net n;
        struct th_lora lora = {0};
        net_open(&n, "cpu", rows[i].variant, 32, 5, 7);
        if (rows[i].lora) {
            must(th_lora_parse(&lora, rows[i].lora));
            must(th_model_adapt(&n.model, &lora));
            th_lora_release(&lora);
            net_fill(&n, 7);
        }
        n.model.drop_path = 0.1F;
        net_plan(&n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 16}, rows[i].thaw,
            "auto");
        net_run(&n, 1, 0.01F);
        net_run(&n, 2, 0.01F);
        runs_without_allocating(n.plan);
        net_close(&n);
    }
}

static void mixing_a_batch_allocates_nothing(void **state)
{
    (void)state;
    enum { N = 6, SIZE = 8, CLASSES = 3 };
    const struct th_size INPUT = {SIZE, SIZE};
    static float images[N * 3 * SIZE * SIZE], target[N * CLASSES];
    const struct th_mix mix = {0.2, 1};
    struct th_mixer m;
    assert_int_equal(th_mixer_init(&m, &mix, N, INPUT, CLASSES), THAW_OK);
    atomic_store(&count, 0);
    atomic_store(&counting, true);
    for (uint64_t key = 0; key < 20; key++) {
        const float *x = images, *y = target;
        th_mixer_apply(&m, key, N, &x, &y);
    }
    atomic_store(&counting, false);
    assert_int_equal(atomic_load(&count), 0);
    th_mixer_release(&m);
}

void free(void *p)
{
    atomic_fetch_sub(&live, p != NULL);
    __libc_free(p);
}

static void a_refused_allocation_fails_the_plan_and_leaks_nothing(void **state)
{
    (void)state;
    struct net n;
    net_open(&n, "ref", "resnet20", 8, 5, 7);
    n.optim.ema = true;
    net_plan(&n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 2}, "all", "train");
    struct th_plan_spec spec = {.model = &n.model,
        .freeze = &n.freeze,
        .mode = TH_TRAIN,
        .batch = 2,
        .optim = &n.optim};
    bool refused = true;
    for (int i = 0; refused; i++) {
        struct th_plan *p = NULL;
        int before = atomic_load(&live);
        until_refused = i;
        thaw_status status = th_plan_new(&spec, &n.store, &n.arena, &p);
        refused = until_refused < 0;
        until_refused = -1;
        th_plan_free(p);
        assert_int_equal(status, refused ? THAW_E_MEMORY : THAW_OK);
        assert_int_equal(atomic_load(&live), before);
    }
    net_close(&n);
}

/* The counter itself works: a test that cannot fail proves nothing. */
static void the_counter_counts_our_allocations(void **state)
{
    (void)state;
    atomic_store(&count, 0);
    atomic_store(&counting, true);
    void *p = th_alloc(3, 5);
    atomic_store(&counting, false);
    th_free(p);
    assert_int_equal(atomic_load(&count), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(running_a_plan_allocates_nothing),
        cmocka_unit_test(nor_does_that_of_a_transformer_or_of_adapters),
        cmocka_unit_test(mixing_a_batch_allocates_nothing),
        cmocka_unit_test(a_refused_allocation_fails_the_plan_and_leaks_nothing),
        cmocka_unit_test(the_counter_counts_our_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
