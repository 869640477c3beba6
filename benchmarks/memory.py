"""Whether a long run grows: `python -m benchmarks.memory --minutes 30`.

PPO on CartPole with remote runners; the resident memory of every process is read every few seconds. After the warm-up a
straight line is fitted through each process's memory, and its slope is printed in MiB per 10 minutes. Exits with 1 if
one is above `--most`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from rl_core import PPOConfig

PAGE = os.sysconf("SC_PAGE_SIZE") / 2**20
"""MiB."""


def resident(pid: int) -> float:
    """Resident memory of a process in MiB, less what it shares with others (Ray's object store, libraries)."""
    _, pages, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(pages) - int(shared)) * PAGE


def pid_of(runner: Any) -> int:
    """Id of a runner's process."""
    del runner
    return os.getpid()


def slopes(times: list[float], memory: dict[str, list[float]], *, after: float) -> dict[str, float]:
    """Fit a line through each process's memory after the warm-up; slopes in MiB per 10 minutes."""
    chosen = np.array(times) >= after
    return {
        name: float(np.polyfit(np.array(times)[chosen], np.array(values)[chosen], 1)[0]) * 600.0
        for name, values in memory.items()
    }


def main() -> int:
    """Run and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--warm-up", type=float, default=5.0, help="minutes that do not count")
    parser.add_argument("--num-env-runners", type=int, default=2)
    parser.add_argument("--most", type=float, default=1.0, help="MiB per 10 minutes")
    arguments = parser.parse_args()
    config = PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=arguments.num_env_runners)
    config.training(train_batch_size_per_learner=2048, minibatch_size=256, num_epochs=2)
    algorithm = config.build()
    pids = {f"runner {number}": pid for number, pid in enumerate(algorithm.foreach_env_runner(pid_of))}
    pids["algorithm"] = os.getpid()
    times: list[float] = []
    memory: dict[str, list[float]] = {name: [] for name in pids}
    started, last = time.monotonic(), 0.0
    while last < 60.0 * arguments.minutes:
        algorithm.train()
        now = time.monotonic() - started
        if now - last >= 5.0 or not times:
            last = now
            times.append(now)
            for name, pid in pids.items():
                memory[name].append(resident(pid))
    found = slopes(times, memory, after=60.0 * arguments.warm_up)
    for name, slope in found.items():
        print(f"{name:12} {memory[name][-1]:8.1f} MiB  {slope:+6.2f} MiB per 10 minutes")
    print(f"{algorithm.iteration:,} iterations, {algorithm.env_steps:,} env steps")
    algorithm.stop()
    return int(max(found.values()) > arguments.most)


if __name__ == "__main__":
    sys.exit(main())
