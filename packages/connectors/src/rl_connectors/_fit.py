"""Nested Python data from elsewhere, fitted into arrays of a space after everything about it is checked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from rl_core.env.spaces import Space, leaf_spaces
from rl_core.tree import Tree


class BatchFitter:
    """Makes one batch of a space of many values, one per slot."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self._leaves = [_Leaf(path, leaf) for path, leaf in leaf_spaces(space)]

    def read(self, value: Any) -> list[np.ndarray]:
        """Take the leaves of one value apart.

        Args:
            value: Mappings for Dict, lists or tuples for Tuple; in the leaves numbers, nested lists of numbers, numpy
                arrays, or bytes: numbers of the type of the space, little-endian, row by row.

        Returns:
            One array per leaf; their numbers are not checked yet.

        Raises:
            ValueError: it has not the structure, shape or kind of numbers of the space.
        """
        parts = _parts(self.space, value, "")
        return [leaf.read(part) for leaf, part in zip(self._leaves, parts, strict=True)]

    def batch(self, rows: Sequence[list[np.ndarray]]) -> tuple[Tree, dict[int, str]]:
        """Join what `read` gave for each row.

        Returns:
            `[B, ...]` in the structure of the space, and by row what is wrong with its numbers.
        """
        problems: dict[int, str] = {}
        leaves = iter(
            [leaf.batch(column, problems) for leaf, column in zip(self._leaves, zip(*rows, strict=True), strict=True)]
        )
        return _assembled(self.space, leaves), problems


class _Leaf:
    """Checks and converts the values of one leaf."""

    def __init__(self, path: str, space: Space) -> None:
        self.path = f"at {path}: " if path else ""
        self.dtype = np.dtype(space.dtype)
        self.shape = space.shape or ()
        self.low, self.high = _bounds(space)
        number: Any
        self.wide: np.dtype[Any]
        if self.dtype.kind == "f":
            number, self.kinds, self.wide = float, "iuf", np.dtype(np.float64)
        elif self.dtype.kind == "b":
            number, self.kinds, self.wide = bool, "b", self.dtype
        else:
            number, self.kinds, self.wide = int, "iu", np.dtype(np.uint64 if self.dtype == np.uint64 else np.int64)
        if isinstance(space, MultiBinary):
            number, self.kinds = int | bool, "iub"
        self._lists = number
        """What nested lists must look like: numpy alone would take strings, and much memory for them."""
        for size in reversed(self.shape):
            self._lists = Annotated[list[self._lists], msgspec.Meta(min_length=size, max_length=size)]  # type: ignore[name-defined] # made at run time

    def read(self, value: Any) -> np.ndarray:
        """Make an array of one value, in the widest type of its kind.

        Raises:
            ValueError: it has another shape, or no such numbers.
        """
        if isinstance(value, bytes):
            return self._from_bytes(value)
        if isinstance(value, np.ndarray | np.generic):
            return self._from_array(np.asarray(value))
        try:
            return np.asarray(msgspec.convert(value, self._lists), self.wide)
        except (msgspec.ValidationError, OverflowError, RecursionError) as error:
            raise ValueError(f"{self.path}{error}") from error

    def _from_bytes(self, value: bytes) -> np.ndarray:
        size = math.prod(self.shape) * self.dtype.itemsize
        if len(value) != size:
            raise ValueError(
                f"{self.path}got {len(value)} bytes, expected {size} for {self.dtype} of shape {self.shape}."
            )
        return np.frombuffer(value, self.dtype.newbyteorder("<")).reshape(self.shape).astype(self.wide)

    def _from_array(self, array: np.ndarray) -> np.ndarray:
        if array.shape != self.shape or array.dtype.kind not in self.kinds:
            raise ValueError(
                f"{self.path}got {array.dtype} of shape {array.shape}, expected {self.dtype} of shape {self.shape}."
            )
        wide = array.astype(self.wide, copy=False)
        if self.wide.kind in "iu" and (wide != array).any():
            raise ValueError(f"{self.path}a number is too large for {self.wide}.")
        return wide

    def batch(self, rows: Sequence[np.ndarray], problems: dict[int, str]) -> np.ndarray:
        """Join rows, and note those with numbers out of bounds; `[B, ...]` in the type of the space."""
        numbers = np.stack(rows)
        if self.dtype.kind == "f":
            with np.errstate(over="ignore"):
                numbers = numbers.astype(self.dtype, copy=False)
        good = (numbers >= self.low) & (numbers <= self.high)
        if self.dtype.kind == "f":
            good &= np.isfinite(numbers)
        for row in np.flatnonzero(~good.reshape(len(rows), -1).all(axis=1)).tolist():
            wrong = np.asarray(numbers[row])[~good[row]].ravel()[0]
            problems.setdefault(
                row, f"{self.path}got the number {wrong}, expected finite ones within the space's bounds."
            )
        return numbers.astype(self.dtype, copy=False)


def _bounds(space: Space) -> tuple[Any, Any]:
    """Return the smallest and the largest numbers of a leaf."""
    if isinstance(space, Box):
        return space.low, space.high
    if isinstance(space, Discrete):
        return space.start, space.start + space.n - 1
    if isinstance(space, MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    return 0, 1


def _parts(space: Space, value: Any, path: str) -> Iterator[Any]:
    """Yield the values of the leaves.

    Raises:
        ValueError: the value has another structure than the space.
    """
    if isinstance(space, Dict):
        if not isinstance(value, Mapping) or value.keys() != space.spaces.keys():
            given = sorted(map(str, value)) if isinstance(value, Mapping) else f"a value of type {type(value).__name__}"
            place = f"at {path}: " if path else ""
            raise ValueError(f"{place}got {given}, expected a mapping with the keys {list(space.spaces)}.")
        for key, part in space.spaces.items():
            yield from _parts(part, value[key], f"{path}[{key!r}]")
    elif isinstance(space, Tuple):
        if not isinstance(value, list | tuple) or len(value) != len(space.spaces):
            given = (
                f"{len(value)} parts" if isinstance(value, list | tuple) else f"a value of type {type(value).__name__}"
            )
            place = f"at {path}: " if path else ""
            raise ValueError(f"{place}got {given}, expected a list of {len(space.spaces)} parts.")
        for index, part in enumerate(space.spaces):
            yield from _parts(part, value[index], f"{path}[{index}]")
    else:
        yield value


def _assembled(space: Space, leaves: Iterator[np.ndarray]) -> Tree:
    """Arrange leaves as the space is."""
    if isinstance(space, Dict):
        return {key: _assembled(part, leaves) for key, part in space.spaces.items()}
    if isinstance(space, Tuple):
        return tuple(_assembled(part, leaves) for part in space.spaces)
    return next(leaves)
