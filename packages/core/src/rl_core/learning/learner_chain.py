"""What a learner does to a rollout first: learner connectors, then the connectors that were left to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rl_core.connect.chain import ObsChain
from rl_core.connect.protocol import ConnectorState
from rl_core.connect.table import chain_table
from rl_core.env.spaces import Space, describe
from rl_core.errors import CheckpointError, ConfigError
from rl_core.learning.learner_connector import LearnerConnector, Trained
from rl_core.records import Rollout, Tree


class LearnerChain:
    """Learner connectors one after the other, with their states; then module inputs where the rollout has none yet."""

    def __init__(self, pieces: Sequence[LearnerConnector], obs_chain: ObsChain, action_space: Space, seed: int) -> None:
        """Bind the pieces to the spaces of the rollouts.

        Args:
            pieces: In order.
            obs_chain: Of the policy that samples.
            action_space: The module's.
            seed: Each piece draws from a stream of its own.

        Raises:
            ConfigError: a piece is no learner connector, or refuses the spaces; the message names its place.
        """
        self._obs_chain = obs_chain
        self._start = obs_chain.rebuilt_from(always=bool(pieces))
        space = obs_chain.spaces[self._start]
        bound: list[LearnerConnector] = []
        for place, piece in enumerate(pieces):
            if not isinstance(piece, LearnerConnector):
                raise ConfigError(f"Learner connector {place}: got {piece!r}, expected a LearnerConnector instance.")
            try:
                bound.append(piece.bind(space, action_space))
            except Exception as error:
                raise ConfigError(
                    f"Learner connector {place} ({type(piece).__name__}) cannot take observations of {describe(space)} "
                    f"and actions of {describe(action_space)}: {error}"
                ) from error
        self.pieces = tuple(bound)
        self.states: list[Tree] = [piece.initial_state(seed + place) for place, piece in enumerate(bound)]

    def __str__(self) -> str:
        """A table of the pieces, the space of the observations they get and give, and their state."""
        states = [ConnectorState(shared=_shown(state)) for state in self.states]
        return chain_table(self.pieces, [self._obs_chain.spaces[self._start]] * (len(states) + 1), states)

    def __call__(self, rollout: Rollout) -> tuple[Rollout, dict[str, float]]:
        """Transform a rollout; figures are named `<piece>/<figure>`, with its place where its class comes twice."""
        metrics: dict[str, float] = {}
        names = [type(piece).__name__ for piece in self.pieces]
        for place, piece in enumerate(self.pieces):
            self.states[place], rollout, report = piece(self.states[place], rollout)
            name = names[place] if names.count(names[place]) == 1 else f"{names[place]}_{place}"
            metrics |= {f"{name}/{key}": value for key, value in report.items()}
        if rollout.history is not None:
            final = (rollout.final_obs, rollout.final_index.numpy())
            obs, final_obs = self._obs_chain.rebuild(self._start, rollout.history, rollout.obs, final)
            rollout = replace(rollout, obs=obs, final_obs=final_obs, history=None)
        return rollout, metrics

    def require_on_policy(self) -> None:
        """Refuse pieces whose rollouts only a replay buffer can take.

        Raises:
            ConfigError: there is one.
        """
        for place, piece in enumerate(self.pieces):
            if piece.off_policy_only:
                raise ConfigError(
                    f"Learner connector {place} ({type(piece).__name__}) is for off-policy algorithms only: this one "
                    "learns from the recorded action distributions, which belong to the rollout as it was sampled. "
                    "Train with DQN, SAC, TD3 or TQC, or leave the connector out."
                )

    def get_state(self) -> list[dict[str, Any]]:
        """Return the state of each piece with its name."""
        return [
            {"piece": type(piece).__name__, "state": _saved(state)}
            for piece, state in zip(self.pieces, self.states, strict=True)
        ]

    def set_state(self, saved: Sequence[Mapping[str, Any]]) -> None:
        """Take back what `get_state` gave.

        Raises:
            CheckpointError: it is of other learner connectors; the message says which differ.
        """
        own, given = [type(piece).__name__ for piece in self.pieces], [part["piece"] for part in saved]
        if own != given:
            raise CheckpointError(
                f"The checkpoint has the learner connectors {given}, this run has {own}. Use the same ones."
            )
        for place, part in enumerate(saved):
            try:
                self.states[place] = _restored(self.states[place], part["state"])
            except (KeyError, TypeError, ValueError, RuntimeError, CheckpointError) as error:
                raise CheckpointError(
                    f"The saved state of learner connector {place} ({own[place]}) does not fit: {error}"
                ) from error


def restore_connectors(connectors: LearnerChain | None, saved: Sequence[Mapping[str, Any]]) -> None:
    """Give a learner's connectors, if it has any, what was saved of them.

    Raises:
        CheckpointError: it is of others.
    """
    if connectors is not None:
        connectors.set_state(saved)
    elif saved:
        raise CheckpointError(
            f"The checkpoint has the learner connectors {[part['piece'] for part in saved]}, this run has none. Set "
            "learners(learner_connector=...)."
        )


def _saved(state: Tree) -> Tree:
    """Replace trained networks by their state."""
    if isinstance(state, Trained):
        return state.get_state()
    if isinstance(state, dict):
        return {key: _saved(value) for key, value in state.items()}
    return tuple(map(_saved, state)) if isinstance(state, tuple) else state


def _shown(state: Tree) -> Tree:
    """Replace trained networks by their tensors."""
    if isinstance(state, Trained):
        return dict(state.module.state_dict())
    return {key: _shown(value) for key, value in state.items()} if isinstance(state, dict) else state


def _restored(own: Tree, saved: Tree) -> Tree:
    """Put saved values where the own state has them; networks take theirs in place."""
    if isinstance(own, Trained):
        own.set_state(saved)
        return own
    if isinstance(own, dict):
        if own.keys() != saved.keys():
            raise ValueError(f"it has {list(saved)}, expected {list(own)}")
        return {key: _restored(value, saved[key]) for key, value in own.items()}
    if isinstance(own, tuple):
        return tuple(_restored(*pair) for pair in zip(own, saved, strict=True))
    if hasattr(own, "shape") and tuple(own.shape) != tuple(saved.shape):
        raise ValueError(f"an array has shape {tuple(saved.shape)}, expected {tuple(own.shape)}")
    return saved
