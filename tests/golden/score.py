# SPDX-License-Identifier: Apache-2.0
"""Makes score.h: LogME, H-scores, LEEP, nearest neighbours, logistic regression and the linear probe of
small matrices. Needs numpy, scipy, scikit-learn; by hand: python3 tests/golden/score.py > tests/golden/score.h

LogME is the evidence with its determinant and residual written out, at the alpha and beta of thuml/LogME's fixed
point; that the maximum is not below is asserted. H-scores are traces of products of covariances.
"""
import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

SOURCE, FOLDS, NEIGHBOURS = 6, 5, 5
L2 = (1, 1e-1, 1e-2, 1e-3, 1e-4)


def case(seed, counts, d, spread=1.0):
    """Rows of unbalanced classes around centres, in mixed order, exact in float."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    x = rng.normal(0, 1, (len(counts), d))[y] * spread + rng.normal(0, 1, (len(y), d)) + 0.75
    p = rng.dirichlet(np.ones(SOURCE), len(y)) + 2 * np.eye(SOURCE)[(y * 2 + rng.integers(0, 2, len(y))) % SOURCE]
    return np.round(x * 64) / 64, y, np.maximum(np.round(p / p.sum(1, keepdims=True) * 1024), 1) / 1024


def flat(seed, counts, d):
    """Column 1 a large constant, 2 zero, 3 a copy of 0."""
    x, y, p = case(seed, counts, d)
    x[:, 1], x[:, 2], x[:, 3] = 1000, 0, x[:, 0]
    return x, y, p


CASES = {"tall": case(1, (5, 20, 9, 3), 11), "wide": case(2, (3, 6, 4), 29), "flat": flat(3, (7, 13, 4), 7),
         "square": case(4, (2, 3), 5), "one": case(5, (4, 2), 1), "split": case(6, (11, 13), 3, 4.0)}


def evidence(x, y, a, b):
    """log N(y; 0, 1/b + x x'/a) / n, as the paper's equation 2 has it."""
    n, d = x.shape
    A = a * np.eye(d) + b * x.T @ x
    m = b * np.linalg.solve(A, x.T @ y)
    return (n / 2 * np.log(b) + d / 2 * np.log(a) - n / 2 * np.log(2 * np.pi) - b / 2 * np.sum((x @ m - y) ** 2)
            - a / 2 * m @ m - np.linalg.slogdet(A)[1] / 2) / n


def fixed_point(x, y):
    """alpha and beta after it, and the m2 and residual of the step before, as LogME.py has them."""
    n = len(x)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    rank = np.linalg.matrix_rank(x)
    u, sigma = u[:, :rank], s[:rank] ** 2
    z = (u.T @ y) ** 2
    a = b = 1.0
    for _ in range(11):
        t = a / b
        gamma, m2 = (sigma / (sigma + t)).sum(), (sigma * z / (t + sigma) ** 2).sum()
        residual = (z / (1 + sigma / t) ** 2).sum() + y @ y - z.sum()
        a, b = gamma / (m2 + 1e-5), (n - gamma) / (residual + 1e-5)
        if abs(a / b - t) / t <= 1e-3:
            break
    return a, b, m2, residual


def logme(x, y):
    n, d = x.shape
    total = []
    for c in range(y.max() + 1):
        own = (y == c).astype(float)
        a, b, m2, residual = fixed_point(x, own)
        det = np.linalg.slogdet(a * np.eye(d) + b * x.T @ x)[1]
        e = (n / 2 * np.log(b) + d / 2 * np.log(a) - n / 2 * np.log(2 * np.pi) - b / 2 * residual - a / 2 * m2 - det / 2) / n
        best = minimize(lambda v: -evidence(x, own, *np.exp(v)), np.log([a, b]), method="Nelder-Mead",
                        options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000})
        assert e < 0.01 - best.fun, (e, -best.fun)  # eleven steps may end below the maximum, never above
        total.append(e)
    return np.mean(total)


def h_scores(x, y):
    between = np.zeros_like(x)
    for c in range(y.max() + 1):
        between[y == c] = x[y == c].mean(0)
    cov, inner = (np.atleast_2d(np.cov(v.T, bias=True)) for v in (x, between))
    lw = LedoitWolf().fit(x)
    plain = np.trace(np.linalg.pinv(cov, rcond=1e-12, hermitian=True) @ inner)
    return plain, np.trace(np.linalg.pinv(lw.covariance_, rcond=1e-15, hermitian=True) @ inner) * (1 - lw.shrinkage_)


def leep(p, y):
    joint = np.stack([p[y == c].sum(0) for c in range(y.max() + 1)]) / len(y)
    given = joint / joint.sum(0)
    return np.mean(np.log((given[y] * p).sum(1)))


def nearest(x, y):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine, right = unit @ unit.T, 0
    for i in range(len(y)):
        order = [j for j in np.argsort(-cosine[i], kind="stable") if j != i][:NEIGHBOURS]
        votes = [(sum(y[j] == c for j in order), sum(cosine[i][j] for j in order if y[j] == c))
                 for c in range(y.max() + 1)]
        right += max(range(len(votes)), key=lambda c: votes[c]) == y[i]
    return right / len(y)


def objective(w, z, y, k, l2):
    w = w.reshape(k, -1)
    logits = z @ w[:, :-1].T + w[:, -1]
    p = np.exp(logits - logsumexp(logits, 1, keepdims=True))
    loss = np.mean(logsumexp(logits, 1) - logits[np.arange(len(y)), y]) + l2 / 2 * np.sum(w[:, :-1] ** 2)
    r = (p - np.eye(k)[y]) / len(y)
    return loss, np.concatenate([r.T @ z + l2 * w[:, :-1], r.sum(0)[:, None]], 1).ravel()


def fit(z, y, k, l2, start=None):
    start = np.zeros(k * (z.shape[1] + 1)) if start is None else start
    got = minimize(objective, start, (z, y, k, l2), "L-BFGS-B", jac=True,
                   options={"maxiter": 20000, "maxfun": 20000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 30})
    return got.x, got.fun


def probe(x, y):
    """Folds as linear_probe.c deals them; each fit to its end. -1 where a fit lacks a class: its bias has no end."""
    k, z = y.max() + 1, StandardScaler().fit_transform(x)
    fold = np.empty(len(y), int)
    fold[np.argsort(y, kind="stable")] = np.arange(len(y)) % FOLDS
    right, margins = 0, []
    for f in range(FOLDS):
        inner, best = (f + 1) % FOLDS, (np.inf, None)
        out = (fold != f) & (fold != inner)
        if len(set(y[out])) < k:
            return -1
        for l2 in L2:
            w, _ = fit(z[out], y[out], k, l2)
            held = fold == inner
            loss = objective(w, z[held], y[held], k, 0)[0] if held.any() else 0
            best = min(best, (loss, l2), key=lambda v: v[0])
        w, _ = fit(z[fold != f], y[fold != f], k, best[1])
        logits = z[fold == f] @ w.reshape(k, -1)[:, :-1].T + w.reshape(k, -1)[:, -1]
        right += np.sum(logits.argmax(1) == y[fold == f])
        top = np.sort(logits, 1)
        margins += list(top[:, -1] - top[:, -2])
    assert min(margins) > 0.01, min(margins)  # rounding decides nothing
    return right / len(y)


def array(x):
    return "{" + ", ".join(f"{v:.12g}" for v in np.asarray(x).reshape(-1)) + "}"


def main():
    rows = ""
    print("/* Made by score.py with NumPy, SciPy and scikit-learn; do not edit. */\n#include <stdint.h>\n")
    for name, (x, y, p) in CASES.items():
        k, z = y.max() + 1, StandardScaler().fit_transform(x)
        losses = [fit(z, y, k, l2)[1] for l2 in (0.1, 0.01)]
        own = LogisticRegression(C=1 / (0.1 * len(y)), tol=1e-10, max_iter=10000).fit(z, y)
        w = np.concatenate([own.coef_, own.intercept_[:, None]], 1)
        if k > 2:  # of two classes scikit-learn fits one row
            assert abs(objective(w.ravel(), z, y, k, 0.1)[0] - losses[0]) < 1e-8
        for what, type_, v in (("x", "double", x), ("y", "int32_t", y), ("p", "float", p)):
            print(f"static const {type_} {name}_{what}[] = {array(v)};")
        ranks = [np.linalg.matrix_rank(v) for v in (x, x - x.mean(0))]
        rows += (f'    {{"{name}", {len(y)}, {x.shape[1]}, {k}, {name}_x, {name}_y, {name}_p, {ranks[0]}, {ranks[1]}, '
                 f"{logme(x, y):.12g}, {h_scores(x, y)[0]:.12g}, {h_scores(x, y)[1]:.12g}, {leep(p, y):.12g}, "
                 f"{nearest(x, y):.12g}, {probe(x, y):.12g}, {array(losses)}}},\n")
    print(f"enum {{ GOLDEN_SOURCE = {SOURCE}, GOLDEN_NEIGHBOURS = {NEIGHBOURS} }};")
    print("static const struct golden_case {\n    const char *name;\n    int n, values, classes;\n    const double *x;\n"
          "    const int32_t *y;\n    const float *p; /* [n][GOLDEN_SOURCE] */\n    int rank, centred_rank;\n"
          "    double logme, h, h_shrunk, leep, knn, probe;\n    double loss[2]; /* at l2 0.1 and 0.01 */\n"
          "} golden_cases[] = {\n" + rows + "};")


main()
