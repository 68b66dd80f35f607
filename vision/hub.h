/* SPDX-License-Identifier: Apache-2.0
 * What stands beside a weights file of Hugging Face's hub: how images are prepared, and the
 * classes' names.
 *
 *     FOLDER/model.safetensors          (pytorch_model.bin, tf_model.h5, ...)
 *     FOLDER/preprocessor_config.json   image_mean, image_std, size, crop_size, resample
 *     FOLDER/config.json                id2label; hidden_act; timm's: pretrained_cfg, architecture
 *     FOLDER/open_clip_config.json      quick_gelu, mean, std */
#ifndef TH_HUB_H
#define TH_HUB_H

#include "weights.h"

/* The weights file of such a folder, fresh, in *path; NULL where it holds none. */
thaw_status th_hub_find(const char *folder, char **path);

/* Attributes from beside `path`, where its name is one that hubs give; what the file says
 * itself stays. THAW_E_DATA for a file beside it that makes no sense. */
thaw_status th_hub_describe(const char *path, struct th_weights *w);

#endif
