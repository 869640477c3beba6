"""How an env runner in another process is asked and answers: over a line on this machine, in calls of Ray elsewhere."""

from __future__ import annotations

import socket
import weakref
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from functools import cache, cached_property
from typing import Any, Protocol

from rl_core.errors import WorkerError
from rl_core.runtime.line import Line, Memory
from rl_core.runtime.packing import Bytes, Packed, pack, pack_any
from rl_core.runtime.session import cause_of

SMALL = 65_536
"""Bytes that Ray sends with a call at less cost than through shared memory; up to 100,000 it does so."""
REASON_S = 1.0
"""Until Ray knows why a process is gone whose line has ended."""
INTERRUPTED = "The exchange with it was interrupted half-way."


class Publication:
    """Weights of one version, packed: written once for all runners, whichever way they read them."""

    def __init__(self, weights: Any) -> None:
        """Pack weights."""
        self._packed = pack(weights).joined()

    @cached_property
    def memory(self) -> Memory:
        """What lines are given."""
        return Memory(self._packed)

    @cached_property
    def argument(self) -> Any:
        """What calls of Ray are given: a reference, or what is small itself."""
        import ray

        return self._packed if self._packed.nbytes <= SMALL else ray.put(self._packed)


class Channel(Protocol):
    """Requests to a runner's actor, which it answers in their order."""

    def fileno(self) -> int:
        """What can be read from when an answer has come, or none will come any more."""

    def ask(self, request: Packed, publication: Publication | None) -> None:
        """Send a request, see `request_of`, for after the runner has taken weights, if any are given."""

    def receive(self) -> Bytes:
        """Wait for the next answer, packed.

        Raises:
            WorkerError: the process is gone, or `break_off` was called.
        """

    def finish(self) -> Any:
        """Have the envs freed after what the runner works on; returns a reference of Ray to wait for."""

    def break_off(self) -> None:
        """Take no more answers: which one answers what is not certain any more."""

    def close(self) -> None:
        """Free what is of this process."""


def request_of(method: str, *arguments: Any) -> Packed:
    """Write down that a method of `RunnerActor` is to be called.

    Raises:
        Exception: an argument cannot be sent.
    """
    return pack_any((method, arguments)) if arguments else _plain(method)


@cache
def _plain(method: str) -> Packed:
    """A request without arguments, which is all that crosses again and again."""
    return pack((method, ()))


class LineChannel:
    """To a runner on this machine: requests, answers and weights cross a line."""

    def __init__(self, line: Line, handle: Any) -> None:
        """Let the actor answer what comes along the line from now on, and nothing else.

        Args:
            line: To the actor.
            handle: Of the actor.
        """
        self._line = line
        self._is_broken = False
        self._serving = handle.serve.remote()
        self._end: Future[None] = self._serving.future()
        # The call may fail in a process that lives on.
        self._end.add_done_callback(lambda _: line.hang_up())
        weakref.finalize(self, line.close)  # Ray ends an actor that nobody has any more when its calls have ended

    def fileno(self) -> int:
        """See `Channel`."""
        return self._line.fileno()

    def ask(self, request: Packed, publication: Publication | None) -> None:
        """See `Channel`."""
        memory = None if publication is None else publication.memory
        try:
            self._line.send(request, memory)
        except OSError:  # who waits for the answer learns that the process is gone
            self._line.hang_up()

    def receive(self) -> Bytes:
        """See `Channel`."""
        if self._is_broken:
            raise WorkerError(INTERRUPTED)
        try:
            answer, _ = self._line.receive()
        except (EOFError, ConnectionError):
            raise self._reason() from None
        return answer

    def _reason(self) -> BaseException:
        """What Ray says of how the process ended."""
        with suppress(TimeoutError):
            error = self._end.exception(REASON_S)
            if error is not None:
                return cause_of(error)
        return WorkerError("Its line has ended.")

    def finish(self) -> Any:
        """See `Channel`."""
        self._line.hang_up()
        return self._serving

    def break_off(self) -> None:
        """See `Channel`."""
        self._is_broken = True
        self._line.hang_up()

    def close(self) -> None:
        """See `Channel`."""
        self._line.close()


class CallChannel:
    """To a runner on another machine: requests are calls of Ray."""

    def __init__(self, handle: Any) -> None:
        """Call an actor by its handle."""
        self._handle = handle
        self._is_broken = False
        self._answers: deque[Future[Bytes]] = deque()
        self._bell, self._cord = socket.socketpair()

    def fileno(self) -> int:
        """See `Channel`."""
        return self._bell.fileno()

    def ask(self, request: Packed, publication: Publication | None) -> None:
        """See `Channel`."""
        argument = None if publication is None else publication.argument
        answer: Future[Bytes] = self._handle.answer.remote(request.joined(), argument).future()
        self._answers.append(answer)
        answer.add_done_callback(self._ring)

    def _ring(self, _: Future[Bytes]) -> None:
        with suppress(OSError):  # nobody waits any more
            self._cord.send(b"!")

    def receive(self) -> Bytes:
        """See `Channel`."""
        if self._is_broken:
            raise WorkerError(INTERRUPTED)
        self._bell.recv(1)
        try:
            return self._answers.popleft().result()
        except Exception as error:
            raise cause_of(error) from None

    def finish(self) -> Any:
        """See `Channel`."""
        return self._handle.close.remote()

    def break_off(self) -> None:
        """See `Channel`."""
        self._is_broken = True
        self._cord.close()

    def close(self) -> None:
        """See `Channel`."""
        self._cord.close()
        self._bell.close()
