"""Writes checkpoints, in a thread of its own if nobody is to wait."""

from __future__ import annotations

import threading

from rl_core.checkpoint import CapturedCheckpoint
from rl_core.storage import Location


class CheckpointWriter:
    """Writes one checkpoint at a time.

    Consumes captured checkpoints; waits for the one before; unblocked by the disk. The interpreter does not exit before
    the last one is written.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self.written: list[Location] = []
        """Checkpoints that are complete and that nobody has taken note of yet, oldest first."""

    def start(self, captured: CapturedCheckpoint, *, wait: bool) -> None:
        """Write, in the background unless somebody waits.

        Raises:
            CheckpointError: the checkpoint before could not be written; this one is not. Or it is waited for, and
                could not be written itself.
        """
        self.wait()
        if wait:
            captured.write()
            self.written.append(captured.folder.location)
            return
        self._thread = threading.Thread(target=self._write, args=(captured,), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises:
            CheckpointError: it could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _write(self, captured: CapturedCheckpoint) -> None:
        try:
            captured.write()
        except Exception as error:  # told where somebody waits
            self._error = error
        else:
            self.written.append(captured.folder.location)
