"""Observations in another number type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from gymnasium.spaces import Box

from rl_connectors.obs._leaves import BatchFn, LeafObs
from rl_core.env.spaces import Space
from rl_core.errors import ConfigError

NumberType = Literal["float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64"]


@dataclass(frozen=True)
class CastObs(LeafObs):
    """Every Box leaf in another number type; what that type cannot hold is clipped to what it can.

    Floats become whole numbers by cutting off what is behind the point. Other leaves stay as they are.
    """

    takes: ClassVar[str] = "Box leaves"
    dtype: NumberType = "float32"
    """Name of the number type."""

    def __post_init__(self) -> None:
        """Check the name."""
        if self.dtype not in get_args(NumberType):
            raise ConfigError(f"CastObs: dtype is {self.dtype!r}, expected one of {', '.join(get_args(NumberType))}.")

    def convert(self, leaf: Space) -> tuple[Space, BatchFn] | None:
        """Cast a leaf if it is a Box."""
        if not isinstance(leaf, Box):
            return None
        dtype: np.dtype[Any] = np.dtype(self.dtype)
        lowest, highest = _limits(leaf.dtype, dtype)
        low, high = (np.clip(bound, lowest, highest) for bound in (leaf.low, leaf.high))
        if dtype.kind == "f":  # which holds the infinities, too
            low, high = (np.where(np.isinf(old), old, new) for old, new in ((leaf.low, low), (leaf.high, high)))
        space = Box(low.astype(dtype), high.astype(dtype), leaf.shape, dtype.type)
        if (low == leaf.low).all() and (high == leaf.high).all():
            return space, lambda batch: batch.astype(dtype, copy=False)
        return space, lambda batch: np.minimum(np.maximum(batch, low), high).astype(dtype)


def _limits(given: np.dtype[Any], wanted: np.dtype[Any]) -> tuple[Any, Any]:
    """The smallest and the largest finite number of one type that the other can hold, as a number of the first."""
    own, other = (np.finfo(dtype) if dtype.kind == "f" else _whole(dtype) for dtype in (given, wanted))
    if given.kind != "f" and wanted.kind != "f":
        return given.type(max(int(own.min), int(other.min))), given.type(min(int(own.max), int(other.max)))
    if given.kind != "f":  # the range of float16 is smaller than that of some whole numbers
        return given.type(max(int(own.min), int(other.min))), given.type(min(int(own.max), int(other.max)))
    lowest, highest = given.type(max(float(own.min), float(other.min))), given.type(min(float(own.max), float(other.max)))
    if wanted.kind != "f" and int(highest) > int(other.max):  # rounded up, out of what can be held
        highest = np.nextafter(highest, given.type(0))
    return lowest, highest


def _whole(dtype: np.dtype[Any]) -> Any:
    """The range of a type of whole numbers or of truth values."""
    return np.iinfo(np.uint8 if dtype.kind == "b" else dtype)
