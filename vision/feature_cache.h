/* SPDX-License-Identifier: Apache-2.0
 * Features kept: an entry of so many floats for each (image, view), in memory or in a
 * file. What they are features of is said by a key; entries under one key are always the
 * same, whoever computed them, so that runs and processes may share a file without locks.
 *
 *     TRY(th_feature_cache_open(&spec, &cache));
 *     if (!th_feature_cache_has(cache, i) || th_feature_cache_get(cache, i, x) != OK) {
 *         ... compute x ...
 *         th_feature_cache_put(cache, i, x);
 *     } */
#ifndef TH_FEATURE_CACHE_H
#define TH_FEATURE_CACHE_H

#include "thaw.h"

enum th_cache_place { TH_CACHE_AUTO, TH_CACHE_OFF, TH_CACHE_MEMORY, TH_CACHE_DISK };

struct th_cache_spec {
    enum th_cache_place place; /* TH_CACHE_MEMORY or TH_CACHE_DISK */
    const char *dir; /* disk: made where there is none; the file is KEY.features */
    uint64_t key[2];
    int64_t entries;
    int64_t values; /* floats of an entry */
    bool half;      /* stored as half precision: put rounds */
    size_t limit; /* bytes; 0: half of what is free. Entries beyond it have no room. */
};

struct th_feature_cache;

/* THAW_E_IO, THAW_E_MEMORY. A file that is damaged or another's is replaced; *note (fresh,
 * else NULL) says so. */
thaw_status th_feature_cache_open(
    const struct th_cache_spec *spec, struct th_feature_cache **out, char **note);
void th_feature_cache_close(struct th_feature_cache *c); /* NULL is fine */
/* Remove the file, if it has one; it is used on until it is closed. */
void th_feature_cache_unlink(struct th_feature_cache *c);

/* How many entries have room, and are there. */
int64_t th_feature_cache_room(const struct th_feature_cache *c);
int64_t th_feature_cache_filled(const struct th_feature_cache *c);
size_t th_feature_cache_entry_bytes(const struct th_feature_cache *c);

/* Take notice of what other processes have added to the file since. */
void th_feature_cache_refresh(struct th_feature_cache *c);

/* From any thread, also while another one puts: once true, it stays true until a get
 * fails. */
bool th_feature_cache_has(const struct th_feature_cache *c, int64_t entry);

/* Of an entry that is there. THAW_E_DATA: it is damaged, and from now on not there. */
thaw_status th_feature_cache_get(struct th_feature_cache *c, int64_t entry, float *x);

/* Nothing happens where it has no room or is there. THAW_E_IO (disk full), once: from then
 * on nothing more is put. */
thaw_status th_feature_cache_put(
    struct th_feature_cache *c, int64_t entry, const float *x);

#endif
