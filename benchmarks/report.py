"""From raw figures to medians, ratios and plain tables."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.cases import Case, Measurement
from benchmarks.work import Figures

Results = dict[str, dict[str, Figures]]
"""Group -> label of the case -> its figures, the median over repeats."""


def median(repeats: Sequence[Figures], value: str) -> Figures:
    """Return the median of each number, what any repeat had of each list, and all repeats of ``value``."""
    figures: Figures = {}
    for name, first in repeats[0].items():
        found = [repeat[name] for repeat in repeats]
        if isinstance(first, bool):
            figures[name] = all(found)
        elif isinstance(first, list):
            figures[name] = sorted({item for items in found for item in items})
        else:
            figures[name] = statistics.median(found)
    return {**figures, "repeats": [repeat[value] for repeat in repeats]}


def collect(measurement: Measurement, found: Sequence[tuple[Case, list[Figures]]]) -> Results:
    """Return the medians by group and label."""
    results: Results = {}
    for case, repeats in found:
        results.setdefault(case.group, {})[case.label] = median(repeats, measurement.value)
    return results


def ratios(measurement: Measurement, results: Results) -> dict[str, float]:
    """Return how many times better each of our cases is than each peer's of its group; above 1 we win."""
    found = {}
    for group, figures in results.items():
        for ours in (label for label in figures if label.startswith("ours")):
            for peer in (label for label in figures if not label.startswith("ours")):
                ratio = figures[ours][measurement.value] / figures[peer][measurement.value]
                ratio = ratio if measurement.better == "higher" else 1 / ratio
                found[f"{group}: {ours} / {peer}"] = round(ratio, 2)
    return found


def table(measurement: Measurement, results: Results) -> str:
    """Return the plain text of one measurement: a line per case, then a line per ratio."""
    names = [measurement.value, *measurement.columns]
    rows = [[measurement.name, "", *names, "repeats"]]
    for group, cases in results.items():
        for label, figures in cases.items():
            shown = [_text(figures.get(name, "")) for name in names]
            rows.append([group, label, *shown, " ".join(map(_text, figures["repeats"]))])
    text = _aligned(rows)
    found = ratios(measurement, results)
    if found:
        text += "\n\n" + _aligned([["times better", ""], *([name, f"{ratio:.2f}"] for name, ratio in found.items())])
    return text


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(value) or "none"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
