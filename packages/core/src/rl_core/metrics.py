"""Figures that code of yours adds to the result of `train()`."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

Reduce = Literal["mean", "min", "max", "sum", "last"]
_REDUCTIONS: dict[str, Callable[[list[float]], float]] = {
    "mean": lambda values: math.fsum(values) / len(values),
    "min": min,
    "max": max,
    "sum": math.fsum,
    "last": lambda values: values[-1],
}


class MetricsLogger:
    """Collects values during an iteration and reduces each key to one number at its end.

    A key that was logged once is in every later result: NaN (0 for sums) where nothing was logged.
    """

    def __init__(self) -> None:
        self._reduce: dict[str, Reduce] = {}
        self._values: dict[str, list[float]] = {}

    def log_value(self, key: str, value: float, *, reduce: Reduce = "mean") -> None:
        """Add a value.

        Args:
            key: Name in the result, with slashes, such as `env_runners/pole_angle`.
            value: A number.
            reduce: How the values of one iteration become one; fixed by the first call of a key.

        Raises:
            ValueError: the key was logged with another reduction before, or there is no such reduction.
        """
        if reduce not in _REDUCTIONS:
            raise ValueError(f"log_value({key!r}): got reduce={reduce!r}, expected one of {', '.join(_REDUCTIONS)}.")
        if self._reduce.setdefault(key, reduce) != reduce:
            raise ValueError(
                f"log_value({key!r}): got reduce={reduce!r}, but this key began with {self._reduce[key]!r}. "
                "Use one reduction per key."
            )
        self._values.setdefault(key, []).append(float(value))

    def reduce(self) -> dict[str, float]:
        """Return one number per key and begin the next iteration."""
        values, self._values = self._values, {}
        empty = {"sum": 0.0}
        return {
            key: float(_REDUCTIONS[how](values[key])) if key in values else empty.get(how, math.nan)
            for key, how in self._reduce.items()
        }

    def get_state(self) -> dict[str, dict[str, Any]]:
        """Return the keys known and the values not yet reduced."""
        return {"reduce": dict(self._reduce), "values": {key: list(values) for key, values in self._values.items()}}

    def set_state(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Take back what `get_state` gave."""
        self._reduce = dict(state["reduce"])
        self._values = {key: list(values) for key, values in state["values"].items()}


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
