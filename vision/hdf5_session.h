/* SPDX-License-Identifier: Apache-2.0
 * What all use of libhdf5 shares: one call at a time, its error printing and plugin
 * loading off meanwhile, and its complaints as ends of our sentences. */
#ifndef TH_HDF5_SESSION_H
#define TH_HDF5_SESSION_H

#include "thaw.h"

#include <hdf5.h>

/* HDF5's state is global and its usual builds are not thread-safe. A fork while it is
 * locked has a copy of that state in which nothing is half done. */
void th_hdf5_lock(void);
void th_hdf5_unlock(void);

/* What a call changes in HDF5 and puts back; the lock is held. */
struct th_hdf5_session {
    H5E_auto2_t print;
    void *print_data;
    unsigned plugins;
};

void th_hdf5_open(struct th_hdf5_session *s);
void th_hdf5_close(const struct th_hdf5_session *s);

/* Close what is open: ids below 0 never were. */
void th_hdf5_close_id(hid_t id, herr_t (*close)(hid_t));

/* Sets the sentence, with HDF5's own innermost complaint at its end. */
thaw_status th_hdf5_failed(thaw_status status, const char *where, const char *what);

/* A path for the core driver, which wants one that does not exist. */
extern const char th_hdf5_no_path[];

/* The core driver's ways with memory for bytes that are ours: it frees none of them. How it
 * comes to memory the caller sets. */
H5FD_file_image_callbacks_t th_hdf5_memory(void *image);

#endif
