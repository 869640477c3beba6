"""An env slot that outlives its env: where the env raises, another one is made and takes its place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import gymnasium

from rl_core.errors import EnvError
from rl_core.rng import stream_seed

RESTARTS = "env_restarts"
"""Key of the info that says how many envs a call of `reset` or `step` has made."""
MOST_FAILURES = 5
"""So many failures without a good step between them are taken for a bug, not for an accident."""


class _Env(Protocol):
    """What `Restarts` asks of an env, for one agent or many."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[Any, Any]]:
        """Begin an episode."""

    def close(self) -> None:
        """Release what the env holds."""


E = TypeVar("E", bound=_Env)


class Restarts:
    """Counts the failures of one slot's envs, and makes the next env.

    It gets a seed that follows from the slot's seed and the number of envs before it, so that it does not run into the
    same failure again, and so that a run can be repeated.
    """

    def __init__(self) -> None:
        self._seed: int | None = None
        self._num_made = 0
        self._failures = 0

    def seed(self, seed: int | None) -> None:
        """Note the seed of a reset; None goes on with the one before."""
        if seed is not None:
            self._seed, self._num_made = seed, 0

    def went_well(self) -> None:
        """Note a good step, which ends a row of failures."""
        self._failures = 0

    def next_env(
        self, make_env: Callable[[], E], failed: E, error: Exception, options: dict[str, Any] | None = None
    ) -> tuple[E, Any, dict[Any, Any]]:
        """Make and reset envs until one can be reset.

        Args:
            make_env: Makes one.
            failed: The env before, which is closed.
            error: What it raised.
            options: Of the reset.

        Returns:
            The new env, its first observation, and its info with the key `RESTARTS`.

        Raises:
            EnvError: there were too many failures in a row; the message is that of the last.
        """
        restarts, env = 0, failed
        while True:
            self._failures += 1
            if self._failures == MOST_FAILURES:
                raise EnvError(
                    f"an env slot failed {MOST_FAILURES} times in a row, although its env was made anew each time. The "
                    f"last failure: {type(error).__name__}: {error}"
                ) from error
            restarts, self._num_made = restarts + 1, self._num_made + 1
            with contextlib.suppress(Exception):  # what failed may not close either
                env.close()
            seed = None if self._seed is None else stream_seed(self._seed, "restart", self._num_made)
            try:
                env = make_env()
                obs, info = env.reset(seed=seed, options=options)
            except Exception as next_error:
                error = next_error
            else:
                return env, obs, {**info, RESTARTS: restarts}


class RestartingEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Makes its env anew when `step` or `reset` raises, and goes on with the new one's first observation.

    A step that failed says reward 0 and no end; `info[RESTARTS]` tells it from one that took place.
    """

    def __init__(self, make_env: Callable[[], gymnasium.Env[Any, Any]]) -> None:
        """Make the first env; `make_env` is called again after each failure."""
        super().__init__(make_env())
        self._make_env = make_env
        self._restarts = Restarts()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, in a new env if need be."""
        self._restarts.seed(seed)
        try:
            return self.env.reset(seed=seed, options=options)
        except Exception as error:
            self.env, obs, info = self._restarts.next_env(self._make_env, self.env, error, options)
            return obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act, or begin an episode in a new env."""
        try:
            result = self.env.step(action)
        except Exception as error:
            self.env, obs, info = self._restarts.next_env(self._make_env, self.env, error)
            return obs, 0.0, False, False, info
        self._restarts.went_well()
        return result
