"""What learner connectors read of a rollout and add to it: its real transitions, as arrays and as float features."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Tuple

from rl_core.env.spaces import Space, flat_dim, flatten_batch, leaf_spaces
from rl_core.records import Rollout, Tree
from rl_core.tree import tree_map

Array = np.ndarray[Any, Any]
C = TypeVar("C")

_WIDEST = 1e6
"""A Box whose bounds are farther apart than this counts as unbounded: some envs write their largest float for that."""


def next_observations(rollout: Rollout) -> Tree:
    """Return the true next observations, numpy arrays `[T, B, ...]`: at the end of an episode its last one."""
    rows = tree_map(lambda leaf: leaf.numpy()[1:], rollout.obs)
    if not len(rollout.final_index):
        return rows
    index = rollout.final_index.numpy()

    def put(leaf: Array, final: Any) -> Array:
        result = leaf.copy()
        result.reshape(-1, *leaf.shape[2:])[index] = final.numpy()
        return result

    return tree_map(put, rows, rollout.final_obs)


def real_steps(rollout: Rollout) -> Array:
    """Return the positions `t * B + b` of the N steps that are real, int64 `[N]`, ascending."""
    if rollout.valid is None:
        return np.arange(rollout.reward.numel())
    return np.flatnonzero(rollout.valid.numpy())


def take_steps(tree: Tree, steps: Array) -> Tree:
    """Copy the rows `[N, ...]` at positions `t * B + b` out of arrays or tensors with leading axes `[T or more, B]`."""
    return tree_map(lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:]).take(steps, 0), tree)


def with_bonus(rollout: Rollout, steps: Array, bonus: Array) -> Rollout:
    """Add to the rewards of some steps.

    Args:
        rollout: Its own rewards stay as they are.
        steps: `[N]`, positions `t * B + b`.
        bonus: `[N]`.
    """
    reward = rollout.reward.numpy().copy()
    reward.reshape(-1)[steps] += bonus
    return replace(rollout, reward=torch.from_numpy(reward))


def mean_of(values: Array) -> float:
    """Return the mean for a report, NaN of nothing."""
    return float(values.mean()) if values.size else float("nan")


def bound_copy(connector: C, **fields: object) -> C:
    """Copy a frozen connector with what it worked out from its spaces."""
    bound = copy.copy(connector)
    for name, value in fields.items():
        object.__setattr__(bound, name, value)
    return bound


def parts_of(space: Space, tree: Tree) -> Iterator[tuple[Space, Any]]:
    """Yield each leaf of a space with the array that stands there, in the order of the space."""
    if isinstance(space, Dict):
        for key, child in space.spaces.items():
            yield from parts_of(child, tree[key])
    elif isinstance(space, Tuple):
        for child, part in zip(space.spaces, tree, strict=True):
            yield from parts_of(child, part)
    else:
        yield space, tree


@dataclass(frozen=True)
class FlatFeatures:
    """Elements of a space as float vectors of D numbers of like size.

    Discrete parts are one-hot. Box parts are flattened, and what has finite bounds is scaled from them to [-1, 1].
    """

    space: Space
    factor: Array
    """`[D]` float32"""
    offset: Array
    """`[D]` float32"""

    @classmethod
    def of(cls, space: Space) -> FlatFeatures:
        """Work out the scaling of a space.

        Raises:
            UnsupportedSpaceError: it cannot be flattened.
        """
        factor, offset = np.ones(flat_dim(space)), np.zeros(flat_dim(space))
        start = 0
        for _, leaf in leaf_spaces(space):
            if isinstance(leaf, Box):
                low, high = (bound.astype(np.float64).ravel() for bound in (leaf.low, leaf.high))
                bounded = np.flatnonzero((high > low) & (high - low < _WIDEST))
                low, high = low[bounded], high[bounded]
                factor[start + bounded] = 2 / (high - low)
                offset[start + bounded] = -(high + low) / (high - low)
            start += flat_dim(leaf)
        return cls(space, factor.astype(np.float32), offset.astype(np.float32))

    @property
    def size(self) -> int:
        """D."""
        return len(self.factor)

    def __call__(self, tree: Tree) -> Array:
        """Turn elements `[N, ...]` into float32 `[N, D]`."""
        scaled: Array = flatten_batch(self.space, tree) * self.factor
        scaled += self.offset
        return scaled
