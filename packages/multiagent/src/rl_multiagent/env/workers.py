"""Env slots in processes of their own, which write into arrays that all share."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import RawArray
from typing import Any, cast

import numpy as np
from gymnasium.vector.utils import CloudpickleWrapper

from rl_core.errors import CheckpointError, EnvError
from rl_core.records import Tree
from rl_core.tree import tree_leaves, tree_map
from rl_multiagent.env.agent_env import MultiAgentEnv
from rl_multiagent.env.arrays import AgentArrays
from rl_multiagent.env.layout import AgentLayout, agent_layout
from rl_multiagent.env.slot import EnvSlot
from rl_multiagent.records import AgentsStep

_CLOSE_TIMEOUT_S = 5.0


class AsyncAgentsEnv:
    """Steps every env slot in a process of its own.

    Observations, rewards, flags and actions stand in shared memory. Through the pipes go one word for each step, and
    errors.
    """

    def __init__(
        self, make_env: Callable[[], MultiAgentEnv], num_envs: int, *, name: str, start_method: str | None = None
    ) -> None:
        """Start the processes.

        Args:
            make_env: Makes one env; also called here once, to see the spaces.
            num_envs: E.
            name: What messages call it.
            start_method: As in `multiprocessing`: `"fork"`, `"spawn"` or `"forkserver"`; None for Python's own choice.

        Raises:
            EnvError: an env cannot be made.
        """
        self.num_envs = num_envs
        self._name = name
        env = make_env()
        try:
            self.layout = agent_layout(env, name)
        finally:
            env.close()
        context: Any = multiprocessing.get_context(start_method)
        memory = _SharedMemory()
        arrays, self._actions = memory.arrays(self.layout, num_envs)
        self._step = arrays.step()
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        try:
            for row in range(num_envs):
                pipe, other = context.Pipe()
                process = context.Process(
                    target=_work,
                    args=(other, CloudpickleWrapper(cast(Any, make_env)), self.layout, memory),
                    kwargs={"num_envs": num_envs, "row": row, "name": name},
                    daemon=True,
                    name=f"{name}-{row}",
                )
                process.start()
                other.close()
                self._pipes.append(pipe)
                self._processes.append(process)
            self._collect()
        except BaseException:
            self.close()
            raise

    def reset(self, seed: int | None = None) -> AgentsStep:
        """Begin a new episode in every slot; slot e gets `seed + e`."""
        self._ask("reset", [None if seed is None else seed + row for row in range(self.num_envs)])
        return self._step

    def step(self, actions: tuple[Tree, ...]) -> AgentsStep:
        """Act in every slot; what is returned are buffers, valid until the next call."""
        for target, leaf in zip(tree_leaves(self._actions), tree_leaves(actions), strict=True):
            target[:] = leaf
        self._ask("step")
        return self._step

    def close(self) -> None:
        """Close all envs and wait until their processes are gone."""
        for pipe in self._pipes:
            try:
                pipe.send(("close", None))
            except (BrokenPipeError, OSError):
                continue  # that process is gone already
        deadline = time.monotonic() + _CLOSE_TIMEOUT_S
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        for pipe in self._pipes:
            pipe.close()
        self._pipes, self._processes = [], []

    def get_state(self) -> dict[str, Any] | None:
        """The state of all slots."""
        states = self._ask("get_state")
        return None if any(state is None for state in states) else {"slots": states}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue where `get_state` was called.

        Raises:
            CheckpointError: the state does not fit.
        """
        if len(state["slots"]) != self.num_envs:
            raise CheckpointError(f"The saved env state has {len(state['slots'])} slots, this run {self.num_envs}.")
        self._ask("set_state", state["slots"])

    def _ask(self, command: str, arguments: Sequence[Any] | None = None) -> list[Any]:
        """Send a command to all processes and wait for all answers.

        Raises:
            EnvError: an env failed, or its process died.
        """
        if not self._pipes:
            raise EnvError(f"{self._name}: {command} was called, but the env is closed.")
        for row, pipe in enumerate(self._pipes):
            try:
                pipe.send((command, None if arguments is None else arguments[row]))
            except (BrokenPipeError, OSError):
                continue  # its answer says so
        return self._collect()

    def _collect(self) -> list[Any]:
        """Take the answer of every process; the first problem is raised when all have answered."""
        answers, problems = [], []
        for row, pipe in enumerate(self._pipes):
            try:
                answer, problem = pipe.recv()
            except (EOFError, ConnectionResetError):
                process = self._processes[row]
                process.join(_CLOSE_TIMEOUT_S)
                problem = EnvError(
                    f"{self._name}, env slot {row}: its process died with exit code {process.exitcode}. What the env "
                    "wrote before stands in the output; gym_env_vectorize_mode='sync' shows where it happens."
                )
                answer = None
            answers.append(answer)
            problems += [] if problem is None else [problem]
        if problems:
            raise problems[0]
        return answers


class _SharedMemory:
    """Blocks of memory that processes share, in the order in which they are asked for."""

    def __init__(self) -> None:
        self._blocks: list[Any] = []

    def arrays(self, layout: AgentLayout, num_envs: int) -> tuple[AgentArrays, tuple[Tree, ...]]:
        """Lay out the arrays and the actions: in new blocks at first, in another process in the same ones again."""
        known = iter(self._blocks) if self._blocks else None

        def place(array: np.ndarray) -> np.ndarray:
            return self._place(array, known)

        arrays = AgentArrays.allocate(layout, num_envs, place)
        return arrays, tuple(tree_map(place, part) for part in layout.empty_actions(num_envs))

    def _place(self, array: np.ndarray, known: Iterator[Any] | None) -> np.ndarray:
        """Make an array of zeros like another in a block of its own."""
        if known is None:
            block = RawArray("b", max(array.nbytes, 1))
            self._blocks.append(block)
        else:
            block = next(known)
        return np.frombuffer(block, array.dtype, array.size).reshape(array.shape)


def _work(
    pipe: Connection,
    make_env: Callable[[], MultiAgentEnv],
    layout: AgentLayout,
    memory: _SharedMemory,
    *,
    num_envs: int,
    row: int,
    name: str,
) -> None:
    """Keep one env slot; consumes commands, answers each with `(answer, problem)`, ends with `close`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means, and closes
    arrays, actions = memory.arrays(layout, num_envs)
    slot: EnvSlot | None = None
    command, argument = "make", None
    while command != "close":
        answer, problem = None, None
        try:
            if command == "make":
                slot = EnvSlot(make_env(), layout, arrays, row=row, name=name)
            elif slot is not None:
                answer = _act(slot, command, argument, actions)
        except (EnvError, CheckpointError) as error:
            problem = type(error)(str(error))
        except Exception as error:
            problem = EnvError(f"{name}, env slot {row}: {command} failed with {type(error).__name__}: {error}")
        try:
            pipe.send((answer, problem))
            command, argument = pipe.recv()
        except (EOFError, BrokenPipeError):
            break  # the parent is gone
    if slot is not None:
        slot.close()


def _act(slot: EnvSlot, command: str, argument: Any, actions: tuple[Tree, ...]) -> Any:
    """Do what a command says."""
    if command == "step":
        slot.step(actions)
        return None
    if command == "reset":
        slot.reset(argument)
        return None
    if command == "get_state":
        return slot.get_state()
    slot.set_state(argument)
    return None
