"""Observations normalised by their running mean and standard deviation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict

from rl_connectors._checks import is_number
from rl_connectors.obs._leaves import bound_copy, map_space, map_with_space
from rl_connectors.statistics import Moments, joined, merged, moments_of, standard_deviation
from rl_core import ConnectorState, ObsConnector, Step
from rl_core.env.spaces import Space, describe
from rl_core.errors import BadObservationError, ConfigError, UnsupportedSpaceError
from rl_core.records import Tree
from rl_core.tree import tree_leaves

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class MeanStdFilter(ObsConnector):
    """Normalises each number of each Box part by its running mean and standard deviation; other parts stay.

        clip((obs - mean) / (std + epsilon), -clip, clip)

    The statistics are of all observations that a decision was made on. They grow while sampling for training, are
    merged over runners, saved with the policy, and stay as they are in evaluation and inference.
    """

    clip: float = 10.0
    """Bound of the result, in standard deviations, above 0."""
    keys: tuple[str, ...] | None = None
    """Which keys of a Dict observation to normalise; None is all."""
    epsilon: float = 1e-8
    """Added to the standard deviation, so that constant numbers become 0; above 0."""
    space: Space | None = field(default=None, init=False, repr=False, compare=False)
    """The space it was bound to."""

    def __post_init__(self) -> None:
        """Check the settings."""
        for name in ("clip", "epsilon"):
            value = getattr(self, name)
            if not is_number(value, above=0):
                raise ConfigError(f"MeanStdFilter: got {name}={value!r}, expected a number above 0.")

    def bind(self, observation_space: Space, action_space: Space) -> MeanStdFilter:
        """Remember the space."""
        return bound_copy(self, space=observation_space)

    def output_space(self, observation_space: Space, action_space: Space) -> Space:
        """Boxes of the same shapes, float32, within the clip."""
        if self.keys is not None:
            own = list(observation_space.spaces) if isinstance(observation_space, Dict) else None
            if own is None or any(key not in own for key in self.keys):
                raise UnsupportedSpaceError(
                    f"MeanStdFilter: got keys={self.keys!r} for observations of {describe(observation_space)}. "
                    f"Expected {'some of ' + str(own) if own else 'None, as they are no Dict'}."
                )
        chosen = self._chosen(observation_space)
        if not any(tree_leaves(chosen)):
            raise UnsupportedSpaceError(
                f"MeanStdFilter finds nothing to normalise in {describe(observation_space)}, expected a Box of numbers."
            )
        return map_space(
            lambda leaf, take: Box(-self.clip, self.clip, leaf.shape, np.float32) if take else leaf,
            observation_space,
            chosen,
        )

    def initial_state(self, observation_space: Space, action_space: Space, num_slots: int) -> ConnectorState:
        """Nothing seen: mean 0 and standard deviation 1."""

        def empty(space: Space, take: bool) -> Tree:
            zeros = np.zeros(space.shape or ())
            return self._leaf(Moments(0.0, zeros, zeros)) if take else ()

        leaves = map_with_space(empty, observation_space, self._chosen(observation_space))
        return ConnectorState(shared={"count": np.zeros(()), "leaves": leaves})

    def observe(self, state: ConnectorState, step: Step) -> Tree:
        """Take the observations of all slots into the statistics, except those that only end an episode."""
        ending = (step.terminated | step.truncated) & ~step.first
        rows = ~ending if ending.any() else None
        before = float(state.shared["count"])

        def add(space: Space, obs: Array, leaf: Tree) -> Tree:
            if not isinstance(leaf, dict):
                return ()
            if not math.isfinite(float(np.add.reduce(obs, None))):
                raise _not_finite(obs)
            new = moments_of(obs if rows is None else obs[rows])
            return self._leaf(joined(Moments(before, leaf["mean"], leaf["m2"]), new))

        leaves = map_with_space(add, self._space(), step.obs, state.shared["leaves"])
        added = len(ending) if rows is None else int(np.count_nonzero(rows))
        return {"count": np.array(before + added), "leaves": leaves}

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Normalise the observations of all slots."""
        obs = map_with_space(self._normalised, self._space(), step.obs, state.shared["leaves"])
        return state, replace(step, obs=obs)

    def merge(self, shared: Sequence[Tree], base: Tree) -> Tree:
        """Count what every runner has seen since `base` once."""
        counts = [float(part["count"]) for part in (base, *shared)]

        def combine(space: Space, *leaves: Tree) -> Tree:
            if not isinstance(leaves[0], dict):
                return ()
            parts = [Moments(count, leaf["mean"], leaf["m2"]) for count, leaf in zip(counts, leaves, strict=True)]
            return self._leaf(merged(parts[1:], parts[0]))

        leaves = map_with_space(combine, self._space(), *(part["leaves"] for part in (base, *shared)))
        return {"count": np.array(counts[0] + sum(count - counts[0] for count in counts[1:])), "leaves": leaves}

    def _leaf(self, moments: Moments) -> dict[str, Array]:
        """What is kept of a part; the scale follows from the rest and saves working it out at every step."""
        scale = 1.0 / (standard_deviation(moments) + self.epsilon)
        return {"mean": moments.mean, "m2": moments.m2, "scale": scale}

    def _normalised(self, space: Space, obs: Array, leaf: Tree) -> Array:
        if not isinstance(leaf, dict):
            return obs
        result: Array = obs - leaf["mean"]
        result *= leaf["scale"]
        if not math.isfinite(float(np.add.reduce(result, None))):
            raise _not_finite(obs)
        np.minimum(result, self.clip, out=result)
        np.maximum(result, -self.clip, out=result)
        return result.astype(np.float32)

    def _chosen(self, space: Space) -> Tree:
        """Which parts of a space are normalised."""
        if self.keys is None or not isinstance(space, Dict):
            return map_with_space(_is_numeric, space)
        parts = space.spaces.items()
        return {key: map_with_space(_is_numeric if key in self.keys else _never, part) for key, part in parts}

    def _space(self) -> Space:
        assert self.space is not None, "bound by its chain"
        return self.space


def _is_numeric(space: Space) -> bool:
    return isinstance(space, Box) and np.dtype(space.dtype).kind in "iuf"


def _never(space: Space) -> bool:
    return False


def _not_finite(obs: Array) -> BadObservationError:
    """Say which slots hold numbers that are not finite."""
    flat = np.isfinite(obs.reshape(len(obs), -1)).all(1)
    slots = np.flatnonzero(~flat).tolist()
    return BadObservationError(slots or range(len(obs)), "it holds NaN or infinity, or numbers too large to square")
