"""Columns of a ring of C rows: trees of arrays `[C, B, ...]`, and the true final observations beside them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from rl_core.records import Tree
from rl_core.replay.memory import allocate, require_room
from rl_core.tree import tree_leaves, tree_map

FIRST_FINALS = 16
"""Room for true final observations at the start."""


class TreeColumns:
    """One column `[C, B, ...]` for each leaf of a tree of tensors."""

    def __init__(self, name: str, example: Tree, num_rows: int, folder: Path | None) -> None:
        """Make the columns, with the shapes and dtypes of `example`, a tree of tensors `[?, B, ...]`."""
        count = itertools.count()
        self._name = name
        self._structure = tree_map(lambda leaf: next(count), example)
        self._num_leaves = next(count)
        leaves = self.leaves(example)
        self.rows = [
            allocate(f"{name}.{place}", (num_rows, *leaf.shape[1:]), leaf.dtype, folder)
            for place, leaf in enumerate(leaves)
        ]
        """`[C, B, ...]` each, in the order of `leaves`."""
        self._flat = [column.reshape(-1, *column.shape[2:]) for column in self.rows]

    def leaves(self, tree: Tree) -> list[np.ndarray]:
        """List the leaves of a tree of tensors in the order of the columns, whatever the order of its dict keys."""
        if isinstance(tree, torch.Tensor):
            return [tree.numpy()]
        result = [np.zeros(0)] * self._num_leaves

        def put(place: int, leaf: torch.Tensor) -> None:
            result[place] = leaf.numpy()

        tree_map(put, self._structure, tree)
        return result

    def tree(self, leaves: Sequence[np.ndarray]) -> Tree:
        """Make a tree of tensors from leaves in the order of the columns; the memory is shared."""
        return tree_map(lambda place: torch.from_numpy(leaves[place]), self._structure)

    def write(self, start: int, tree: Tree, skip: int = 0) -> None:
        """Write the rows of a tree `[T, B, ...]`, less the first `skip`, from row `start` on, around the end."""
        for column, leaf in zip(self.rows, self.leaves(tree), strict=True):
            write_around(column, start, leaf[skip:])

    def take(self, places: np.ndarray) -> list[np.ndarray]:
        """Copy what stands at places `row * B + slot`, given in any shape, in the order of the columns."""
        return [column.take(places, 0) for column in self._flat]

    def require_fit(self, tree: Tree) -> None:
        """Compare a tree `[?, B, ...]` with the columns.

        Raises:
            ValueError: it is nested otherwise, or a leaf has another shape or dtype.
        """
        try:
            leaves = self.leaves(tree)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"replay: {self._name} is nested otherwise than what is stored ({error!r}).") from error
        count = sum(1 for _ in tree_leaves(tree))
        if count != len(self.rows):
            raise ValueError(f"replay: {self._name} has {count} leaves, but {len(self.rows)} are stored.")
        for leaf, column in zip(leaves, self.rows, strict=True):
            if leaf.shape[1:] != column.shape[1:] or leaf.dtype != column.dtype:
                raise ValueError(
                    f"replay: {self._name} has rows {leaf.dtype}{list(leaf.shape[1:])}, but rows "
                    f"{column.dtype}{list(column.shape[1:])} are stored. Make a new buffer for other data."
                )


class FinalObservations:
    """A queue of observations beside the ring: the true next ones of steps whose next row is another episode's first.

    Entries leave in the order of the ring's rows. The arrays double when they are full.
    """

    def __init__(self, columns: TreeColumns, num_places: int, folder: Path | None) -> None:
        """Make an empty queue for observations like those of `columns` `[C, B, ...]`, where C * B is `num_places`."""
        self._rows = [(column.shape[2:], column.dtype) for column in columns.rows]
        self._folder = folder
        self._pointer = allocate("final_pointer", (num_places,), np.dtype(np.int32), folder)
        self._first = 0
        self.num_live = 0
        """How many observations are in it."""
        self._size = 0
        self._places, self._arrays = self._make(FIRST_FINALS)

    @property
    def nbytes(self) -> int:
        """Bytes of all its arrays."""
        return sum(array.nbytes for array in (self._pointer, self._places, *self._arrays))

    def push(self, places: np.ndarray, leaves: Sequence[np.ndarray]) -> None:
        """Append observations `[K, ...]`, one array per leaf, for places `[K]` of the newest rows."""
        needed = self.num_live + len(places)
        if needed > self._size:
            self._grow(max(2 * self._size, needed))
        start = (self._first + self.num_live) % self._size
        for array, leaf in zip((self._places, *self._arrays), (places, *leaves), strict=True):
            write_around(array, start, leaf)
        self._pointer[places] = (start + np.arange(len(places))) % self._size
        self.num_live = needed

    def pop(self, count: int) -> None:
        """Forget the oldest `count`."""
        self._first = (self._first + count) % self._size
        self.num_live -= count

    def take(self, places: np.ndarray) -> list[np.ndarray]:
        """Copy the observations of places that have one."""
        entries = self._pointer[places]
        return [array.take(entries, 0) for array in self._arrays]

    def live(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """Copy the places `[K]` and observations `[K, ...]` of all entries, oldest first."""
        entries = (self._first + np.arange(self.num_live)) % self._size
        return self._places[entries], [array[entries] for array in self._arrays]

    def _make(self, size: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """Allocate room for `size` entries."""
        self._size = size
        num_bytes = size * sum(math.prod(shape) * dtype.itemsize for shape, dtype in self._rows)
        require_room(num_bytes, count=size, what="final observations", folder=self._folder)
        arrays = [
            allocate(f"final_obs.{place}.{size}", (size, *shape), dtype, self._folder)
            for place, (shape, dtype) in enumerate(self._rows)
        ]
        return np.zeros(size, np.int64), arrays

    def _grow(self, size: int) -> None:
        """Move the entries to the beginning of larger arrays."""
        places, leaves = self.live()
        self._places, self._arrays = self._make(size)
        self._first = self.num_live = 0
        self.push(places, leaves)


def write_around(column: np.ndarray, start: int, value: np.ndarray) -> None:
    """Copy rows into a column from `start` on, the rest at its beginning once its end is reached."""
    first = min(len(value), len(column) - start)
    column[start : start + first] = value[:first]
    if first < len(value):
        column[: len(value) - first] = value[first:]


def split_around(start: int, count: int, size: int) -> list[slice]:
    """Cut `count` rows from `start` on into the one or two slices they are in a ring of `size` rows."""
    first = min(count, size - start)
    return [slice(start, start + first)] + ([slice(0, count - first)] if first < count else [])
