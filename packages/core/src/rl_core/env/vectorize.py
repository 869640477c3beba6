"""Many single environments as one vector env: a loop in this process, or one worker process per env."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import concatenate, iterate

from rl_core.env import snapshot
from rl_core.errors import CheckpointError

Array = np.ndarray[Any, Any]
EnvFn = Callable[[], gymnasium.Env[Any, Any]]


class SlotLoopEnv(SyncVectorEnv):
    """gymnasium's SyncVectorEnv in SAME_STEP mode, with a step that leaves out what that mode does not need.

    A fifth faster than the original on CartPole. It returns the same, but the observation is its own buffer, valid
    until the next call.
    """

    def __init__(self, env_fns: Sequence[EnvFn]) -> None:
        super().__init__(env_fns, copy=False, autoreset_mode=AutoresetMode.SAME_STEP)
        self._is_array = not isinstance(self.single_observation_space, spaces.Dict | spaces.Tuple)

    def step(self, actions: Any) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """Step every slot, and reset those whose episode ended."""
        buffer: Any = self._observations
        observations: Any = buffer if self._is_array else [None] * self.num_envs
        rewards, terminations, truncations = [], [], []
        infos: dict[str, Any] = {}
        for slot, (env, action) in enumerate(zip(self.envs, iterate(self.action_space, actions), strict=True)):
            obs, reward, terminated, truncated, info = env.step(action)
            if terminated or truncated:
                # A copy, since an env that returns its own buffer overwrites it in reset.
                infos = self._add_info(infos, {"final_obs": copy.deepcopy(obs), "final_info": info}, slot)
                obs, info = env.reset()
            if info:
                infos = self._add_info(infos, info, slot)
            observations[slot] = obs
            rewards.append(reward)
            terminations.append(terminated)
            truncations.append(truncated)
        if not self._is_array:
            self._observations = concatenate(self.single_observation_space, observations, buffer)
        return (
            self._observations,
            np.array(rewards, dtype=np.float32),
            np.array(terminations, dtype=np.bool_),
            np.array(truncations, dtype=np.bool_),
            infos,
        )


class WorkerEnv(AsyncVectorEnv):
    """gymnasium's AsyncVectorEnv in SAME_STEP mode whose workers can be asked for the exact state of their env."""

    def __init__(self, env_fns: Sequence[EnvFn], *, shared_memory: bool) -> None:
        super().__init__(
            [_with_snapshot(env_fn, slot) for slot, env_fn in enumerate(env_fns)],
            shared_memory=shared_memory,
            copy=False,
            autoreset_mode=AutoresetMode.SAME_STEP,
        )

    def capture_snapshots(self) -> tuple[dict[str, Any] | None, str]:
        """The state of all slots, or None and the reason."""
        captured = self.call("capture_snapshot")
        for slot, (state, reason) in enumerate(captured):
            if state is None:
                return None, f"slot {slot}: {reason}"
        return {"slots": [state for state, _ in captured]}, ""

    def restore_snapshots(self, state: Any) -> None:
        """Give every slot its captured state.

        Raises:
            CheckpointError: If one does not fit; others may have been restored, so reset before going on.
        """
        states = state.get("slots") if isinstance(state, Mapping) else None
        if not isinstance(states, list) or len(states) != self.num_envs:
            raise CheckpointError(f"The saved env state is not one of {self.num_envs} worker processes.")
        for slot, problem in enumerate(self.call("restore_snapshot", states)):
            if problem:
                raise CheckpointError(f"Env slot {slot}: {problem}")


class _SnapshotSlot(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Sits outermost in a worker and answers `capture_snapshot` and `restore_snapshot`."""

    def __init__(self, env: gymnasium.Env[Any, Any], slot: int) -> None:
        super().__init__(env)
        self._slot = slot

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and copy the last observation of an episode: the worker resets before it sends it."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            obs = copy.deepcopy(obs)
        return obs, reward, terminated, truncated, info

    def capture_snapshot(self) -> tuple[dict[str, Any] | None, str]:
        """Return the state of the env, or None and the reason."""
        return snapshot.capture(self.env)

    def restore_snapshot(self, states: list[Any]) -> str:
        """Restore this slot's part; returns the problem in words, since an exception would end the worker."""
        try:
            snapshot.restore(self.env, states[self._slot])
        except CheckpointError as error:
            return str(error)
        return ""


def _with_snapshot(env_fn: EnvFn, slot: int) -> EnvFn:
    return lambda: _SnapshotSlot(env_fn(), slot)
