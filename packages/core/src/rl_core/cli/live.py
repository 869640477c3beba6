"""The live panel on a terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rl_core.cli.display import (
    ASCII_BARS,
    BARS,
    ProgressMeter,
    duration,
    limit_words,
    number,
    sparkline,
    title,
)
from rl_core.runs.folder import RunFolder
from rl_core.runs.interrupt import STOPPING
from rl_core.runs.limits import Limits

REFRESH_PER_S = 4
MAX_WIDTH = 84
MAX_HISTORY = 4096


class LiveDisplay:
    """A panel that is drawn four times a second by a thread of its own, whatever the iterations take."""

    def __init__(self, folder: RunFolder, limits: Limits, *, stream: TextIO) -> None:
        self._console = Console(file=stream)
        self._meter = ProgressMeter(limits)
        self._footer = Text(limit_words(limits), "dim")
        self._title = title(folder)
        self._subtitle = str(folder.path)
        self._returns: list[float] = []
        self._evaluations: list[float] = []
        self._updated_at = time.monotonic()
        self._seconds = folder.record.seconds
        encoding = (self._console.encoding or "").lower()
        self._bars = BARS if encoding.startswith("utf") else ASCII_BARS
        self._running = True
        self._live = Live(get_renderable=self._panel, console=self._console, refresh_per_second=REFRESH_PER_S)
        self._live.start()

    def update(self, row: Mapping[str, Any], seconds: float) -> None:
        """Take the result of an iteration; it is shown at the next refresh."""
        before = self._meter.now
        progress = self._meter.update(row, seconds)
        self._append(self._returns, progress.return_mean)
        if progress.evaluation_step != before.evaluation_step:
            self._append(self._evaluations, progress.evaluation)
        self._seconds, self._updated_at = seconds, time.monotonic()

    def note(self, text: str) -> None:
        """Print a line above the panel."""
        self._console.print(text, markup=False, highlight=False)

    def announce_stop(self) -> None:
        """Show it in the panel, at the next refresh."""
        self._footer = Text(STOPPING, "bold yellow", no_wrap=True, overflow="ellipsis")

    def close(self) -> None:
        """Draw the last state and leave it standing."""
        self._running = False
        self._live.stop()

    @staticmethod
    def _append(history: list[float], value: float) -> None:
        """Keep a history of bounded length by leaving out every other value of a long one."""
        history.append(value)
        if len(history) >= MAX_HISTORY:
            del history[::2]

    def _panel(self) -> RenderableType:
        """Compose the panel from what is known now."""
        progress, width = self._meter.now, min(self._console.width, MAX_WIDTH)
        since = time.monotonic() - self._updated_at if self._running else 0.0
        table = Table.grid(padding=(0, 2), expand=True)
        for ratio in (2, 3, 2, 3):
            table.add_column(ratio=ratio, no_wrap=True)
        soft, strong = "dim", "bold"
        left = duration(max(progress.seconds_left - since, 0.0)) if progress.iteration else "-"
        table.add_row(
            Text("steps", soft), Text(f"{progress.env_steps:,}", strong),
            Text("steps/s", soft), Text(number(progress.steps_per_s, 0), strong),
        )  # fmt: skip
        table.add_row(Text("time", soft), Text(duration(self._seconds + since)), Text("time left", soft), Text(left))
        lines = Table.grid(padding=(0, 2))
        room = max(width - 34, 8)
        for name, value, history, color in (
            ("return", progress.return_mean, self._returns, "cyan"),
            ("evaluation", progress.evaluation, self._evaluations, "green"),
        ):
            spark = sparkline(list(history), width=room, bars=self._bars)
            lines.add_row(Text(name, soft), Text(f"{number(value):>9}", f"bold {color}"), Text(spark, color))
        bar = ProgressBar(total=1.0, completed=progress.fraction, width=width - 4)
        return Panel(
            Group(table, lines, self._footer, bar),
            title=Text(self._title, "bold"),
            subtitle=Text(self._subtitle, "dim"),
            width=width,
            border_style="dim",
        )
