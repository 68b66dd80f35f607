/* SPDX-License-Identifier: Apache-2.0
 * The certificate: proof that what was frozen did not move. Every parameter and buffer is
 * hashed when the run and when a phase begins; what the freeze state calls frozen has to
 * hash the same when the phase ends, and what was frozen in every phase when the run
 * ends. While a phase lasts, frozen tensors are read-only where the device can.
 *
 * Copies that a plan derived from frozen tensors are verified by th_plan_verify. */
#ifndef TH_CERTIFICATE_H
#define TH_CERTIFICATE_H

#include "freeze.h"
#include "store.h"

struct th_certificate {
    int n;                   /* tensors of the model, in its order */
    bool *throughout;        /* [n] frozen in every phase */
    bool *frozen;            /* [n] frozen in this phase */
    uint64_t *start, *phase; /* [n] hash when the run, when the phase began */
};

/* Hash everything; `throughout` starts as all. */
thaw_status th_certificate_init(
    struct th_certificate *c, const struct th_model *m, const struct th_store *s);
void th_certificate_release(struct th_certificate *c);

/* A phase of the timetable (past ones too) freezes this much and no more. */
void th_certificate_restrict(
    struct th_certificate *c, const struct th_model *m, const struct th_freeze *f);

/* A phase begins: hash what it freezes and make it read-only, the rest writable. */
thaw_status th_certificate_begin(struct th_certificate *c, const struct th_model *m,
    struct th_store *s, const struct th_freeze *f);

/* A phase goes on after a resume: as begin, but against the hashes that were read. */
thaw_status th_certificate_continue(struct th_certificate *c, const struct th_model *m,
    struct th_store *s, const struct th_freeze *f);

/* Everything frozen in this phase is as it was. THAW_E_FAIL names the first that is not. */
thaw_status th_certificate_verify(
    const struct th_certificate *c, const struct th_model *m, const struct th_store *s);

/* What was frozen throughout is as it was when the run began; counts it in *n. */
thaw_status th_certificate_verify_run(const struct th_certificate *c,
    const struct th_model *m, const struct th_store *s, int *n);

/* The hashes as text and back, for checkpoints; fresh string. Reading is THAW_E_DATA
 * for a text that this model cannot have written. */
char *th_certificate_text(const struct th_certificate *c);
thaw_status th_certificate_read(struct th_certificate *c, const char *text);

#endif
