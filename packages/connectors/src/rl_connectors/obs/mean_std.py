"""Observations with mean 0 and standard deviation 1, from running statistics of all that was seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Tuple

from rl_connectors.obs._checks import is_names, is_positive
from rl_connectors.obs._leaves import bound_copy, check_keys, map_space
from rl_core import ConnectorState, ObsConnector
from rl_core.env.spaces import Space, describe
from rl_core.errors import BadObservationError, ConfigError, UnsupportedSpaceError
from rl_core.records import Step
from rl_core.tree import Tree, tree_map

Path = tuple[Any, ...]
"""Keys and positions that lead to a leaf."""


@dataclass(frozen=True)
class MeanStdFilter(ObsConnector):
    """Normalises each number of the Box leaves by its running mean and standard deviation.

        result = clip((obs - mean) / (std + epsilon), -clip, clip)

    Before it has seen data, the mean is 0; before it has seen two observations, std is 1. It counts the observations on
    which a decision is made and no others, so that the statistics do not depend on the autoreset mode. Leaves of other
    spaces stay as they are.

    Its statistics are `count`, a number, and `mean` and `m2`, float64 trees in the structure of the observation without
    the leaves that stay as they are; the variance is m2 / count. n more observations x change them by

        mean += distance / (count + n),  m2 += sum of (x - old mean)^2 - distance^2 / (count + n)

    where distance is the sum of x - old mean.

    Source: Chan, Golub & LeVeque 1979, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances",
    equation 2.1, with the squares taken about the old mean.
    """

    clip: float = 10.0
    """Largest size of a result, above 0."""
    keys: tuple[str, ...] | None = None
    """Top-level keys of a Dict observation whose leaves are normalised; None is all."""
    epsilon: float = 1e-8
    """Added to the standard deviation, above 0."""
    paths: tuple[Path, ...] = field(default=(), init=False, repr=False, compare=False)
    """Where the leaves to normalise are."""
    places: Tree = field(default=None, init=False, repr=False, compare=False)
    """In the structure of the observation: each leaf's place in `paths`, or -1."""
    kept: Tree = field(default=None, init=False, repr=False, compare=False)
    """`places` without the branches that have nothing to normalise; members of a tuple become `()`."""

    def __post_init__(self) -> None:
        """Check the settings."""
        for name in ("clip", "epsilon"):
            if not is_positive(getattr(self, name)):
                raise ConfigError(
                    f"MeanStdFilter: {name} is {getattr(self, name)!r}, expected a finite number above 0."
                )
        if self.keys is not None and not is_names(self.keys):
            raise ConfigError(f"MeanStdFilter: keys is {self.keys!r}, expected a tuple of different keys, or None.")

    def bind(self, observation_space: Space, action_space: Space) -> MeanStdFilter:
        """Return a copy that knows where the leaves to normalise are.

        Raises:
            UnsupportedSpaceError: there are none, or the observation lacks one of `keys`.
        """
        if self.keys is not None:
            check_keys(self.keys, observation_space, "MeanStdFilter")
        paths: list[Path] = []
        places = self._find(observation_space, (), paths)
        if not paths:
            raise UnsupportedSpaceError(
                f"MeanStdFilter normalises Box leaves of numbers, and {describe(observation_space)} has none"
                f"{'' if self.keys is None else f' under {list(self.keys)}'}. Leave it out, or make discrete parts "
                "one-hot before."
            )
        return bound_copy(self, paths=tuple(paths), places=places, kept=_pruned(places))

    def _find(self, space: Space, path: Path, paths: list[Path]) -> Tree:
        """Append the paths of the leaves to normalise, and return their places."""
        if isinstance(space, Dict):
            return {key: self._find(part, (*path, key), paths) for key, part in space.spaces.items()}
        if isinstance(space, Tuple):
            return tuple(self._find(part, (*path, place), paths) for place, part in enumerate(space.spaces))
        chosen = self.keys is None or path[0] in self.keys
        if not (chosen and isinstance(space, Box) and space.dtype.kind in "iuf"):
            return -1
        paths.append(path)
        return len(paths) - 1

    def output_space(self, observation_space: Space, action_space: Space) -> Space:
        """Declare the normalised leaves as float32 Boxes with bounds +-clip."""

        def normalised(leaf: Space, place: int) -> Space:
            return leaf if place < 0 else Box(-self.clip, self.clip, leaf.shape, np.float32)

        return map_space(normalised, observation_space, self.places)

    def initial_state(self, observation_space: Space, action_space: Space, num_slots: int) -> ConnectorState:
        """Make the statistics of no data."""
        nothing = self._tree([np.zeros(_at(observation_space, path).shape) for path in self.paths])
        return ConnectorState(shared={"count": np.zeros(()), "mean": nothing, "m2": nothing})

    def observe(self, state: ConnectorState, step: Step) -> Tree:
        """Count the observations of a step.

        Raises:
            BadObservationError: some are not finite.
        """
        rows, num_rows = None, len(step.first)
        done = step.terminated | step.truncated
        if np.count_nonzero(done):
            rows = np.flatnonzero(step.first | ~done)
            num_rows = len(rows)
            if not num_rows:
                return state.shared
        count = float(state.shared["count"])
        total = count + num_rows
        means, m2s = [], []
        for path in self.paths:
            leaf, mean, m2 = _at(step.obs, path), _at(state.shared["mean"], path), _at(state.shared["m2"], path)
            batch = (leaf if rows is None else leaf[rows]).astype(np.float64)
            _check_finite(batch, leaf, path)
            if not count:  # from here on distances are those from a mean that is near
                mean = np.add.reduce(batch, axis=0) / num_rows
            batch -= mean
            distance = np.add.reduce(batch, axis=0) if count else 0.0
            shift = distance / total
            np.square(batch, out=batch)
            means.append(mean + shift)
            m2s.append(m2 + np.add.reduce(batch, axis=0) - distance * shift)
        return {"count": np.float64(total), "mean": self._tree(means), "m2": self._tree(m2s)}

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Normalise the observations of all slots.

        Raises:
            BadObservationError: some are not finite.
        """
        count = float(state.shared["count"])
        results = []
        for path in self.paths:
            leaf, mean, m2 = _at(step.obs, path), _at(state.shared["mean"], path), _at(state.shared["m2"], path)
            result = leaf.astype(np.float64)
            result -= mean
            if count >= 2:
                result /= np.sqrt(m2 / count) + self.epsilon
            _check_finite(result, leaf, path)
            np.maximum(result, -self.clip, out=result)
            np.minimum(result, self.clip, out=result)
            results.append(result.astype(np.float32))
        return state, step.with_obs(
            tree_map(lambda place, leaf: leaf if place < 0 else results[place], self.places, step.obs)
        )

    def merge(self, shared: Sequence[Tree], base: Tree) -> Tree:
        """Combine the statistics of several runners, as if one had seen all data.

        The base is in each of them, and is taken out of all but one.
        """
        own = [float(part["count"]) for part in shared]
        before = float(base["count"])
        extra = len(shared) - 1
        total = sum(own) - extra * before
        if not total:
            return base
        means, m2s = [], []
        for path in self.paths:
            start, start_m2 = _at(base["mean"], path), _at(base["m2"], path)
            parts = [(n, _at(p["mean"], path), _at(p["m2"], path)) for n, p in zip(own, shared, strict=True)]
            mean = start + sum(n * (part - start) for n, part, _ in parts) / total
            # Squares about the new mean, of all that each runner knows, less the base that was counted too often.
            around = sum(m2 + n * np.square(part - mean) for n, part, m2 in parts)
            around = around - extra * (start_m2 + before * np.square(start - mean))
            means.append(mean)
            m2s.append(np.maximum(around, 0.0))
        return {"count": np.float64(total), "mean": self._tree(means), "m2": self._tree(m2s)}

    def _tree(self, leaves: list[np.ndarray]) -> Tree:
        """Arrange one array per path as the observation is."""
        return tree_map(lambda place: leaves[place], self.kept)


def _pruned(places: Tree) -> Tree:
    """Return the places without branches of -1 only; a whole tree of those is `()`."""
    if isinstance(places, dict):
        parts = {key: part for key, tree in places.items() if (part := _pruned(tree)) != ()}
        return parts or ()
    if isinstance(places, tuple):
        members = tuple(map(_pruned, places))
        return members if any(member != () for member in members) else ()
    return () if places < 0 else places


def _at(tree: Tree, path: Path) -> Any:
    """Follow a path to a leaf of a tree or a space."""
    for key in path:
        tree = tree[key]
    return tree


def _check_finite(numbers: np.ndarray, leaf: np.ndarray, path: Path) -> None:
    """Refuse NaN and infinities; `numbers`, float64, are finite where those of `leaf`, `[B, ...]`, are."""
    if math.isfinite(np.vdot(numbers, numbers)):
        return  # else something is not finite, or its square is too large, which is no harm
    finite = np.isfinite(leaf)
    slots = np.flatnonzero(~finite.reshape(len(leaf), -1).all(axis=1))
    if len(slots):
        row = leaf[slots[0]]
        where = "".join(f"[{key!r}]" for key in path)
        raise BadObservationError(
            slots.tolist(),
            f"MeanStdFilter: obs{where} holds {row[~np.isfinite(row)].ravel()[0]}, expected finite numbers. It would "
            "spoil the statistics of all observations. Correct the env, or drop such observations with "
            "env_runners(bad_observations='drop').",
        )
