"""A process that writes checkpoints to disk, so that training shares neither an interpreter nor its lock with that.

A thread does, and takes the lock anew after each of its many short calls: a checkpoint of PPO on CartPole in a thread
made the iteration beside it longer by more than it takes to wait for it.

What is to be written crosses in memory that both processes see: the arrays one after the other, then plain data with a
table of where each stands. The process ends with the one that started it, after what it was given.
"""

from __future__ import annotations

import json
import marshal
import mmap
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

from rl_core.checkpoint_files import EncodedCheckpoint, StoredArray
from rl_core.errors import CheckpointError
from rl_core.storage import LocalFolder

IS_POSSIBLE = os.name == "posix" and not getattr(sys, "frozen", False)
"""Whether open files can be given to another process here, and Python's executable is one of Python."""
_REQUEST = struct.Struct("QQ")
"""Where the table stands: from which byte, and until which; until 0 is the end of all."""
_ANSWER = struct.Struct("Q")
"""How many bytes of text in the memory say what went wrong; 0 if the checkpoint is written."""
_KEPT_BYTES = 16 * 2**20
"""Of memory for the next checkpoint."""
_MOST_PIECES = 512
"""Written with one call; the system takes 1024."""
_START = "import sys; sys.path.append(sys.argv[1]); from rl_core import checkpoint_process as process; process.serve()"


class WriterProcess:
    """The process as seen from the one that trains. Every method may raise `OSError`."""

    def __init__(self) -> None:
        """Start it; it takes a tenth of a second until it can write, for which nobody waits."""
        # Pipes: who takes something out of a socket wakes the other side, and training has to wait for that.
        requests, self._requests = _pipe()
        self._answers, answers = _pipe()
        self._memory = _memory()
        with requests, answers:
            files = (requests.fileno(), answers.fileno(), self._memory.fileno())
            command = [sys.executable, "-I", "-S", "-c", _START, str(Path(__file__).parents[1]), *map(str, files)]
            self._process = subprocess.Popen(
                command, pass_fds=files, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        os.set_blocking(self._answers.fileno(), False)
        self._table = (0, 0)  # where that of the last request stands

    def send(self, encoded: EncodedCheckpoint) -> None:
        """Copy a checkpoint of a local folder to where the process sees it, and let it be written."""
        pieces: list[Any] = []
        position = 0

        def place(content: Any) -> tuple[int, int]:
            nonlocal position
            pieces.append(content)
            start, position = position, position + len(content)
            return start, position

        components = [
            (name, data, [(key, array.dtype, array.shape, place(array.content)) for key, array in arrays.items()])
            for name, (data, arrays) in encoded.components.items()
        ]
        table = _packed((os.path.abspath(encoded.folder.location), dict(encoded.head), components))
        _write_all(self._memory.fileno(), [*pieces, table])
        self._table = (position, position + len(table))
        self._requests.write(_REQUEST.pack(*self._table))

    def receive(self, *, wait: bool) -> bool:
        """Hear whether it is written; what a process that was killed has not written is written here.

        Args:
            wait: Until it is.

        Returns:
            Whether it is; False only if nobody waits.

        Raises:
            CheckpointError: it could not be.
        """
        if wait:
            waiting = select.poll()
            waiting.register(self._answers, select.POLLIN)
            waiting.poll()
        answer = self._answers.read(_ANSWER.size)
        if answer is None:
            return False
        problem = b""
        if answer:
            problem = os.pread(self._memory.fileno(), _ANSWER.unpack(answer)[0], 0)
        else:
            unwritten = _received(self._memory.fileno(), *self._table)
            if not unwritten.is_written():
                unwritten.write()
        if self._table[1] > _KEPT_BYTES:
            os.ftruncate(self._memory.fileno(), 0)
        if problem:
            raise CheckpointError(problem.decode())
        return True

    def close(self) -> None:
        """End it, when it has written what it was given."""
        with suppress(OSError):  # it was killed; a closed pipe would not do: processes forked since then have it too
            self._requests.write(_REQUEST.pack(0, 0))
        for file in (self._requests, self._answers, self._memory):
            file.close()
        self._process.wait()


def serve() -> None:
    """Write what comes along the pipe that the process was started with, until its other end is closed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # of the whole group: the other process ends this one
        signal.signal(number, signal.SIG_IGN)
    requests, answers, memory = map(int, sys.argv[2:])
    while len(request := os.read(requests, _REQUEST.size)) == _REQUEST.size:
        start, stop = _REQUEST.unpack(request)
        if not stop:
            return
        problem = ""
        try:
            _received(memory, start, stop).write()
        except Exception as error:
            problem = str(error) if isinstance(error, CheckpointError) else f"{type(error).__name__}: {error}"
        length = os.pwrite(memory, problem.encode(errors="replace"), 0)
        with suppress(BrokenPipeError):
            os.write(answers, _ANSWER.pack(length))


def _received(descriptor: int, start: int, stop: int) -> EncodedCheckpoint:
    """Read what `WriterProcess.send` wrote, whose table stands from `start` on; the arrays stay where they are."""
    memory = memoryview(mmap.mmap(descriptor, stop, access=mmap.ACCESS_READ))
    path, head, components = marshal.loads(memory[start:stop])
    return EncodedCheckpoint(
        folder=LocalFolder(Path(path)),
        head=head,
        components={
            name: (data, {key: _array(memory, *rest) for key, *rest in arrays}) for name, data, arrays in components
        },
    )


def _packed(values: Any) -> bytes:
    """Write JSON data in the interpreter's own format, which takes a third of the time."""
    try:
        return marshal.dumps(values)
    except ValueError:  # something inherits from a plain type, which JSON does not mind
        return marshal.dumps(json.loads(json.dumps(values)))


def _array(memory: memoryview, dtype: str, shape: tuple[int, ...], place: tuple[int, int]) -> StoredArray:
    return StoredArray(dtype, shape, memory[slice(*place)])


def _pipe() -> tuple[FileIO, FileIO]:
    """Open a pipe: the end to read from, and the one to write to."""
    read, write = os.pipe()
    return FileIO(read, "r"), FileIO(write, "w")


def _memory() -> Any:
    """Open memory without a name; where the system has none, a file without one."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("rl_core"), "wb", buffering=0)
    return tempfile.TemporaryFile()


def _write_all(descriptor: int, pieces: Sequence[Any]) -> None:
    """Write buffers one after the other, from the beginning of a file on."""
    left = [memoryview(piece).cast("B") for piece in pieces if len(piece)]
    first = position = 0
    while first < len(left):
        written = os.pwritev(descriptor, left[first : first + _MOST_PIECES], position)
        position += written
        while first < len(left) and written >= len(left[first]):
            written -= len(left[first])
            first += 1
        if written:
            left[first] = left[first][written:]
