"""The README lists all there is."""

import re
from pathlib import Path

import rl_connectors

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_tables_name_every_piece_and_nothing_else():
    rows = [line for line in README.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    pieces = {name for name in rl_connectors.__all__ if isinstance(getattr(rl_connectors, name), type)}
    assert sorted(named) == sorted(pieces)


def test_the_functions_are_named_too():
    functions = {name for name in rl_connectors.__all__ if not isinstance(getattr(rl_connectors, name), type)}
    assert {name for name in functions if f"`{name}" not in README} == set()
