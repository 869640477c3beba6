"""The last observations of each slot, stacked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium.vector.utils import batch_space

from rl_connectors._checks import is_whole
from rl_connectors.obs._leaves import bound_copy, map_space, map_with_space
from rl_core import ConnectorState, ObsConnector, Step
from rl_core.env.spaces import Space
from rl_core.errors import ConfigError
from rl_core.records import Tree
from rl_core.tree import tree_map

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class FrameStack(ObsConnector):
    """Stacks the last k observations of an episode along a new first axis `[k, ...]`, the oldest first.

    Rollouts carry single observations; the learner stacks them again. Space and values are those of
    `gymnasium.wrappers.FrameStackObservation`.
    """

    num_frames: int = 4
    """k, at least 2."""
    padding: Literal["reset", "zero"] = "reset"
    """What stands before an episode's first observation: that observation, or zeros."""
    rebuildable: ClassVar[bool] = True
    nothing: Tree = field(default=None, init=False, repr=False, compare=False)
    """What zero padding puts into each part: the least choice of a discrete one, else 0."""

    def __post_init__(self) -> None:
        """Check the settings."""
        if not is_whole(self.num_frames, 2):
            raise ConfigError(f"FrameStack: got num_frames={self.num_frames!r}, expected an int of at least 2.")
        if self.padding not in ("reset", "zero"):
            raise ConfigError(f"FrameStack: got padding={self.padding!r}, expected 'reset' or 'zero'.")

    def bind(self, observation_space: Space, action_space: Space) -> FrameStack:
        """Work out what stands for nothing."""
        return bound_copy(self, nothing=map_with_space(lambda space: getattr(space, "start", 0), observation_space))

    def output_space(self, observation_space: Space, action_space: Space) -> Space:
        """Each part k times."""
        return map_space(lambda leaf: batch_space(leaf, self.num_frames), observation_space)

    def initial_state(self, observation_space: Space, action_space: Space, num_slots: int) -> ConnectorState:
        """Zeros, which nobody sees: an episode begins first."""

        def empty(space: Space) -> Array:
            return np.zeros((num_slots, self.num_frames, *(space.shape or ())), space.dtype)

        return ConnectorState(slots=map_with_space(empty, observation_space))

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Add the newest observations."""
        begins = step.first if step.first.any() else None

        def push(frames: Array, obs: Array, nothing: Any) -> Array:
            stacked = np.empty_like(frames)
            stacked[:, :-1] = frames[:, 1:]
            stacked[:, -1] = obs
            if begins is not None:
                stacked[begins, :-1] = obs[begins, np.newaxis] if self.padding == "reset" else nothing
            return stacked

        slots = tree_map(push, state.slots, tree_map(np.asarray, step.obs), self.nothing)
        return ConnectorState(slots=slots), replace(step, obs=slots)

    def rebuild(self, state: ConnectorState, obs: Tree, first: np.ndarray) -> Tree:
        """Gather the frames of all rows at once."""
        num_rows, num_slots = first.shape
        k = self.num_frames
        # Row t of an episode that began at row s shows rows t - k + 1 to t, none before s. Rows before 0 are the
        # k - 1 older frames of row 0's stack, which `history` holds in front of the others.
        row = np.arange(num_rows)[:, np.newaxis]
        begin = np.where(first, row, -k)
        begin[0] = -k  # row 0's own stack knows how its episode began
        begin = np.maximum.accumulate(begin, axis=0)  # [T + 1, B]
        wanted = row[..., np.newaxis] + np.arange(1 - k, 1)  # [T + 1, 1, k]
        padded = wanted < begin[..., np.newaxis]
        index = np.maximum(wanted, begin[..., np.newaxis]) + k - 1  # [T + 1, B, k]
        slot = np.arange(num_slots)[np.newaxis, :, np.newaxis]

        def stack(frames: Array, rows: Array, nothing: Any) -> Array:
            history = np.concatenate((np.moveaxis(frames[:, :-1], 1, 0), rows))
            stacked: Array = history[index, slot]
            if self.padding == "zero" and padded.any():
                stacked[padded] = nothing
            return stacked

        return tree_map(stack, state.slots, obs, self.nothing)

    def rebuild_final(self, state: ConnectorState, before: Tree, final: Tree) -> Tree:
        """Push the last observation behind the frames before it."""
        return tree_map(
            lambda frames, last: np.concatenate((frames[:, 1:], last[:, np.newaxis]), axis=1), before, final
        )
