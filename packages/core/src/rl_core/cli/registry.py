"""What installed packages add to the command through entry points: algorithms and subcommands."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rl_core.config.check import nearest
from rl_core.errors import ConfigError

if TYPE_CHECKING:
    from rl_core.algorithm.config import AlgorithmConfig

ALGORITHMS = "rl_core.algorithms"
COMMANDS = "rl_core.commands"
BUILT_IN = {"ppo": "rl_core.algorithms.ppo:PPOConfig"}
"""Core's own algorithms, for running from a source tree that is not installed."""


def algorithms() -> dict[str, str]:
    """Return the import paths of the algorithms' configs by name."""
    return BUILT_IN | {entry.name: entry.value for entry in importlib.metadata.entry_points(group=ALGORITHMS)}


def algorithm_config(name: str) -> AlgorithmConfig:
    """Make a fresh config of an algorithm.

    Raises:
        ConfigError: there is none of that name, or its package cannot be imported.
    """
    known = algorithms()
    if name not in known:
        raise ConfigError(f"There is no algorithm {name!r}.{nearest(name, known)}")
    module, _, attribute = known[name].partition(":")
    try:
        config_class: Callable[[], Any] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"The algorithm {name!r} ({known[name]}) cannot be imported: {error}.") from error
    from rl_core.algorithm.config import AlgorithmConfig  # imports torch, which `rl --help` does without

    config = config_class()
    if not isinstance(config, AlgorithmConfig):
        raise ConfigError(f"The algorithm {name!r} ({known[name]}) is not derived from AlgorithmConfig.")
    return config


def add_commands(subparsers: argparse._SubParsersAction[Any]) -> list[tuple[str, str]]:
    """Let other packages add their commands: each entry point is a function that takes `subparsers`.

    The function adds a parser whose defaults hold `run`, a function from the parsed options to an exit code.
    It is called for every command, `rl --help` too: what takes long to import belongs into `run`.

    Returns:
        Name and problem of each that failed; one broken package must not take the command away.
    """
    problems = []
    for entry in importlib.metadata.entry_points(group=COMMANDS):
        try:
            entry.load()(subparsers)
        except Exception as error:  # whatever a foreign package does wrong
            problems.append((entry.name, f"{type(error).__name__}: {error}"))
    return problems
