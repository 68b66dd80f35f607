/* SPDX-License-Identifier: Apache-2.0
 * Hugging Face's ResNet. */
#include "dialect.h"

static const char *const signs[] = {"embedder.embedder.convolution.weight",
    "encoder.stages.#.layers.#.layer.#.convolution.weight", NULL};
static const char *const wrapped[] = {"resnet.", NULL};

#define B "encoder.stages.#.layers.#."

static const struct th_name_row row[] = {
    TH_NAME("embedder.embedder.convolution.*", "conv1.*"),
    TH_NAME("embedder.embedder.normalization.*", "bn1.*"),
    TH_NAME(B "shortcut.convolution.*", "layer#+.#.downsample.0.*"),
    TH_NAME(B "shortcut.normalization.*", "layer#+.#.downsample.1.*"),
    TH_NAME(B "layer.#.convolution.*", "layer#+.#.conv#+.*"),
    TH_NAME(B "layer.#.normalization.*", "layer#+.#.bn#+.*"),
    TH_NAME("classifier.1.*", "fc.*"),
};

static const struct th_dialect_input input = {
    {0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}, 0.875, "bicubic"};

const struct th_dialect th_dialect_hf_resnet = {
    .name = "Hugging Face ResNet",
    .signs = signs,
    .wrapped = wrapped,
    TH_ROWS(row),
    .input = &input,
};
