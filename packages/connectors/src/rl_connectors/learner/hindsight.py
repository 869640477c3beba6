"""Hindsight: episodes that missed their goal, taken as if what they reached had been the goal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Dict

from rl_connectors.learner._settings import require_count
from rl_connectors.learner._slots import require_no_memory, side_by_side
from rl_connectors.learner._transitions import next_observations, take_steps
from rl_core import LearnerConnector, Rollout
from rl_core.env.spaces import Space, describe, same_space
from rl_core.errors import ConfigError, UnsupportedSpaceError
from rl_core.records import Tree
from rl_core.rng import stream_seed
from rl_core.tree import tree_map

Array = np.ndarray[Any, Any]
GoalFn = Callable[[Array, Array], Array]
"""From achieved and desired goals `[N, ...]`, numpy arrays, to one value each, `[N]`."""


@dataclass(frozen=True)
class HindsightRelabel(LearnerConnector):
    """Appends copies of a rollout with other goals, as further slots: `[T, B]` becomes `[T, B * (1 + num_copies)]`.

    Observations are a Dict with the keys `achieved_goal` and `desired_goal`, of one space, as in gymnasium's goal envs.
    In each copy every segment of an episode (its steps within the rollout) gets one goal: what was achieved by a step
    of the segment, drawn uniformly ("future"), or by its last ("final"). The copy of the segment ends with that step,
    as truncated unless it terminated; steps after it are not valid. The rollout's own slots stay as they are, and
    `env_steps` goes on counting only these.

    For off-policy algorithms only: the recorded action distributions are those for the old goals.

    Source: Andrychowicz et al. 2017, section 4.5; there each transition draws its goals, here each segment does.
    """

    off_policy_only: ClassVar[bool] = True

    reward_fn: GoalFn
    """Rewards of transitions by what their next observation achieved and the goal, in the learner's units: what reward
    connectors would do to them is up to it."""
    num_copies: int = 4
    """Relabelled copies of each segment; 1 for "final". Source: as above, figure 6 (k = 4)."""
    terminated_fn: GoalFn | None = None
    """Whether transitions terminate, by the same; None keeps what the env said."""
    strategy: Literal["future", "final"] = "future"
    """Which step of a segment gives its goal."""

    def __post_init__(self) -> None:
        """Check the settings."""
        require_count(self, "num_copies")
        if self.strategy not in ("future", "final"):
            raise ConfigError(f"HindsightRelabel: strategy: got {self.strategy!r}, expected 'future' or 'final'.")
        if self.strategy == "final" and self.num_copies != 1:
            raise ConfigError(
                f"HindsightRelabel: num_copies: got {self.num_copies}, expected 1 with strategy='final', which has "
                "one goal for each segment: all copies would be the same."
            )
        for name in ("reward_fn", "terminated_fn"):
            value = getattr(self, name)
            if not (callable(value) or (value is None and name == "terminated_fn")):
                raise ConfigError(
                    f"HindsightRelabel: {name}: got {value!r}, expected a function of achieved and desired goals."
                )

    def bind(self, observation_space: Space, action_space: Space) -> HindsightRelabel:
        """Check that observations have goals."""
        parts = observation_space.spaces if isinstance(observation_space, Dict) else {}
        achieved, desired = parts.get("achieved_goal"), parts.get("desired_goal")
        if achieved is None or desired is None:
            raise UnsupportedSpaceError(
                f"HindsightRelabel takes Dict observations with the keys 'achieved_goal' and 'desired_goal', got "
                f"{describe(observation_space)}. Use an env with goals (such as gymnasium_robotics.GoalEnv), and no "
                "connector that removes them."
            )
        if (achieved.shape, achieved.dtype) != (desired.shape, desired.dtype) or achieved.shape is None:
            raise UnsupportedSpaceError(
                "HindsightRelabel puts achieved goals in the place of desired ones, so their spaces must be alike: "
                f"{same_space(achieved, desired) or describe(achieved)}."
            )
        return self

    def initial_state(self, seed: int) -> Tree:
        """Remember the seed of the goals."""
        return {"seed": seed, "num_rollouts": 0}

    def __call__(self, state: Tree, rollout: Rollout) -> tuple[Tree, Rollout, Mapping[str, float]]:
        """Append the copies."""
        require_no_memory(rollout, "HindsightRelabel")
        rng = np.random.default_rng(stream_seed(state["seed"], "goals", state["num_rollouts"]))
        segments = find_segments(rollout)
        next_obs = next_observations(rollout)
        copies = []
        for _ in range(self.num_copies):
            goal_step = segments.last
            if self.strategy == "future":
                goal_step = rng.integers(segments.start, segments.last + 1)
            copies.append(self._relabelled(rollout, next_obs, segments, goal_step))
        kept = [float(copy.valid.float().mean()) for copy in copies if copy.valid is not None]
        report = {"relabelled_share": sum(kept) / len(kept)}
        return {**state, "num_rollouts": state["num_rollouts"] + 1}, side_by_side([rollout, *copies]), report

    def _relabelled(self, rollout: Rollout, next_obs: Tree, segments: Segments, goal_step: Array) -> Rollout:
        """Make one copy.

        Args:
            rollout: The original.
            next_obs: Its true next observations `[T, B, ...]`.
            segments: Its segments.
            goal_step: `[S]`, at which step of each the goal was achieved.
        """
        num_steps, num_slots = rollout.reward.shape
        achieved, segment = next_obs["achieved_goal"], segments.of_step  # [T, B, ...], [T, B]
        time = np.arange(num_steps)[:, np.newaxis]
        goal = achieved[goal_step, segments.slot]  # [S, ...]

        live = segments.valid & (time <= goal_step[segment])
        terminated = self._terminations(rollout, achieved, goal[segment], live)
        end = goal_step.copy()
        np.minimum.at(end, segment[terminated], np.nonzero(terminated)[0])
        live &= time <= end[segment]
        terminated &= live
        truncated = live & (time == end[segment]) & ~terminated
        reward = np.zeros((num_steps, num_slots), np.float32)
        reward[live] = self._call("reward_fn", self.reward_fn, achieved[live], goal[segment][live])

        # Rows show their segment's goal. The row after a segment belongs to the next one, unless the rollout ends there
        # before the segment does: so what follows the segment's last step is put aside as a final observation.
        desired = rollout.obs["desired_goal"].numpy().copy()
        desired[:-1][segments.valid] = goal[segment][segments.valid]
        goes_on = ~segments.ends[-1]
        desired[-1, goes_on] = goal[segment[-1]][goes_on]
        final = np.flatnonzero(live & segments.ends)
        final_obs = {**take_steps(next_obs, final), "desired_goal": take_steps(goal[segment], final)}
        return replace(
            rollout,
            obs={**rollout.obs, "desired_goal": torch.from_numpy(desired)},
            reward=torch.from_numpy(reward),
            terminated=torch.from_numpy(terminated),
            truncated=torch.from_numpy(truncated),
            valid=torch.from_numpy(live),
            final_index=torch.from_numpy(final),
            final_obs=tree_map(torch.from_numpy, final_obs) if len(final) else None,
        )

    def _terminations(self, rollout: Rollout, achieved: Array, goal: Array, live: Array) -> Array:
        """Say which live steps terminate, `[T, B]`."""
        if self.terminated_fn is None:
            return rollout.terminated.numpy() & live
        terminated = np.zeros(live.shape, bool)
        terminated[live] = self._call("terminated_fn", self.terminated_fn, achieved[live], goal[live])
        return terminated

    def _call(self, name: str, function: GoalFn, achieved: Array, goal: Array) -> Array:
        """Call a function of the user on `[N, ...]` both and check that it gives `[N]`."""
        result = np.asarray(function(achieved, goal))
        if result.shape != (len(achieved),):
            raise ConfigError(
                f"HindsightRelabel: {name} gave an array of shape {result.shape} for achieved goals of shape "
                f"{achieved.shape} and desired ones of {goal.shape}, expected {(len(achieved),)}: one value for each "
                "transition. Reduce over the last axis, not over all."
            )
        return result


class Segments(NamedTuple):
    """The S runs of successive real steps of one episode and slot in a rollout; a step that is not real is its own."""

    of_step: Array
    """`[T, B]` int64: which segment each step belongs to."""
    slot: Array
    """`[S]`"""
    start: Array
    """`[S]`: first step."""
    last: Array
    """`[S]`: last step."""
    ends: Array
    """`[T, B]`: the segment ends with the step, for another reason than that the rollout does."""
    valid: Array
    """`[T, B]`: the step is real."""


def find_segments(rollout: Rollout) -> Segments:
    """Cut a rollout where episodes end, around steps that are not real, and where `obs` does not go on."""
    num_steps, num_slots = rollout.reward.shape
    shape = (num_steps, num_slots)
    valid = np.ones(shape, bool) if rollout.valid is None else rollout.valid.numpy()
    ends = rollout.terminated.numpy() | rollout.truncated.numpy() | ~valid
    ends.reshape(-1)[rollout.final_index.numpy()] = True
    ends[:-1] |= ~valid[1:]
    starts = np.ones(shape, bool)
    starts[1:] = ends[:-1]
    slot, start = np.nonzero(starts.T)  # slot by slot, in order of time
    of_step = (np.cumsum(starts.T) - 1).reshape(num_slots, num_steps).T
    last = start + np.bincount(of_step.ravel()) - 1
    return Segments(of_step, slot, start, last, ends, valid)
