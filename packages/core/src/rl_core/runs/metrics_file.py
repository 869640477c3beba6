"""`metrics.jsonl`: one flat JSON object per iteration; numbers that are not finite are written as null.

A logged series is a list there; images and videos are left out.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from rl_core.metrics import Media, Series

FLUSH_INTERVAL_S = 1.0


class MetricsFile:
    """Appends rows; they reach the disk at least once a second while rows come."""

    def __init__(self, path: Path) -> None:
        self._file: TextIO = path.open("a", encoding="utf-8", newline="\n", buffering=1 << 16)
        self._flushed_at = time.monotonic()

    def write(self, row: Mapping[str, Any], media: Mapping[str, Media]) -> None:
        """Append one row."""
        series = {name: item.values for name, item in media.items() if isinstance(item, Series)}
        self._file.write(encode_row({**row, **series}))
        now = time.monotonic()
        if now - self._flushed_at > FLUSH_INTERVAL_S:
            self.flush()
            self._flushed_at = now

    def flush(self) -> None:
        """Hand what is buffered to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


def encode_row(row: Mapping[str, Any]) -> str:
    """Write one row as a line of strict JSON: NaN and infinities become null."""
    finite = {
        name: [_or_null(item) for item in value] if isinstance(value, list) else _or_null(value)
        for name, value in row.items()
    }
    return json.dumps(finite, allow_nan=False) + "\n"


def _or_null(value: Any) -> Any:
    return value if not isinstance(value, float) or math.isfinite(value) else None


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a metrics file; a missing file has none, and a line cut off by a kill is skipped."""
    try:
        file = path.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            if (row := _row_of(line)) is not None:
                yield row


def _row_of(line: str | bytes) -> dict[str, Any] | None:
    """Read one line; None if it was cut off, or is no row."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def column(rows: Iterable[Mapping[str, Any]], name: str) -> list[float]:
    """Return one number per row, NaN where the row does not have it."""
    values = (row.get(name) for row in rows)
    return [float(value) if isinstance(value, int | float) else math.nan for value in values]


def last_row(path: Path) -> dict[str, Any]:
    """Return the newest row, empty if there is none, reading from the end of the file no more than it takes."""
    try:
        with path.open("rb") as file:
            size, length = file.seek(0, os.SEEK_END), 1 << 16
            while True:
                start = file.seek(max(0, size - length))
                lines = file.read().splitlines()
                for line in reversed(lines if start == 0 else lines[1:]):
                    if (row := _row_of(line)) is not None:
                        return row
                if start == 0:
                    return {}
                length *= 4
    except FileNotFoundError:
        return {}


def drop_rows_after(path: Path, iteration: int) -> int:
    """Drop the rows of later iterations, so that a resumed run writes none twice; replaces the file in one move.

    Returns:
        How many rows were dropped.
    """
    rows = list(read_rows(path))
    kept = [row for row in rows if row.get("training_iteration", 0) <= iteration]
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text("".join(map(encode_row, kept)), encoding="utf-8")
    temporary.replace(path)
    return len(rows) - len(kept)
