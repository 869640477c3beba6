"""A chain of connectors as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO

import numpy as np

from rl_core.connect.protocol import ConnectorState
from rl_core.env.spaces import Space, describe
from rl_core.records import Tree


def chain_table(pieces: Sequence[object], spaces: Sequence[Space], states: Sequence[ConnectorState]) -> str:
    """Draw one row per piece: the piece with its settings, what goes in, what comes out, what it remembers.

    Args:
        pieces: In order.
        spaces: One more than pieces: before each, and after the last.
        states: Of one slot, one per piece.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("piece", "input", "output", "state"):
        table.add_column(title, overflow="fold")
    for piece, before, after, state in zip(pieces, spaces[:-1], spaces[1:], states, strict=True):
        parts = [("statistics", state.shared), ("slots", state.slots)]
        words = ", ".join(f"{name}: {text}" for name, part in parts if (text := _shapes(part)))
        table.add_row(*map(Text, (repr(piece), describe(before), describe(after), words or "none")))
    if not pieces:
        table.add_row("no connectors", describe(spaces[0]), describe(spaces[0]), "none")
    console = Console(file=StringIO(), width=140, color_system=None)
    console.print(table)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined] # the StringIO above
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def _shapes(tree: Tree) -> str:
    """Describe a tree by the shapes of its leaves."""
    if isinstance(tree, dict):
        parts = [f"{key} {_shapes(part)}".strip() for key, part in tree.items()]
        return ", ".join(parts)
    if isinstance(tree, tuple):
        return ", ".join(filter(None, map(_shapes, tree)))
    return str(tuple(np.shape(tree))) if np.shape(tree) else "number"
