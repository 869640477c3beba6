"""What a fresh subprocess runs: one contestant, one measurement, one JSON object as the last line of its output.

Usage: ``python -m benchmarks.worker bare loop '{"seconds": 1}'``; the JSON holds fields of `benchmarks.work.Work`.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable

from benchmarks.work import Figures, Work

MODULES = {
    "ours": ("benchmarks.ours", "benchmarks.ours_remote"),
    "sb3": ("benchmarks.peers.sb3",),
    "rllib": ("benchmarks.peers.rllib",),
    "bare": ("benchmarks.peers.bare",),
}
"""Contestant -> modules with a function `(Work) -> Figures` per measurement."""


def find(contestant: str, measurement: str) -> Callable[[Work], Figures]:
    """Return the function that takes a measurement of a contestant."""
    modules = map(importlib.import_module, MODULES[contestant])
    measure: Callable[[Work], Figures] = next(
        getattr(module, measurement) for module in modules if hasattr(module, measurement)
    )
    return measure


def main(argv: list[str]) -> None:
    """Run the measurement ``argv[1]`` of contestant ``argv[0]`` with the settings ``argv[2]``."""
    contestant, measurement, settings = argv
    figures = find(contestant, measurement)(Work(**json.loads(settings)))
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
