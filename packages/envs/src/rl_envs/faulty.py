"""Any env with faults put in, to try out what a run makes of them."""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import numpy as np

from rl_envs._checks import finite_number, share, whole_number

Info = dict[str, Any]


class InjectedCrashError(RuntimeError):
    """What a `Faulty` env raises."""


class Faulty(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An env that crashes and stalls, by chance or at a given step; without faults it is the env it is made of.

    A crash raises `InjectedCrashError` before the env inside is asked; a stall sleeps and goes on. Steps are counted
    from the last `reset` with a seed, or from when the env was made; whether a fault strikes follows from `seed` and
    the seed of that reset, so that the slots of a vector env fail at different times, and a run can be repeated.

    Args:
        env: An id, also `"package:Env-v0"`, or an env.
        env_config: What `gymnasium.make` takes with the id.
        p_crash: Probability that a step crashes.
        p_crash_reset: Probability that a reset crashes.
        p_stall: Probability that a step stalls.
        stall_seconds: How long a stall takes.
        crash_after_n_steps: So many steps are fine, and each one after them crashes.
        stall_after_n_steps: So many steps are fine, and the next one stalls.
        seed: Of the faults.
        render_mode: Of the env.
    """

    def __init__(
        self,
        env: str | gymnasium.Env[Any, Any] = "CartPole-v1",
        *,
        env_config: dict[str, Any] | None = None,
        p_crash: float = 0.0,
        p_crash_reset: float = 0.0,
        p_stall: float = 0.0,
        stall_seconds: float = 1.0,
        crash_after_n_steps: int | None = None,
        stall_after_n_steps: int | None = None,
        seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        """Check the settings and make the env.

        Raises:
            ValueError: a probability is not in [0, 1], or a number of steps or seconds is negative.
        """
        self.p_crash = share("Faulty: p_crash", p_crash)
        self.p_crash_reset = share("Faulty: p_crash_reset", p_crash_reset)
        self.p_stall = share("Faulty: p_stall", p_stall)
        self.stall_seconds = finite_number("Faulty: stall_seconds", stall_seconds)
        if self.stall_seconds < 0:
            raise ValueError(f"Faulty: stall_seconds is {stall_seconds!r}, expected at least 0.")
        self.crash_after_n_steps = _steps("crash_after_n_steps", crash_after_n_steps)
        self.stall_after_n_steps = _steps("stall_after_n_steps", stall_after_n_steps)
        self.seed = whole_number("Faulty: seed", seed, at_least=0)
        self.num_steps = 0
        if isinstance(env, str):
            env = gymnasium.make(env, render_mode=render_mode, disable_env_checker=True, **(env_config or {}))
        super().__init__(env)
        self._chance = np.random.default_rng(self.seed)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Begin an episode, or crash."""
        if seed is not None:
            self.num_steps = 0
            self._chance = np.random.default_rng([self.seed, seed])
        if self._strikes(self.p_crash_reset):
            raise InjectedCrashError("injected crash in reset")
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, Info]:
        """Act, crash, or sleep and act."""
        self.num_steps += 1
        if self.crash_after_n_steps is not None and self.num_steps > self.crash_after_n_steps:
            raise InjectedCrashError(f"injected crash after {self.crash_after_n_steps} steps")
        if self._strikes(self.p_crash):
            raise InjectedCrashError(f"injected crash in step {self.num_steps}")
        if self.num_steps - 1 == self.stall_after_n_steps or self._strikes(self.p_stall):
            time.sleep(self.stall_seconds)
        return self.env.step(action)

    def _strikes(self, probability: float) -> bool:
        """Draw; faults that cannot strike cost no random number."""
        return probability > 0 and bool(self._chance.random() < probability)


def _steps(name: str, value: int | None) -> int | None:
    """Check a number of steps, None for never."""
    return None if value is None else whole_number(f"Faulty: {name}", value, at_least=0)
