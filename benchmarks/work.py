"""The work every contestant is given, and the clocks it is measured with. Imports the standard library only."""

from __future__ import annotations

import importlib
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENV = "CartPole-v1"
PENDULUM = "Pendulum-v1"
PONG = "ALE/Pong-v5"

Figures = dict[str, Any]
"""What one measurement found, by name; plain numbers and strings, so that it can be printed as JSON."""

NOT_NEEDED = ("ray", "matplotlib", "torch._dynamo", "tensorboard")
"""Modules that cost start-up time or memory and that one iteration of CartPole does not need."""
NOT_NEEDED_AT_IMPORT = (*NOT_NEEDED, "gymnasium.envs.classic_control")
"""The same for the import, which does not know the env yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One PPO job on CartPole: two separate 2x64 tanh networks, advantage normalised, no value clipping, no KL term."""

    num_envs: int = 8
    """Env slots."""
    num_steps: int = 128
    """Steps of each slot per iteration."""
    num_epochs: int = 4
    """Passes over each rollout."""
    minibatch_size: int = 256
    """Samples per gradient step."""
    lr: float = 2.5e-4
    """Adam's step size, constant."""
    vector: str = "sync"
    """gymnasium's vectorisation: `sync` (one Python env after the other) or `vector_entry_point` (numpy over slots)."""
    warmup: int = 3
    """Iterations that are not measured."""
    seconds: float = 5.0
    """How long to measure, at least; a whole number of iterations is run."""
    seed: int = 0
    """Seed of weights, sampling and envs."""
    half: bool = False
    """`pong`: convolutions in bfloat16."""
    memory: bool = False
    """`recurrent`: an LSTM instead of a feed-forward network with as many parameters."""
    num_runners: int = 0
    """`remote_...`: env runners in processes of their own."""
    algorithm: str = "ppo"
    """`remote_loop`: what ours trains with."""
    num_agents: int = 2
    """`multiagent`: agents, each with an env of its own within one episode."""
    shared_policy: bool = False
    """`multiagent`: one policy for all agents instead of one for each."""
    stop_return: float = 475.0
    """`learn`: mean return of a separate evaluation that ends the run."""
    stop_env_steps: int = 60_000
    """`learn`: a run that has not got there by then has failed."""
    tuned_settings: bool = False
    """`learn`: ours takes settings tuned for the env, as SB3 always does, instead of its defaults."""
    started_at: float = 0.0
    """`learn`: `time.time()` just before this process was started; filled in by `benchmarks.run`."""

    @property
    def batch_size(self) -> int:
        """Env steps of an iteration."""
        return self.num_envs * self.num_steps


def measure_rate(work: Work, iterate: Callable[[], int]) -> Figures:
    """Run ``iterate``, which returns the env steps it made, for ``work.seconds`` after the warm-up.

    ``cpu_share`` tells how far to trust the figure: below 0.95, a single process waited for a busy machine.
    """
    for _ in range(work.warmup):
        iterate()
    env_steps = iterations = 0
    cpu_started, started = time.process_time(), time.perf_counter()
    while (elapsed := time.perf_counter() - started) < work.seconds:
        env_steps += iterate()
        iterations += 1
    return {
        "env_steps_per_s": env_steps / elapsed,
        "iterations": iterations,
        "cpu_share": (time.process_time() - cpu_started) / elapsed,
    }


def measure_recovery(
    work: Work, iterate: Callable[[], Any], processes: Callable[[], list[int]], num_ready: Callable[[], int]
) -> Figures:
    """Kill one of several runners again and again, and see how long they are fewer and what the others do meanwhile.

    Args:
        work: A whole number of recoveries is measured, three at least.
        iterate: Samples, or trains, with the runners there are.
        processes: Returns the ids of the runners' processes.
        num_ready: Returns how many runners can sample.
    """
    for _ in range(work.warmup):
        iterate()
    seconds, longest, begun = [], 0.0, time.perf_counter()
    while time.perf_counter() - begun < work.seconds or len(seconds) < 3:
        old = set(processes())
        os.kill(min(old), signal.SIGKILL)
        killed = time.perf_counter()
        while time.perf_counter() - killed < 0.5 or num_ready() < work.num_runners:
            started = time.perf_counter()
            iterate()
            longest = max(longest, time.perf_counter() - started)
        seconds.append(time.perf_counter() - killed)
        if len(set(processes()) - old) != 1:
            raise RuntimeError("The runner that was killed was not replaced by one other.")
    return {"seconds": statistics.median(seconds), "slowest_s": max(seconds), "longest_iteration_s": longest}


def measure_startup(import_library: Callable[[], Any], first_iteration: Callable[[Any], Any]) -> Figures:
    """Import torch, then the library, then run one PPO iteration; tell what each step cost beyond torch."""
    clock = time.perf_counter
    started = clock()
    importlib.import_module("torch")
    torch_done, torch_modules, torch_memory = clock(), set(sys.modules), resident_mib()
    library = import_library()
    imported = clock()
    num_modules = len(set(sys.modules) - torch_modules)
    needless_at_import = [name for name in NOT_NEEDED_AT_IMPORT if name in sys.modules]
    algorithm = first_iteration(library)
    done = clock()
    figures = {
        "import_torch_s": torch_done - started,
        "import_s": imported - torch_done,
        "first_iteration_s": done - imported,
        "ready_s": done - torch_done,
        "modules": num_modules,
        "memory_mib": resident_mib() - torch_memory,
        "needless_at_import": needless_at_import,
        "needless_after_iteration": [name for name in NOT_NEEDED if name in sys.modules],
    }
    del algorithm  # it was to be in memory until the figures were taken
    return figures


def resident_mib() -> float:
    """Return the resident memory of this process and of all it has started, in MiB."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it ended meanwhile
            continue
    family = {os.getpid()}
    while found := {child for child, parent in parents.items() if parent in family} - family:
        family |= found
    return sum(map(_resident_bytes, family)) / 2**20


def _resident_bytes(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
