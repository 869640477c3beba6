"""How a run is shown while it trains: a live panel on a terminal (`live.py`), plain lines elsewhere."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from rl_core.algorithm.sinks import is_evaluated
from rl_core.runs.folder import RunFolder
from rl_core.runs.interrupt import announce_stop
from rl_core.runs.limits import Limits, StoppedBy
from rl_core.runs.loop import Display

PLAIN_INTERVAL_S = 2.0
RATE_WINDOW_S = 5.0
BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = "_.-=*#"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a display shows at one moment."""

    iteration: int = 0
    env_steps: int = 0
    seconds: float = 0.0
    steps_per_s: float = math.nan
    return_mean: float = math.nan
    evaluation: float = math.nan
    evaluation_step: int = 0
    fraction: float = 0.0
    """Of the limit that comes first; 0 where none is known."""
    seconds_left: float = math.nan
    """Until that limit, at the speed so far."""


class ProgressMeter:
    """Turns results of iterations into what is shown, with a rate over the last seconds."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._history: list[tuple[float, int]] = []  # (seconds, env steps) of the last few seconds
        self._first: tuple[float, Mapping[StoppedBy, float]] | None = None
        self._evaluation = (math.nan, 0)
        self.now = Progress()

    def update(self, row: Mapping[str, Any], seconds: float) -> Progress:
        """Take the result of an iteration."""
        iteration, env_steps = int(row["training_iteration"]), int(row["env_steps"])
        if is_evaluated(row):
            self._evaluation = (float(row["evaluation/episode_return_mean"]), env_steps)
        self._history.append((seconds, env_steps))
        while len(self._history) > 2 and self._history[0][0] < seconds - RATE_WINDOW_S:
            self._history.pop(0)
        fractions = self._limits.fractions(env_steps=env_steps, iteration=iteration, seconds=seconds)
        fraction = max(fractions.values(), default=0.0)
        self.now = Progress(
            iteration=iteration,
            env_steps=env_steps,
            seconds=seconds,
            steps_per_s=self._rate(float(row["env_steps_per_s"])),
            return_mean=float(row["env_runners/episode_return_mean"]),
            evaluation=self._evaluation[0],
            evaluation_step=self._evaluation[1],
            fraction=min(fraction, 1.0),
            seconds_left=self._seconds_left(seconds, fractions),
        )
        return self.now

    def _rate(self, first_rate: float) -> float:
        (start, steps_before), (end, steps) = self._history[0], self._history[-1]
        return (steps - steps_before) / (end - start) if end > start else first_rate

    def _seconds_left(self, seconds: float, fractions: Mapping[StoppedBy, float]) -> float:
        """Extrapolate each limit from this session's progress, and take the one that comes first."""
        if self._first is None:
            self._first = (seconds, fractions)
        elapsed, before = seconds - self._first[0], self._first[1]
        left = [
            (1.0 - fraction) * elapsed / (fraction - before[name])
            for name, fraction in fractions.items()
            if fraction > before[name]
        ]
        return max(min(left, default=math.nan), 0.0)


class PlainDisplay:
    """A line every two seconds, each with everything on it."""

    def __init__(self, folder: RunFolder, limits: Limits, *, stream: TextIO) -> None:
        self._stream = stream
        self._meter = ProgressMeter(limits)
        self._printed_at = time.monotonic()
        print(f"{title(folder)}  {limit_words(limits)}  in {folder.path}", file=stream, flush=True)

    def update(self, row: Mapping[str, Any], seconds: float) -> None:
        """Print a line if it is time."""
        progress = self._meter.update(row, seconds)
        if time.monotonic() - self._printed_at >= PLAIN_INTERVAL_S:
            self._printed_at = time.monotonic()
            print(progress_line(progress), file=self._stream, flush=True)

    def note(self, text: str) -> None:
        """Print a line."""
        print(text, file=self._stream, flush=True)

    def announce_stop(self) -> None:
        """Write a line, past the buffers."""
        announce_stop()

    def close(self) -> None:
        """Nothing is left to do."""


def make_display(folder: RunFolder, limits: Limits, *, stream: TextIO) -> Display:
    """Choose the display for a stream."""
    if stream.isatty():
        from rl_core.cli.live import LiveDisplay

        return LiveDisplay(folder, limits, stream=stream)
    return PlainDisplay(folder, limits, stream=stream)


def title(folder: RunFolder) -> str:
    """Say what is trained."""
    return f"{folder.record.algorithm} on {folder.record.env}, seed {folder.record.seed}"


def limit_words(limits: Limits) -> str:
    """Say when a run ends."""
    words = [
        None if limits.reward is None else f"return {limits.reward:g}",
        None if limits.timesteps is None else f"{limits.timesteps:,} env steps",
        None if limits.iterations is None else f"{limits.iterations:,} iterations",
        None if limits.time_s is None else duration(limits.time_s),
    ]
    return f"until {' or '.join(word for word in words if word)}"


def progress_line(progress: Progress) -> str:
    """Write the progress in one line."""
    return (
        f"{progress.env_steps:>11,} steps  {number(progress.steps_per_s, 0):>8} steps/s  "
        f"return {number(progress.return_mean):>8}  evaluation {number(progress.evaluation):>8}  "
        f"{duration(progress.seconds):>7}  left {duration(progress.seconds_left):>7}"
    )


def number(value: float, digits: int = 1) -> str:
    """Write a number, or a dash where it is not known."""
    return f"{value:,.{digits}f}" if math.isfinite(value) else "-"


def duration(seconds: float) -> str:
    """Write a time span briefly: 4.2 s, 3:05, 2:10:00."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def sparkline(values: Sequence[float], *, width: int, bars: str = BARS) -> str:
    """Draw values as a row of bars from the lowest to the highest; each bar is the mean of its share."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return ""
    count = min(width, len(known))
    edges = [round(index * len(known) / count) for index in range(count + 1)]
    means = [sum(known[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(bars) - 1) / (high - low) if high > low else 0.0
    return "".join(bars[round((mean - low) * scale)] for mean in means)
