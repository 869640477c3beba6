"""Where the results of a run go besides `train()`'s caller: the protocol of sinks, and what feeds them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from rl_core.algorithm.callbacks import Callbacks
from rl_core.config.codec import Storable
from rl_core.errors import ConfigError
from rl_core.metrics import Media, plain_row

if TYPE_CHECKING:
    from rl_core.algorithm.algorithm import Algorithm


class Writer(Protocol):
    """An open sink."""

    def write(self, row: Mapping[str, Any], media: Mapping[str, Media]) -> None:
        """Take the result of an iteration, and the series, images and videos of it.

        `row` has the figures of the newest evaluation, also where that is not of this iteration; see `fresh`. An
        evaluation after the last iteration comes as a row of its own, with its figures and the counters
        `training_iteration` and `env_steps`.
        """

    def close(self) -> None:
        """Flush and close."""


class Sink(Storable, ABC):
    """What `config.reporting(sinks=(...,))` takes. Derive a frozen dataclass; its fields are its settings.

    Example:
        >>> @dataclass(frozen=True)
        ... class PrintSink(Sink):
        ...     key: str = "env_runners/episode_return_mean"
        ...     def open(self, algorithm):
        ...         return Printer(self.key)
    """

    __slots__ = ()

    @abstractmethod
    def open(self, algorithm: Algorithm) -> Writer:
        """Open it, after the first iteration of this session: the run goes on if that is not iteration 1.

        Raises:
            ConfigError: an extra that it needs is not installed.
            RunError: it cannot be written.
        """


class SinkCallbacks(Callbacks):
    """Feeds the sinks of a config; they are opened when there is something to write."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        """Take the sinks.

        Raises:
            ConfigError: one is no sink.
        """
        for sink in sinks:
            if not isinstance(sink, Sink):
                raise ConfigError(f"reporting.sinks: got {sink!r}, expected instances of classes derived from Sink.")
        self._sinks = sinks
        self._writers: list[Writer] | None = None
        self._unwritten: dict[str, Any] = {}

    def on_train_result(self, *, algorithm: Algorithm, result: dict[str, float]) -> None:
        """Write it."""
        if self._writers is None:
            self._writers = [sink.open(algorithm) for sink in self._sinks]
        row, self._unwritten = plain_row(result), {}
        for writer in self._writers:
            writer.write(row, algorithm.metrics.media)

    def on_evaluate_end(self, *, algorithm: Algorithm, result: dict[str, float]) -> None:
        """Keep it until the next row, which has it too."""
        counters = {"training_iteration": algorithm.iteration, "env_steps": algorithm.env_steps}
        self._unwritten = counters | plain_row(result)

    def on_algorithm_stop(self, *, algorithm: Algorithm) -> None:
        """Write an evaluation that came after the last row, and close."""
        for writer in self._writers or ():
            if self._unwritten:
                writer.write(self._unwritten, {})
            writer.close()
        self._writers, self._unwritten = None, {}


def is_evaluated(row: Mapping[str, Any]) -> bool:
    """Whether a row's evaluation is of its own iteration, not repeated from an earlier one."""
    return row.get("evaluation/training_iteration") == row.get("training_iteration")


def fresh(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a row without an evaluation that only repeats an earlier one: for curves."""
    if is_evaluated(row):
        return row
    return {name: value for name, value in row.items() if not name.startswith("evaluation/")}
