"""What commands that load an algorithm are given: packages to import, settings, checkpoints."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rl_core.algorithm.config import AlgorithmConfig
from rl_core.checkpoint import Checkpoint
from rl_core.checkpoint_files import MANIFEST
from rl_core.errors import CheckpointError, ConfigError, RunError
from rl_core.runs.folder import RunFolder


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
        except Exception as error:
            what = f"its import raised {type(error).__name__}: {error}" if name else "expected the name of a package"
            raise ConfigError(f"--allow {name!r}: {what}.") from error
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
