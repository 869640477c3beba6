"""Connectors as a user would write them: statistics of all data, frames of each slot, actions that last."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from gymnasium.spaces import Box

from rl_core import ActionConnector, ConnectorState, ObsConnector
from rl_core.errors import BadObservationError, UnsupportedSpaceError


@dataclass(frozen=True)
class RunningMean(ObsConnector):
    """Observations less their mean so far, which real steps of all slots go into."""

    bound: float = 1e6

    def output_space(self, observation_space, action_space):
        if not isinstance(observation_space, Box):
            raise UnsupportedSpaceError(f"RunningMean takes boxes, got {observation_space}.")
        return Box(-self.bound, self.bound, observation_space.shape, np.float32)

    def initial_state(self, observation_space, action_space, num_slots):
        return ConnectorState(shared={"count": np.zeros(()), "mean": np.zeros(observation_space.shape)})

    def observe(self, state, step):
        count, mean = state.shared["count"], state.shared["mean"]
        mean = (mean * count + step.obs.sum(0, dtype=np.float64)) / (count + len(step.obs))
        return {"count": count + len(step.obs), "mean": mean}

    def __call__(self, state, step):
        return state, replace(step, obs=(step.obs - state.shared["mean"]).astype(np.float32))

    def merge(self, shared, base):
        count = base["count"] + sum(part["count"] - base["count"] for part in shared)
        total = base["mean"] * base["count"]
        total = total + sum(part["mean"] * part["count"] - base["mean"] * base["count"] for part in shared)
        return {"count": count, "mean": total / np.maximum(count, 1)}


@dataclass(frozen=True)
class FrameStack(ObsConnector):
    """The last observations of each slot, oldest first, filled with the first one of an episode."""

    num_frames: int = 3

    def output_space(self, observation_space, action_space):
        if not (isinstance(observation_space, Box) and len(observation_space.shape) == 1):
            raise UnsupportedSpaceError(f"FrameStack takes vectors, got {observation_space}.")
        low, high = (np.tile(bound, self.num_frames) for bound in (observation_space.low, observation_space.high))
        return Box(low, high, dtype=np.float32)

    def initial_state(self, observation_space, action_space, num_slots):
        return ConnectorState(slots=np.zeros((num_slots, self.num_frames, *observation_space.shape), np.float32))

    def __call__(self, state, step):
        obs = np.asarray(step.obs, np.float32)[:, np.newaxis]
        frames = np.concatenate((state.slots[:, 1:], obs), axis=1)
        frames = np.where(step.first[:, np.newaxis, np.newaxis], obs, frames)
        return ConnectorState(slots=frames), replace(step, obs=frames.reshape(len(frames), -1))


@dataclass(frozen=True)
class RebuiltFrameStack(FrameStack):
    """The same frames, which the learner can work out again; slow and literal."""

    rebuildable = True

    def rebuild(self, state, obs, first):
        rows, frames = [state.slots.reshape(len(state.slots), -1)], state.slots
        for row, begins in zip(obs[1:], first[1:], strict=True):
            frames = np.concatenate((frames[:, 1:], row[:, np.newaxis]), axis=1)
            frames = np.where(begins[:, np.newaxis, np.newaxis], row[:, np.newaxis], frames)
            rows.append(frames.reshape(len(frames), -1))
        return np.stack(rows)

    def rebuild_final(self, state, before, final):
        return np.concatenate((before[:, final.shape[1] :], final), axis=1)


@dataclass(frozen=True)
class RefuseAbove(ObsConnector):
    """Observations as they are, unless their first number is larger than a limit."""

    limit: float = 2.0

    def output_space(self, observation_space, action_space):
        return observation_space

    def __call__(self, state, step):
        bad = np.flatnonzero(step.obs[:, 0] > self.limit)
        if len(bad):
            raise BadObservationError(bad.tolist(), f"{step.obs[bad[0], 0]} is above {self.limit}")
        return state, step


@dataclass(frozen=True)
class RepeatAction(ActionConnector):
    """Each slot's action counts for two steps of an episode."""

    def module_space(self, action_space):
        return action_space

    def initial_state(self, action_space, num_slots, seed):
        return {"last": torch.zeros(num_slots, dtype=torch.int64), "repeats": torch.zeros(num_slots, dtype=torch.bool)}

    def __call__(self, state, action, first):
        repeats = state["repeats"] & ~torch.from_numpy(first)
        action = torch.where(repeats, state["last"], action)
        return {"last": action, "repeats": ~repeats}, action


@dataclass(frozen=True)
class NegateReward(ObsConnector):
    """Rewards with the other sign."""

    def output_space(self, observation_space, action_space):
        return observation_space

    def __call__(self, state, step):
        return state, replace(step, reward=-step.reward)


@dataclass(frozen=True)
class SwapActions(ActionConnector):
    """The opposite of a Discrete action."""

    num_actions: int = 2

    def module_space(self, action_space):
        return action_space

    def __call__(self, state, action, first):
        return state, self.num_actions - 1 - action
