"""Chains of connectors edited by name: tuples of pieces in, tuples out.

Example:
    >>> pieces = atari()
    >>> pieces = insert_before(pieces, "FrameStack", TimeAwareness(27_000))
    >>> pieces = replace(pieces, "SignReward", ClipReward(-5, 5))
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TypeVar

P = TypeVar("P")


def insert_before(pieces: Sequence[P], name: str | type, *new: P, index: int | None = None) -> tuple[P, ...]:
    """Put pieces in front of the one of a class.

    Args:
        pieces: In order.
        name: The class, or its name.
        new: What is put in, in order.
        index: Which piece of that class, from 0; needed where there are several.

    Raises:
        ValueError: there is no such piece, or there are several and `index` does not say which.
    """
    place = _place(pieces, name, index)
    return (*pieces[:place], *new, *pieces[place:])


def insert_after(pieces: Sequence[P], name: str | type, *new: P, index: int | None = None) -> tuple[P, ...]:
    """Put pieces behind the one of a class; see `insert_before`."""
    place = _place(pieces, name, index)
    return (*pieces[: place + 1], *new, *pieces[place + 1 :])


def replace(pieces: Sequence[P], name: str | type, *new: P, index: int | None = None) -> tuple[P, ...]:
    """Put one or more pieces in the place of the one of a class; see `insert_before`."""
    if not new:
        raise ValueError("replace: got no piece to put there. Give one, or use without() to take the piece out.")
    place = _place(pieces, name, index)
    return (*pieces[:place], *new, *pieces[place + 1 :])


def without(pieces: Sequence[P], name: str | type, *, index: int | None = None) -> tuple[P, ...]:
    """Take the piece of a class out; see `insert_before`."""
    place = _place(pieces, name, index)
    return (*pieces[:place], *pieces[place + 1 :])


def _place(pieces: Sequence[object], name: str | type, index: int | None) -> int:
    """Find the piece of a class.

    Raises:
        ValueError: there is no such piece, or there are several and `index` does not say which.
    """
    names = [type(piece).__name__ for piece in pieces]
    wanted = name if isinstance(name, str) else name.__name__
    places = [
        place for place, piece in enumerate(pieces) if (names[place] if isinstance(name, str) else type(piece)) == name
    ]
    if not places:
        nearest = difflib.get_close_matches(wanted, names, 1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"There is no piece {wanted!r}, only {', '.join(names) or 'an empty chain'}.{hint}")
    if index is None and len(places) > 1:
        raise ValueError(
            f"There are {len(places)} pieces {wanted!r}, at the places {places} of {', '.join(names)}. Say which with "
            f"index=0 to {len(places) - 1}."
        )
    if index is not None and not 0 <= index < len(places):
        raise ValueError(f"{wanted!r}: got index={index}, expected 0 to {len(places) - 1}: there are {len(places)}.")
    return places[index or 0]
