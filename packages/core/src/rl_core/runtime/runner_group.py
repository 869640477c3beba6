"""Env runners in other processes: started, asked, watched, replaced."""

from __future__ import annotations

import math
import select
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rl_core.algorithm.components import Purpose
from rl_core.errors import CheckpointError, ConfigError, NonFiniteError, UnsupportedSpaceError, WorkerError
from rl_core.runtime.channel import CallChannel, Channel, LineChannel, Publication, request_of
from rl_core.runtime.line import Listener, listen
from rl_core.runtime.packing import unpack
from rl_core.runtime.runner_actor import Blueprint, Failure, RunnerActor
from rl_core.runtime.session import cause_of, connect, located, require_resources, send_config, wanted_by_runner

if TYPE_CHECKING:
    from rl_core.algorithm.config import AlgorithmConfig

START_TIMEOUT_S = 120.0
"""Until a first runner must be there."""
CLOSE_TIMEOUT_S = 1.0
"""For envs to close before their process is ended."""
MAX_FAILURES = 3
"""So often in a row, without a result in between, a runner may fail before its error ends the run."""
_HOPELESS = (CheckpointError, ConfigError, NonFiniteError, UnsupportedSpaceError)
"""What a new runner would fail for, too."""
POLL_S = 0.5
"""How long to wait for results before looking at time-outs and new runners."""


@dataclass(eq=False, slots=True)
class Request:
    """A call that a runner has not answered yet."""

    started: float
    """When it was asked, or when the runner was done with what came before."""
    timeout_s: float
    """For how long the runner may work on it."""
    is_awaited: bool = True
    """Whether anybody still wants the answer."""


@dataclass(eq=False, slots=True)
class Member:
    """A remote runner as seen from here."""

    index: int
    handle: Any
    starting: Any
    """What its setup will return."""
    listener: Listener | None
    """Where it may connect a line to until then."""
    channel: Channel | None = None
    """To ask it; None until it is ready."""
    generation: int = 0
    """How often it was built before."""
    failures: int = 0
    """In a row."""
    pending: deque[Request] = field(default_factory=deque)
    """In the order they will be answered."""

    def welcome(self, is_on_line: bool) -> None:
        """Take it in as ready, with a line to it or without."""
        if is_on_line:
            assert self.listener is not None, "it has connected there"
            self.channel = LineChannel(self.listener.accept(), self.handle)
        else:
            self.stop_listening()
            self.channel = CallChannel(self.handle)

    def stop_listening(self) -> None:
        """Free the sockets to it."""
        for end in (self.listener, self.channel):
            if end is not None:
                end.close()

    @property
    def is_ready(self) -> bool:
        """Whether it can be asked."""
        return self.channel is not None


class RunnerGroup:
    """Remote env runners, each an actor.

    One that dies or hangs is replaced in the background while the others go on.
    """

    def __init__(self, config: AlgorithmConfig, purpose: Purpose, num_runners: int) -> None:
        """Start the runners and wait for them: at least for one, for all of them up to `START_TIMEOUT_S`.

        Raises:
            ConfigError: Ray is missing, the cluster is too small, or the config cannot be sent to another process.
            EnvError: the env cannot be made there.
        """
        self._ray = connect(f"num_env_runners={num_runners}")
        self._purpose: Purpose = purpose
        runners, faults = config.env_runners.settings, config.fault_tolerance.settings
        require_resources(config)
        wanted = wanted_by_runner(config)
        self._timeout, self._restarts = runners.sample_timeout_s, faults.restart_failed_env_runners
        self._max_restarts = faults.max_num_env_runner_restarts
        self._actor = self._ray.remote(RunnerActor).options(
            num_cpus=wanted.pop("CPU", 0), num_gpus=wanted.pop("GPU", 0), resources=wanted or None, max_restarts=0
        )
        self._config = send_config(config)
        self.num_restarts = 0
        """Runners that were replaced so far."""
        self._lost: list[Request] = []
        self._heard: list[tuple[Member, Request, Any]] = []  # answers that nobody has looked at yet
        self._node = self._ray.get_runtime_context().get_node_id()
        self.members: list[Member] = []
        try:
            for index in range(num_runners):
                self.members.append(self._start(index))
            self.blueprint = self._wait_for_first()
            self.wait_for_all()
        except BaseException:
            self.stop()
            raise

    def _start(self, index: int, *, generation: int = 0, failures: int = 0) -> Member:
        handle = self._actor.remote(self._config, self._purpose, (index, generation))
        listener = listen()
        starting = handle.setup.remote(self._node, listener and listener.address)
        return Member(index, handle, starting, listener, generation=generation, failures=failures)

    def _wait_for_first(self) -> Blueprint:
        """Wait until a runner is ready, and return how it describes itself."""
        starting = [member.starting for member in self.members]
        ready, _ = self._ray.wait(starting, timeout=START_TIMEOUT_S)
        if not ready:
            free = {name: amount for name, amount in self._ray.available_resources().items() if ":" not in name}
            raise WorkerError(
                f"No env runner was ready after {START_TIMEOUT_S:g} s. If other work holds the cluster's resources "
                f"(free: {free}), wait for it or ask for less. If other processes keep the cores busy, Ray's give way "
                "to them: start Ray with RAY_worker_niceness=0. Else the env may hang while it is made."
            )
        try:
            blueprint: Blueprint = self._ray.get(ready[0])[0]
        except Exception as error:
            raise cause_of(error) from None
        return blueprint

    def wait_for_all(self) -> None:
        """Wait until every runner has started; those that take longer than `START_TIMEOUT_S` join later."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while any(not member.is_ready for member in self.members) and time.monotonic() < deadline:
            self._ray.wait([member.starting for member in self.members if not member.is_ready], timeout=POLL_S)
            self.welcome()

    def welcome(self) -> None:
        """Take in the runners that have become ready.

        Raises:
            EnvError: one failed again and again.
        """
        starting = {member.starting: member for member in self.members if not member.is_ready}
        if not starting:
            return
        ready, _ = self._ray.wait(list(starting), num_returns=len(starting), timeout=0)
        for ref in ready:
            member = starting[ref]
            try:
                _, is_on_line = self._ray.get(ref)
            except Exception as error:  # what the user's env raised, or Ray's word that the process is gone
                self._replace(member, cause_of(error))
            else:
                member.welcome(is_on_line)

    def ready(self) -> list[Member]:
        """The runners that can be asked; waits for one if there is none.

        Raises:
            RLError: none is left.
        """
        self.welcome()
        while not (ready := [member for member in self.members if member.is_ready]):
            if not self.members:
                raise WorkerError("All env runners failed and may not be replaced: see restart_failed_env_runners.")
            self._ray.wait([member.starting for member in self.members], timeout=POLL_S)
            self.welcome()
        return ready

    def ask(
        self,
        member: Member,
        method: str,
        *arguments: Any,
        publication: Publication | None = None,
        timeout_s: float | None = None,
    ) -> Request:
        """Ask a runner that is ready.

        Args:
            member: The runner.
            method: Of `RunnerActor`.
            arguments: Of the method.
            publication: Weights that the runner takes before; None leaves it those it has.
            timeout_s: How long it may take; None for `sample_timeout_s`.
        """
        assert member.channel is not None, "it is not ready"
        written = request_of(method, *arguments)
        request = Request(time.monotonic(), self._timeout if timeout_s is None else timeout_s)
        try:
            member.pending.append(request)
            member.channel.ask(written, publication)
        except BaseException:  # such as an interrupt: nobody knows whether it was sent
            member.channel.break_off()
            raise
        return request

    @property
    def num_pending(self) -> int:
        """Requests without an answer."""
        return sum(len(member.pending) for member in self.members)

    def forget(self) -> None:
        """Drop the answers to all that was asked so far as they come; errors among them are raised no more."""
        pending = [request for member in self.members for request in member.pending]
        for request in pending + [request for _, request, _ in self._heard]:
            request.is_awaited = False

    def collect(self, timeout: float = POLL_S) -> list[tuple[Member, Request, Any]]:
        """Wait for answers, at least one if there is time, and return all there are, with what they answer.

        Runners that died, failed or took too long are replaced, their requests are lost.

        Raises:
            RLError: a runner failed for a reason that a new one would fail for, too.
        """
        if not self._heard:
            self._listen(timeout)
        for member, request, answer in [heard for heard in self._heard if isinstance(heard[2], Failure)]:
            self._heard = [heard for heard in self._heard if heard[1] is not request]
            self._lost.append(request)
            if member in self.members and request.timeout_s < math.inf:  # else a call that was interrupted
                self._replace(member, located(answer.error, answer.trace), is_awaited=request.is_awaited)
        heard, self._heard = self._heard, []
        for member, _, _ in heard:
            member.failures = 0
        return [(member, request, answer) for member, request, answer in heard if request.is_awaited]

    def _listen(self, timeout: float) -> None:
        """Take in the answers that have come, or the first ones that come: the next one of each runner.

        Raises:
            RLError: see `collect`.
        """
        asked = [(member, member.channel) for member in self.members if member.channel and member.pending]
        poll = select.poll()
        for _, channel in asked:
            poll.register(channel.fileno(), select.POLLIN)
        came = dict(poll.poll(1e3 * timeout)) if asked else {}
        now = time.monotonic()
        for member, channel in asked:
            request = member.pending[0]
            if channel.fileno() in came:
                try:
                    answer = unpack(channel.receive())
                    self._heard.append((member, member.pending.popleft(), answer))
                except Exception as error:
                    self._replace(member, error, is_awaited=request.is_awaited)
                    continue
                except BaseException:  # an interrupt: nobody knows whether it was read
                    channel.break_off()
                    raise
                if member.pending:
                    member.pending[0].started = now
            elif now - request.started > request.timeout_s:
                limit = f"sample_timeout_s={request.timeout_s:g}"
                late = WorkerError(f"Env runner {member.index} did not answer for {limit} seconds.")
                self._replace(member, late, is_awaited=request.is_awaited)

    def take_lost(self) -> list[Request]:
        """Return the requests that were lost since the last call: no answer will come."""
        lost, self._lost = self._lost, []
        return lost

    def _replace(self, member: Member, error: BaseException, *, is_awaited: bool = True) -> None:
        """Give up a runner and start another in its place, if there may be another.

        Args:
            member: The runner.
            error: What it failed for.
            is_awaited: Whether that is anybody's answer; False for that to a forgotten request.

        Raises:
            RLError: the error, if another will not help at once; failures count anew from then on.
        """
        place, failures = self.members.index(member), member.failures + 1
        is_replaced = self._restarts and self.num_restarts < self._max_restarts
        if is_replaced:
            successor = self._start(member.index, generation=member.generation + 1, failures=failures)
            self.num_restarts += 1
            self.members[place] = successor
        else:
            del self.members[place]
        self._end(member)  # now that an interrupt cannot leave the others without it
        if is_awaited and (isinstance(error, _HOPELESS) or failures >= MAX_FAILURES or not self.members):
            for other in self.members:
                other.failures = 0
            raise error
        what = "replaced" if is_replaced else "lost and not replaced"
        warnings.warn(f"Env runner {member.index} is {what}: {error}", stacklevel=2)

    def _end(self, member: Member) -> None:
        """End a runner's process; what it was asked is lost."""
        self._ray.kill(member.handle, no_restart=True)
        member.stop_listening()
        self._lost += member.pending
        member.pending.clear()

    def call_each(self, functions: Sequence[Callable[[Any], Any]], publication: Publication | None = None) -> list[Any]:
        """Call the i-th function with the i-th runner that is ready, in its process, and return what they gave.

        A runner whose process is gone is replaced, and gives nothing.

        Args:
            functions: As many as there are runners, or fewer.
            publication: What the runners act with from then on; None leaves them as they are.

        Raises:
            Exception: what the function raised.
        """
        return self._ask_each("apply", [(function,) for function in functions], publication)

    def _ask_each(self, method: str, each: Sequence[tuple[Any, ...]], publication: Publication | None) -> list[Any]:
        """Ask the i-th runner that is ready the same with the i-th arguments; see `call_each`."""
        asked: dict[Request, Member] = {}
        try:
            for member, arguments in zip(self.ready(), each, strict=False):
                request = self.ask(member, method, *arguments, publication=publication, timeout_s=math.inf)
                asked[request] = member
            while any(request in member.pending for request, member in asked.items()):
                self._listen(POLL_S)
            answers = {request: answer for _, request, answer in self._heard if request in asked}
        finally:
            for request in asked:
                request.is_awaited = False
            self._heard = [heard for heard in self._heard if heard[1] not in asked]
        for answer in answers.values():
            if isinstance(answer, Failure):
                raise located(answer.error, answer.trace)
        return [answers[request] for request in asked if request in answers]

    def change_config(self, config: AlgorithmConfig) -> Blueprint:
        """Build runners by another config from now on; returns how one of those there are describes itself."""
        self._config = send_config(config)
        while not (blueprints := self._ask_each("describe", [()], None)):
            pass  # its process was gone
        blueprint: Blueprint = blueprints[0]
        return blueprint

    def resize(self, num_runners: int) -> None:
        """Start more runners, or stop the last ones; what they were asked is lost."""
        while len(self.members) > num_runners:
            self._end(self.members.pop())
        taken = {member.index for member in self.members}
        free = (index for index in range(num_runners + len(taken)) if index not in taken)
        while len(self.members) < num_runners:
            self.members.append(self._start(next(free)))

    def stop(self) -> None:
        """End all processes."""
        closing = [member.channel.finish() for member in self.members if member.channel]
        if closing:
            self._ray.wait(closing, num_returns=len(closing), timeout=CLOSE_TIMEOUT_S)
        for member in self.members:
            self._end(member)
        self.members = []
