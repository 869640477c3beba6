"""How an env runner in another process is asked and answers: over a line on this machine, in calls of Ray elsewhere."""

from __future__ import annotations

import socket
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from functools import cache, cached_property
from typing import Any, Protocol

from rl_core.errors import WorkerError
from rl_core.runtime.line import Line, Memory
from rl_core.runtime.packing import Bytes, pack
from rl_core.runtime.session import cause_of

SMALL = 65_536
"""Bytes that Ray sends with a call at less cost than through shared memory; up to 100,000 it does so."""
REASON_S = 1.0
"""Until Ray knows why a process is gone whose line has ended."""


class Publication:
    """Weights of one version, packed: written once for all runners, whichever way they read them."""

    def __init__(self, weights: Any) -> None:
        """Pack weights."""
        self._packed = pack(weights)

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

    def ask(self, method: str, arguments: tuple[Any, ...], publication: Publication | None) -> None:
        """Have a method called, after the runner has taken weights, if any are given."""

    def receive(self) -> Bytes:
        """Wait for the next answer, packed.

        Raises:
            WorkerError: the process is gone.
        """

    def finish(self) -> Any:
        """Have the envs freed after what the runner works on; returns a reference of Ray to wait for."""

    def close(self) -> None:
        """Free what is of this process."""


class LineChannel:
    """To a runner on this machine: requests, answers and weights cross a line."""

    def __init__(self, line: Line, handle: Any) -> None:
        """Let the actor answer what comes along the line from now on, and nothing else.

        Args:
            line: To the actor.
            handle: Of the actor.
        """
        self._line = line
        self._serving = handle.serve.remote()
        self._end: Future[None] = self._serving.future()
        # The call may fail in a process that lives on.
        self._end.add_done_callback(lambda _: line.hang_up())

    def fileno(self) -> int:
        """See `Channel`."""
        return self._line.fileno()

    def ask(self, method: str, arguments: tuple[Any, ...], publication: Publication | None) -> None:
        """See `Channel`."""
        request = (method, arguments, publication is not None)
        memory = None if publication is None else publication.memory
        try:
            self._line.send(pack(request, by_value=True) if arguments else _plain(*request))
            if memory is not None:
                self._line.share(memory)
        except OSError:  # who waits for the answer learns that the process is gone
            self._line.hang_up()

    def receive(self) -> Bytes:
        """See `Channel`."""
        try:
            return self._line.receive()
        except (EOFError, ConnectionError):
            pass
        try:
            self._end.result(REASON_S)
        except Exception as error:
            raise cause_of(error) from None
        raise WorkerError("Its process is gone.")

    def finish(self) -> Any:
        """See `Channel`."""
        self._line.hang_up()
        return self._serving

    def close(self) -> None:
        """See `Channel`."""
        self._line.close()


class CallChannel:
    """To a runner on another machine: requests are calls of Ray."""

    def __init__(self, handle: Any) -> None:
        """Call an actor by its handle."""
        self._handle = handle
        self._answers: deque[Future[Bytes]] = deque()
        self._bell, self._cord = socket.socketpair()

    def fileno(self) -> int:
        """See `Channel`."""
        return self._bell.fileno()

    def ask(self, method: str, arguments: tuple[Any, ...], publication: Publication | None) -> None:
        """See `Channel`."""
        argument = None if publication is None else publication.argument
        answer: Future[Bytes] = self._handle.answer.remote(method, arguments, argument).future()
        self._answers.append(answer)
        answer.add_done_callback(self._ring)

    def _ring(self, _: Future[Bytes]) -> None:
        with suppress(OSError):  # nobody waits any more
            self._cord.send(b"!")

    def receive(self) -> Bytes:
        """See `Channel`."""
        self._bell.recv(1)
        try:
            return self._answers.popleft().result()
        except Exception as error:
            raise cause_of(error) from None

    def finish(self) -> Any:
        """See `Channel`."""
        return self._handle.close.remote()

    def close(self) -> None:
        """See `Channel`."""
        self._cord.close()
        self._bell.close()


@cache
def _plain(method: str, arguments: tuple[()], has_weights: bool) -> Bytes:
    """A request without arguments, which is all that crosses again and again."""
    return pack((method, arguments, has_weights))
