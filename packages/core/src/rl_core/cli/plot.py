"""`rl plot`: learning curves of several runs in one picture."""

from __future__ import annotations

import argparse

from rl_core.cli.options import check_output
from rl_core.cli.parsers import PICTURE_FORMATS
from rl_core.errors import RunError
from rl_core.runs.curves import draw_runs
from rl_core.runs.folder import RunFolder
from rl_core.runs.picture import INSTALL_HINT
from rl_core.runs.report import curve_of


def run(arguments: argparse.Namespace) -> int:
    """Plot."""
    check_output(arguments.output, PICTURE_FORMATS)
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
