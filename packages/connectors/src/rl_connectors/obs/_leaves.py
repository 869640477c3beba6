"""Shared by the observation pieces: working leaf by leaf on nested spaces, and adding parts to an observation."""

from __future__ import annotations

import copy
import difflib
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import numpy as np
from gymnasium.spaces import Dict, Tuple

from rl_core import ConnectorState, ObsConnector
from rl_core.env.spaces import Space, describe, leaf_spaces
from rl_core.errors import UnsupportedSpaceError
from rl_core.records import Step
from rl_core.tree import Tree

BatchFn = Callable[[np.ndarray], np.ndarray]
"""From a leaf `[B, ...]` to another."""


@dataclass(frozen=True)
class LeafObs(ObsConnector):
    """Base of pieces that change some leaves of an observation, each by itself, and pass on the others.

    Derive a frozen dataclass, set `takes` and write `convert`.
    """

    rebuildable: ClassVar[bool] = True
    takes: ClassVar[str]
    """Which leaves it changes, for messages."""
    change: Callable[[Tree], Tree] | None = field(default=None, init=False, repr=False, compare=False)
    """What changes the observations of the space it was bound to."""

    @abstractmethod
    def convert(self, leaf: Space) -> tuple[Space, BatchFn] | None:
        """Return the new space of a leaf and what makes its values, or None to pass the leaf on."""

    def bind(self, observation_space: Space, action_space: Space) -> Self:
        """Return a copy that knows what to do with each leaf."""
        bound = copy.copy(self)
        object.__setattr__(bound, "change", self._change(observation_space))
        return bound

    def output_space(self, observation_space: Space, action_space: Space) -> Space:
        """Declare the space with its leaves changed.

        Raises:
            UnsupportedSpaceError: no leaf is of the kind it changes.
        """
        if not any(self.convert(leaf) for _, leaf in leaf_spaces(observation_space)):
            raise UnsupportedSpaceError(
                f"{type(self).__name__} changes {self.takes}, and {describe(observation_space)} has none. Leave it "
                "out, or put it where the observations still have one."
            )
        return map_space(lambda leaf: (self.convert(leaf) or (leaf, None))[0], observation_space)

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Change the observations of all slots."""
        assert self.change is not None, "bound to a space by its chain"
        return state, replace(step, obs=self.change(step.obs))

    def _change(self, space: Space) -> Callable[[Tree], Tree]:
        """Build the function that changes a batch of a space."""
        if isinstance(space, Dict):
            parts = {key: self._change(part) for key, part in space.spaces.items()}
            return lambda obs: {key: part(obs[key]) for key, part in parts.items()}
        if isinstance(space, Tuple):
            members = [self._change(part) for part in space.spaces]
            return lambda obs: tuple([member(part) for member, part in zip(members, obs, strict=True)])
        converted = self.convert(space)
        return converted[1] if converted else lambda leaf: leaf


def map_space(fn: Callable[[Space], Space], space: Space) -> Space:
    """Apply `fn` to the leaves of a space; the keys of a Dict keep their order."""
    if isinstance(space, Dict):
        # gymnasium would sort the keys of a plain dict.
        return Dict(OrderedDict((key, map_space(fn, part)) for key, part in space.spaces.items()))
    if isinstance(space, Tuple):
        return Tuple([map_space(fn, part) for part in space.spaces])
    return fn(space)


def check_keys(keys: Collection[str], space: Space, who: str) -> Dict:
    """Return the space as a Dict that has all the keys.

    Raises:
        UnsupportedSpaceError: it is none, or lacks a key; the message lists its keys and names the nearest.
    """
    if not isinstance(space, Dict):
        raise UnsupportedSpaceError(
            f"{who} takes Dict observations, got {describe(space)}. Leave it out, or put it where they are a Dict."
        )
    for key in keys:
        if key not in space.spaces:
            nearest = difflib.get_close_matches(str(key), map(str, space.spaces), 1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            raise UnsupportedSpaceError(f"{who}: the observation has no part {key!r}, only {list(space.spaces)}.{hint}")
    return space


def with_parts(space: Space, parts: Mapping[str, Space], who: str) -> Dict:
    """Add parts to the space of an observation: beside those of a Dict, any other becomes the part `obs`.

    Raises:
        UnsupportedSpaceError: the Dict has a part of that name already.
    """
    own = space.spaces if isinstance(space, Dict) else {"obs": space}
    if clash := [key for key in parts if key in own]:
        raise UnsupportedSpaceError(
            f"{who} adds the part {clash[0]!r}, which the observation has already: {list(own)}. Rename that part with "
            "RenameKeys before."
        )
    return Dict(OrderedDict({**own, **parts}))


def add_parts(obs: Tree, parts: Mapping[str, np.ndarray]) -> dict[str, Tree]:
    """Add parts to observations, as `with_parts` does to their space."""
    return {**obs, **parts} if isinstance(obs, dict) else {"obs": obs, **parts}
