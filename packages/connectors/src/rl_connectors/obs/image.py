"""Images: grey, smaller, channels first, scaled. Parts of an observation that are no images stay as they are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box

from rl_connectors._checks import is_whole
from rl_connectors.obs.leafwise import Array, LeafwiseObs
from rl_core.env.spaces import Space
from rl_core.errors import ConfigError

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue. Source: ITU-R BT.601."""


@dataclass(frozen=True)
class GrayImage(LeafwiseObs):
    """Colour images `[H, W, 3]` become grey `[H, W]`, those of whole numbers rounded."""

    wants: ClassVar[str] = "an image [H, W, 3]"

    def takes(self, space: Space) -> bool:
        """Colour images."""
        return isinstance(space, Box) and len(space.shape) == 3 and space.shape[2] == 3

    def leaf_space(self, space: Any) -> Space:
        """The image without its last axis."""
        return _like(space, space.shape[:2])

    def leaf(self, values: Array, space: Any) -> Array:
        """Weigh the colours."""
        return _as_dtype(values @ LUMA, values.dtype)


@dataclass(frozen=True)
class ResizeImage(LeafwiseObs):
    """Images `[H, W]` or `[H, W, C]` in another size: each new pixel is the mean of the area that it covers.

    Two small matrix products do that, exactly and for any size. Where images shrink it is the area interpolation of
    other libraries.
    """

    wants: ClassVar[str] = "an image [H, W] or [H, W, C]"
    height: int = 84
    """Pixels."""
    width: int = 84
    """Pixels."""

    def __post_init__(self) -> None:
        """Check the size."""
        for name in ("height", "width"):
            value = getattr(self, name)
            if not is_whole(value, 1):
                raise ConfigError(f"ResizeImage: got {name}={value!r}, expected an int of at least 1.")

    def takes(self, space: Space) -> bool:
        """Images."""
        return _is_image(space)

    def leaf_space(self, space: Any) -> Space:
        """The image in its new size."""
        return _like(space, (self.height, self.width, *space.shape[2:]))

    def leaf(self, values: Array, space: Any) -> Array:
        """Average the pixels."""
        rows, columns = area_weights(values.shape[1], self.height), area_weights(values.shape[2], self.width)
        if values.ndim == 4:  # the channels go in front for the products
            planes = np.moveaxis(values, -1, 1).astype(np.float32)
            return _as_dtype(np.ascontiguousarray(np.moveaxis(rows @ planes @ columns.T, 1, -1)), values.dtype)
        return _as_dtype(rows @ values.astype(np.float32) @ columns.T, values.dtype)


@dataclass(frozen=True)
class ChannelsFirst(LeafwiseObs):
    """Images `[H, W, C]` become `[C, H, W]`."""

    wants: ClassVar[str] = "an image [H, W, C]"

    def takes(self, space: Space) -> bool:
        """Images with channels."""
        return isinstance(space, Box) and len(space.shape) == 3

    def leaf_space(self, space: Any) -> Space:
        """The image with its last axis in front."""
        low, high = (np.moveaxis(bound, -1, 0) for bound in (space.low, space.high))
        return Box(low, high, dtype=space.dtype.type)

    def leaf(self, values: Array, space: Any) -> Array:
        """Move the channels."""
        return np.moveaxis(values, -1, 1)


@dataclass(frozen=True)
class ScaleImage(LeafwiseObs):
    """Images of bytes become float32 in [0, 1]. The default encoders do this themselves, on fewer bytes moved."""

    wants: ClassVar[str] = "an image of uint8"

    def takes(self, space: Space) -> bool:
        """Images of bytes."""
        return _is_image(space) and space.dtype == np.uint8

    def leaf_space(self, space: Any) -> Space:
        """The image in [0, 1]."""
        return Box(0.0, 1.0, space.shape, np.float32)

    def leaf(self, values: Array, space: Any) -> Array:
        """Divide by 255."""
        return values.astype(np.float32) / np.float32(255)


@lru_cache(maxsize=64)
def area_weights(size: int, new_size: int) -> Array:
    """The share `[new_size, size]` that each old pixel has in each new one; the rows sum to 1."""
    edges = np.arange(new_size + 1) * (size / new_size)
    old = np.arange(size)
    low, high = edges[:-1, np.newaxis], edges[1:, np.newaxis]
    overlap = np.clip(np.minimum(high, old + 1) - np.maximum(low, old), 0.0, None)
    weights: Array = overlap / overlap.sum(1, keepdims=True)
    return weights.astype(np.float32)


def _as_dtype(values: Array, dtype: np.dtype[Any]) -> Array:
    """Round to whole numbers where the dtype has only those."""
    return np.rint(values).astype(dtype) if dtype.kind in "iu" else values.astype(dtype, copy=False)


def _like(space: Box, shape: tuple[int, ...]) -> Box:
    """A Box of another shape with the widest bounds of a given one."""
    return Box(space.low.min(), space.high.max(), shape, space.dtype.type)


def _is_image(space: Space) -> bool:
    return isinstance(space, Box) and len(space.shape) in (2, 3)
