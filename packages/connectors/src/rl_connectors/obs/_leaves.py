"""Shared by the pieces: copies that know their spaces, nested spaces, and added parts of an observation."""

from __future__ import annotations

import copy
import difflib
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import numpy as np
from gymnasium.spaces import Dict, Discrete, Tuple

from rl_core.env.spaces import Space, describe, flatten_batch
from rl_core.errors import UnsupportedSpaceError
from rl_core.tree import Tree

P = TypeVar("P")

_LARGEST_TABLE = 1024
"""Rows of a table of one-hot vectors, which is several times faster than writing the ones."""


def bound_copy(piece: P, **fields: Any) -> P:
    """Return a copy of a frozen piece with the fields that follow from its spaces."""
    bound = copy.copy(piece)
    for name, value in fields.items():
        object.__setattr__(bound, name, value)
    return bound


def map_space(fn: Callable[..., Space], space: Space, *trees: Tree) -> Space:
    """Apply `fn` to the leaves of a space, and to what trees of the same structure have there.

    The keys of a Dict keep their order.
    """
    if isinstance(space, Dict):
        # gymnasium would sort the keys of a plain dict.
        parts = space.spaces.items()
        return Dict(OrderedDict((key, map_space(fn, part, *(tree[key] for tree in trees))) for key, part in parts))
    if isinstance(space, Tuple):
        members = enumerate(space.spaces)
        return Tuple([map_space(fn, part, *(tree[place] for tree in trees)) for place, part in members])
    return fn(space, *trees)


def flattener(space: Space) -> Callable[[Tree], np.ndarray]:
    """Return what flattens batches `[B, ...]` of a space to `[B, D]` as `flatten_batch` does."""
    if isinstance(space, Discrete) and space.n <= _LARGEST_TABLE:
        table, start = np.eye(int(space.n), dtype=np.float32), int(space.start)
        return lambda batch: table.take(batch - start if start else batch, axis=0)
    return lambda batch: flatten_batch(space, batch)


def check_keys(keys: Collection[str], space: Space, who: str) -> Dict:
    """Return the space as a Dict that has all the keys.

    Raises:
        UnsupportedSpaceError: it is none, or lacks a key; the message lists its keys and names the nearest.
    """
    if not isinstance(space, Dict):
        raise UnsupportedSpaceError(
            f"{who} takes Dict observations, got {describe(space)}. Leave it out, or put it where they are a Dict."
        )
    for key in keys:
        if key not in space.spaces:
            nearest = difflib.get_close_matches(key, map(str, space.spaces), 1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            raise UnsupportedSpaceError(f"{who}: no key {key!r} among {list(space.spaces)}.{hint}")
    return space


def with_parts(space: Space, parts: Mapping[str, Space], who: str) -> Dict:
    """Add parts to the space of an observation: beside those of a Dict, any other becomes the part `obs`.

    Raises:
        UnsupportedSpaceError: the Dict has a part of that name already.
    """
    own = space.spaces if isinstance(space, Dict) else {"obs": space}
    for key in parts:
        if key in own:
            raise UnsupportedSpaceError(
                f"{who} adds {key!r}, but {describe(space)} has {key!r} already. Put RenameKeys before it."
            )
    return Dict(OrderedDict({**own, **parts}))


def add_parts(obs: Tree, parts: Mapping[str, np.ndarray]) -> dict[str, Tree]:
    """Add parts to observations, as `with_parts` does to their space."""
    return {**obs, **parts} if isinstance(obs, dict) else {"obs": obs, **parts}
