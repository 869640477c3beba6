"""`rl plot`: learning curves of several runs in one picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rl_core.errors import RunError
from rl_core.runs.curves import draw_runs
from rl_core.runs.folder import RunFolder
from rl_core.runs.picture import INSTALL_HINT
from rl_core.runs.report import curve_of

FORMATS = (".png", ".svg", ".pdf")
DESCRIPTION = """Draw the evaluation and training returns of runs against env steps.

Runs of the same algorithm and env count as seeds of one: their mean and a band of one standard deviation are drawn."""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "plot",
        help="draw learning curves of runs",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help=f"picture to write: {', '.join(FORMATS)}"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Plot."""
    check_output(arguments.output, FORMATS)
    folders = [RunFolder.open(path) for path in dict.fromkeys(arguments.runs)]
    curves = [curve_of(folder) for folder in folders]
    if not any(curve.train_steps or curve.evaluation_steps for curve in curves):
        raise RunError("None of these runs has a finished episode yet: there is nothing to draw.")
    try:
        draw_runs(curves, str(arguments.output))
    except ImportError as error:
        raise RunError(f"Matplotlib is needed to draw ({error}): {INSTALL_HINT}") from error
    except OSError as error:
        raise RunError(f"{arguments.output} cannot be written: {error.strerror or error}.") from error
    print(f"{arguments.output}: {len(curves)} run{'s' if len(curves) > 1 else ''}")
    return 0


def check_output(path: Path, formats: tuple[str, ...]) -> None:
    """Refuse a file that cannot be written, before anything long begins.

    Raises:
        RunError: unknown ending, no such folder, or a folder in its place.
    """
    if path.suffix.lower() not in formats:
        raise RunError(f"-o {path}: got the ending {path.suffix!r}, expected {' or '.join(formats)}.")
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"lies in {path.parent}, which is not a folder"
        raise RunError(f"-o {path}: it {what}. Give the path of a file to write.")
