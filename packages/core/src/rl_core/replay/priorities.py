"""Priorities of transitions: a sum tree that draws many places at once in proportion to their priority."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from rl_core.config.check import Range, Settings

WIDTH = 32
"""Children of a node. Wide and flat, because each level costs a few numpy calls, however many places are drawn."""
MAX_TOP = 2048
"""Most nodes of the top level, whose running sum is formed anew for each draw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrioritySettings(Settings):
    """How a transition's error becomes the probability to draw it: `P(i) ~ (error_i + epsilon)**alpha`.

    Source: Schaul et al. 2016, equation 1 and section 3.3, proportional variant.
    """

    alpha: Annotated[float, Range(ge=0, le=1)] = 0.6
    """How much priorities matter: 0 draws uniformly, 1 in proportion. Source: Schaul et al. 2016, table 3."""
    epsilon: Annotated[float, Range(gt=0)] = 1e-6
    """Added to each error, so that a transition without one can still be drawn."""


class SumTree:
    """Numbers at `num_leaves` places, with the sums of blocks of them, of blocks of those, and so on.

    Each sum is formed from what it covers whenever something below changes, never corrected by a difference: errors of
    rounding do not add up, and the tree is a function of its leaves alone.
    """

    def __init__(self, num_leaves: int) -> None:
        """Make a tree of zeros."""
        *below, top = _level_sizes(num_leaves)
        self._blocks = [np.zeros((size // WIDTH, WIDTH)) for size in below]  # [nodes of the level above, WIDTH] each
        self._flat = [*(blocks.reshape(-1) for blocks in self._blocks), np.zeros(top)]
        self.leaves = self._flat[0][:num_leaves]
        """`[num_leaves]` float64, at least 0: to be read; written by `set` and `set_range` only."""

    @staticmethod
    def count_bytes(num_leaves: int) -> int:
        """Bytes of a tree, before it is made."""
        return 8 * sum(_level_sizes(num_leaves))

    @property
    def nbytes(self) -> int:
        """Bytes of all levels."""
        return sum(numbers.nbytes for numbers in self._flat)

    def set(self, index: np.ndarray, value: np.ndarray) -> None:
        """Write `value` `[N]` at places `index` `[N]`; of several for one place the last holds."""
        self._flat[0][index] = value
        for blocks, sums in zip(self._blocks, self._flat[1:], strict=True):
            index = index // WIDTH
            sums[index] = np.add.reduce(blocks.take(index, 0), axis=1)

    def set_range(self, start: int, value: np.ndarray) -> None:
        """Write `value` `[N]` at places `start` to `start + N - 1`."""
        stop = start + len(value)
        self._flat[0][start:stop] = value
        for blocks, sums in zip(self._blocks, self._flat[1:], strict=True):
            start, stop = start // WIDTH, -(-stop // WIDTH)
            sums[start:stop] = np.add.reduce(blocks[start:stop], axis=1)

    def draw(self, fraction: np.ndarray) -> np.ndarray:
        """Find the places where the running sum of the leaves passes given fractions of their total.

        A place whose leaf is 0 is never found. The total must not be 0.

        Args:
            fraction: `[N]` float64 in [0, 1).

        Returns:
            `[N]` int64: the first place with `sum(leaves[: place + 1]) > fraction * total`.
        """
        running = _running_sums(self._flat[-1])
        # The last number below the total, so that a product rounded up does not point behind the last place.
        target = np.minimum(fraction * running[-1], np.nextafter(running[-1], 0))
        node: np.ndarray = running.searchsorted(target, side="right")
        target -= np.where(node > 0, running[node - 1], 0.0)
        rows = np.arange(len(node))
        for blocks in reversed(self._blocks):
            sums = _running_sums(blocks.take(node, 0))
            # Rounding may put the target behind the block's own last sum: keep it inside, before the last positive one.
            np.minimum(target, np.nextafter(sums[:, -1], 0), out=target)
            child = (sums > target[:, None]).argmax(1)
            target -= np.where(child > 0, sums[rows, child - 1], 0.0)
            node = node * WIDTH + child
        return node


def _level_sizes(num_leaves: int) -> list[int]:
    """Numbers per level from the leaves up, each level but the top filled up to whole blocks."""
    sizes = [num_leaves]
    while sizes[-1] > MAX_TOP:
        num_blocks = -(-sizes[-1] // WIDTH)
        sizes[-1] = num_blocks * WIDTH
        sizes.append(num_blocks)
    return sizes


def _running_sums(numbers: np.ndarray) -> np.ndarray:
    """Sum up along the last axis, one after the other; torch takes a tenth of numpy's time for many short rows."""
    return torch.cumsum(torch.from_numpy(numbers), -1).numpy()
