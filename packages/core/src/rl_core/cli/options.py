"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rl_core.algorithm.config import AlgorithmConfig
from rl_core.checkpoint import MANIFEST, Checkpoint
from rl_core.errors import CheckpointError, ConfigError, RunError
from rl_core.runs.folder import RunFolder
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


def allowed(options: argparse.Namespace) -> Sequence[str]:
    """Return the packages of `--allow`, after importing them: they may register envs.

    Raises:
        ConfigError: one cannot be imported.
    """
    for name in options.allow:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(f"--allow {name}: {error}. Is it installed, or its folder in PYTHONPATH?") from error
    return [name.partition(".")[0] for name in options.allow]


def apply_settings(config: AlgorithmConfig, settings: Sequence[str]) -> None:
    """Apply `--set` options; of those with the same name, the last one counts.

    Their order does not matter: one that is refused, such as a batch smaller than the minibatch that another option
    is about to change, is tried again after the others.

    Raises:
        ConfigError: an option is not NAME=VALUE, or the config refuses it.
    """
    waiting: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set {setting}: expected SECTION.NAME=VALUE, such as --set training.lr=1e-3.")
        waiting[name.strip()] = setting_value(text.strip())
    while waiting:
        refused: dict[str, ConfigError] = {}
        for name, value in waiting.items():
            try:
                config.set(name, value)
            except ConfigError as error:
                refused[name] = error
        if len(refused) == len(waiting):
            raise next(iter(refused.values()))
        waiting = {name: waiting[name] for name in refused}


def setting_value(text: str) -> Any:
    """Read a value: JSON if it parses, `None`, `True` and `False` as in Python, else the text itself."""
    python_words = {"None": None, "True": True, "False": False}
    if text in python_words:
        return python_words[text]
    try:
        return json.loads(text)
    except ValueError:
        return text


def newest_good_checkpoint(folder: RunFolder, note: Callable[[str], None]) -> Path:
    """Find the newest checkpoint of a run that is whole; say which ones are not.

    Raises:
        RunError: the run has none.
    """
    problems = []
    for path in folder.checkpoints():
        try:
            Checkpoint(path).verify()
        except CheckpointError as error:
            problems.append(f"\n  {error}")
            note(f"warning: skipping a damaged checkpoint: {error}")
        else:
            return path
    what = "has no checkpoint yet" if not problems else f"has no usable checkpoint:{''.join(problems)}\n "
    raise RunError(f"The run {folder.path} {what}. Train it anew with `rl train`.")


def find_checkpoint(path: Path, note: Callable[[str], None]) -> tuple[Path, RunFolder | None]:
    """Understand a path as a run or as a checkpoint.

    Returns:
        The checkpoint (a run's newest good one), and the run it was given as.

    Raises:
        RunError: it is neither, or a run without checkpoints.
    """
    if (path / "run.json").is_file():
        folder = RunFolder.open(path)
        return newest_good_checkpoint(folder, note), folder
    if (path / MANIFEST).is_file() or (path.parent.name == "checkpoints" and path.is_dir()):
        return path, None
    what = (
        "holds neither run.json nor manifest.json"
        if path.is_dir()
        else "is not a folder"
        if path.exists()
        else "does not exist"
    )
    raise RunError(f"{path} is neither a run nor a checkpoint: it {what}. `rl list` shows the runs in ./runs.")


def exit_code_of_signal(number: int | None) -> int:
    """Return 128 plus the signal's number, as shells do."""
    return 128 + (signal.SIGINT if number is None else number)
