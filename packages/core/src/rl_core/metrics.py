"""Figures, pictures and videos that code of yours adds to the result of `train()` and to what is written of it."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, SupportsFloat, TypeAlias, TypedDict, Unpack, get_args

import numpy as np

Reduce = Literal[
    "mean", "min", "max", "sum", "last", "ema", "lifetime_sum", "percentiles", "throughput", "series"
]  # fmt: skip
EMA_COEFF = 0.01
PERCENTILES = (5.0, 50.0, 95.0)
WINDOWED = ("mean", "min", "max", "sum", "percentiles", "series")
"""Reductions that may look at the newest values of several iterations."""

_PLAIN: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": lambda values: math.fsum(values) / len(values),
    "min": min,
    "max": max,
    "sum": math.fsum,
    "last": lambda values: values[-1],
}


@dataclass(frozen=True, slots=True)
class Series:
    """All values of an iteration, or of a window."""

    values: list[float]


@dataclass(frozen=True, slots=True)
class Image:
    """A picture."""

    pixels: np.ndarray
    """`[H, W, C]`, uint8: C is 1 (grey), 3 (RGB) or 4 (RGBA)."""


@dataclass(frozen=True, slots=True)
class Video:
    """Pictures in a row."""

    frames: np.ndarray
    """`[T, H, W, C]`, uint8."""
    fps: float
    """Frames per second."""


Media: TypeAlias = Series | Image | Video
"""What is logged and is no number; it is handed to sinks and does not stand in the result."""


class _How(NamedTuple):
    """What becomes of a key's values; fixed by the first call."""

    reduce: str
    window: int | None
    ema_coeff: float | None
    percentiles: tuple[float, ...] | None


class ReduceOptions(TypedDict, total=False):
    """The keywords of `MetricsLogger.log_value`."""

    reduce: Reduce
    window: int | None
    ema_coeff: float | None
    percentiles: Sequence[float] | None


class MetricsLogger:
    """Collects values during an iteration and reduces each key to its figures at the end.

    A key that was logged once is in every later result: NaN (0 for sums and throughputs) where nothing was logged.
    Only `ema`, `lifetime_sum` and windows reach beyond an iteration; they are saved in checkpoints.

    A process that works for a run, such as an env runner, logs into a logger of its own. The run takes that in with
    `metrics.merge(its.take())`, which is the same as having logged every value itself, in this order.

    Example:
        >>> metrics = MetricsLogger()
        >>> metrics.log_value("env_runners/pole_angle", 0.1, reduce="max")
        >>> metrics.log_value("env_runners/pole_angle_ema", 0.1, reduce="ema", ema_coeff=0.05)
        >>> with metrics.timer("timers/my_work_s"):
        ...     pass
    """

    def __init__(self) -> None:
        self.media: dict[str, Media] = {}
        """What is no number of what the last `reduce` found: series, images and videos, by key."""
        self._how: dict[str, _How] = {}
        self._values: dict[str, list[float] | deque[float]] = {}
        self._lasting: dict[str, float] = {}
        self._pictures: dict[str, Image | Video] = {}
        self._reduced_at = time.perf_counter()

    def log_value(
        self,
        key: str,
        value: SupportsFloat,
        *,
        reduce: Reduce = "mean",
        window: int | None = None,
        ema_coeff: float | None = None,
        percentiles: Sequence[float] | None = None,
    ) -> None:
        """Add a value. All calls for a key say the same about it.

        Args:
            key: Name in the result, with slashes, such as `env_runners/pole_angle`.
            value: A number, or a tensor or array that holds one.
            reduce: What becomes of the values:
                `mean`, `min`, `max`, `sum`, `last`: one number of those of the iteration;
                `ema`: their exponential moving average `e += ema_coeff * (value - e)`, over all iterations. It begins
                with the first value, and anew after NaN;
                `lifetime_sum`: the sum over all iterations;
                `percentiles`: figures `<key>_p5`, `<key>_p50` and so on of the iteration;
                `throughput`: their sum, divided by the seconds of the iteration;
                `series`: all of them, as they are. A series is no number, so it goes to the sinks only.
            window: For mean, min, max, sum, percentiles and series: over the newest so many values, which need not be
                of this iteration. None is the iteration.
            ema_coeff: Weight of a new value, in (0, 1]; None is 0.01.
            percentiles: Which ones, from 0 to 100; None is 5, 50 and 95.

        Raises:
            ValueError: the options do not go together, or the key was logged with others before.
        """
        how = _How(reduce, window, ema_coeff, None if percentiles is None else tuple(percentiles))
        if self._how.get(key) != how:
            self._begin(key, how)
        self._values[key].append(float(value))

    def log_image(self, key: str, image: np.ndarray) -> None:
        """Add a picture; the newest one of an iteration goes to the sinks.

        Args:
            key: Its name there.
            image: `[H, W]` or `[H, W, C]` with 1, 3 or 4 channels: uint8, or floats from 0 to 1.

        Raises:
            ValueError: it is no such array, or numbers were logged under this key.
        """
        pixels = np.asarray(image)
        pixels = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
        self._add_picture("log_image", key, Image(_as_bytes(f"log_image({key!r})", pixels, "[H, W] or [H, W, C]", 3)))

    def log_video(self, key: str, frames: np.ndarray, *, fps: float = 30.0) -> None:
        """Add a video; the newest one of an iteration goes to the sinks.

        Args:
            key: Its name there.
            frames: `[T, H, W, C]` with 1, 3 or 4 channels: uint8, or floats from 0 to 1.
            fps: Frames per second.

        Raises:
            ValueError: it is no such array, or numbers were logged under this key.
        """
        if not 0 < fps < math.inf:
            raise ValueError(f"log_video({key!r}): got fps={fps!r}, expected a number greater than 0.")
        pixels = _as_bytes(f"log_video({key!r})", np.asarray(frames), "[T, H, W, C]", 4)
        self._add_picture("log_video", key, Video(pixels, float(fps)))

    @contextmanager
    def timer(
        self, key: str, *, reduce: Reduce = "sum", window: int | None = None, ema_coeff: float | None = None
    ) -> Iterator[None]:
        """Log the seconds that a block took; the options are those of `log_value`."""
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.log_value(key, seconds, reduce=reduce, window=window, ema_coeff=ema_coeff)

    def reduce(self, seconds: float | None = None) -> dict[str, float]:
        """Return the figures of each key, put what is no number into `media`, and begin the next iteration.

        Args:
            seconds: What throughputs are divided by; None is the time since the last call.
        """
        now = time.perf_counter()
        seconds, self._reduced_at = now - self._reduced_at if seconds is None else seconds, now
        self.media, self._pictures = {**self._pictures}, {}
        figures: dict[str, float] = {}
        for key, how in self._how.items():
            values = self._values[key]
            if how.reduce == "series":
                if values:
                    self.media[key] = Series(list(values))
            elif how.reduce == "percentiles":
                points = how.percentiles or PERCENTILES
                found = np.percentile(values, points) if values else np.full(len(points), math.nan)
                figures |= {f"{key}_p{point:g}": float(value) for point, value in zip(points, found, strict=True)}
            else:
                figures[key] = self._figure(key, how, values, seconds)
            if how.window is None:
                self._values[key] = []
        return figures

    def _figure(self, key: str, how: _How, values: Sequence[float], seconds: float) -> float:
        """Reduce the values of a key to one number."""
        if how.reduce == "ema":
            average, coeff = self._lasting.get(key, math.nan), how.ema_coeff or EMA_COEFF
            for value in values:
                average = value if math.isnan(average) else average + coeff * (value - average)
            self._lasting[key] = average
            return average
        if how.reduce == "lifetime_sum":
            self._lasting[key] = math.fsum((self._lasting.get(key, 0.0), *values))
            return self._lasting[key]
        if how.reduce == "throughput":
            return math.fsum(values) / seconds if values else 0.0
        if values:
            return float(_PLAIN[how.reduce](values))
        return 0.0 if how.reduce == "sum" else math.nan

    def take(self) -> dict[str, Any]:
        """Return what was logged since the last call, as plain data that can be sent, and forget it.

        Use either this or `reduce`: what was taken is not in the result of this logger.
        """
        values = {key: {**self._how[key]._asdict(), "values": list(new)} for key, new in self._values.items() if new}
        pictures, self._pictures = self._pictures, {}
        for key in values:
            self._values[key].clear()
        images = {key: media.pixels for key, media in pictures.items() if isinstance(media, Image)}
        videos = {
            key: {"frames": media.frames, "fps": media.fps}
            for key, media in pictures.items()
            if isinstance(media, Video)
        }
        parts = {"values": values, "images": images, "videos": videos}
        return {name: part for name, part in parts.items() if part}

    def merge(self, data: Mapping[str, Any]) -> None:
        """Take in what the `take` of another logger gave, as if all of it had been logged here now.

        Raises:
            ValueError: a key was logged here with other options.
        """
        for key, entry in data.get("values", {}).items():
            how = _how_of(entry)
            if self._how.get(key) != how:
                self._begin(key, how)
            self._values[key].extend(entry["values"])
        for key, pixels in data.get("images", {}).items():
            self.log_image(key, pixels)
        for key, video in data.get("videos", {}).items():
            self.log_video(key, video["frames"], fps=video["fps"])

    def get_state(self) -> dict[str, dict[str, Any]]:
        """Return the keys known, the values not yet reduced, and what lasts; pictures are not kept."""
        return {
            "how": {key: how._asdict() for key, how in self._how.items()},
            "values": {key: list(values) for key, values in self._values.items()},
            "lasting": dict(self._lasting),
        }

    def set_state(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Take back what `get_state` gave."""
        self._how, self._values = {}, {}
        for key, entry in state["how"].items():
            self._begin(key, _how_of(entry))
            self._values[key].extend(state["values"][key])
        self._lasting = dict(state["lasting"])

    def _begin(self, key: str, how: _How) -> None:
        """Take a new key, or refuse it."""
        _check_options(key, how)
        known = self._how.get(key)
        if known is not None:
            raise ValueError(
                f"log_value({key!r}): got {_written(how)}, but this key began with {_written(known)}. "
                "Use one reduction per key."
            )
        if key in self._pictures:
            raise ValueError(f"log_value({key!r}): this key holds a picture. Use another key.")
        self._values.setdefault(key, [] if how.window is None else deque(maxlen=how.window))  # before `_how`: threads
        self._how[key] = how

    def _add_picture(self, method: str, key: str, picture: Image | Video) -> None:
        if key in self._how:
            raise ValueError(f"{method}({key!r}): this key holds numbers. Use another key.")
        self._pictures[key] = picture


running: ContextVar[MetricsLogger | None] = ContextVar("running", default=None)
"""The logger of the run that this code works for, None outside of one: in evaluation, and where a policy just acts."""


def log_value(key: str, value: SupportsFloat, **options: Unpack[ReduceOptions]) -> None:
    """Add a value to the logger of the run that this code works for; see `MetricsLogger.log_value`.

    For connectors, modules and losses, which do not know the run they are in. Where there is none, in evaluation and
    where a policy just acts, the value is dropped. (What else a loss has to say, it returns: such figures stand under
    `learner/<module>/`.)

    Example:
        >>> @dataclass(frozen=True)
        ... class ClipReward(ObsConnector):
        ...     def __call__(self, state, step):
        ...         clipped = np.clip(step.reward, -1, 1)
        ...         log_value("env_runners/clip_fraction", (clipped != step.reward).mean())
        ...         return state, replace(step, reward=clipped)
    """
    metrics = running.get()
    if metrics is not None:
        metrics.log_value(key, value, **options)


@contextmanager
def logging_to(metrics: MetricsLogger | None) -> Iterator[None]:
    """Make `log_value` write to `metrics` within a block, or drop what it is given."""
    token = running.set(metrics)
    try:
        yield
    finally:
        running.reset(token)


def plain_row(result: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the numpy and torch scalars that code of others may put into a result into Python's numbers."""
    return {name: value.item() if hasattr(value, "item") else value for name, value in result.items()}


def summarise(
    prefix: str, returns: Collection[float], lengths: Collection[float], parts: Mapping[str, Collection[float]]
) -> dict[str, float]:
    """Return mean, min and max of episode returns, the mean length and means of the parts, NaN where there are none."""
    means = {"episode_return_mean": returns, "episode_len_mean": lengths, **parts}
    return {
        f"{prefix}/episode_return_min": min(returns, default=math.nan),
        f"{prefix}/episode_return_max": max(returns, default=math.nan),
        **{f"{prefix}/{name}": math.fsum(of) / len(of) if of else math.nan for name, of in means.items()},
    }


def mean_of(reports: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average figures by name, leaving out NaN: what was not known at the time. Of a count (an int) the last stays."""
    result: dict[str, float] = {}
    for name in {name: None for report in reports for name in report}:
        values = [value for report in reports if not math.isnan(value := report.get(name, math.nan))]
        if not values or isinstance(values[-1], int):
            result[name] = values[-1] if values else math.nan
        else:
            result[name] = math.fsum(values) / len(values)
    return result


def _how_of(entry: Mapping[str, Any]) -> _How:
    """Read what `_How._asdict` wrote."""
    percentiles = entry["percentiles"]
    return _How(
        entry["reduce"], entry["window"], entry["ema_coeff"], None if percentiles is None else tuple(percentiles)
    )


def _written(how: _How) -> str:
    """Write options as they were given."""
    given = [f"{name}={value!r}" for name, value in how._asdict().items() if value is not None]
    return ", ".join(given)


def _check_options(key: str, how: _How) -> None:
    """Refuse options that do not exist or do not go together."""
    reduce, window, ema_coeff, percentiles = how
    problem = None
    if reduce not in get_args(Reduce):
        problem = f"reduce={reduce!r}, expected one of {', '.join(get_args(Reduce))}"
    elif window is not None and reduce not in WINDOWED:
        problem = f"window={window!r} with reduce={reduce!r}; a window goes with {', '.join(WINDOWED)}"
    elif window is not None and window < 1:
        problem = f"window={window!r}, expected at least 1"
    elif ema_coeff is not None and reduce != "ema":
        problem = f"ema_coeff={ema_coeff!r} with reduce={reduce!r}; it goes with reduce='ema'"
    elif ema_coeff is not None and not 0 < ema_coeff <= 1:
        problem = f"ema_coeff={ema_coeff!r}, expected a number in (0, 1]"
    elif percentiles is not None and reduce != "percentiles":
        problem = f"percentiles={percentiles!r} with reduce={reduce!r}; they go with reduce='percentiles'"
    elif percentiles is not None and not (percentiles and all(0 <= point <= 100 for point in percentiles)):
        problem = f"percentiles={percentiles!r}, expected numbers from 0 to 100"
    if problem is not None:
        raise ValueError(f"log_value({key!r}): got {problem}.")


def _as_bytes(where: str, pixels: np.ndarray, shape: str, ndim: int) -> np.ndarray:
    """Copy a picture as uint8, after checking its shape and values."""
    if pixels.ndim != ndim or pixels.size == 0 or pixels.shape[-1] not in (1, 3, 4):
        raise ValueError(f"{where}: got the shape {pixels.shape}, expected {shape} with 1, 3 or 4 channels C.")
    if np.issubdtype(pixels.dtype, np.floating):
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError(f"{where}: got floats from {pixels.min():g} to {pixels.max():g}, expected 0 to 1.")
        return np.round(pixels * 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise ValueError(f"{where}: got {pixels.dtype}, expected uint8, or floats from 0 to 1.")
    return pixels.copy()
