# SPDX-License-Identifier: Apache-2.0
"""Makes heads.h: loss, logits and gradients of the heads on a small network, by PyTorch in fp64. Needs
numpy, torch; run by hand: python3 tests/golden/heads.py > tests/golden/heads.h

The network: a 1x1 convolution of 3 to 5 channels on images of 4x4; "tokens" has a class token before the
16 positions. Numbers are a function of the name and the index, in the test too.
"""
import numpy as np
import torch
import torch.nn.functional as F

N, CHANNELS, CLASSES, WIDTH = 3, 5, 4, 7


def numbers(name, *shape):
    seed, i = sum(name.encode()), np.arange(np.prod(shape))
    return torch.tensor(((i * 37 + seed * 101) % 1009 / 1009 - .5).reshape(shape), requires_grad=True)


def mlp(x, p):
    x = F.relu(F.linear(x.mean((2, 3)), p("fc.0.weight", WIDTH, CHANNELS), p("fc.0.bias", WIDTH)))
    return F.linear(x, p("fc.3.weight", CLASSES, WIDTH), p("fc.3.bias", CLASSES))


def concatpool(x, p):
    x = torch.cat([F.adaptive_max_pool2d(x, 1), F.adaptive_avg_pool2d(x, 1)], 1).flatten(1)
    return F.linear(x, p("fc.weight", CLASSES, 2 * CHANNELS), p("fc.bias", CLASSES))


def concatpool_tokens(x, p):
    cls = p("cls_token", 1, 1, CHANNELS).expand(N, 1, CHANNELS)
    x = torch.cat([cls, x.flatten(2).transpose(1, 2)], 1)
    x = torch.cat([x[:, 0], x[:, 1:].mean(1)], 1)
    return F.linear(x, p("fc.weight", CLASSES, 2 * CHANNELS), p("fc.bias", CLASSES))


def cosine(x, p):
    w, scale = p("fc.weight", CLASSES, CHANNELS), p("fc.scale", 1)
    return scale * F.linear(F.normalize(x.mean((2, 3))), F.normalize(w))


def array(x):
    return "{" + ", ".join(f"{v:.9g}" for v in x.detach().reshape(-1).tolist()) + "}"


def main():
    print("/* Made by heads.py with PyTorch; do not edit. */")
    print(f"enum {{ GOLDEN_N = {N}, GOLDEN_CHANNELS = {CHANNELS}, GOLDEN_CLASSES = {CLASSES}, GOLDEN_WIDTH = {WIDTH} }};")
    runs, gradients = [], []
    for head, network, build in (("mlp", "maps", mlp), ("concatpool", "maps", concatpool),
                                 ("concatpool", "tokens", concatpool_tokens), ("cosine", "maps", cosine)):
        made = {}

        def p(name, *shape):
            made[name] = numbers(name, *shape)
            return made[name]

        x = F.conv2d(numbers("image", N, 3, 4, 4), p("stem.weight", CHANNELS, 3, 1, 1))
        logits = build(x, p)
        loss = F.cross_entropy(logits, torch.arange(N) * 3 % CLASSES)
        loss.backward()
        runs.append(f'    {{"{head}", "{network}", {loss.item():.9g}, {array(logits)}}},')
        gradients += [f'    {{"{head}", "{network}", "{n}", {v.numel()}, {array(v.grad)}}},' for n, v in made.items()]
    print("static const struct {\n    const char *head, *network;\n    double loss, logits[GOLDEN_N * GOLDEN_CLASSES];"
          "\n} golden_runs[] = {")
    print("\n".join(runs))
    print("};\nstatic const struct {\n    const char *head, *network, *name;\n    int n;\n    double gradient[64];"
          "\n} golden_gradients[] = {")
    print("\n".join(gradients))
    print("};")


main()
