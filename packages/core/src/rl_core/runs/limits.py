"""When a run ends: the return to reach, and the limits on steps, iterations and time."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["running", "reached", "limit", "finished", "interrupted", "failed"]
StoppedBy = Literal["reward", "timesteps", "iterations", "time", "signal"]

DEFAULT_TIMESTEPS = 100_000
DEFAULT_TIMESTEPS_WITH_REWARD = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What ends a run; None where nothing was asked for."""

    reward: float | None = None
    """Mean return of the separate evaluation to reach."""
    timesteps: int | None = None
    """Env steps."""
    iterations: int | None = None
    """Training iterations."""
    time_s: float | None = None
    """Seconds of the run, over all its sessions."""

    def bounded(self) -> Limits:
        """Return these limits, or with a default budget of env steps if nothing bounds the run."""
        if self.timesteps is not None or self.iterations is not None or self.time_s is not None:
            return self
        budget = DEFAULT_TIMESTEPS if self.reward is None else DEFAULT_TIMESTEPS_WITH_REWARD
        return Limits(reward=self.reward, timesteps=budget)

    def updated(self, new: Limits) -> Limits:
        """Return these limits with those of `new` that are given."""
        return Limits(**{**asdict(self), **{name: value for name, value in asdict(new).items() if value is not None}})

    def fractions(self, *, env_steps: int, iteration: int, seconds: float) -> dict[StoppedBy, float]:
        """Say how much of each limit is used up, 1 at the limit."""
        pairs: tuple[tuple[StoppedBy, float, float | None], ...] = (
            ("timesteps", env_steps, self.timesteps),
            ("iterations", iteration, self.iterations),
            ("time", seconds, self.time_s),
        )
        return {name: used / limit for name, used, limit in pairs if limit is not None}

    def exceeded(self, *, env_steps: int, iteration: int, seconds: float) -> StoppedBy | None:
        """Name the first limit that is used up, None if there is none."""
        fractions = self.fractions(env_steps=env_steps, iteration=iteration, seconds=seconds)
        return next((name for name, fraction in fractions.items() if fraction >= 1.0), None)

    def reached(self, return_mean: float) -> bool:
        """Whether an evaluation's mean return is what was asked for; NaN never is."""
        return self.reward is not None and return_mean >= self.reward


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run, or its last session, ended."""

    status: Status
    """`reached`: the stop reward; `limit`: a limit came before the stop reward; `finished`: a limit, no stop reward."""
    stopped_by: StoppedBy
    """What ended it."""
    return_mean: float
    """Mean return of the newest evaluation; NaN if there was none."""
    num_episodes: int
    """Episodes of that evaluation."""
    env_steps: int
    """Env steps of training."""
    iteration: int
    """Training iterations."""
    seconds: float
    """Wall time of the run over all its sessions: building, training, evaluating, saving."""

    @property
    def exit_code(self) -> int:
        """0 when reached or finished, 3 when a limit came before the stop reward, 130 when interrupted."""
        return {"limit": 3, "interrupted": 130}.get(self.status, 0)

    def sentence(self, limits: Limits) -> str:
        """Say the outcome in one line."""
        found = "no evaluation yet"
        if not math.isnan(self.return_mean):
            found = f"return {self.return_mean:.1f} ({self.num_episodes} evaluation episodes)"
        head = {
            "reached": f"reached stop reward {limits.reward:g}" if limits.reward is not None else "reached",
            "limit": f"limit first: {self.stopped_by} used up before stop reward {limits.reward or 0:g}",
            "finished": f"finished: {self.stopped_by} used up",
            "interrupted": "interrupted",
        }.get(self.status, self.status)
        return f"{head}: {found}, {self.env_steps:,} env steps, {self.seconds:.1f} s"

    def to_json(self) -> dict[str, Any]:
        """Return the fields for a JSON object, the return as `return` and None where it is not known."""
        values = asdict(self)
        mean = values.pop("return_mean")
        return {"outcome": values.pop("status"), "return": None if math.isnan(mean) else mean, **values}
