# SPDX-License-Identifier: MIT
"""Rows of figures beside what they are compared with, and the one table made of them."""
import statistics
from dataclasses import asdict, dataclass, field


@dataclass
class Row:
    part: str
    name: str
    unit: str
    values: list                # one a round
    against: str = ""           # what the reference is
    reference: list = field(default_factory=list)
    more_is_better: bool = False
    ratio_target: float = None  # at most, or at least where more is better
    value_target: float = None  # the same for the figure itself
    note: str = ""

    @property
    def median(self):
        return statistics.median(self.values)

    @property
    def reference_median(self):
        return statistics.median(self.reference) if self.reference else None

    @property
    def ratio(self):
        return self.median / self.reference_median if self.reference and self.reference_median else None

    def verdict(self):
        """"ok", "MISSED", or nothing where there is no target or nothing to compare with."""
        def holds(figure, target):
            return figure >= target if self.more_is_better else figure <= target
        checks = []
        if self.ratio_target is not None and self.ratio is not None:
            checks.append(holds(self.ratio, self.ratio_target))
        if self.value_target is not None:
            checks.append(holds(self.median, self.value_target))
        return "" if not checks else "ok" if all(checks) else "MISSED"

    def target(self):
        sign = ">=" if self.more_is_better else "<="
        texts = [f"{sign} {self.ratio_target:g} x"] if self.ratio_target is not None else []
        texts += [f"{sign} {number(self.value_target)} {self.unit}"] if self.value_target is not None else []
        return ", ".join(texts)

    def json(self):
        return {**asdict(self), "median": self.median, "reference_median": self.reference_median, "ratio": self.ratio,
                "verdict": self.verdict()}


def number(value):
    if value is None:
        return ""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


HEADINGS = ("what", "btblock", "unit", "against", "figure", "ratio", "target", "")


def markdown(rows):
    """One table for each part, columns padded so that it reads as plain text too."""
    out = []
    for part in dict.fromkeys(row.part for row in rows):
        lines = [HEADINGS]
        for row in (r for r in rows if r.part == part):
            lines.append((row.name + (f" ({row.note})" if row.note else ""), number(row.median), row.unit, row.against,
                          number(row.reference_median), f"{row.ratio:.2f}" if row.ratio is not None else "", row.target(),
                          row.verdict()))
        width = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
        right = (1, 4, 5)
        out.append(f"\n## {part}\n")
        for i, line in enumerate(lines):
            cells = [text.rjust(width[k]) if k in right else text.ljust(width[k]) for k, text in enumerate(line)]
            out.append("| " + " | ".join(cells) + " |")
            if i == 0:
                out.append("| " + " | ".join("-" * (w - 1) + (":" if k in right else "-") if w > 1 else "-"
                                             for k, w in enumerate(width)) + " |")
    return "\n".join(out)
