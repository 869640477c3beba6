"""Lines between processes of one machine: a socket for what is small, memory that both processes see for the rest."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
import weakref
from array import array
from contextlib import suppress
from pathlib import Path

from rl_core.runtime.packing import Bytes, Packed, aligned

SMALL = 65_536
"""Bytes up to which they go through the socket.

Some 200,000 that nobody has read yet fit into it; then a sender waits. Both ends would wait for each other if a runner
were asked for many more rollouts ahead than `max_requests_in_flight_per_env_runner` may be.
"""
MOST_PIECES = 512
"""Of a message that goes through the socket; the system takes 1024."""
SEND_TIMEOUT_S = 60.0
"""For a process to read what was sent to it before."""


class Memory:
    """Bytes in memory that has no name: whoever is given its descriptor can read them, and the last to close frees it.

    Attributes:
        descriptor: Open as long as this object lives.
    """

    def __init__(self, packed: Bytes) -> None:
        """Copy bytes there.

        Raises:
            OSError: there is not enough memory.
        """
        self.descriptor = os.memfd_create("rl_core")
        weakref.finalize(self, os.close, self.descriptor)
        left = packed.data
        while left:
            left = left[os.write(self.descriptor, left) :]


class Line:
    """One end of a connection to another process of this machine."""

    def __init__(self, end: socket.socket) -> None:
        """Send and receive over a connected socket that keeps the bounds of messages."""
        self._socket = end
        self._free: Bytes | None = None  # for what comes next, made while the other end works on its answer

    def fileno(self) -> int:
        """What to wait for until something has come."""
        return self._socket.fileno()

    def send(self, packed: Packed, attached: Memory | None = None) -> None:
        """Send values, and more that others may be sent, too: both arrive or neither.

        Args:
            packed: The values.
            attached: What goes along.

        Raises:
            OSError: the other end is gone, or there is not enough memory.
        """
        small = packed.nbytes <= SMALL and len(packed.pieces) <= MOST_PIECES
        own = None if small else Memory(packed.joined())
        descriptors = [memory.descriptor for memory in (own, attached) if memory is not None]
        message = packed.pieces if small else [_IN_MEMORY]
        if descriptors:
            socket.send_fds(self._socket, message, descriptors)
        else:
            self._socket.sendmsg(message)
        if self._free is None:
            self._free = aligned(SMALL)

    def receive(self) -> tuple[Bytes, Bytes | None]:
        """Wait for what was sent next, and return both parts in memory of this process's own.

        Raises:
            EOFError: the other end is gone.
            OSError: this process has too many files open to take it.
        """
        own, self._free = aligned(SMALL) if self._free is None else self._free, None
        size, notes, flags, _ = self._socket.recvmsg_into([own.data], _NOTES)
        if not size:
            raise EOFError("The other end of the line is gone.")
        parts = [_read(descriptor) for _, _, note in notes for descriptor in array("i", note)]
        if flags & _CUT:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if size > len(_IN_MEMORY):
            parts.insert(0, own[:size])
        return parts[0], parts[1] if len(parts) > 1 else None

    def hang_up(self) -> None:
        """Let both ends see that nothing more will come; what has come can be read."""
        with suppress(OSError):  # the other end did so first
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the socket."""
        self.hang_up()
        self._socket.close()


class Listener:
    """Where one other process of this machine and this user may connect."""

    def __init__(self) -> None:
        """Wait in a folder that no other user may enter.

        Raises:
            OSError: a socket cannot be made there.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="rl-", ignore_cleanup_errors=True)
        self.address = str(Path(self._folder.name) / "line")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.bind(self.address)
            self._socket.listen(1)
        except OSError:
            self.close()
            raise

    def accept(self) -> Line:
        """Return the line to the process that has connected, and wait for no other."""
        end, _ = self._socket.accept()
        end.settimeout(SEND_TIMEOUT_S)
        self.close()
        return Line(end)

    def close(self) -> None:
        """Wait no more."""
        self._socket.close()
        self._folder.cleanup()


def listen() -> Listener | None:
    """Wait for a connection; None where the system has no such lines: they are Linux's."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        os.close(os.memfd_create("rl_core"))
        return Listener()
    except OSError:  # it is forbidden, a path too long for a socket, a folder that cannot be written to
        return None


def dial(address: str) -> Line | None:
    """Connect to a `Listener`; None if it is out of reach."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        end.connect(address)
    except OSError:
        end.close()
        return None
    return Line(end)


_NOTES = socket.CMSG_SPACE(2 * array("i").itemsize)
"""Bytes that two descriptors take beside a message."""
_CUT = int(socket.MSG_CTRUNC)  # as a member of an enumeration it takes longer to look at than the rest of a message
_IN_MEMORY = b"\0"
"""What is sent where a message is too long."""


def _read(descriptor: int) -> Bytes:
    """Copy what stands in memory that was shared, and close it here."""
    try:
        own = aligned(os.fstat(descriptor).st_size)
        start = 0
        while start < len(own):
            start += os.preadv(descriptor, [own[start:].data], start)
    finally:
        os.close(descriptor)
    return own
