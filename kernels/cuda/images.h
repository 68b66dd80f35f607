/* SPDX-License-Identifier: Apache-2.0
 * Our device code as it is loaded: a binary for all devices in the engine, PTX text on the
 * emulated device. Whoever links chooses: both libraries define the same name. */
#ifndef TH_CUDA_IMAGES_H
#define TH_CUDA_IMAGES_H

struct th_cuda_image {
    const char *name;       /* "act" */
    const char *data, *end; /* a zero stands at `end` */
};

/* The last has no name. */
extern const struct th_cuda_image th_cuda_images[];

#endif
