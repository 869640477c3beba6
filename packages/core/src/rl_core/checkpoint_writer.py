"""Writes checkpoints, in a process or thread of their own if nobody is to wait."""

from __future__ import annotations

import threading
import weakref

from rl_core.checkpoint_files import EncodedCheckpoint
from rl_core.checkpoint_process import IS_POSSIBLE, WriterProcess
from rl_core.storage import LocalFolder, Location


class CheckpointWriter:
    """Writes one checkpoint at a time.

    Consumes encoded checkpoints; waits for the one before; unblocked by the disk. The interpreter does not exit before
    the last one is written. Local folders are written by a process; others, whose file systems may live in this one, by
    a thread.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._process: WriterProcess | None = None
        self._last_will: weakref.finalize[[], CheckpointWriter] | None = None
        self._under_way: tuple[WriterProcess, Location] | None = None
        self._error: Exception | None = None
        self._written: list[Location] = []
        self.has_news = False
        """Whether `take_written` may have something to return; costs nothing to look at."""

    def start(self, encoded: EncodedCheckpoint, *, wait: bool) -> None:
        """Write, in the background unless somebody waits: then the states may change as soon as this returns.

        Raises:
            CheckpointError: the checkpoint before could not be written; this one is not. Or it is waited for, and
                could not be written itself.
        """
        self.wait()
        self.has_news = True
        if wait:
            encoded.write()
            self._written.append(encoded.folder.location)
        elif not (IS_POSSIBLE and isinstance(encoded.folder, LocalFolder) and self._send(encoded)):
            self._thread = threading.Thread(target=self._write, args=(encoded.copied(),), name="checkpoint")
            self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises:
            CheckpointError: it could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._under_way is not None:
            self._hear(*self._under_way, wait=True)
        error, self._error = self._error, None
        if error is not None:
            raise error

    def take_written(self) -> list[Location]:
        """Return the checkpoints that have become complete since the last call, oldest first."""
        if self._under_way is not None:
            self._hear(*self._under_way, wait=False)
        written, self._written = self._written, []
        self.has_news = self._under_way is not None or self._thread is not None
        return written

    def close(self) -> None:
        """End the process, when it is done; another checkpoint starts a new one."""
        self._process, self._under_way = None, None
        if self._last_will is not None:
            self._last_will()

    def _send(self, encoded: EncodedCheckpoint) -> bool:
        """Let the process write; returns whether it can."""
        try:
            if self._process is None:
                self._process = WriterProcess()
                self._last_will = weakref.finalize(self, self._process.close)
            self._process.send(encoded)
        except OSError:  # no more memory, files or processes may be had; or it has been killed
            self.close()
            return False
        except BaseException:  # an interrupt: nobody knows how much was sent
            self.close()
            raise
        self._under_way = self._process, encoded.folder.location
        return True

    def _hear(self, process: WriterProcess, location: Location, *, wait: bool) -> None:
        """Take the process's answer, if there is one or somebody waits."""
        try:
            if not process.receive(wait=wait):
                return
        except Exception as error:  # told where somebody waits
            self._error = error
        else:
            self._written.append(location)
        self._under_way = None

    def _write(self, encoded: EncodedCheckpoint) -> None:
        try:
            encoded.write()
        except Exception as error:  # told where somebody waits
            self._error = error
        else:
            self._written.append(encoded.folder.location)
