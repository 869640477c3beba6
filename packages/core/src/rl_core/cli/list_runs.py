"""`rl list`: runs with their figures."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from rl_core.errors import RunError
from rl_core.runs.folder import RunFolder, find_runs
from rl_core.runs.metrics_file import last_row

COLUMNS = (
    ("run", "<"),
    ("algorithm", "<"),
    ("env", "<"),
    ("seed", ">"),
    ("status", "<"),
    ("iterations", ">"),
    ("env steps", ">"),
    ("return", ">"),
    ("evaluation", ">"),
    ("seconds", ">"),
)


def run(arguments: argparse.Namespace) -> int:
    """List."""
    root: Path = arguments.folder
    if not root.is_dir() and root != Path("runs"):
        raise RunError(f"{root} is not a folder. Give the folder that holds the runs.")
    folders, problems = find_runs(root)
    for problem in problems:
        print(f"warning: left out: {problem}", file=sys.stderr)
    rows = [figures(folder) for folder in folders]
    if arguments.json:
        print(json.dumps(rows))
    elif not rows:
        print(f"no runs in {root}; start one with: rl train ppo CartPole-v1")
    else:
        print_table([_cells(row) for row in rows])
    return 0


def figures(folder: RunFolder) -> dict[str, Any]:
    """Return what the list shows of a run; None where a figure is not known."""
    row, record = last_row(folder.metrics_path), folder.record
    status: str = record.status
    if status == "running" and not record.is_alive():
        status = "stopped"  # killed: its process is gone
    return {
        "run": str(folder.path),
        "algorithm": record.algorithm,
        "env": record.env,
        "seed": record.seed,
        "status": status,
        "iterations": row.get("training_iteration", 0),
        "env_steps": row.get("env_steps", 0),
        "return": row.get("env_runners/episode_return_mean"),
        "evaluation": row.get("evaluation/episode_return_mean"),
        "seconds": round(record.seconds or row.get("time_total_s") or 0.0, 1),
    }


def _cells(row: dict[str, Any]) -> list[str]:
    def number(value: float | None) -> str:
        return "-" if value is None or not math.isfinite(value) else f"{value:.1f}"

    return [
        row["run"],
        row["algorithm"],
        row["env"],
        str(row["seed"]),
        row["status"],
        f"{row['iterations']:,}",
        f"{row['env_steps']:,}",
        number(row["return"]),
        number(row["evaluation"]),
        number(row["seconds"]),
    ]


def print_table(rows: list[list[str]]) -> None:
    """Print aligned columns under their names."""
    table = [[name for name, _ in COLUMNS], *rows]
    widths = [max(len(row[index]) for row in table) for index in range(len(COLUMNS))]
    for row in table:
        cells = (f"{cell:{side}{width}}" for cell, (_, side), width in zip(row, COLUMNS, widths, strict=True))
        print("  ".join(cells).rstrip())
