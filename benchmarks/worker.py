"""What a fresh subprocess runs: one contestant, one measurement, one JSON object as the last line of its output.

Usage: ``python -m benchmarks.worker bare loop '{"seconds": 1}'``; the JSON holds fields of `benchmarks.work.Work`.
"""

from __future__ import annotations

import importlib
import json
import sys

from benchmarks.work import Work

MODULES = {
    "ours": "benchmarks.ours",
    "sb3": "benchmarks.peers.sb3",
    "rllib": "benchmarks.peers.rllib",
    "bare": "benchmarks.peers.bare",
}
"""Contestant -> module with a function `(Work) -> Figures` per measurement."""


def main(argv: list[str]) -> None:
    """Run the measurement ``argv[1]`` of contestant ``argv[0]`` with the settings ``argv[2]``."""
    contestant, measurement, settings = argv
    measure = getattr(importlib.import_module(MODULES[contestant]), measurement)
    figures = measure(Work(**json.loads(settings)))
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
