/* SPDX-License-Identifier: Apache-2.0
 * Owns what each kind of error costs: AP50 with that kind mended, less AP50 (TIDE, Bolya et
 * al., arXiv:2008.08115, section 2). A mended detection of the wrong class or place is the
 * object's that it meant; where that has one already, and of the other kinds, it is gone.
 * What was missed and mended is no object any more. */
#include "ap_curve.h"
#include "error.h"

#include <math.h>
#include <string.h>

const char *th_ap_error_name(enum th_ap_error error)
{
    static const char *const names[TH_N_ERRORS] = {"none", "confusion", "localisation",
        "both", "duplicate", "background", "missed"};
    return names[error];
}

/* The records without that kind of error; how many are left. */
static int64_t mend(
    const struct th_ap *ap, enum th_ap_error kind, struct th_ap_record *to)
{
    int64_t n = 0;
    for (int64_t i = 0; i < ap->n; i++) {
        struct th_ap_record r = ap->record[i];
        bool is_it = kind != TH_ERROR_NONE && r.error == kind;
        if (r.rank == TH_AP_MOST || (is_it && !r.mended))
            continue;
        if (is_it) {
            r.class = r.mended_class;
            r.hit[0] |= 1;
        }
        to[n++] = r;
    }
    return n;
}

/* The mean AP50 of the classes that have objects; 0 where none has. */
static double mean_ap50(const struct th_ap *ap, bool without_missed,
    const struct th_ap_record *record, const struct th_ap_order *order,
    struct th_ap_curve *curve)
{
    double sum = 0;
    int64_t n = 0;
    for (int32_t c = 0; c < ap->n_classes; c++) {
        int64_t positives = ap->positives[(int64_t)c * TH_AP_AREAS];
        positives -= without_missed ? ap->missed[c] : 0;
        if (!positives)
            continue;
        th_ap_curve_start(curve, positives);
        for (int64_t i = order->first[c]; i < order->first[c + 1]; i++) {
            const struct th_ap_record *r = &record[order->index[i]];
            th_ap_curve_add(curve, r->score, r->hit[0] & 1, r->ignored[0] & 1);
        }
        th_ap_curve_close(curve);
        sum += th_ap_curve_sample(curve, TH_AP_RECALLS, NULL);
        n++;
    }
    return n ? sum / (double)n : 0;
}

static thaw_status ap50_without(const struct th_ap *ap, enum th_ap_error kind,
    struct th_ap_record *record, struct th_ap_curve *curve, double *ap50)
{
    struct th_ap_order order = {0};
    int64_t n = mend(ap, kind, record);
    TRY(th_ap_order_init(&order, record, n, ap->n_classes));
    *ap50 = mean_ap50(ap, kind == TH_ERROR_MISSED, record, &order, curve);
    th_ap_order_release(&order);
    return THAW_OK;
}

thaw_status th_ap_errors(const struct th_ap *ap, struct th_ap_scores *out)
{
    double ap50[TH_N_ERRORS] = {0};
    struct th_ap_curve curve = {0};
    struct th_ap_record *record = th_alloc((size_t)ap->n, sizeof *record);
    thaw_status status = record ? th_ap_curve_init(&curve, ap->n) : THAW_E_MEMORY;
    memset(out->errors, 0, sizeof out->errors);
    for (int64_t i = 0; i < ap->n; i++)
        out->errors[ap->record[i].error]++;
    out->errors[TH_ERROR_NONE] = 0;
    for (int32_t c = 0; c < ap->n_classes; c++)
        out->errors[TH_ERROR_MISSED] += ap->missed[c];
    for (int kind = 0; kind < TH_N_ERRORS && status == THAW_OK; kind++) {
        status = ap50_without(ap, (enum th_ap_error)kind, record, &curve, &ap50[kind]);
        out->error_cost[kind] = ap50[kind] - ap50[TH_ERROR_NONE];
    }
    th_ap_curve_release(&curve);
    th_free(record);
    return status;
}
