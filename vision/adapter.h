/* SPDX-License-Identifier: Apache-2.0
 * Adapter files: A and B of each adapted layer, the head with its classes, and every other
 * tensor that is no longer the base's (BatchNorm statistics, thawed biases), with rank,
 * alpha and targets, and a hash of each tensor of the base that all this belongs to.
 *
 * An HDF5 file named as tensors of the model are, with a model file's attributes and
 * thaw_adapter (=1), lora, base (its path), base_hashes; or a folder of PEFT's
 * (adapter_model.safetensors and adapter_config.json), which says nothing of its base. */
#ifndef TH_ADAPTER_H
#define TH_ADAPTER_H

#include "network.h"

struct th_adapter {
    char *path;
    struct th_weights w; /* under the model's names */
    struct th_lora lora;
    bool foreign; /* PEFT's */
};

/* A file, a run folder (its best.adapter.h5), or a folder of PEFT's. THAW_E_DATA for what
 * is no adapter. Release in every case. */
thaw_status th_adapter_read(struct th_adapter *a, const char *path);
void th_adapter_release(struct th_adapter *a);

/* What it says of the network: head, input, lora; THAW_E_DATA where spec's backbone is
 * another one than its own. */
thaw_status th_adapter_describe(
    const struct th_adapter *a, struct th_network_spec *spec);
/* Whether a head comes with it. */
bool th_adapter_has_head(
    const struct th_adapter *a, const struct th_network_spec *spec);

/* Remember the hashes of the base that is in the store, for adapters written later, and
 * the path that it came from (NULL: none). */
thaw_status th_adapter_note_base(struct th_network *n, const char *path);

/* Its tensors into the store, those of the head where `head`, all or nothing. The base must
 * have been noted; THAW_E_DATA where it is another one. */
thaw_status th_adapter_load(
    const struct th_adapter *a, struct th_network *n, bool head);

/* The bytes of an adapter file of these values, for th_free. */
thaw_status th_adapter_image(const struct th_model *m, const struct th_store *s,
    unsigned char **bytes, size_t *n);

/* Hashes and path of the base: in checkpoints, and back. */
thaw_status th_adapter_put_base(const struct th_model *m, struct th_weights *w);
thaw_status th_adapter_get_base(const struct th_weights *w, struct th_model *m);

/* ---- adapter_peft.c ---- */

/* Read a folder (or its .safetensors) into a->w and a->lora. */
thaw_status th_adapter_read_peft(struct th_adapter *a);
/* Write such a folder, which must not exist. */
thaw_status th_adapter_write_peft(const struct th_adapter *a, const char *folder);

#endif
