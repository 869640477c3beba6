"""Environments in worker processes that can be asked for their exact state."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from rl_core.env import snapshot
from rl_core.errors import CheckpointError

EnvFn = Callable[[], gymnasium.Env[Any, Any]]


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
