# SPDX-License-Identifier: Apache-2.0
"""The tables of speed.py, from its JSON file. Ratios are given twice: of the shortest steps, which
other programs on the machine disturb least, and of the medians."""
import statistics

import works
from works import Work

EAGER = ("channels_last", "contiguous")
LOSS_TOLERANCE, OWN_SPREAD = 1e-3, 4.0  # of traces: DESIGN section 10
MIB = 2 ** 20
ENOUGH = 0.85                           # of the ideal freeze ratio: bar c


class Row:
    """One work's samples."""

    def __init__(self, data: dict, backbone: str, work: Work):
        self.work, self.data = work, data
        self.plan = data["plans"][backbone].get(work.name)
        self.batch = data["plans"][backbone]["batch"]
        self.mine = data["samples"][backbone].get(work.name, {})
        # a cached or quantised row is held against PyTorch's ordinary one
        self.theirs = data["samples"][backbone].get(work.twins_name, {})

    def samples(self, engine: str) -> list[dict]:
        every = (self.mine if engine == "thaw" else self.theirs).get(engine, [])
        return [s for s in every if "refused" not in s]

    def refusal(self) -> str:
        return next((s["refused"] for s in self.mine.get("thaw", []) if "refused" in s), "")

    def best(self, engine: str) -> float:
        """Seconds of the shortest step."""
        return min((t for s in self.samples(engine) for t in s["seconds"]), default=float("nan"))

    def median(self, engine: str) -> float:
        every = [t for s in self.samples(engine) for t in s["seconds"]]
        return statistics.median(every) if every else float("nan")

    def engines(self, names=EAGER) -> list[str]:
        return [e for e in names if self.samples(e)]

    def ratio(self, of, names=EAGER) -> float:
        """How much faster than the better of these engines."""
        theirs = [of(e) for e in self.engines(names)]
        return min(theirs) / of("thaw") if theirs and self.samples("thaw") else float("nan")

    def peak(self, engine: str) -> float:
        return max((s["peak"] for s in self.samples(engine)), default=float("nan")) / MIB

    def start(self, engine: str) -> float:
        """Seconds from the command to the start of the first step: its end less a steady step."""
        return min((max(0.0, s["first"] - statistics.median(s["seconds"]))
                    for s in self.samples(engine)), default=float("nan"))


def number(x: float, form: str = ".2f") -> str:
    return "–" if x != x else format(x, form)


def rate(row: Row, engine: str) -> str:
    best, median = row.batch / row.best(engine), row.batch / row.median(engine)
    form = ".0f" if best >= 100 else ".2f"
    return "–" if best != best else f"{best:{form}} ({median:{form}})"


def markdown(heads: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(r) + " |" for r in [heads, ["---"] * len(heads), *rows])


def promised(row: Row) -> str:
    """Whether the promise holds, by the shortest steps."""
    found = [("eager", row.work.promised[data_isa(row.data) == "avx2"], EAGER)] \
        if row.work.promised else []
    if row.work.promised[2:] and row.work.promised[2] and row.engines(("compile",)) \
            and data_isa(row.data) != "avx2":
        found.append(("compiled", row.work.promised[2], ("compile",)))
    cells = [f"≥ {least}× {name}: "
             + ("not measured" if row.ratio(row.best, names) != row.ratio(row.best, names) else
                "yes" if row.ratio(row.best, names) >= least else "**no**")
             for name, least, names in found if least]
    return ", ".join(cells) or "–"


def data_isa(data: dict) -> str:
    return data["settings"]["isa"]


def speed(rows: list[Row]) -> str:
    heads = ["images/s, best (median)", "Thaw", *EAGER, "compile", "× better eager",
             "× compiled", "promised"]
    return markdown(heads, [
        [r.work.title, rate(r, "thaw") if not r.refusal() else r.refusal(),
         *(rate(r, e) for e in (*EAGER, "compile")),
         f"{number(r.ratio(r.best))} ({number(r.ratio(r.median))})",
         f"{number(r.ratio(r.best, ('compile',)))} ({number(r.ratio(r.median, ('compile',)))})",
         promised(r)] for r in rows])


def memory(rows: list[Row]) -> str:
    def line(r: Row) -> list[str]:
        theirs = [r.peak(e) for e in r.engines()]
        imported = [s["imported"] / MIB for e in r.engines() for s in r.samples(e)]
        least = min(theirs, default=float("nan"))
        start = min((r.start(e) for e in r.engines()), default=float("nan"))
        first = number(r.start("thaw")) if r.work.cache == "off" else "–"
        return [r.work.title, number(r.peak("thaw"), ".0f"), number(least, ".0f"),
                number(r.peak("thaw") / least), number(min(imported, default=float("nan")), ".0f"),
                first, number(start), number(r.start("compile"), ".0f")]
    return markdown(["peak MiB; s to the first step's start", "Thaw", "PyTorch, better eager",
                     "ratio", "of it the import", "Thaw starts after", "eager", "compiled"],
                    [line(r) for r in rows])


def limit(row: Row, macs: str) -> float:
    """Seconds of a step at the machine's limits: the longer of arithmetic and memory."""
    cost, limits = row.plan["cost"], row.data["limits"]
    return max(2 * cost[macs] / limits["flops_per_s"], cost["bytes"] / limits["bytes_per_s"])


def limits(rows: list[Row]) -> str:
    def line(r: Row) -> list[str]:
        cost, direct, wino = r.plan["cost"], limit(r, "macs"), limit(r, "macs_winograd")
        bound = "memory" if direct > 2 * cost["macs"] / r.data["limits"]["flops_per_s"] else "FMA"
        rated = 2 * cost["macs"] / r.best("thaw")
        return [r.work.title, number(2e-9 * cost["macs"], ".1f"), number(1e-9 * cost["bytes"]),
                number(direct, ".4f"), bound, number(r.best("thaw"), ".4f"),
                number(100 * direct / r.best("thaw"), ".0f") + " %",
                number(100 * wino / r.best("thaw"), ".0f") + " %",
                number(1e-9 * rated, ".0f")]
    return markdown(["of a step", "GFLOP, direct", "GB of operands", "s at the limit", "which",
                     "s measured", "of the limit", "with Winograd's products", "GF/s effective"],
                    [line(r) for r in rows if r.plan and r.samples("thaw")])


def ladder(data: dict, backbone: str) -> str:
    """Time of full fine-tuning over that of each freeze state, beside the ratio of what their
    plans compute."""
    rows = [Row(data, backbone, w) for w in works.ladder(backbone)]
    rows = [r for r in rows if r.plan and r.samples("thaw")]
    if not rows or rows[0].work.thaw != "all":
        return "the ladder needs full fine-tuning"
    full = rows[0]

    def line(r: Row) -> list[str]:
        ideal = full.plan["cost"]["macs"] / r.plan["cost"]["macs"]
        best, median = full.best("thaw") / r.best("thaw"), full.median("thaw") / r.median("thaw")
        verdict = "yes" if best >= ENOUGH * ideal else "**no**"
        return [r.work.thaw, number(1e-9 * r.plan["cost"]["macs"] / r.batch), number(ideal),
                f"{number(best)} ({number(median)})", number(100 * best / ideal, ".0f") + " %",
                verdict, number(r.best("thaw") / r.batch * 1e3)]
    return markdown(["trains", "GMAC/image", "ideal ×", "measured ×, best (median)", "of the ideal",
                     "≥ 85 %", "ms/image"], [line(r) for r in rows])


def difference(a: list[float], b: list[float]) -> float:
    return max((abs(x - y) / abs(y) for x, y in zip(a, b)), default=float("nan"))


def checks(rows: list[Row]) -> str:
    """That both sides do the same work: the losses of the first steps on the same images."""
    def line(r: Row) -> list[str]:
        n = 4 if r.work.cache == "off" else 2  # after that the cached rows see other images
        mine, (one, *others) = r.samples("thaw")[0]["losses"][:n], \
            [r.samples(e)[0]["losses"][:n] for e in r.engines()]
        spread = max((difference(x, one) for x in others), default=0.0)
        e = difference(mine, one)
        verdict = "reported only" if not r.work.exact else \
            "same" if e <= max(LOSS_TOLERANCE, OWN_SPREAD * spread) else "**differs**"
        return [r.work.title, " ".join(f"{x:.4f}" for x in mine),
                " ".join(f"{x:.4f}" for x in one), f"{e:.1e}", f"{spread:.1e}", verdict]
    return markdown(["losses of the first steps", "Thaw", "PyTorch", "largest difference",
                     "PyTorch's own", "verdict"],
                    [line(r) for r in rows if r.samples("thaw") and r.engines()])


def render(data: dict) -> str:
    s, limits_ = data["settings"], data["limits"]
    parts = [f"{data['machine']}. Instruction set: {s['isa']}; {s['threads']} threads, fp32. "
             f"Limits measured in the same run: {limits_['flops_per_s'] / 1e9:.0f} GF/s of "
             f"multiply-adds, {limits_['bytes_per_s'] / 1e9:.1f} GB/s."]
    for backbone, plans in data["plans"].items():
        rows = [Row(data, backbone, w) for w in works.table(backbone)]
        parts += [f"## {backbone}, {plans['image_size']} px, batch {plans['batch']}", speed(rows),
                  memory(rows), limits(rows), ladder(data, backbone), checks(rows)]
    return "\n\n".join(parts)
