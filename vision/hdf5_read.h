/* SPDX-License-Identifier: Apache-2.0
 * Reading HDF5 from memory into records. Crashes on files made for that: to be called in
 * a sandbox, with the lock of hdf5_session.h held. */
#ifndef TH_HDF5_READ_H
#define TH_HDF5_READ_H

#include "weights_stream.h"

/* All data sets of numbers as fp32, all attributes of the root. `limit`: bytes that one
 * chunk or attribute may take. THAW_E_DATA for what is damaged or refused. */
thaw_status th_hdf5_read(
    const unsigned char *bytes, size_t n, size_t limit, struct th_stream *out);

#endif
