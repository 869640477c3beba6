"""Sinks that need no other library: JSON lines, CSV, TensorBoard; and what all sinks share."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rl_core.algorithm.sinks import Sink, fresh
from rl_core.errors import RunError
from rl_core.metrics import Media
from rl_core.runs.event_file import EventFile
from rl_core.runs.metrics_file import FLUSH_INTERVAL_S, MetricsFile, drop_rows_after

if TYPE_CHECKING:
    from rl_core.algorithm.algorithm import Algorithm
    from rl_core.algorithm.config import AlgorithmConfig


@dataclass(frozen=True, slots=True)
class JsonLinesSink(Sink):
    """One JSON object per iteration; a series is a list in it, images and videos are left out."""

    path: str = "metrics.jsonl"
    """File to write."""

    def open(self, algorithm: Algorithm) -> MetricsFile:
        """Open the file; a run that goes on drops the rows after its checkpoint."""
        path = _place(self.path, algorithm)
        if path.exists():
            drop_rows_after(path, algorithm.iteration - 1)
        return MetricsFile(path)


@dataclass(frozen=True, slots=True)
class CsvSink(Sink):
    """One line per iteration, one column per figure; what is not known is an empty cell."""

    path: str = "metrics.csv"
    """File to write."""

    def open(self, algorithm: Algorithm) -> CsvWriter:
        """Open the file; a run that goes on drops the lines after its checkpoint."""
        return CsvWriter(_place(self.path, algorithm), algorithm.iteration - 1)


@dataclass(frozen=True, slots=True)
class TensorBoardSink(Sink):
    """TensorBoard events: scalars, images, videos as animated images, series as histograms."""

    folder: str = "tensorboard"
    """Folder to write into; TensorBoard takes files of several sessions in it together."""

    def open(self, algorithm: Algorithm) -> TensorBoardWriter:
        """Open a new file; of a run that goes on, TensorBoard forgets what came after its checkpoint."""
        first_step = algorithm.env_steps if algorithm.iteration > 1 else 0
        return TensorBoardWriter(Path(self.folder), first_step=first_step)


class TensorBoardWriter:
    """Writes event files, with the evaluations at the steps where they were made."""

    def __init__(self, folder: Path, *, first_step: int = 0) -> None:
        """Open a new file; see `EventFile`."""
        self._file = EventFile(folder, first_step=first_step)

    def write(self, row: Mapping[str, Any], media: Mapping[str, Media]) -> None:
        """Append one row."""
        self._file.write(row["env_steps"], fresh(row), media)

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


class CsvWriter:
    """Appends lines; where a new figure comes up, the file is written anew with a column for it."""

    def __init__(self, path: Path, last_iteration: int) -> None:
        """Open the file and keep its lines up to an iteration."""
        self._path = path
        rows = [row for row in self._read() if float(row["training_iteration"]) <= last_iteration]
        self._names: dict[str, None] = dict.fromkeys(rows[0] if rows else ())
        self._file = self._rewritten(rows)
        self._flushed_at = time.monotonic()

    def write(self, row: Mapping[str, Any], media: Mapping[str, Media]) -> None:
        """Append one row."""
        if not row.keys() <= self._names.keys():
            self.close()
            rows = self._read()
            self._names |= dict.fromkeys(row)
            self._file = self._rewritten(rows)
        csv.writer(self._file).writerow([_cell(row.get(name, math.nan)) for name in self._names])
        now = time.monotonic()
        if now - self._flushed_at > FLUSH_INTERVAL_S:
            self._file.flush()
            self._flushed_at = now

    def close(self) -> None:
        """Flush and close."""
        self._file.close()

    def _read(self) -> list[dict[str, str]]:
        if not self._path.exists():
            return []
        text = self._path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]  # of a process that was killed the last line may be cut off
        return list(csv.DictReader(io.StringIO(whole, newline="")))

    def _rewritten(self, rows: list[dict[str, str]]) -> TextIO:
        """Write header and rows beside the file, move them into its place, and open that to append."""
        temporary = self._path.with_name(f"{self._path.name}.tmp")
        with temporary.open("w", encoding="utf-8", newline="") as file:
            if self._names:
                writer = csv.DictWriter(file, list(self._names), restval="")
                writer.writeheader()
                writer.writerows(rows)
        temporary.replace(self._path)
        return self._path.open("a", encoding="utf-8", newline="")


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers of a row, without an evaluation that only repeats an earlier one."""
    return {
        name: value for name, value in fresh(row).items() if isinstance(value, int | float) and math.isfinite(value)
    }


def plain_settings(config: AlgorithmConfig) -> dict[str, bool | int | float | str | None]:
    """Return what differs from the defaults, by dotted name: what services show beside the figures of a run."""
    settings = {"algorithm": config.name, "seed": config.debugging.settings.seed, **config.diff()}
    plain = (bool, int, float, str, type(None))
    return {name: value if isinstance(value, plain) else repr(value) for name, value in settings.items()}


def _cell(value: Any) -> Any:
    return "" if isinstance(value, float) and math.isnan(value) else value


def _place(path: str, algorithm: Algorithm) -> Path:
    """Make the folder of a file.

    Raises:
        RunError: it cannot be made, or a new run would write into the file of another.
    """
    place = Path(path)
    if place.exists() and algorithm.iteration == 1:
        raise RunError(f"{place} exists already, and results are never overwritten. Give the sink another path.")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{place.parent} cannot be made: {error.strerror or error}.") from error
    return place
