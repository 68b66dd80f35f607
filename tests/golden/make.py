# SPDX-License-Identifier: Apache-2.0
"""Makes resnet.h: logits, loss, gradients and running statistics of two ResNets, by PyTorch in
fp64. Weights and images are formulas over Philox (vision/rng.c), so only results are stored.

    python3 tests/golden/make.py > tests/golden/resnet.h      (needs torch, torchvision, numpy)
    python3 tests/golden/make.py --verify                     (the formulas against vision/rng.c)

A key is taken for which PyTorch's own fp32 gradients, in both of its layouts, agree with fp64
to E_TORCH and no ReLU or max-pool decision is near enough to a tie for rounding to flip it.
"""
import argparse
import functools
import os
import subprocess
import sys
import tempfile

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
root = os.path.dirname(os.path.dirname(here))
sys.path.insert(0, os.path.join(root, "tests", "peers"))

U64 = np.uint64
N_CLASSES, N_SAMPLES = 10, 8
NETS = (("resnet20", 3, 32, 43), ("resnet18", 2, 64, 144))  # backbone, images, pixels, first key
E_TORCH, MARGIN = 1.2e-5, 1.5
MASK = (1 << 64) - 1


def mix(key: int, coordinate: int) -> int:
    z = key ^ ((coordinate + 0x9E3779B97F4A7C15 + (key << 6) + (key >> 2)) & MASK)
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def mix_name(key: int, name: str) -> int:
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return mix(key, h)


def block(key: int, counter: np.ndarray) -> np.ndarray:
    """Philox4x32-10 of each counter: uint64 [n][4] holding 32-bit words."""
    low, shift = U64(0xFFFFFFFF), U64(32)
    c = [counter & low, counter >> shift, np.zeros_like(counter), np.zeros_like(counter)]
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        p0, p1 = U64(0xD2511F53) * c[0], U64(0xCD9E8D57) * c[2]
        c = [(p1 >> shift) ^ c[1] ^ U64(k0), p1 & low, (p0 >> shift) ^ c[3] ^ U64(k1), p0 & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, 1)


def uniform(key: int, n: int) -> np.ndarray:
    words = block(key, np.arange((n + 3) // 4, dtype=U64)).reshape(-1)[:n]
    return (words >> U64(8)).astype(np.float32) * np.float32(2.0 ** -24)


def normal(key: int, n: int) -> np.ndarray:
    w = block(key, np.arange(n, dtype=U64)).astype(np.float64)
    u1, u2 = (w[:, 0] + 1.0) * 2.0 ** -32, w[:, 1] * 2.0 ** -32
    return (np.sqrt(-2.0 * np.log(u1)) * np.cos(6.283185307179586 * u2)).astype(np.float32)


def tensor(key: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The formula that resnet.h documents; all in fp32."""
    f32, n = np.float32, int(np.prod(shape))
    own = mix_name(key, name)
    if name.endswith("running_var"):
        return (f32(0.5) + uniform(own, n)).reshape(shape)
    z = normal(own, n).reshape(shape)
    if len(shape) == 4:
        return f32(np.sqrt(2.0 / (shape[0] * shape[2] * shape[3]))) * z
    if name in ("fc.weight", "linear.weight"):
        return f32(0.01) * z
    return f32(1) + f32(0.1) * z if name.endswith("weight") else f32(0.1) * z


def images(key: int, n: int, size: int) -> np.ndarray:
    return normal(mix_name(key, "images"), n * 3 * size * size).reshape(n, 3, size, size)


def labels(n: int) -> np.ndarray:
    return np.arange(n) * 3 % N_CLASSES


CHECK = r"""
#include <stdio.h>
#include <stdlib.h>
#include "rng.h"
int main(int argc, char **argv)
{
    uint64_t key = th_rng_mix_name(strtoull(argv[1], 0, 10), argv[2]);
    long n = atol(argv[3]);
    (void)argc;
    for (long i = 0; i < n; i++) {
        float v[2] = {th_rng_uniform(key, (uint64_t)i), th_rng_normal(key, (uint64_t)i)};
        fwrite(v, 4, 2, stdout);
    }
    return 0;
}
"""


def verify() -> None:
    n = 100003
    with tempfile.TemporaryDirectory() as work:
        source, binary = os.path.join(work, "check.c"), os.path.join(work, "check")
        with open(source, "w") as f:
            f.write(CHECK)
        vision = os.path.join(root, "vision")
        subprocess.check_call([os.environ.get("CC", "cc"), "-O1", "-I" + vision, source,
                               os.path.join(vision, "rng.c"), "-lm", "-o", binary])
        for key, name in ((1, "conv1.weight"), (2 ** 64 - 5, "layer4.1.bn2.running_var"), (0, "")):
            out = subprocess.check_output([binary, str(key), name, str(n)])
            want = np.frombuffer(out, np.float32).reshape(n, 2)
            own = mix_name(key, name)
            assert np.array_equal(uniform(own, n), want[:, 0]), "uniform differs"
            z = normal(own, n)  # libm and NumPy may round the last bit of log or cos apart
            assert np.max(np.abs(z - want[:, 1])) <= 3e-7, "normal differs"
            print(f"key {key} {name!r}: uniform {n} of {n} the same bits, normal "
                  f"{np.count_nonzero(z == want[:, 1])} of {n}")


@functools.lru_cache(1)
def weights(backbone: str, key: int) -> dict[str, np.ndarray]:
    import models
    model = models.build(backbone, N_CLASSES)
    return {name: tensor(key, name, tuple(t.shape)) for name, t in models.tensors(model).items()}


def run(backbone: str, n: int, size: int, key: int, mode: str, how, watch=None) -> dict:
    """One forward and backward pass: logits, loss, and by name gradients and buffers."""
    import models
    import reference
    import torch
    given = weights(backbone, key)
    model = reference.load(reference.Run(backbone), given, how)
    models.freeze(model, "all", mode, n, 0)
    if watch:
        watch.attach(model)
    x = torch.from_numpy(images(key, n, size)).to(how.dtype)
    logits = model(reference.to_layout(x, how))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels(n)))
    loss.backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    running = {name: t for name, t in model.named_buffers() if "running" in name}
    flat = lambda group: {k: v.detach().double().numpy().reshape(-1) for k, v in group.items()}
    return {"logits": logits.detach().double().numpy(), "loss": loss.item(),
            "grads": flat(grads), "running": flat(running)}


def error(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.linalg.norm(got - want) / max(np.linalg.norm(want), 1e-30))


def e_torch(net: tuple, key: int, mode: str, want: dict) -> float:
    import reference
    worst = 0.0
    for how in reference.FP32:
        got = run(*net[:3], key, mode, how)
        for kind in ("grads", "running"):
            worst = max([worst] + [error(got[kind][k], want[kind][k]) for k in want[kind]])
        worst = max(worst, error(got["logits"], want["logits"]))
    return worst


def margin(net: tuple, key: int, mode: str) -> float:
    import reference
    import ties
    watches = ties.Watch(), ties.Watch()
    for how, watch in zip((reference.FP64, reference.FP32[0]), watches):
        run(*net[:3], key, mode, how, watch)
    return ties.margin(*watches)


def choose(net: tuple) -> tuple[int, dict, dict]:
    """The first key from net's on that is fit, and the passes of the three forward kinds."""
    import reference
    for key in range(net[3], 1000):
        if any(margin(net, key, mode) < MARGIN for mode in ("train", "affine")):
            continue
        found = {mode: run(*net[:3], key, mode, reference.FP64)
                 for mode in ("train", "affine", "stats-running")}
        errors = {mode: e_torch(net, key, mode, want) for mode, want in found.items()}
        print(f"{net[0]} key {key}: e_torch {errors}", file=sys.stderr)
        if max(errors.values()) <= E_TORCH:
            return key, found, errors
    raise SystemExit("no key keeps PyTorch's own error small")


def number(v: float) -> str:
    text = f"{v:.6g}".replace("e-0", "e-").replace("e+0", "e+")
    return text if "." in text or "e" in text else text + ".0"


def samples(v: np.ndarray) -> list[float]:
    return [v[k * (len(v) - 1) // (N_SAMPLES - 1)] for k in range(N_SAMPLES)]


def rows(title: str, group: dict[str, np.ndarray]) -> str:
    lines = [f'    {{"{name}", {number(np.linalg.norm(v))}, '
             f'{{{", ".join(map(number, samples(v)))}}}}},' for name, v in group.items()]
    return f"static const struct golden_tensor {title}[] = {{\n" + "\n".join(lines) + "\n};\n"


def array(values: np.ndarray) -> str:
    return "{" + ", ".join(number(v) for v in values.reshape(-1)) + "}"


def net_text(net: tuple) -> tuple[str, str]:
    backbone, n, size, _ = net
    key, found, errors = choose(net)
    batch, running, after = found["train"], found["affine"], found["stats-running"]
    text = [f"/* {backbone}: PyTorch's own fp32 error on this input: "
            + ", ".join(f"{mode} {e:.1e}" for mode, e in errors.items()) + ". */\n",
            rows(f"golden_{backbone}_batch_grad", batch["grads"]),
            rows(f"golden_{backbone}_running_grad", running["grads"]),
            rows(f"golden_{backbone}_batch_buffers", batch["running"]),
            rows(f"golden_{backbone}_after_buffers", after["running"])]
    n_grad, n_buf = len(batch["grads"]), len(batch["running"])
    row = (f'    {{"{backbone}", {key}u, {n}, {size}, {n_grad}, {n_buf},\n'
           f'     {{{number(batch["loss"])}, {array(batch["logits"])},\n'
           f'      golden_{backbone}_batch_grad, golden_{backbone}_batch_buffers}},\n'
           f'     {{{number(running["loss"])}, {array(running["logits"])},\n'
           f'      golden_{backbone}_running_grad, golden_{backbone}_after_buffers}}}},\n')
    return "".join(text), row


HEAD = """/* SPDX-License-Identifier: Apache-2.0
 * Made by golden/make.py with PyTorch in fp64; do not edit.
 * Logits, loss, gradients and running statistics of two ResNets with %(classes)d classes, whose
 * weights and images are drawn by formula. All arithmetic of the formula is fp32:
 *   own   = th_rng_mix_name(key, NAME)           NAME in PyTorch's naming, "layer1.0.conv1.weight"
 *   z[i]  = th_rng_normal(own, i)                i counts elements in [o][i][h][w] order
 *   conv  weight        sqrt(2 / (n_out * kh * kw)) * z      (factor computed in double, then cast)
 *   fc.weight, linear.weight   0.01 * z
 *   gamma (bn, downsample.1 weight)   1 + 0.1 * z
 *   beta, running_mean, fc.bias, linear.bias   0.1 * z
 *   running_var         0.5 + th_rng_uniform(own, i)
 *   images [n][3][size][size], already normalised: th_rng_normal(th_rng_mix_name(key, "images"), i)
 *   label of image k    k * 3 %% %(classes)d
 * resnet20 is the CIFAR net (option A shortcuts; classifier `linear`), resnet18 torchvision's.
 * Loss: mean cross-entropy. BatchNorm eps 1e-5, momentum 0.1. Everything thawed but what the mode
 * freezes. The five modes need two forward kinds only:
 *   mode            forward, gradients of conv and fc   gamma, beta    buffers afterwards
 *   train           batch                               batch.grad     batch.buffers
 *   stats           batch                               none           batch.buffers
 *   affine          running                             running.grad   as drawn, same bits
 *   frozen          running                             none           as drawn, same bits
 *   stats-running   running                             none           running.buffers
 * Of a tensor with n elements: its 2-norm, and elements k * (n - 1) / 7, k = 0..7.
 * Inputs are such that PyTorch's own fp32 stays within 1.2e-5 of these values (per tensor, 2-norm)
 * and no ReLU or max-pool sits near a tie, so that 1e-4 is a fair bound for every tensor. */
#ifndef TH_GOLDEN_RESNET_H
#define TH_GOLDEN_RESNET_H

#include <stdint.h>

struct golden_tensor {
    const char *name;
    double norm;
    double sample[%(samples)d];
};

struct golden_pass {
    double loss;
    double logits[%(most)d]; /* [image][class] */
    const struct golden_tensor *grad, *buffers;
};

struct golden_net {
    const char *backbone;
    uint64_t key;
    int n_images, size, n_grad, n_buffers;
    struct golden_pass batch, running;
};

"""


def header() -> str:
    texts, lines = zip(*(net_text(net) for net in NETS))
    most = max(net[1] for net in NETS) * N_CLASSES
    head = HEAD % {"classes": N_CLASSES, "samples": N_SAMPLES, "most": most}
    return (head + "\n".join(texts) + "\nstatic const struct golden_net golden_resnets[] = {\n"
            + "".join(lines) + "};\n\n#endif\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--verify", action="store_true", help="compare the formulas with rng.c")
    if parser.parse_args().verify:
        verify()
        return
    sys.stdout.write(header())


if __name__ == "__main__":
    main()
