"""Curiosity by distance: states far from what was seen before are worth more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from rl_connectors.learner._settings import require_count, require_number
from rl_connectors.learner._transitions import (
    FlatFeatures,
    bound_copy,
    mean_of,
    next_observations,
    real_steps,
    take_steps,
    with_bonus,
)
from rl_core import LearnerConnector, Rollout
from rl_core.env.spaces import Space
from rl_core.records import Tree

Array = np.ndarray[Any, Any]

_CHUNK = 2**22
"""Most distances worked out at once: 16 MiB."""
_EXACT_UP_TO = 64
"""Numbers of a vector up to which distances are sums of squared differences; beyond, matrix products are faster."""


@dataclass(frozen=True)
class DistanceCuriosity(LearnerConnector):
    """Adds `coefficient * min over stored o of |s' - o|` to each reward, then stores observations of the rollout.

    Observations are compared as vectors: discrete parts one-hot, Box parts with finite bounds scaled from them to
    [-1, 1], others as they are (normalise those by a connector before). The newest `capacity` ones are kept, 4 bytes
    per number; before the first are stored there is no bonus.

    Source: the novelty of Lehman and Stanley 2011 with one neighbour.
    """

    coefficient: float = 1.0
    """Reward for a distance of 1, at least 0."""
    capacity: int = 4096
    """Observations to keep, at least 1."""
    add_every: int = 1
    """Keep only each so many-th observation, counted over all rollouts; at least 1."""
    features: FlatFeatures | None = field(default=None, init=False, repr=False, compare=False)
    """Vectors of observations."""

    def __post_init__(self) -> None:
        """Check the settings."""
        require_number(self, "coefficient", at_least=0)
        require_count(self, "capacity")
        require_count(self, "add_every")

    def bind(self, observation_space: Space, action_space: Space) -> DistanceCuriosity:
        """Remember the space."""
        return bound_copy(self, features=FlatFeatures.of(observation_space))

    def initial_state(self, seed: int) -> Tree:
        """Nothing stored."""
        assert self.features is not None, "bound by the learner"
        store = np.zeros((self.capacity, self.features.size), np.float32)
        return {"store": store, "num_stored": 0, "num_seen": 0}

    def __call__(self, state: Tree, rollout: Rollout) -> tuple[Tree, Rollout, Mapping[str, float]]:
        """Add the distances, then store."""
        assert self.features is not None, "bound by the learner"
        steps = real_steps(rollout)
        vectors = self.features(take_steps(next_observations(rollout), steps))
        known = state["store"][: min(state["num_stored"], self.capacity)]
        bonus = self.coefficient * nearest_distance(vectors, known)
        after = self._stored(state, vectors)
        report = {
            "intrinsic_reward_mean": mean_of(bonus),
            "num_stored": float(min(after["num_stored"], self.capacity)),
        }
        return after, with_bonus(rollout, steps, bonus), report

    def _stored(self, state: Tree, vectors: Array) -> Tree:
        """Store some of the vectors `[N, D]` over the oldest."""
        num_stored, num_seen = state["num_stored"], state["num_seen"]
        chosen = vectors[-num_seen % self.add_every :: self.add_every]
        place = np.arange(num_stored, num_stored + len(chosen))[-self.capacity :] % self.capacity
        store = state["store"].copy()
        store[place] = chosen[-self.capacity :]
        return {"store": store, "num_stored": num_stored + len(chosen), "num_seen": num_seen + len(vectors)}


def nearest_distance(vectors: Array, known: Array) -> Array:
    """Return the Euclidean distance of each vector to the nearest known one.

    Args:
        vectors: `[N, D]` float32.
        known: `[M, D]` float32.

    Returns:
        `[N]` float32, 0 where nothing finite is known.
    """
    known = known[np.isfinite(known).all(1)]
    if not (len(known) and len(vectors)):
        return np.zeros(len(vectors), np.float32)
    exact = vectors.shape[1] <= _EXACT_UP_TO
    mode = "donot_use_mm_for_euclid_dist" if exact else "use_mm_for_euclid_dist_if_necessary"
    if not exact:  # products lose the digits that all vectors share, so those are taken off before
        centre = known.mean(0, dtype=np.float64).astype(np.float32)
        vectors, known = vectors - centre, known - centre
    others = torch.from_numpy(known)
    parts = torch.split(torch.from_numpy(vectors), max(1, _CHUNK // len(known)))
    return torch.cat([torch.cdist(part, others, compute_mode=mode).amin(1) for part in parts]).numpy()
