/* SPDX-License-Identifier: Apache-2.0
 * What --lora asks for: rank, scale, dropout, and which layers get an adapter. Layers read
 * it as they are built (layers.c); the values are parameters of the model, LAYER.lora_A
 * .weight and LAYER.lora_B.weight, as PEFT calls them. */
#ifndef TH_LORA_H
#define TH_LORA_H

#include "error.h"

enum { TH_LORA_MAX_RANK = 4096 };

struct th_lora {
    int rank; /* 0: no adapters */
    float alpha, dropout;
    bool rslora;  /* scale alpha / sqrt(r) in place of alpha / r */
    bool by_word; /* a phase of --thaw says `lora`: adapters train where they are named;
                      else in every phase */
    char *targets; /* words separated by commas; NULL: the model's default */
};

/* "r=8,alpha=16,targets=qkv,proj,dropout=0.1,rslora=1": what has no '=' goes on with the
 * list of targets. r is 8 where it is not said, alpha 2 r. THAW_E_USAGE. */
thaw_status th_lora_parse(struct th_lora *l, const char *text);
/* The same text with everything said; fresh. */
char *th_lora_text(const struct th_lora *l);
thaw_status th_lora_copy(struct th_lora *to, const struct th_lora *from);
void th_lora_release(struct th_lora *l);

/* The factor on B A: alpha / r (Hu et al. 2021, section 4.1), or alpha / sqrt(r)
 * (Kalajdzievski 2023, arXiv:2312.03732). */
float th_lora_scale(const struct th_lora *l);

/* Whether `word` names a layer: its last component, a shell pattern on its name,
 * all-linear, or conv. */
bool th_lora_word_names(const char *word, const char *layer, bool conv);
/* Whether any word does. */
bool th_lora_targets(const struct th_lora *l, const char *layer, bool conv);

/* "blocks.0.attn.qkv" of "blocks.0.attn.qkv.lora_A.weight" into layer[size]. */
void th_lora_layer(const char *param, char *layer, size_t size);

#endif
