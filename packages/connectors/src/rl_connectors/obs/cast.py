"""Observations in another number type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from gymnasium.spaces import Box

from rl_connectors.obs.leafwise import BatchFn, LeafwiseObs
from rl_core.env.spaces import Space
from rl_core.errors import ConfigError

NumberType = Literal["float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64"]


@dataclass(frozen=True)
class CastObs(LeafwiseObs):
    """Every Box leaf in another number type; other leaves stay as they are.

    Values and bounds beyond what whole numbers of that type can be are clipped, and so are bounded floats; unbounded
    ones may become infinite. Floats become whole numbers by cutting off what is behind the point.
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
    """The smallest and the largest finite number of one type that the other can hold, as numbers of the first."""
    number = float if given.kind == "f" else int
    own, other = (np.finfo(dtype) if dtype.kind == "f" else _whole(dtype) for dtype in (given, wanted))
    lowest = given.type(max(number(own.min), number(other.min)))
    highest = given.type(min(number(own.max), number(other.max)))
    if given.kind == "f" and wanted.kind != "f" and int(highest) > int(other.max):  # it was rounded up
        highest = np.nextafter(highest, given.type(0))
    return lowest, highest


def _whole(dtype: np.dtype[Any]) -> Any:
    """The range of a type of whole numbers or of truth values."""
    return np.iinfo(np.uint8 if dtype.kind == "b" else dtype)
