"""Choosing and renaming the parts of Dict observations."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

from gymnasium.spaces import Dict

from rl_connectors.obs._checks import is_names
from rl_connectors.obs._leaves import check_keys
from rl_core import ConnectorState, ObsConnector
from rl_core.env.spaces import Space
from rl_core.errors import ConfigError
from rl_core.records import Step


@dataclass(frozen=True)
class SelectKeys(ObsConnector):
    """Some parts of a Dict observation, as a Dict in the order given.

    Example:
        `SelectKeys(("position", "goal"))`
    """

    rebuildable: ClassVar[bool] = True
    keys: tuple[str, ...]
    """Top-level keys to keep, at least one."""

    def __post_init__(self) -> None:
        """Check the keys."""
        if not is_names(self.keys):
            raise ConfigError(f"SelectKeys: keys is {self.keys!r}, expected a tuple of different keys, at least one.")

    def output_space(self, observation_space: Space, action_space: Space) -> Space:
        """Declare the Dict of the parts that are kept.

        Raises:
            UnsupportedSpaceError: the observation is no Dict, or lacks a key.
        """
        parts = check_keys(self.keys, observation_space, "SelectKeys").spaces
        return Dict(OrderedDict((key, parts[key]) for key in self.keys))

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Keep those parts."""
        return state, step.with_obs({key: step.obs[key] for key in self.keys})


@dataclass(frozen=True)
class SelectKey(ObsConnector):
    """One part of a Dict observation, by itself and no longer in a Dict."""

    rebuildable: ClassVar[bool] = True
    key: str
    """Top-level key of the part."""

    def output_space(self, observation_space: Space, action_space: Space) -> Space:
        """Declare the space of that part.

        Raises:
            UnsupportedSpaceError: the observation is no Dict, or lacks the key.
        """
        return check_keys((self.key,), observation_space, "SelectKey").spaces[self.key]

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Take that part."""
        return state, step.with_obs(step.obs[self.key])


@dataclass(frozen=True)
class RenameKeys(ObsConnector):
    """The parts of a Dict observation under other names, in the same order.

    Example:
        `RenameKeys((("observation", "obs"), ("desired_goal", "goal")))`
    """

    rebuildable: ClassVar[bool] = True
    names: tuple[tuple[str, str], ...]
    """Pairs of the old and the new name; other parts keep theirs."""

    def __post_init__(self) -> None:
        """Check the pairs."""
        given: object = self.names
        pairs = isinstance(given, tuple) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in given)
        if not pairs or not is_names(tuple(old for old, _ in self.names)):
            raise ConfigError(
                f"RenameKeys: names is {self.names!r}, expected a tuple of pairs (old, new), at least one, with "
                "different old names."
            )

    def output_space(self, observation_space: Space, action_space: Space) -> Space:
        """Declare the Dict with the new names.

        Raises:
            UnsupportedSpaceError: the observation is no Dict, or lacks an old name.
            ConfigError: two parts would have the same name.
        """
        names = dict(self.names)
        parts = check_keys(names, observation_space, "RenameKeys").spaces
        renamed = [names.get(key, key) for key in parts]
        if twice := [key for key in renamed if renamed.count(key) > 1]:
            raise ConfigError(
                f"RenameKeys: two parts would be called {twice[0]!r}. Choose another name for one of them."
            )
        return Dict(OrderedDict(zip(renamed, parts.values(), strict=True)))

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Rename the parts."""
        names = dict(self.names)
        return state, step.with_obs({names.get(key, key): part for key, part in step.obs.items()})
