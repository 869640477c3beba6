"""The last observations of each slot together, so that a module without memory sees motion."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers.utils import create_zero_array

from rl_connectors.obs._checks import is_whole
from rl_connectors.obs._leaves import bound_copy, map_space
from rl_core import ConnectorState, ObsConnector
from rl_core.env.spaces import Space
from rl_core.errors import ConfigError
from rl_core.records import Step
from rl_core.tree import Tree, tree_map


@dataclass(frozen=True)
class FrameStack(ObsConnector):
    """The last observations of an episode on a new first axis `[num_frames, ...]`, oldest first, leaf by leaf.

    Same values, types and spaces as gymnasium's wrapper FrameStackObservation. The learner stacks the frames itself,
    so that rollouts carry each of them once, if it can run all pieces behind, too: put `PrevActionsPrevRewards` before.
    """

    rebuildable: ClassVar[bool] = True
    num_frames: int = 4
    """k, number of observations, at least 1."""
    padding: Literal["reset", "zero"] = "reset"
    """What stands before an episode's first observation: that observation again, or zeros (where the space does not
    hold zero, the number nearest to it)."""
    blank: Tree = field(default=None, init=False, repr=False, compare=False)
    """`[...]`: the zero observation of the space it was bound to."""

    def __post_init__(self) -> None:
        """Check the settings."""
        if not is_whole(self.num_frames, 1):
            raise ConfigError(f"FrameStack: num_frames is {self.num_frames!r}, expected a whole number of at least 1.")
        if self.padding not in ("reset", "zero"):
            raise ConfigError(f"FrameStack: padding is {self.padding!r}, expected 'reset' or 'zero'.")

    def bind(self, observation_space: Space, action_space: Space) -> FrameStack:
        """Return a copy that knows what zeros look like in that space."""
        return bound_copy(self, blank=tree_map(np.asarray, create_zero_array(observation_space)))

    def output_space(self, observation_space: Space, action_space: Space) -> Space:
        """Declare the space with `num_frames` of each leaf."""
        return map_space(lambda leaf: batch_space(leaf, self.num_frames), observation_space)

    def initial_state(self, observation_space: Space, action_space: Space, num_slots: int) -> ConnectorState:
        """Make a memory of zeros, `[B, k, ...]`."""
        shape = (num_slots, self.num_frames)
        return ConnectorState(slots=tree_map(lambda leaf: np.zeros((*shape, *leaf.shape), leaf.dtype), self.blank))

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Drop the oldest frame and add the newest; start anew where an episode begins."""
        begins = step.first.nonzero()[0]

        def push(frames: np.ndarray, newest: np.ndarray, blank: np.ndarray) -> np.ndarray:
            result = _shift(frames, newest)
            if len(begins):
                result[begins, :-1] = newest[begins, np.newaxis] if self.padding == "reset" else blank
            return result

        frames = tree_map(push, state.slots, step.obs, self.blank)
        return ConnectorState(slots=frames), step.with_obs(frames)

    def rebuild(self, state: ConnectorState, obs: Tree, first: np.ndarray) -> Tree:
        """Gather the frames of a whole rollout: row t holds rows t - k + 1 to t, none before its episode begins.

        Args:
            state: `slots` is `[B, k, ...]`, the frames of row 0.
            obs: `[T + 1, B, ...]`
            first: `[T + 1, B]`

        Returns:
            `[T + 1, B, k, ...]`
        """
        num_rows, num_slots = first.shape
        past = self.num_frames - 1
        row = np.arange(num_rows)[:, np.newaxis]
        # The row in which the episode of each row began; that of row 0 began before all that is known of it.
        start = np.maximum.accumulate(np.where(first & (row > 0), row, -past), axis=0)  # [T + 1, B]
        wanted = row[:, :, np.newaxis] + np.arange(-past, 1)  # [T + 1, 1, k]
        before = wanted < start[:, :, np.newaxis]  # [T + 1, B, k]
        source = np.maximum(wanted, start[:, :, np.newaxis]) + past
        slot = np.arange(num_slots)[:, np.newaxis]

        def gather(frames: np.ndarray, rows: np.ndarray, blank: np.ndarray) -> np.ndarray:
            known = np.concatenate((frames[:, :-1].swapaxes(0, 1), rows))  # [k - 1 + T + 1, B, ...]
            result: np.ndarray = known[source, slot]
            if self.padding == "zero":
                result[before] = blank
            return result

        return tree_map(gather, state.slots, obs, self.blank)

    def rebuild_final(self, state: ConnectorState, before: Tree, final: Tree) -> Tree:
        """Put the true last observations behind the frames before them."""
        return tree_map(_shift, before, final)


def _shift(frames: np.ndarray, newest: np.ndarray) -> np.ndarray:
    """Return `[B, k, ...]` without the oldest frame and with the newest, `[B, ...]`, at the end."""
    result = np.empty_like(frames)
    result[:, :-1] = frames[:, 1:]
    result[:, -1] = newest
    return result
