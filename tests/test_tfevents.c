/* SPDX-License-Identifier: Apache-2.0
 * The events file for TensorBoard, parsed again by a reader of its own. */
#include <math.h>
#include <sys/resource.h>

#include "bytes.h"
#include "run.h"
#include "tfevents.h"

#include <dirent.h>
#include <signal.h>

static int setup(void **state)
{
    (void)state;
    return make_data(10);
}

/* RFC 3720, B.4: the CRC bytes are listed least significant first. */
static void crc32c_is_that_of_rfc_3720(void **state)
{
    (void)state;
    unsigned char bytes[32];
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(th_crc32c(bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(th_crc32c(bytes, 32), 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        bytes[i] = (unsigned char)i;
    assert_int_equal(th_crc32c(bytes, 32), 0x46dd794e);
    for (int i = 0; i < 32; i++)
        bytes[i] = (unsigned char)(31 - i);
    assert_int_equal(th_crc32c(bytes, 32), 0x113fdb5c);
    assert_int_equal(th_crc32c("123456789", 9), 0xe3069283);
}

/* ---- The reader ---- */

struct event {
    double wall_time;
    int64_t step;
    char version[32], tag[64];
    bool starts_session;
    float value;
};

static uint64_t varint(const unsigned char **at)
{
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
        unsigned char byte = *(*at)++;
        value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return value;
    }
}

/* Every field of a message: lengths are followed into summaries and values, whose field
 * numbers do not collide for what is written (depth tells them apart). */
static void parse(const unsigned char *at, size_t n, int depth, struct event *e)
{
    const unsigned char *end = at + n;
    while (at < end) {
        uint64_t key = varint(&at), field = key >> 3;
        if ((key & 7) == 1) {
            uint64_t bits = th_le64(at);
            memcpy(&e->wall_time, &bits, 8);
            at += 8;
        } else if ((key & 7) == 5) {
            uint32_t bits = th_le32(at);
            memcpy(&e->value, &bits, 4);
            at += 4;
        } else if ((key & 7) == 0) {
            uint64_t value = varint(&at);
            if (depth == 0 && field == 2)
                e->step = (int64_t)value;
            else
                e->starts_session = value == 1;
        } else {
            size_t length = varint(&at);
            assert_true(length <= (size_t)(end - at));
            if (depth == 0 && field == 3)
                memcpy(e->version, at, length < 31 ? length : 31);
            else if (depth == 2)
                memcpy(e->tag, at, length < 63 ? length : 63);
            else
                parse(at, length, depth + 1, e);
            at += length;
        }
    }
    assert_ptr_equal(at, end);
}

static uint32_t unmasked(uint32_t masked)
{
    uint32_t rotated = masked - 0xa282ead8U;
    return rotated >> 17 | rotated << 15;
}

/* Whole records from the start of the file; the number of bytes left over in *rest. */
static int read_events(const char *path, struct event *events, int most, size_t *rest)
{
    unsigned char *bytes = NULL;
    size_t n = 0, at = 0;
    int count = 0;
    must(th_file_read(path, 1 << 24, &bytes, &n));
    while (n - at >= 12) {
        assert_int_equal(unmasked(th_le32(bytes + at + 8)), th_crc32c(bytes + at, 8));
        size_t length = th_le64(bytes + at);
        if (n - at < length + 16)
            break;
        const unsigned char *event = bytes + at + 12;
        assert_int_equal(unmasked(th_le32(event + length)), th_crc32c(event, length));
        assert_true(count < most);
        events[count] = (struct event){0};
        parse(event, length, 0, &events[count++]);
        at += length + 16;
    }
    *rest = n - at;
    th_free(bytes);
    return count;
}

/* The k-th events file of a run in the order of names; false past the end. */
static bool nth_file(const char *run, int k, char path[512])
{
    struct dirent **names;
    char folder[256];
    run_path(folder, run);
    int n = scandir(folder, &names, NULL, alphasort);
    bool found = false;
    for (int i = 0; i < n; i++) {
        if (!strncmp(names[i]->d_name, "events.out.tfevents.", 20) && k-- == 0) {
            snprintf(path, 512, "%s/%s", folder, names[i]->d_name);
            found = true;
        }
        free(names[i]);
    }
    free(names);
    return found;
}

/* ---- What holds ---- */

static void what_is_written_is_read_again(void **state)
{
    (void)state;
    struct th_tfevents w = {0};
    struct event e[8];
    size_t rest = 1;
    must(th_tfevents_begin(&w, run_root, 0));
    must(th_tfevents_scalar(&w, "train/loss", 1, 0.25));
    must(th_tfevents_scalar(&w, "val/top1", 300000000000, -2));
    must(th_tfevents_scalar(&w, "train/loss", 2, (double)NAN));
    assert_false(th_file_exists(w.path));
    must(th_tfevents_flush(&w));
    assert_int_equal(read_events(w.path, e, 8, &rest), 5);
    assert_int_equal(rest, 0);
    assert_string_equal(e[0].version, "brain.Event:2");
    assert_true(e[1].starts_session);
    assert_string_equal(e[2].tag, "train/loss");
    assert_int_equal(e[2].step, 1);
    assert_true(e[2].value == 0.25F && e[2].wall_time > 1.5e9);
    assert_string_equal(e[3].tag, "val/top1");
    assert_true(e[3].step == 300000000000 && e[3].value == -2.0F);
    assert_true(isnan(e[4].value));
    must(th_tfevents_scalar(&w, "train/loss", 3, 0.5));
    must(th_tfevents_flush(&w));
    assert_int_equal(read_events(w.path, e, 8, &rest), 6);
    th_tfevents_release(&w);
}

static void two_files_of_one_second_have_two_names(void **state)
{
    (void)state;
    struct th_tfevents w[3] = {{0}};
    for (int i = 0; i < 3; i++) {
        must(th_tfevents_begin(&w[i], run_root, 0));
        must(th_tfevents_flush(&w[i]));
    }
    assert_string_not_equal(w[0].path, w[1].path);
    assert_true(strcmp(w[1].path, w[2].path) < 0);
    for (int i = 0; i < 3; i++)
        th_tfevents_release(&w[i]);
}

static void a_flush_that_failed_leaves_whole_records_and_is_made_up_for(void **state)
{
    (void)state;
    struct th_tfevents w = {0};
    struct event e[64];
    struct rlimit before, small;
    size_t rest = 1;
    must(th_tfevents_begin(&w, run_root, 0));
    must(th_tfevents_flush(&w));
    for (int i = 0; i < 40; i++)
        must(th_tfevents_scalar(&w, "train/loss", i, i));
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = (rlim_t)w.written + 100; /* in the middle of a record */
    setrlimit(RLIMIT_FSIZE, &small);
    assert_int_equal(th_tfevents_flush(&w), THAW_E_IO);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(read_events(w.path, e, 64, &rest), 2);
    assert_int_equal(rest, 0);
    must(th_tfevents_flush(&w));
    assert_int_equal(read_events(w.path, e, 64, &rest), 42);
    assert_true(e[41].value == 39.0F);
    th_tfevents_release(&w);
}

static void a_name_beyond_all_measure_is_refused(void **state)
{
    (void)state;
    struct th_tfevents w = {0};
    char tag[600];
    memset(tag, 'a', sizeof tag);
    tag[sizeof tag - 1] = 0;
    must(th_tfevents_begin(&w, run_root, 0));
    assert_int_equal(th_tfevents_scalar(&w, tag, 1, 1), THAW_E_USAGE);
    th_tfevents_release(&w);
}

static int count_tag(const struct event *e, int n, const char *tag)
{
    int count = 0;
    for (int i = 0; i < n; i++)
        count += !strcmp(e[i].tag, tag);
    return count;
}

static void a_run_has_its_steps_and_epochs(void **state)
{
    (void)state;
    thaw_result r;
    struct event e[64];
    size_t rest;
    char path[512];
    must(train(make_options("told", NULL), NULL, &r));
    assert_true(nth_file("told", 0, path));
    int n = read_events(path, e, 64, &rest);
    assert_int_equal(count_tag(e, n, "train/loss"), 6);
    assert_int_equal(count_tag(e, n, "train/lr"), 6);
    assert_int_equal(count_tag(e, n, "val/loss"), 2);
    assert_int_equal(count_tag(e, n, "val/top1"), 2);
    assert_int_equal(e[n - 1].step, 6);
    assert_false(nth_file("told", 1, path));
}

static void a_resumed_run_begins_a_new_file_at_its_step(void **state)
{
    (void)state;
    thaw_result r;
    thaw_options *more = NULL;
    thaw_trainer *t = NULL;
    struct event e[64];
    size_t rest;
    char path[512], run[256];
    must(train(make_options("again", NULL), NULL, &r));
    must(thaw_options_new(&more));
    set(more, "epochs", "+1");
    run_path(run, "again");
    must(thaw_trainer_resume(run, more, NULL, &t));
    thaw_options_free(more);
    must(thaw_trainer_run(t, &r));
    thaw_trainer_free(t);
    assert_true(nth_file("again", 1, path));
    int n = read_events(path, e, 64, &rest);
    assert_true(e[1].starts_session);
    assert_int_equal(e[1].step, 7);
    assert_int_equal(e[2].step, 7);
    assert_int_equal(count_tag(e, n, "train/loss"), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_is_that_of_rfc_3720),
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(two_files_of_one_second_have_two_names),
        cmocka_unit_test(a_flush_that_failed_leaves_whole_records_and_is_made_up_for),
        cmocka_unit_test(a_name_beyond_all_measure_is_refused),
        cmocka_unit_test(a_run_has_its_steps_and_epochs),
        cmocka_unit_test(a_resumed_run_begins_a_new_file_at_its_step),
    };
    return cmocka_run_group_tests(tests, setup, remove_data);
}
