/* SPDX-License-Identifier: Apache-2.0
 * Writing HDF5 to memory. */
#ifndef TH_HDF5_WRITE_H
#define TH_HDF5_WRITE_H

#include "weights.h"

/* The bytes of a file, for th_free, with TH_IMAGE_ROOM bytes of room behind them. Takes the lock of hdf5_session.h. */
thaw_status th_hdf5_image(const struct th_weights *w, unsigned char **bytes, size_t *n);

#endif
