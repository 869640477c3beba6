"""The subcommands that installed packages add to the command through entry points."""

from __future__ import annotations

import argparse
import importlib.metadata
from typing import Any

COMMANDS = "rl_core.commands"


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
