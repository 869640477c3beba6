"""Chains of connectors, checked when they are built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rl_core.connect.protocol import ActionConnector, ConnectorState, ObsConnector
from rl_core.env.spaces import Space
from rl_core.errors import ConfigError
from rl_core.records import Step, Tree

ChainState = tuple[ConnectorState, ...]
"""One state per piece, in order."""


class ObsChain:
    """Observation connectors one after the other, from the env's observation space to the module's."""

    def __init__(self, pieces: Sequence[ObsConnector], observation_space: Space, action_space: Space) -> None:
        """Check that each piece takes what the one before gives.

        Raises:
            ConfigError: a piece is no connector, or refuses the space it would get; the message names its place.
        """
        self.action_space = action_space
        self.spaces: list[Space] = [observation_space]
        bound: list[ObsConnector] = []
        for place, piece in enumerate(pieces):
            if not isinstance(piece, ObsConnector):
                raise ConfigError(f"Observation connector {place}: got {piece!r}, expected an ObsConnector instance.")
            try:
                bound.append(piece.bind(self.spaces[-1], action_space))
                self.spaces.append(bound[-1].output_space(self.spaces[-1], action_space))
            except Exception as error:
                raise ConfigError(
                    f"Observation connector {place} ({type(piece).__name__}) cannot take {self.spaces[-1]}: {error}"
                ) from error
        self.pieces = tuple(bound)
        self.output_space = self.spaces[-1]
        """The space of the module's input."""

    def initial_state(self, num_slots: int) -> ChainState:
        """Make the state of all pieces before the first step."""
        pairs = zip(self.pieces, self.spaces, strict=False)
        return tuple(piece.initial_state(space, self.action_space, num_slots) for piece, space in pairs)

    def __call__(self, state: ChainState, step: Step) -> tuple[ChainState, Step]:
        """Pass one step through all pieces."""
        after = []
        for piece, before in zip(self.pieces, state, strict=True):
            piece_state, step = piece(before, step)
            after.append(piece_state)
        return tuple(after), step

    def shared(self, state: ChainState) -> tuple[Tree, ...]:
        """Take the statistics out of a state, one entry per piece."""
        return tuple(piece_state.shared for piece_state in state)

    def with_shared(self, state: ChainState, shared: Sequence[Tree]) -> ChainState:
        """Put statistics into a state and keep the memory of the slots.

        Raises:
            ConfigError: `shared` belongs to a chain of another length.
        """
        if len(shared) != len(self.pieces):
            raise ConfigError(f"Connector state of {len(shared)} pieces does not fit a chain of {len(self.pieces)}.")
        return tuple(ConnectorState(part, own.slots) for part, own in zip(shared, state, strict=True))


class ActionChain:
    """Action connectors one after the other, from the module's action space to the env's."""

    def __init__(self, pieces: Sequence[ActionConnector], action_space: Space) -> None:
        """Work out the module's action space, from the env backwards.

        Raises:
            ConfigError: a piece is no action connector, or refuses the space behind it.
        """
        self.env_space = self.module_space = action_space
        bound: list[ActionConnector] = []
        for place, piece in reversed(list(enumerate(pieces))):
            if not isinstance(piece, ActionConnector):
                raise ConfigError(f"Action connector {place}: got {piece!r}, expected an ActionConnector instance.")
            try:
                bound.append(piece.bind(self.module_space))
                self.module_space = bound[-1].module_space(self.module_space)
            except Exception as error:
                raise ConfigError(
                    f"Action connector {place} ({type(piece).__name__}) cannot feed {self.module_space}: {error}"
                ) from error
        self.pieces = tuple(reversed(bound))

    def __call__(self, action: Tree) -> Any:
        """Pass the actions of all slots through all pieces."""
        for piece in self.pieces:
            action = piece(action)
        return action
