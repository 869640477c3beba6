"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import argparse
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rl_core.errors import RunError
from rl_core.runs.limits import DEFAULT_TIMESTEPS, DEFAULT_TIMESTEPS_WITH_REWARD, Limits


def number_above(low: float, kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """Make an argument type: a finite number greater than `low`; `1e6` and `1_000_000` are whole numbers too."""

    def parse(text: str) -> Any:
        try:
            value = float(text)
            if kind is int and value == int(value):
                value = int(text) if text.lstrip("+-").isdigit() else int(value)
            elif kind is int:
                raise ValueError
        except (ValueError, OverflowError):
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"got {text!r}, expected {what}") from None
        if not math.isfinite(value) or value <= low:
            above = f" greater than {low:g}" if math.isfinite(low) else ""
            raise argparse.ArgumentTypeError(f"got {text!r}, expected a finite number{above}")
        return value

    return parse


positive_int = number_above(0, int)
whole_number = number_above(-1, int)


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the options that end a run."""
    group = parser.add_argument_group(
        "when to stop",
        f"Whatever comes first. Without a limit: {DEFAULT_TIMESTEPS:,} env steps, with --stop-reward alone "
        f"{DEFAULT_TIMESTEPS_WITH_REWARD:,}.",
    )
    group.add_argument(
        "--stop-reward",
        type=number_above(-math.inf, float),
        metavar="R",
        help="mean return of the separate evaluation to reach; exit code 0 if reached, 3 if not",
    )
    group.add_argument("--stop-timesteps", type=positive_int, metavar="N", help="env steps")
    group.add_argument("--stop-iters", type=positive_int, metavar="N", help="training iterations")
    group.add_argument("--stop-time", type=number_above(0, float), metavar="S", help="seconds, over all sessions")


def limits_of(options: argparse.Namespace) -> Limits:
    """Read the options of `add_limits`."""
    return Limits(
        reward=options.stop_reward,
        timesteps=options.stop_timesteps,
        iterations=options.stop_iters,
        time_s=options.stop_time,
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add `--set`."""
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="SECTION.NAME=VALUE",
        help="change a setting, e.g. training.lr=1e-3 or rl_module.model_config.fcnet_hiddens=[64,64]; may be repeated",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object on standard output")


def add_allow(parser: argparse.ArgumentParser) -> None:
    """Add `--allow`."""
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="package of yours that the checkpoint may import classes or envs from; may be repeated",
    )


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


def exit_code_of_signal(number: int | None) -> int:
    """Return 128 plus the signal's number, as shells do."""
    return 128 + (signal.SIGINT if number is None else number)
