"""Ctrl-C and SIGTERM as a request to stop after the iteration in progress, where a checkpoint can be saved."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

STOPPING = "stopping after this iteration, then saving; Ctrl-C again stops at once, without saving"


def announce_stop() -> None:
    """Say on standard error what the signal will do, in the one way that is safe inside a signal handler."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{STOPPING}\n".encode())


class Interrupt:
    """Context in which the first signal sets `signal_number` and the second raises `KeyboardInterrupt`."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        """The signal that came, None while there was none."""
        self.announce: Callable[[], None] = announce_stop
        """Called from the signal handler, so it must not print; a display puts its own here."""
        self._previous: dict[int, Any] = {}
        self._pid = os.getpid()

    def __enter__(self) -> Self:
        """Catch the signals; in another thread than the main one, leave them alone."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            self._handle_in_worker(number)
            return
        if self.signal_number is not None:
            raise KeyboardInterrupt
        self.signal_number = number
        self.announce()

    @staticmethod
    def _handle_in_worker(number: int) -> None:
        """Let a forked env worker outlive Ctrl-C, since the run needs it until it stops, and die of SIGTERM."""
        if number == signal.SIGTERM:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
