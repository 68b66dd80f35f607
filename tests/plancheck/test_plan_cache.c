/* SPDX-License-Identifier: Apache-2.0
 * Plans that are kept on disk: they come back as they were, what is damaged or of something
 * else is made again and said once, and the folder is bounded. Of the real cuDNN, which plans
 * for a device that is described, and of its double. */
#include "../scratch.h"

#include "file.h"
#include "mem.h"
#include "plan_cache.h"
#include "tensor.h"

#include <dirent.h>
#include <inttypes.h>

static struct th_cudnn_target h100, a100;
static char warning[320], folder[128];
static const struct th_cudnn_policy strict = {.strict = true, .deterministic = true},
                                    loose = {.deterministic = true};

/* ---- graphs ---- */

static int nhwc(struct th_cudnn_graph *g, const char *name, cudnnDataType_t type,
    const int64_t d[4], size_t offset)
{
    return th_cudnn_tensor(g, &(struct th_cudnn_tensor){.name = name,
                                  .type = type,
                                  .rank = 4,
                                  .dim = {d[0], d[1], d[2], d[3]},
                                  .stride = {d[1] * d[2] * d[3], 1, d[1] * d[3], d[1]},
                                  .offset = offset});
}

/* A convolution of c channels, with a ReLU or without; x lies `offset` bytes into its memory;
 * w_first: w is tensor 0. */
struct shape {
    cudnnDataType_t type;
    int64_t c;
    bool relu, w_first;
    size_t offset;
};

static struct th_cudnn_graph *conv(struct shape s)
{
    static const struct th_cudnn_window window = {.stride = {1, 1},
        .dilation = {1, 1},
        .before = {1, 1},
        .after = {1, 1},
        .groups = 1};
    const int64_t image[4] = {2, s.c, 14, 14}, filter[4] = {s.c, s.c, 3, 3};
    struct th_cudnn_graph *g = th_cudnn_graph_new("test");
    int w = s.w_first ? nhwc(g, "w", s.type, filter, 0) : -1;
    int x = nhwc(g, "x", s.type, image, s.offset);
    w = w < 0 ? nhwc(g, "w", s.type, filter, 0) : w;
    int y = nhwc(g, "y", s.type, image, 0);
    if (s.relu)
        th_cudnn_pointwise(g, CUDNN_POINTWISE_RELU_FWD,
            th_cudnn_conv(g, &window, x, w, th_cudnn_virtual(g, CUDNN_DATA_FLOAT, y)),
            -1, y);
    else
        th_cudnn_conv(g, &window, x, w, y);
    return g;
}

static const struct shape plain = {.type = CUDNN_DATA_FLOAT, .c = 64};

/* ---- caches ---- */

static void open_cache(struct th_plan_cache *c, const struct th_cudnn_target *target)
{
    warning[0] = '\0';
    th_plan_cache_open(c, folder, target, warning, sizeof warning);
}

static struct th_cudnn_engine get_for(struct th_plan_cache *c, struct shape s,
    const struct th_cudnn_target *target, const struct th_cudnn_policy *policy)
{
    struct th_cudnn_graph *g = conv(s);
    struct th_cudnn_plan *plan = NULL;
    must(th_plan_cache_get(c, g, target, policy, &plan));
    struct th_cudnn_engine e = *th_cudnn_plan_engine(plan);
    th_cudnn_plan_free(plan);
    th_cudnn_graph_free(g);
    return e;
}

/* How many plans a fresh cache has to make for the shape: 0 or 1. */
static int makes(struct shape s, const struct th_cudnn_target *target,
    const struct th_cudnn_policy *policy)
{
    struct th_plan_cache c;
    open_cache(&c, target);
    get_for(&c, s, target, policy);
    int made = c.n_made;
    assert_int_equal(c.n_read + made, 1);
    th_plan_cache_close(&c);
    return made;
}

/* Files of the folder; *path: the last of them. */
static int n_files(char path[512])
{
    int n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e; e = readdir(d))
        if (e->d_name[0] != '.') {
            snprintf(path, 512, "%s/%s", folder, e->d_name);
            n++;
        }
    closedir(d);
    return n;
}

static int fresh(void **state)
{
    (void)state;
    scratch_clear();
    snprintf(folder, sizeof folder, "%s/of/plans", scratch);
    return 0;
}

static void plans_come_back_as_they_were(void **state)
{
    (void)state;
    static const struct {
        struct shape shape;
        const struct th_cudnn_policy *policy;
    } all[] = {{{CUDNN_DATA_FLOAT, 64, false, false, 0}, &strict},
        {{CUDNN_DATA_FLOAT, 64, false, false, 0}, &loose},
        {{CUDNN_DATA_BFLOAT16, 64, false, false, 0}, &loose},
        {{CUDNN_DATA_BFLOAT16, 64, true, false, 0}, &loose}}; /* compiled at run time */
    enum { N = sizeof all / sizeof *all };
    struct th_cudnn_engine first[N], again[N];
    struct th_plan_cache c;
    memset(first, 0, sizeof first);
    memset(again, 0, sizeof again);
    for (int run = 0; run < 2; run++) {
        open_cache(&c, &h100);
        for (int i = 0; i < N; i++)
            (run ? again : first)[i] = get_for(&c, all[i].shape, &h100, all[i].policy);
        assert_int_equal(c.n_made, run ? 0 : N);
        assert_int_equal(c.n_read, run ? N : 0);
        assert_string_equal(warning, "");
        th_plan_cache_close(&c);
    }
    for (int i = 0; i < N; i++) {
        assert_int_equal(first[i].index, again[i].index);
        assert_int_equal(first[i].workspace, again[i].workspace);
        assert_int_equal(first[i].numerical, again[i].numerical);
        assert_int_equal(first[i].behaviour, again[i].behaviour);
    }
}

static void what_a_plan_depends_on_is_in_its_key(void **state)
{
    (void)state;
    char path[512], version[32], *device = NULL;
    unsigned char *text = NULL;
    size_t n = 0;
    struct shape other = plain;
    assert_int_equal(makes(plain, &h100, &strict), 1);
    assert_int_equal(n_files(path), 1);
    must(th_file_read(path, 1U << 20, &text, &n));
    snprintf(version, sizeof version, "cuDNN %zu\n", cudnnGetVersion());
    assert_non_null(strstr((char *)text, version));
    must(th_cudnn_device_text(&h100, &device, &n));
    assert_non_null(strstr((char *)text, device));
    th_free(device);
    th_free(text);
    assert_int_equal(makes(plain, &a100, &strict), 1);
    assert_int_equal(makes(plain, &h100, &loose), 1);
    other.c = 32;
    assert_int_equal(makes(other, &h100, &strict), 1);
    other = plain;
    other.w_first = true; /* other uids */
    assert_int_equal(makes(other, &h100, &strict), 1);
    other = plain;
    other.offset = 4; /* alignment */
    assert_int_equal(makes(other, &h100, &strict), 1);
    assert_string_equal(warning, ""); /* what is not there is no news */
    assert_int_equal(n_files(path), 6);
    assert_int_equal(makes(plain, &h100, &strict), 0);
    assert_int_equal(makes(other, &h100, &strict), 0);
}

/* The file anew; then it has to be noticed, said, and mended. */
static void is_noticed(
    const char *path, const void *bytes, size_t n, const char *says, const char *what)
{
    must(th_file_write_atomic(path, bytes, n, NULL));
    if (makes(plain, &h100, &strict) != 1)
        fail_msg("%s: the plan is used", what);
    if (!strstr(warning, path) || !strstr(warning, says) ||
        !strstr(warning, "made again"))
        fail_msg("%s: said: %s", what, warning);
    if (makes(plain, &h100, &strict) != 0 || warning[0])
        fail_msg("%s: the plan is not mended: %s", what, warning);
}

static void damage_is_noticed_wherever_it_is(void **state)
{
    (void)state;
    enum { PLACES = 40 };
    char path[512], what[64];
    unsigned char *whole = NULL;
    size_t n = 0;
    makes(plain, &h100, &strict);
    n_files(path);
    must(th_file_read(path, 1U << 20, &whole, &n));
    for (int i = 0; i <= PLACES; i++) {
        size_t at = i < PLACES ? n * (size_t)i / PLACES : n - 1;
        snprintf(what, sizeof what, "byte %zu of %zu", at, n);
        whole[at] ^= 4;
        is_noticed(path, whole, n, "", what);
        whole[at] ^= 4;
    }
    for (int i = 0; i < PLACES; i++) {
        size_t left = n * (size_t)i / PLACES;
        snprintf(what, sizeof what, "%zu of %zu bytes", left, n);
        is_noticed(path, whole, left, "is ", what);
    }
    is_noticed(path, whole, n - 1, "is not whole", "a byte is missing");
    th_free(whole);
}

/* An entry that is whole, of this key and plan. */
static char *forge(const char *key, const char *plan)
{
    char *body = th_format("%s%s", key, plan);
    char *entry = th_format("thaw plan 1 %016" PRIx64 " %zu %zu\n%s",
        th_hash(body, strlen(body), 0), strlen(key), strlen(plan), body);
    th_free(body);
    return entry;
}

/* Key and plan of an entry. */
static void take_apart(const char *path, char **key, char **plan)
{
    unsigned char *text = NULL;
    size_t n = 0, key_bytes = 0;
    must(th_file_read(path, 1U << 20, &text, &n));
    assert_int_equal(sscanf((char *)text, "thaw plan 1 %*s %zu", &key_bytes), 1);
    char *body = strchr((char *)text, '\n') + 1;
    *plan = th_strdup(body + key_bytes);
    *key = th_format("%.*s", (int)key_bytes, body);
    th_free(text);
}

static void what_is_whole_and_of_something_else_is_not_used(void **state)
{
    (void)state;
    char path[512], *key, *plan, *other_key, *other_plan, *forged;
    makes(plain, &h100, &loose);
    n_files(path);
    take_apart(path, &other_key, &other_plan); /* tensor cores, on which TF32 runs */
    scratch_clear();
    makes(plain, &a100, &strict);
    n_files(path);
    char *foreign_key, *foreign_plan;
    take_apart(path, &foreign_key, &foreign_plan);
    scratch_clear();
    makes(plain, &h100, &strict);
    n_files(path);
    take_apart(path, &key, &plan);
    const struct {
        const char *key, *plan, *says;
    } forgeries[] = {
        {other_key, other_plan, "of another graph or device"},
        {foreign_key, foreign_plan, "of another graph or device"},
        {key, foreign_plan, "cuDNN refuses"}, /* its library looks, too */
        {key, other_plan, "not exact"},
        {key, "{}", "cuDNN refuses"},
        {key, "", "is not whole"},
    };
    for (size_t i = 0; i < sizeof forgeries / sizeof *forgeries; i++) {
        char what[32];
        forged = forge(forgeries[i].key, forgeries[i].plan);
        snprintf(what, sizeof what, "forgery %zu", i);
        is_noticed(path, forged, strlen(forged), forgeries[i].says, what);
        th_free(forged);
    }
    char *version = strstr(key, "cuDNN ");
    version[6] ^= 1; /* the same graph and device */
    forged = forge(key, plan);
    is_noticed(path, forged, strlen(forged), "of another graph", "another version");
    th_free(forged);
    th_free(key), th_free(plan), th_free(other_key), th_free(other_plan);
    th_free(foreign_key), th_free(foreign_plan);
}

static void it_is_said_once(void **state)
{
    (void)state;
    struct th_plan_cache c;
    struct shape s = plain;
    char path[512], said[sizeof warning];
    for (s.c = 8; s.c <= 24; s.c += 8) {
        makes(s, &h100, &strict);
        n_files(path);
        must(th_file_write_atomic(path, "x", 1, NULL));
    }
    open_cache(&c, &h100);
    for (s.c = 8; s.c <= 24; s.c += 8) {
        get_for(&c, s, &h100, &strict);
        if (warning[0]) {
            snprintf(said, sizeof said, "%s", warning);
            warning[0] = '\0'; /* it has been told */
        }
    }
    assert_int_equal(c.n_read + c.n_made, 3);
    assert_non_null(strstr(said, "is not a plan of this thaw"));
    assert_string_equal(warning, "");
    th_plan_cache_close(&c);
}

static void the_oldest_go_where_there_are_too_many(void **state)
{
    (void)state;
    struct th_plan_cache c;
    struct shape s = plain;
    char path[512], others[256], name[64];
    open_cache(&c, &h100);
    c.most = 20000; /* some six entries */
    snprintf(others, sizeof others, "%s/notes.txt", folder);
    must(th_file_write_atomic(others, "mine", 4, NULL));
    for (s.c = 8; s.c <= 8 * 24; s.c += 8) {
        get_for(&c, s, &h100, &strict);
        assert_true(c.bytes <= c.most);
    }
    assert_int_equal(c.n_made, 24);
    int left = n_files(path) - 1;
    assert_true(left > 1 && left < 12);
    assert_true(th_file_exists(others));
    th_plan_cache_close(&c);
    s.c = 8 * 24;
    assert_int_equal(makes(s, &h100, &strict), 0); /* the newest */
    /* what a process that was killed left counts, and goes */
    snprintf(name, sizeof name, ".%032d.plan.tmp.1.0", 7);
    char *left_over = th_format("%s/%s", folder, name), large[30000] = "";
    must(th_file_write_atomic(left_over, large, sizeof large, NULL));
    open_cache(&c, &h100);
    c.most = 20000;
    s.c = 8;
    get_for(&c, s, &h100, &strict);
    assert_true(c.bytes <= c.most);
    assert_false(th_file_exists(left_over));
    th_free(left_over);
    th_plan_cache_close(&c);
}

static void where_nothing_can_be_kept_plans_are_made(void **state)
{
    (void)state;
    struct th_plan_cache c;
    put("file", "not a folder");
    snprintf(folder, sizeof folder, "%s/file/plans", scratch);
    open_cache(&c, &h100);
    assert_non_null(strstr(warning, "plans are not kept"));
    get_for(&c, plain, &h100, &strict);
    assert_int_equal(c.n_made, 1);
    th_plan_cache_close(&c);
    snprintf(folder, sizeof folder, "%s/gone", scratch);
    open_cache(&c, &h100);
    assert_int_equal(rmdir(folder), 0);
    get_for(&c, plain, &h100, &strict);
    get_for(&c, plain, &h100, &strict);
    assert_int_equal(c.n_made, 2);
    assert_non_null(strstr(warning, "plans are not kept"));
    th_plan_cache_close(&c);
    th_plan_cache_open(&c, NULL, &h100, warning, sizeof warning);
    get_for(&c, plain, &h100, &strict);
    assert_int_equal(c.n_made, 1);
    th_plan_cache_close(&c);
}

static void describe(const char *name, struct th_cudnn_target *target)
{
    char path[512];
    unsigned char *json = NULL;
    size_t n = 0;
    snprintf(path, sizeof path, THAW_SOURCE_DIR "/tests/plancheck/%s.json", name);
    must(th_file_read(path, 1U << 16, &json, &n));
    must(th_cudnn_described((const char *)json, n, target));
    th_free(json);
}

static int open_all(void **state)
{
    describe("h100", &h100);
    describe("a100", &a100);
    return scratch_make(state);
}

static int close_all(void **state)
{
    th_cudnn_forget(&h100);
    th_cudnn_forget(&a100);
    return scratch_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(plans_come_back_as_they_were, fresh),
        cmocka_unit_test_setup(what_a_plan_depends_on_is_in_its_key, fresh),
        cmocka_unit_test_setup(damage_is_noticed_wherever_it_is, fresh),
        cmocka_unit_test_setup(what_is_whole_and_of_something_else_is_not_used, fresh),
        cmocka_unit_test_setup(it_is_said_once, fresh),
        cmocka_unit_test_setup(the_oldest_go_where_there_are_too_many, fresh),
        cmocka_unit_test_setup(where_nothing_can_be_kept_plans_are_made, fresh),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
