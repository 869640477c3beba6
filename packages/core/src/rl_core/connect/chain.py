"""Chains of connectors, checked when they are built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rl_core.connect.protocol import ActionConnector, ConnectorState, ObsConnector
from rl_core.connect.table import chain_table
from rl_core.env.check import check_observations
from rl_core.env.spaces import Space, describe
from rl_core.errors import BadObservationError, CheckpointError, ConfigError, EnvError
from rl_core.records import History, Step, Tree
from rl_core.tree import tree_leaves, tree_map

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
        self._observes = [type(piece).observe is not ObsConnector.observe for piece in bound]
        self._remembers = [any(True for _ in tree_leaves(part.slots)) for part in self.initial_state(1)]
        self.output_space = self.spaces[-1]
        """The space of the module's input."""

    def __str__(self) -> str:
        """A table of the pieces, their spaces and their state."""
        return chain_table(self.pieces, self.spaces, self.initial_state(1))

    def initial_state(self, num_slots: int) -> ChainState:
        """Make the state of all pieces before the first step."""
        pairs = zip(self.pieces, self.spaces, strict=False)
        return tuple(piece.initial_state(space, self.action_space, num_slots) for piece, space in pairs)

    def __call__(
        self, state: ChainState, step: Step, *, observe: bool = False, start: int = 0, stop: int | None = None
    ) -> tuple[ChainState, Step]:
        """Pass one step through the pieces from `start` to before `stop`.

        Args:
            state: Of all pieces.
            step: What the piece at `start` gets.
            observe: Take the step into the statistics first, as sampling for training does.
            start: Place of the first piece.
            stop: Place behind the last piece; None is the end.

        Raises:
            BadObservationError: a piece cannot use the observations of some slots.
            EnvError: a piece failed; the message names it.
        """
        after = list(state)
        for place in range(start, len(self.pieces) if stop is None else stop):
            piece, before = self.pieces[place], state[place]
            try:
                if observe and self._observes[place]:
                    before = ConnectorState(piece.observe(before, step), before.slots)
                after[place], step = piece(before, step)
            except BadObservationError:
                raise
            except Exception as error:
                raise EnvError(
                    f"Observation connector {place} ({type(piece).__name__}) failed on observations that should be in "
                    f"{describe(self.spaces[place])}: {type(error).__name__}: {error}{self._difference(place, step)}"
                ) from error
        return tuple(after), step

    def check_output(self, step: Step) -> None:
        """Compare the module's first observations with the space that the last piece declares.

        Raises:
            EnvError: a shape or a kind of number differs.
        """
        if self.pieces:
            self._check(len(self.pieces), step)

    def _check(self, place: int, step: Step) -> None:
        """Compare observations with the space that the piece at `place` should get."""
        before = f"Observation connector {place - 1} ({type(self.pieces[place - 1]).__name__})" if place else "The env"
        check_observations(step.obs, self.spaces[place], len(step.first), before, casting="equal_kind")

    def _difference(self, place: int, step: Step) -> str:
        """Say how the observations of a piece that failed differ from their space, if they do."""
        try:
            self._check(place, step)
        except EnvError as error:
            return f". {error} Correct the env's spaces, or that connector's output_space."
        return ""

    def rebuilt_from(self, *, always: bool) -> int:
        """The place from which on the learner can run the pieces again, so that rollouts carry what goes in there.

        Args:
            always: Also where that makes rollouts no smaller.
        """
        place = len(self.pieces)
        while place and self.pieces[place - 1].rebuildable:
            place -= 1
        if not always:
            while place < len(self.pieces) and not self._remembers[place]:
                place += 1
        return place

    def history(self, state: ChainState, start: int, first: np.ndarray) -> History:
        """Describe to the learner how the pieces from `start` on came to the observation of row 0."""
        return History(slots=tuple(part.slots for part in state[start:]), first=first)

    def rebuild(self, start: int, history: History, obs: Tree, final: tuple[Tree, np.ndarray]) -> tuple[Tree, Tree]:
        """Run the pieces from `start` on for a whole rollout.

        Args:
            start: Place of the first piece.
            history: Of the rollout.
            obs: `[T + 1, B, ...]`, tensors: what that piece got.
            final: `[K, ...]`, tensors or None: the true last observations; and their positions `t * B + b`, `[K]`.

        Returns:
            Module inputs for `obs` and for the final observations.
        """
        rows, (last, index) = tree_map(lambda leaf: leaf.numpy(), obs), final
        last = None if last is None else tree_map(lambda leaf: leaf.numpy(), last)
        for piece, slots in zip(self.pieces[start:], history.slots, strict=True):
            state = ConnectorState((), slots)
            rows = piece.rebuild(state, rows, history.first)
            if last is not None:
                before = tree_map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[index], rows)
                last = piece.rebuild_final(state, before, last)
        given = tree_map(as_tensor, rows)
        return given, None if last is None else tree_map(as_tensor, last)

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

    def check_shared(self, shared: Sequence[Tree]) -> None:
        """Compare restored statistics with what the pieces keep.

        Raises:
            CheckpointError: they are of another chain; the message names the piece that differs.
        """
        own = self.shared(self.initial_state(1))
        if len(shared) != len(own):
            raise CheckpointError(
                f"The checkpoint has the statistics of {len(shared)} observation connectors, this run has {len(own)}: "
                f"{', '.join(type(piece).__name__ for piece in self.pieces) or 'none'}. Use the same ones."
            )
        for place, (piece, expected, given) in enumerate(zip(self.pieces, own, shared, strict=True)):
            shapes = [tree_map(np.shape, part) for part in (expected, given)]
            if shapes[0] != shapes[1]:
                raise CheckpointError(
                    f"The saved statistics of observation connector {place} ({type(piece).__name__}) have shapes "
                    f"{shapes[1]}, expected {shapes[0]}. Build this run with the connectors it was saved with."
                )

    def merge(self, shared: Sequence[Sequence[Tree]], base: Sequence[Tree]) -> tuple[Tree, ...]:
        """Combine the statistics of several runners.

        Args:
            shared: For each runner what `shared` gave.
            base: What all of them had started from.
        """
        by_piece = zip(self.pieces, zip(*shared, strict=True), base, strict=True)
        return tuple(piece.merge(parts, before) for piece, parts, before in by_piece)


class ActionChain:
    """Action connectors one after the other, from the module's action space to the env's."""

    def __init__(self, pieces: Sequence[ActionConnector], action_space: Space) -> None:
        """Work out the module's action space, from the env backwards.

        Raises:
            ConfigError: a piece is no action connector, or refuses the space behind it.
        """
        self.env_space = self.module_space = action_space
        bound: list[ActionConnector] = []
        spaces: list[Space] = []
        for place, piece in reversed(list(enumerate(pieces))):
            if not isinstance(piece, ActionConnector):
                raise ConfigError(f"Action connector {place}: got {piece!r}, expected an ActionConnector instance.")
            try:
                spaces.append(self.module_space)
                bound.append(piece.bind(self.module_space))
                self.module_space = bound[-1].module_space(self.module_space)
            except Exception as error:
                raise ConfigError(
                    f"Action connector {place} ({type(piece).__name__}) cannot feed {self.module_space}: {error}"
                ) from error
        self.pieces = tuple(reversed(bound))
        self._spaces = tuple(reversed(spaces))
        """What each piece feeds."""

    def __str__(self) -> str:
        """A table of the pieces, their spaces and their state."""
        states = [ConnectorState((), part) for part in self.initial_state(1, seed=0)]
        return chain_table(self.pieces, [self.module_space, *self._spaces], states)

    def initial_state(self, num_slots: int, *, seed: int) -> tuple[Tree, ...]:
        """Make the memory of all pieces; each draws its random numbers from a stream of its own."""
        pieces = enumerate(zip(self.pieces, self._spaces, strict=True))
        return tuple(piece.initial_state(space, num_slots, seed + place) for place, (piece, space) in pieces)

    def __call__(self, state: tuple[Tree, ...], action: Tree, first: np.ndarray) -> tuple[tuple[Tree, ...], Any]:
        """Pass the actions of all slots through all pieces; see `ActionConnector.__call__`."""
        after = []
        for piece, before in zip(self.pieces, state, strict=True):
            memory, action = piece(before, action, first)
            after.append(memory)
        return tuple(after), action


def as_tensor(leaf: np.ndarray) -> torch.Tensor:
    """Convert to the precision that rollouts have."""
    return torch.from_numpy(leaf.astype(np.float32, copy=False) if leaf.dtype.kind == "f" else leaf)
