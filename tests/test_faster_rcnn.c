/* SPDX-License-Identifier: Apache-2.0
 * Faster R-CNN beside torchvision's in fp64 (golden/faster_rcnn.h); draws among rows; the code of
 * boxes relative to proposals. */
#include "golden/faster_rcnn.h"

#include "balance.h"
#include "rcnn.h"

static void open_rcnn(struct net *n, const char *device)
{
    open_factored(n, device, "faster_rcnn");
}

static void faster_rcnn_equals_torchvision(void **state)
{
    (void)state;
    check_steps(open_rcnn, golden_loss_sum());
}

static void faster_rcnn_finds_what_torchvision_finds(void **state)
{
    (void)state;
    check_rcnn_found(open_rcnn);
}

/* ---- Draws ---- */

enum { ROWS = 1000 };

static void make_rows(int32_t *target)
{
    for (int i = 0; i < ROWS; i++)
        target[i] = i % 10 == 0 ? i % 3 : i % 10 == 1 ? -2 : -1;
}

static int count_of(const int32_t *target, int kind)
{
    int n = 0;
    for (int i = 0; i < ROWS; i++)
        n += kind == 0 ? target[i] >= 0 : target[i] == kind;
    return n;
}

static void a_draw_is_balanced(void **state)
{
    (void)state;
    int32_t target[ROWS], other[ROWS];
    make_rows(target);
    th_draw_balanced(7, ROWS, target, 200, 50);
    assert_int_equal(count_of(target, 0), 50);
    assert_int_equal(count_of(target, -1), 150);
    make_rows(other);
    th_draw_balanced(7, ROWS, other, 200, 50);
    assert_memory_equal(target, other, sizeof target);
    make_rows(other);
    th_draw_balanced(8, ROWS, other, 200, 50);
    assert_memory_not_equal(target, other, sizeof target);
    make_rows(other); /* a class has fewer: more of the background */
    th_draw_balanced(7, ROWS, other, 400, 200);
    assert_int_equal(count_of(other, 0), 100);
    assert_int_equal(count_of(other, -1), 300);
    for (int i = 0; i < ROWS; i++) /* what counts nowhere never does */
        assert_true(i % 10 != 1 || target[i] == -2);
}

static void without_a_key_the_first_are_drawn(void **state)
{
    (void)state;
    int32_t target[ROWS];
    make_rows(target);
    th_draw_balanced(0, ROWS, target, 20, 2);
    for (int i = 0; i < ROWS; i++) {
        bool positive = i == 0 || i == 10, background = i < 24 && i % 10 > 1;
        assert_true((target[i] >= 0) == positive);
        assert_true((target[i] == -1) == background);
    }
}

static uint64_t order_of_few(uint64_t key, int64_t row)
{
    return key ? (uint64_t)(row % 3) : 5;
}

/* 64 bits of chance can be the same for two rows: then, too, it is settled which comes first. */
static void of_equal_rows_the_lower_one_is_drawn(void **state)
{
    (void)state;
    enum { POSITIVE = 40, COUNT = 400 };
    int32_t target[ROWS], all[ROWS];
    make_rows(all);
    for (uint64_t key = 0; key < 2; key++) {
        int64_t most[2] = {COUNT - POSITIVE, POSITIVE};
        make_rows(target);
        th_draw_ordered(order_of_few, key, ROWS, target, COUNT, POSITIVE);
        for (uint64_t order = 0; order < 6; order++)
            for (int row = 0; row < ROWS; row++)
                if (all[row] != -2 && order_of_few(key, row) == order)
                    assert_true((target[row] != -2) == (most[all[row] >= 0]-- > 0));
    }
}

static void ranks_go_by_value_and_then_by_row(void **state)
{
    (void)state;
    const float value[] = {1, -3, NAN, 7, 7, -0.0F, 0, -INFINITY};
    const int64_t want[] = {3, 4, 0, 5, 6, 1, 7, 2};
    struct th_rank rank[8];
    int64_t n = 0;
    for (int64_t i = 0; i < 8; i++)
        th_rank_offer(rank, &n, 8, (struct th_rank){th_rank_of(value[i]), i});
    th_rank_sort(rank, n);
    for (int i = 0; i < 8; i++)
        assert_int_equal(rank[i].row, want[i]);
    n = 0;
    for (int64_t i = 0; i < 8; i++)
        th_rank_offer(rank, &n, 3, (struct th_rank){th_rank_of(value[i]), i});
    th_rank_sort(rank, n);
    assert_int_equal(n, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(rank[i].row, want[i]);
}

static void the_code_of_a_proposal_is_undone(void **state)
{
    (void)state;
    const float roi[4] = {10, 20, 18, 36}, box[4] = {3, 25, 30, 31.5F};
    float code[4], back[4];
    th_roi_encode(roi, box, code);
    th_roi_decode(roi, code, back);
    for (int k = 0; k < 4; k++)
        assert_true(fabsf(back[k] - box[k]) < 1e-4F);
    assert_true(fabsf(code[0] - 10 * (16.5F - 14) / 8) < 1e-5F);
    assert_true(fabsf(code[2] - 5 * logf(27.0F / 8)) < 1e-5F);
}

/* Three anchors of a place: the second is the first one's box, and covered by it. */
static void a_box_whose_logit_is_no_number_comes_before_none(void **state)
{
    (void)state;
    enum { ROWS_OF_A_PLACE = TH_RPN_ANCHORS };
    struct th_rank scratch[4 * ROWS_OF_A_PLACE];
    float logits[ROWS_OF_A_PLACE] = {2, 1, NAN}, deltas[ROWS_OF_A_PLACE][4] = {{0}};
    float rois[ROWS_OF_A_PLACE][4], all[] = {0, 0, 64, 64};
    struct th_device *ref;
    must(th_device_open("ref", 1, &ref));
    struct th_call call = {.op = TH_OP_proposals,
        .device = ref,
        .scratch = scratch,
        .attr.proposals = {.grid = {{1, 1, 16}},
            .n_grids = 1,
            .size = {64, 64},
            .level_most = ROWS_OF_A_PLACE,
            .most = ROWS_OF_A_PLACE,
            .overlap = 0.9F},
        .args = {logits, deltas, rois}};
    for (int i = 0; i < 2; i++) {
        float anchor[4];
        th_rpn_anchor(
            &call.attr.proposals.grid[0], call.attr.proposals.size, i, anchor);
        th_box_encode(TH_CODE_DELTAS, anchor, all, deltas[i]);
    }
    call.in[0].shape = TH_SHAPE(1, ROWS_OF_A_PLACE, 1);
    call.out[0].shape = TH_SHAPE(1, ROWS_OF_A_PLACE, 4);
    must(ref->backend->kernel(TH_OP_proposals)->run(&call));
    assert_true(rois[0][2] > 63.9F && rois[1][0] == 0 && rois[1][2] < 63);
    assert_true(rois[2][0] == -1);
    th_device_close(ref);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faster_rcnn_equals_torchvision),
        cmocka_unit_test(faster_rcnn_finds_what_torchvision_finds),
        cmocka_unit_test(a_draw_is_balanced),
        cmocka_unit_test(without_a_key_the_first_are_drawn),
        cmocka_unit_test(of_equal_rows_the_lower_one_is_drawn),
        cmocka_unit_test(ranks_go_by_value_and_then_by_row),
        cmocka_unit_test(the_code_of_a_proposal_is_undone),
        cmocka_unit_test(a_box_whose_logit_is_no_number_comes_before_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
