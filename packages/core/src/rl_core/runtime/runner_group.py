"""Env runners in other processes: started, asked, watched, replaced."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rl_core.algorithm.components import Purpose
from rl_core.errors import CheckpointError, ConfigError, NonFiniteError, UnsupportedSpaceError, WorkerError
from rl_core.runtime.packing import Bytes
from rl_core.runtime.runner_actor import Blueprint, RunnerActor
from rl_core.runtime.session import cause_of, connect, require_resources, send_config, wanted_by_runner

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
SMALL = 65_536
"""Bytes that Ray sends with a call at less cost than through shared memory; up to 100,000 it does so."""


@dataclass(eq=False, slots=True)
class Request:
    """A call that a runner has not answered yet."""

    ref: Any
    started: float
    """When it was asked, or when the runner was done with what came before."""
    is_awaited: bool = True
    """Whether anybody still wants the answer."""


@dataclass(eq=False, slots=True)
class Member:
    """A remote runner as seen from here."""

    index: int
    handle: Any
    starting: Any
    """What its setup will return; None once it is ready."""
    generation: int = 0
    """How often it was built before."""
    failures: int = 0
    """In a row."""
    pending: deque[Request] = field(default_factory=deque)
    """In the order they will be answered."""

    @property
    def is_ready(self) -> bool:
        """Whether it can be asked."""
        return self.starting is None


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
        return Member(index, handle, handle.setup.remote(), generation=generation, failures=failures)

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
            blueprint: Blueprint = self._ray.get(ready[0])
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
                self._ray.get(ref)
            except Exception as error:  # what the user's env raised, or Ray's word that the process is gone
                self._replace(member, cause_of(error))
            else:
                member.starting = None

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

    def ask(self, member: Member, method: str, *arguments: Any, **settings: Any) -> Request:
        """Call a method of a runner's actor; references among the arguments are resolved there."""
        request = Request(getattr(member.handle, method).remote(*arguments, **settings), time.monotonic())
        member.pending.append(request)
        return request

    @property
    def num_pending(self) -> int:
        """Requests without an answer."""
        return sum(len(member.pending) for member in self.members)

    def forget(self) -> None:
        """Drop the answers to all that was asked so far as they come; errors among them are raised no more."""
        for member in self.members:
            for request in member.pending:
                request.is_awaited = False

    def collect(self, timeout: float = POLL_S) -> list[tuple[Member, Request, Any]]:
        """Wait for answers, at least one if there is time, and return all there are, with what they answer.

        Runners that died or took longer than `sample_timeout_s` are replaced, their requests are lost.

        Raises:
            RLError: a runner failed for a reason that a new one would fail for, too.
        """
        first = {member.pending[0].ref: member for member in self.members if member.pending}
        answers: list[tuple[Member, Request, Any]] = []
        if not first:
            return answers
        self._ray.wait(list(first), timeout=timeout)
        ready, _ = self._ray.wait(list(first), num_returns=len(first), timeout=0)
        now = time.monotonic()
        for ref, member in first.items():
            request = member.pending[0]
            if ref in ready:
                try:
                    answer = self._ray.get(ref)
                except Exception as error:  # as in welcome
                    self._replace(member, cause_of(error), is_awaited=request.is_awaited)
                else:
                    member.pending.popleft()
                    if request.is_awaited:
                        answers.append((member, request, answer))
                    member.failures = 0
                    if member.pending:
                        member.pending[0].started = now
            elif now - request.started > self._timeout:
                limit = f"sample_timeout_s={self._timeout:g}"
                late = WorkerError(f"Env runner {member.index} did not answer for {limit} seconds.")
                self._replace(member, late, is_awaited=request.is_awaited)
        return answers

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
        self._ray.kill(member.handle, no_restart=True)
        self._lost += member.pending
        place, failures = self.members.index(member), member.failures + 1
        is_replaced = self._restarts and self.num_restarts < self._max_restarts
        if is_replaced:
            self.num_restarts += 1
            self.members[place] = self._start(member.index, generation=member.generation + 1, failures=failures)
        else:
            del self.members[place]
        if is_awaited and (isinstance(error, _HOPELESS) or failures >= MAX_FAILURES or not self.members):
            for other in self.members:
                other.failures = 0
            raise error
        what = "replaced" if is_replaced else "lost and not replaced"
        warnings.warn(f"Env runner {member.index} is {what}: {error}", stacklevel=2)

    def call_each(self, functions: Sequence[Callable[[Any], Any]], weights: Any = None) -> list[Any]:
        """Call the i-th function with the i-th runner that is ready, in its process, and return what they gave.

        A runner whose process is gone is replaced, and gives nothing.

        Args:
            functions: As many as there are runners, or fewer.
            weights: A reference to what the runners act with from then on; None leaves them as they are.

        Raises:
            Exception: what the function raised.
        """
        asked = [
            (member, member.handle.apply.remote(function, weights))
            for member, function in zip(self.ready(), functions, strict=False)
        ]
        results = []
        for member, ref in asked:
            try:
                results.append(self._ray.get(ref))
            except Exception as error:
                cause = cause_of(error)
                if not isinstance(cause, WorkerError):
                    raise cause from None
                self._replace(member, cause)
        return results

    def change_config(self, config: AlgorithmConfig) -> Blueprint:
        """Build runners by another config from now on; returns how one of those there are describes itself."""
        self._config = send_config(config)
        blueprint: Blueprint = self._ray.get(self.ready()[0].handle.describe.remote())
        return blueprint

    def put(self, packed: Bytes) -> Any:
        """Put something where all runners can read it; what is small goes along with each request instead."""
        return packed if packed.nbytes <= SMALL else self._ray.put(packed)

    def resize(self, num_runners: int) -> None:
        """Start more runners, or stop the last ones; what they were asked is lost."""
        while len(self.members) > num_runners:
            member = self.members.pop()
            self._lost += member.pending
            self._ray.kill(member.handle, no_restart=True)
        taken = {member.index for member in self.members}
        free = (index for index in range(num_runners + len(taken)) if index not in taken)
        while len(self.members) < num_runners:
            self.members.append(self._start(next(free)))

    def stop(self) -> None:
        """End all processes."""
        for member in self.members:
            member.pending.clear()
        closing = [member.handle.close.remote() for member in self.members if member.is_ready]
        if closing:
            self._ray.wait(closing, num_returns=len(closing), timeout=CLOSE_TIMEOUT_S)
        for member in self.members:
            self._ray.kill(member.handle, no_restart=True)
        self.members = []
