"""Curiosity by counting: states that were seen less often are worth more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete, MultiBinary, MultiDiscrete

from rl_connectors.learner._settings import require_count, require_number
from rl_connectors.learner._transitions import (
    FlatFeatures,
    bound_copy,
    mean_of,
    next_observations,
    parts_of,
    real_steps,
    take_steps,
    with_bonus,
)
from rl_core import LearnerConnector, Rollout
from rl_core.env.spaces import Space, leaf_spaces
from rl_core.records import Tree

Array = np.ndarray[Any, Any]

_MAX_EXACT = 2**20
"""Counts take 8 bytes each: so many 8 MiB."""
_MAX_BITS = 64
_MIX = np.uint64(0x9E3779B97F4A7C15)
"""2**64 over the golden ratio: multiplying by it spreads similar codes over all buckets. Source: Knuth 1998, 6.4."""


@dataclass(frozen=True)
class CountBasedCuriosity(LearnerConnector):
    """Adds `coefficient / sqrt(n(s'))` to each reward, where n counts how often s' was reached, this time included.

    Every real step counts, in the order of time and, within one time, of the slots. Observations made of Discrete,
    MultiDiscrete and MultiBinary parts with up to 2**20 combinations are counted one by one. All others are hashed
    (SimHash): the bits are the signs of random projections of the observation as a vector, Box parts scaled from their
    bounds to [-1, 1], with a constant 1 appended so that the hyperplanes need not go through the origin. The hashes
    share `num_buckets` counts.

    Source: Bellemare et al. 2016, section 5; Tang et al. 2017, section 2.2 (SimHash).
    """

    coefficient: float = 1.0
    """Reward for a new state, at least 0."""
    hash_bits: int = 32
    """Bits of the hash, 1 to 64; more tell states better apart, the more so the fewer numbers an observation has."""
    num_buckets: int = 2**16
    """Counts for hashes, at least 1; with many fewer than there are states, states are taken for others."""
    sizes: tuple[int, ...] = field(default=(), init=False, repr=False, compare=False)
    """Number of values of each discrete part; empty where observations are hashed."""
    features: FlatFeatures | None = field(default=None, init=False, repr=False, compare=False)
    """Vectors of observations, which are hashed."""

    def __post_init__(self) -> None:
        """Check the settings."""
        require_number(self, "coefficient", at_least=0)
        require_count(self, "hash_bits", at_most=_MAX_BITS)
        require_count(self, "num_buckets")

    def bind(self, observation_space: Space, action_space: Space) -> CountBasedCuriosity:
        """Remember the space."""
        sizes, features = _part_sizes(observation_space), FlatFeatures.of(observation_space)
        return bound_copy(self, sizes=sizes, features=features)

    def initial_state(self, seed: int) -> Tree:
        """Nothing counted; the projection of the hash is drawn once."""
        assert self.features is not None, "bound by the learner"
        if self.sizes:
            return {"counts": np.zeros(math.prod(self.sizes), np.int64)}
        num_rows = self.features.size + 1
        projection = np.random.default_rng(seed).standard_normal((num_rows, self.hash_bits), np.float32)
        return {"counts": np.zeros(self.num_buckets, np.int64), "projection": projection}

    def __call__(self, state: Tree, rollout: Rollout) -> tuple[Tree, Rollout, Mapping[str, float]]:
        """Count the states reached and add the bonus."""
        steps = real_steps(rollout)
        place = self._place(state, take_steps(next_observations(rollout), steps))
        counts = state["counts"].copy()
        number = count_visits(counts, place)
        bonus = self.coefficient / np.sqrt(number)
        report = {"intrinsic_reward_mean": mean_of(bonus), "num_states": float(np.count_nonzero(counts))}
        return {**state, "counts": counts}, with_bonus(rollout, steps, bonus), report

    def _place(self, state: Tree, obs: Tree) -> Array:
        """Say which count each observation belongs to: `[N, ...]` to int64 `[N]`."""
        assert self.features is not None, "bound by the learner"
        place: Array
        if self.sizes:
            parts = [_digits(*part) for part in parts_of(self.features.space, obs)]
            place = np.concatenate(parts, axis=1) @ np.cumprod([1, *self.sizes[:-1]])
        else:
            projection = state["projection"]
            bits = self.features(obs) @ projection[:-1] + projection[-1] > 0
            code = bits @ (np.uint64(1) << np.arange(self.hash_bits, dtype=np.uint64))
            place = ((code * _MIX >> np.uint64(32)) % np.uint64(self.num_buckets)).astype(np.int64)
        return place


def count_visits(counts: Array, place: Array) -> Array:
    """Count visits one after the other.

    Args:
        counts: `[M]` int64, changed in place.
        place: `[N]`, the count that each visit adds to, in order.

    Returns:
        `[N]` int64: the count of its place after each visit.
    """
    order = np.argsort(place, kind="stable")
    ordered = place[order]
    begins = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))[: len(ordered)])
    group_sizes = np.diff(np.append(begins, len(ordered)))
    rank = np.arange(len(ordered)) - np.repeat(begins, group_sizes)
    number = np.empty(len(place), np.int64)
    number[order] = counts[ordered] + rank + 1
    counts[ordered[begins]] += group_sizes
    return number


def _part_sizes(space: Space) -> tuple[int, ...]:
    """List how many values each discrete part has; empty if others are among them, or there are too many in all."""
    sizes: list[int] = []
    for _, leaf in leaf_spaces(space):
        if isinstance(leaf, Discrete):
            sizes.append(int(leaf.n))
        elif isinstance(leaf, MultiDiscrete):
            sizes.extend(leaf.nvec.ravel().tolist())
        elif isinstance(leaf, MultiBinary):
            sizes.extend([2] * math.prod(leaf.shape))
        else:
            return ()
    return tuple(sizes) if math.prod(sizes) <= _MAX_EXACT else ()


def _digits(space: Space, leaf: Array) -> Array:
    """Make int64 `[N, parts]`, from 0, of discrete values `[N, ...]`."""
    start = np.ravel(getattr(space, "start", 0)).astype(np.int64)
    return leaf.reshape(len(leaf), -1).astype(np.int64) - start
