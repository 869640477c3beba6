"""Envs for runners in other processes, which import them from here: this folder is on their path."""

import os
import signal
import threading
import time
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces


class CountEnv(gymnasium.Env):
    """Every observation is the number of this process, every reward 1; episodes have 5 steps.

    Args:
        folder: Where envs leave notes for each other and for the test.
        fault: What happens once, to the first env that takes its `fault_at`-th step: `kill` ends the process, `hang`
            sleeps for a minute, `raise` raises.
        fault_at: Number of that step.
        always: The fault happens in every process, again and again.
    """

    observation_space = spaces.Box(0, 2**31, (1,), np.float64)
    action_space = spaces.Discrete(2)

    def __init__(self, folder=None, fault=None, fault_at=30, always=False, pause=0.0):
        self.folder, self.fault, self.fault_at, self.always, self.pause = folder, fault, fault_at, always, pause
        self.num_steps = self.time = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.array([float(os.getpid())]), {}

    def step(self, action):
        self.num_steps += 1
        self.time += 1
        if self.pause:
            time.sleep(self.pause)
        if self.fault and self.num_steps == self.fault_at and (self.always or self._first()):
            if self.fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "hang":
                time.sleep(60)
            raise RuntimeError("the simulator lost its licence")
        return np.array([float(os.getpid())]), 1.0, self.time == 5, False, {}

    def _first(self):
        try:
            (Path(self.folder) / "fault").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


class BrokenEnv(CountEnv):
    """Cannot be made."""

    def __init__(self, **settings):
        raise FileNotFoundError("/opt/simulator/licence.txt")


class LockedEnv(CountEnv):
    """Can be made, but not sent to another process."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


class ResourceEnv(CountEnv):
    """Tells in its observations which GPUs its process may use, as their number."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._gpus(), {}

    def step(self, action):
        _, *rest = super().step(action)
        return self._gpus(), *rest

    def _gpus(self):
        import ray

        return np.array([float(len(ray.get_gpu_ids()))])
