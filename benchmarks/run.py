"""Measure this library next to its peers: each figure in a fresh process with one torch thread, contestants in turn.

Prints a plain table per measurement and, as the last line, everything as one JSON object.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases import MEASUREMENTS, PACKAGES, Case, Measurement, cases, missing_packages
from benchmarks.report import Results, collect, ratios, table
from benchmarks.work import Figures

ROOT = Path(__file__).resolve().parent.parent
WORKER_TIMEOUT_S = 600.0
DISTRIBUTIONS = ("rl-core", "torch", "gymnasium", "stable-baselines3", "ray")


class WorkerError(RuntimeError):
    """A measuring process failed; the message holds the end of what it wrote."""


def run_worker(contestant: str, measurement: str, settings: dict[str, Any]) -> Figures:
    """Measure in a fresh process and return its figures.

    Raises:
        WorkerError: If it fails or takes longer than `WORKER_TIMEOUT_S`.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    settings = {**settings, "started_at": time.time()}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.worker", contestant, measurement, json.dumps(settings)]
    name = f"benchmarks: {contestant} {measurement}"
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=WORKER_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise WorkerError(f"{name}: no result after {WORKER_TIMEOUT_S:.0f} s.") from error
    if done.returncode != 0:
        raise WorkerError(f"{name}: exit status {done.returncode}. The end of its output:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(measurement: Measurement, contestants: Sequence[str], *, repeats: int, settings: dict[str, Any]) -> Results:
    """Run every case of ``measurement`` ``repeats`` times, one repeat of all before the next, seeds 0, 1, ..."""
    found: list[tuple[Case, list[Figures]]] = [
        (case, []) for case in cases(measurement.name) if case.contestant in contestants
    ]
    for repeat in range(repeats):
        for case, figures in found:
            _progress(f"{measurement.name}, {case.group}, {case.label}, repeat {repeat + 1} of {repeats}")
            figures.append(run_worker(case.contestant, measurement.name, {**settings, **case.settings, "seed": repeat}))
    _progress("")
    return collect(measurement, found)


def machine() -> dict[str, Any]:
    """Return what the figures were measured on and with."""
    versions = {}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
        "versions": versions,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("measurement", nargs="?", default="all", choices=[*MEASUREMENTS, "all"])
    parser.add_argument("--repeats", type=int, default=3, help="processes per figure; the median counts")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each throughput measurement")
    parser.add_argument("--only", default=",".join(PACKAGES), help="contestants, separated by commas")
    arguments = parser.parse_args(argv)

    contestants = arguments.only.split(",")
    if unknown := [name for name in contestants if name not in PACKAGES]:
        parser.error(f"--only: {', '.join(unknown)} unknown; choose from {', '.join(PACKAGES)}")
    if missing := missing_packages(contestants):
        parser.error(
            f"{', '.join(missing)} not installed. Peers come with `uv sync --group peers` (or `uv run --group peers"
            " python -m benchmarks ...`); `--only ours,bare` measures without them"
        )

    names = list(MEASUREMENTS) if arguments.measurement == "all" else [arguments.measurement]
    report: dict[str, Any] = {"machine": machine(), "figures": {}, "ratios": {}}
    for name in names:
        measurement, settings = MEASUREMENTS[name], {"seconds": arguments.seconds}
        results = measure(measurement, contestants, repeats=arguments.repeats, settings=settings)
        print(table(measurement, results), end="\n\n", flush=True)
        report["figures"][name] = results
        report["ratios"][name] = ratios(measurement, results)
    print(json.dumps(report))
    return 0


def _progress(text: str) -> None:
    """Show ``text`` on a terminal's one changing line."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
