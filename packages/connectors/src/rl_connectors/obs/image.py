"""Pieces for images. They change the leaves that are images of the kind they take, and pass on the others.

A leaf of three axes is `[C, H, W]` where its first axis is smaller than its last, as the modules see it, and else
`[H, W, C]`. A stack of gray images is `[C, H, W]`; before `FrameStack` an image is worked on once, behind it k times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeGuard

import numpy as np
from gymnasium.spaces import Box

from rl_connectors.obs._checks import is_whole
from rl_connectors.obs.leafwise import BatchFn, LeafwiseObs
from rl_core.env.spaces import Space
from rl_core.errors import ConfigError

Array = np.ndarray[Any, Any]

_GRAY = np.array([299, 587, 114], np.float32)
"""Thousandths of red, green and blue in the brightness (ITU-R BT.601)."""


@dataclass(frozen=True)
class GrayImage(LeafwiseObs):
    """Colour images, uint8 `[H, W, 3]` (red, green, blue), as gray ones, uint8 `[H, W]`.

        gray = 0.299 red + 0.587 green + 0.114 blue, rounded to the nearest, halves up

    Source: ITU-R BT.601-7, section 2.5.1.
    """

    takes: ClassVar[str] = "uint8 boxes of shape [H, W, 3]"

    def convert(self, leaf: Space) -> tuple[Space, BatchFn] | None:
        """Make a leaf gray if it is a colour image."""
        if not (isinstance(leaf, Box) and leaf.dtype == np.uint8 and len(leaf.shape) == 3 and leaf.shape[2] == 3):
            return None
        return Box(_gray(leaf.low), _gray(leaf.high), leaf.shape[:2], np.uint8), _gray


def _gray(colour: Array) -> Array:
    """Weigh the colours of `[..., 3]`."""
    # Whole numbers below 2^24 are exact in float32, and 500.5 / 1000 keeps away from where cutting off could go wrong.
    thousandths = colour.astype(np.float32).reshape(-1, 3) @ _GRAY
    thousandths += np.float32(500.5)
    thousandths *= np.float32(0.001)
    gray: Array = thousandths.astype(np.uint8).reshape(colour.shape[:-1])
    return gray


@dataclass(frozen=True)
class ResizeImage(LeafwiseObs):
    """Images `[H, W]`, `[H, W, C]` or `[C, H, W]`, uint8 or float, in another size.

    Each new pixel is the mean of the area it covers; of uint8 it is exact, rounded to the nearest, halves to even.
    """

    takes: ClassVar[str] = "uint8 and float boxes of shape [H, W], [H, W, C] or [C, H, W]"
    height: int = 84
    """New height in pixels."""
    width: int = 84
    """New width in pixels."""

    def __post_init__(self) -> None:
        """Check the size."""
        for name, value in (("height", self.height), ("width", self.width)):
            if not is_whole(value, 1):
                raise ConfigError(f"ResizeImage: {name} is {value!r}, expected a whole number of pixels, at least 1.")

    def convert(self, leaf: Space) -> tuple[Space, BatchFn] | None:
        """Resize a leaf if it is an image."""
        shape = leaf.shape or ()
        if not (isinstance(leaf, Box) and len(shape) in (2, 3) and (leaf.dtype == np.uint8 or leaf.dtype.kind == "f")):
            return None
        low, high = leaf.low.min(), leaf.high.max()
        if _has_channels_first(shape):
            space = Box(low, high, (shape[0], self.height, self.width), leaf.dtype.type)
            resize = self._resizer(shape[1:], leaf.dtype, (low, high))
            return space, lambda images: resize(images.reshape(-1, *shape[1:])).reshape(-1, *space.shape)
        space = Box(low, high, (self.height, self.width, *shape[2:]), leaf.dtype.type)
        return space, self._resizer(shape, leaf.dtype, (low, high))

    def _resizer(self, shape: tuple[int, ...], dtype: np.dtype[Any], bounds: tuple[Any, Any]) -> BatchFn:
        """Build what resizes a batch of images of a shape."""
        old_height, old_width, channels = (*shape, 1)[:3]
        size = old_height * old_width
        # The overlaps are whole numbers, and so are all sums of uint8 pixels: exact as long as they fit the mantissa.
        exact_in_single = dtype.kind == "u" and 255 * size < 2**24
        precise = np.float32 if exact_in_single or (dtype.kind == "f" and dtype.itemsize <= 4) else np.float64
        rows = _overlaps(old_height, self.height).astype(precise)  # [h, H]
        columns = _overlaps(old_width, self.width).astype(precise).T  # [W, w]

        def resize(images: Array) -> Array:
            flat: Array = images.reshape(-1, old_height, old_width * channels).astype(precise, copy=False)
            lines = (rows @ flat).reshape(-1, self.height, old_width, channels)
            by_channel = np.ascontiguousarray(lines.swapaxes(2, 3)).reshape(-1, old_width)  # [B * h * C, W]
            sums = (by_channel @ columns).reshape(-1, self.height, channels, self.width).swapaxes(2, 3)
            sums = sums.reshape(len(images), self.height, self.width, *shape[2:])
            if dtype.kind == "u":
                means: Array = np.rint(sums / np.float64(size))
            else:  # rounding must not take a mean out of the bounds
                means = np.minimum(np.maximum(sums / precise(size), bounds[0]), bounds[1])
            return means.astype(dtype, copy=False)

        return resize


def _overlaps(old: int, new: int) -> Array:
    """How much of each of `old` pixels lies in each of `new` equal parts, `[new, old]`, in units of 1 / new pixels."""
    start = np.arange(old) * new
    edge = np.arange(new + 1)[:, np.newaxis] * old
    overlaps: Array = np.maximum(np.minimum(start + new, edge[1:]) - np.maximum(start, edge[:-1]), 0)
    return overlaps


@dataclass(frozen=True)
class ChannelsFirst(LeafwiseObs):
    """Images `[H, W, C]`, uint8 or float, as `[C, H, W]`, which torch's convolutions take."""

    takes: ClassVar[str] = "uint8 and float boxes of shape [H, W, C], C at most H,"

    def convert(self, leaf: Space) -> tuple[Space, BatchFn] | None:
        """Move the channels of a leaf if it is an image that has them last."""
        if not _is_volume(leaf) or _has_channels_first(leaf.shape):
            return None
        low, high = (bound.transpose(2, 0, 1) for bound in (leaf.low, leaf.high))
        return Box(low, high, low.shape, leaf.dtype.type), lambda images: images.transpose(0, 3, 1, 2)


@dataclass(frozen=True)
class ChannelsLast(LeafwiseObs):
    """Images `[C, H, W]`, uint8 or float, as `[H, W, C]`, which resizing and making gray take."""

    takes: ClassVar[str] = "uint8 and float boxes of shape [C, H, W], C at most W,"

    def convert(self, leaf: Space) -> tuple[Space, BatchFn] | None:
        """Move the channels of a leaf if it is an image that has them first."""
        if not (_is_volume(leaf) and leaf.shape[0] <= leaf.shape[2]):
            return None
        low, high = (bound.transpose(1, 2, 0) for bound in (leaf.low, leaf.high))
        return Box(low, high, low.shape, leaf.dtype.type), lambda images: images.transpose(0, 2, 3, 1)


def _has_channels_first(shape: tuple[int, ...]) -> bool:
    """Whether three axes are `[C, H, W]`."""
    return len(shape) == 3 and shape[0] < shape[2]


def _is_volume(leaf: Space) -> TypeGuard[Box]:
    """Whether a leaf has the three axes and the numbers of an image."""
    return isinstance(leaf, Box) and len(leaf.shape) == 3 and (leaf.dtype == np.uint8 or leaf.dtype.kind == "f")


@dataclass(frozen=True)
class ScaleImage(LeafwiseObs):
    """uint8 images of any number of axes from two on, also stacked, as float32: divided by 255, in [0, 1]."""

    takes: ClassVar[str] = "uint8 boxes of two or more axes"

    def convert(self, leaf: Space) -> tuple[Space, BatchFn] | None:
        """Scale a leaf if it is an image."""
        if not (isinstance(leaf, Box) and leaf.dtype == np.uint8 and len(leaf.shape) >= 2):
            return None
        return Box(_scaled(leaf.low), _scaled(leaf.high), leaf.shape, np.float32), _scaled


def _scaled(pixels: Array) -> Array:
    scaled: Array = np.divide(pixels, np.float32(255))
    return scaled
