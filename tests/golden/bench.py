# SPDX-License-Identifier: Apache-2.0
"""Makes bench.h: quantiles of Student's t and Wilson's intervals by SciPy, and paired differences
by the definition in vision/bench_stats.h, written anew with NumPy.

    python3 tests/golden/bench.py > tests/golden/bench.h      (needs numpy, scipy)
"""
import numpy as np
from scipy import stats

DF = (1, 1.5, 2, 3, 4.7, 9, 29, 63, 150.25, 2000)
SHARES = ((0, 10), (3, 10), (10, 10), (421, 500), (159, 160), (1, 1))
PAIRS = ((1, 40, 0.8, 0.6), (1, 7, 0.5, 0.5), (3, 160, 0.9, 0.85), (2, 101, 0.7, 0.72), (8, 53, 0.6, 0.3))


def paired(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """Rows are seeds, columns images."""
    d = a.astype(float) - b.astype(float)
    k, n = d.shape
    padded = np.concatenate([d.mean(0), [np.sqrt(0.5), -np.sqrt(0.5)]])  # sum 0, sum of squares 1
    n2 = n + 2
    of_images = padded.var() / n2
    of_seeds = d.mean(1).var(ddof=1) / k if k > 1 else 0.0
    df = n2 - 1
    if of_seeds > 0:
        df = (of_images + of_seeds) ** 2 / (of_images**2 / (n2 - 1) + of_seeds**2 / (k - 1))
    half = stats.t.ppf(0.975, df) * np.sqrt(of_images + of_seeds)
    return d.mean(), max(-1, padded.mean() - half), min(1, padded.mean() + half)


def main() -> None:
    rng = np.random.default_rng(5)
    print("/* SPDX-License-Identifier: Apache-2.0")
    print(" * Made by tests/golden/bench.py. */")
    print("/* df, 0.975 quantile */")
    print("static const double golden_student[][2] = {")
    for df in DF:
        print(f"    {{{df!r}, {stats.t.ppf(0.975, df):.15g}}},")
    print("};\n/* right, of, low, high */\nstatic const double golden_wilson[][4] = {")
    for right, n in SHARES:
        ci = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
        print(f"    {{{right}, {n}, {ci.low:.15g}, {ci.high:.15g}}},")
    print("};\nstatic const struct golden_pair {")
    print("    int seeds;\n    const char *a[8], *b[8];\n    double mean, low, high;\n} golden_pairs[] = {")
    for k, n, p, q in PAIRS:
        hard = rng.random(n)  # images differ, so that right answers go together
        a = rng.random((k, n)) * 0.5 + hard * 0.5 < p
        b = rng.random((k, n)) * 0.5 + hard * 0.5 < q
        text = [", ".join('"' + "".join("01"[int(x)] for x in row) + '"' for row in m) for m in (a, b)]
        mean, low, high = paired(a, b)
        print(f"    {{{k}, {{{text[0]}}},\n        {{{text[1]}}},\n        {mean:.15g}, {low:.15g}, {high:.15g}}},")
    print("};")


main()
