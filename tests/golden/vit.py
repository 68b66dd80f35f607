# SPDX-License-Identifier: Apache-2.0
"""Makes vit.h: logits, loss and gradients of five Vision Transformers, by timm in fp64, and
position embeddings resampled by timm. Weights and images are formulas over Philox, as in make.py.

    python3 tests/golden/vit.py > tests/golden/vit.h      (needs torch, timm, numpy)
"""
import sys

import numpy as np

import make

NETS = (("vit_micro_patch4_32", 3, 32), ("vit_micro_patch4_gap_32", 2, 20),
        ("deit_tiny_distilled_patch16_224", 2, 48), ("vit_xsmall_patch16_clip_224", 2, 32),
        ("vit_small_patch14_reg4_dinov2", 2, 28))
KEY = 7
POSITIONS = ((1, (3, 3), (5, 5), 3), (0, (7, 7), (2, 2), 2), (2, (2, 2), (7, 7), 1),
             (5, (14, 14), (5, 5), 1), (0, (1, 1), (3, 3), 2), (1, (5, 5), (4, 4), 2),
             (1, (4, 4), (3, 6), 2), (0, (3, 6), (6, 3), 2))
# rows before the grid, its height and width, the new ones, values


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    f32 = np.float32
    z = make.normal(make.mix_name(KEY, name), int(np.prod(shape))).reshape(shape)
    if len(shape) == 4:
        return f32(np.sqrt(2.0 / (shape[0] * shape[2] * shape[3]))) * z
    if len(shape) == 2:
        return f32(1 / np.sqrt(shape[1])) * z
    if name.endswith("gamma"):
        return f32(0.5) + f32(0.1) * z
    return f32(1) + f32(0.1) * z if name.endswith("weight") else f32(0.1) * z


def run(backbone: str, n: int, size: int, dtype) -> dict:
    import models
    import torch
    model = models.build(backbone, make.N_CLASSES, size=size)
    for name, t in model.state_dict().items():
        t.copy_(torch.from_numpy(tensor(name, tuple(t.shape))))
    model = model.to(dtype).eval()  # a distilled net answers with its mean; no dropout anyway
    logits = model(torch.from_numpy(make.images(KEY, n, size)).to(dtype))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(make.labels(n)))
    loss.backward()
    return {"logits": logits.detach().double().numpy(), "loss": loss.item(),
            "grads": {k: p.grad.double().numpy().reshape(-1)
                      for k, p in model.named_parameters()}}


def shown(name: str, depth: int) -> bool:
    """Of the blocks, the first and the last."""
    return not name.startswith("blocks.") or name.split(".")[1] in ("0", str(depth - 1))


def net_text(net: tuple) -> tuple[str, str]:
    import torch
    backbone, n, size = net
    want, own = run(*net, torch.float64), run(*net, torch.float32)
    error = max(make.error(own["grads"][k], v) for k, v in want["grads"].items())
    depth = 1 + max(int(k.split(".")[1]) for k in want["grads"] if k.startswith("blocks."))
    grads = {k: v for k, v in want["grads"].items() if shown(k, depth)}
    text = f"/* {backbone}: PyTorch's own fp32 error {error:.1e}. */\n" + \
        make.rows(f"golden_{backbone}", grads)
    row = (f'    {{"{backbone}", {n}, {size}, {make.number(want["loss"])},\n'
           f'     {make.array(want["logits"])}, golden_{backbone}, {len(grads)}}},\n')
    return text, row


def positions_text() -> str:
    import torch
    from timm.layers import resample_abs_pos_embed
    lines = []
    for i, (before, old, new, d) in enumerate(POSITIONS):
        rows = before + old[0] * old[1]
        x = make.normal(make.mix_name(KEY, f"positions{i}"), rows * d).reshape(1, rows, d)
        y = resample_abs_pos_embed(torch.from_numpy(x), new, old, num_prefix_tokens=before)
        lines.append(f"    {{{before}, {{{old[1]}, {old[0]}}}, {{{new[1]}, {new[0]}}}, {d},\n     {make.array(y.numpy())}}},\n")
    return "static const struct golden_positions golden_positions[] = {\n" + "".join(lines) + \
        "};\n"


HEAD = """/* SPDX-License-Identifier: Apache-2.0
 * Made by golden/vit.py with timm in fp64; do not edit.
 * Loss (mean cross-entropy), logits of %(classes)d classes, and gradients of all but the middle
 * blocks, of networks whose weights and images are drawn by formula, in fp32:
 *   own   = th_rng_mix_name(%(key)d, NAME), z[i] = th_rng_normal(own, i)
 *   patches  sqrt(2 / (n_out * kh * kw)) * z      linear weights  z / sqrt(n_in)
 *   LayerScale 0.5 + 0.1 * z    norms' weight 1 + 0.1 * z    biases, tokens, positions 0.1 * z
 *   images [n][3][size][size]: stream "images"; label of image k: k * 3 %% %(classes)d
 * Of a tensor with n elements: its 2-norm, and elements k * (n - 1) / 7, k = 0..7.
 * Positions of case i: [before + from.h * from.w][d] drawn from the stream "positionsI", resampled. */
#ifndef TH_GOLDEN_VIT_H
#define TH_GOLDEN_VIT_H

enum { GOLDEN_KEY = %(key)d };

struct golden_tensor {
    const char *name;
    double norm;
    double sample[%(samples)d];
};

struct golden_vit {
    const char *backbone;
    int n_images, size;
    double loss;
    double logits[%(most)d]; /* [image][class] */
    const struct golden_tensor *grad;
    int n_grad;
};

struct golden_positions {
    int before;
    struct {
        int w, h;
    } from, to;
    int d;
    double value[%(values)d];
};

"""


def main() -> None:
    texts, lines = zip(*(net_text(net) for net in NETS))
    most = max(net[1] for net in NETS) * make.N_CLASSES
    values = max((before + new[0] * new[1]) * d for before, _, new, d in POSITIONS)
    head = HEAD % {"classes": make.N_CLASSES, "samples": make.N_SAMPLES, "most": most,
                   "key": KEY, "values": values}
    sys.stdout.write(head + "\n".join(texts) + "\n" + positions_text()
                     + "\nstatic const struct golden_vit golden_vits[] = {\n"
                     + "".join(lines) + "};\n\n#endif\n")


if __name__ == "__main__":
    main()
