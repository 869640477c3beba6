"""This library, through its public interface and, to learn, its command."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks.work import ENV, Figures, Work, measure_rate, measure_startup

TUNED_SETTINGS = (
    "training.train_batch_size_per_learner=1024",
    "training.minibatch_size=128",
    "training.gamma=0.98",
    "training.lambda_=0.9",
    "training.lr=[[0, 1e-3], [60000, 1e-4]]",
)
"""`--set` arguments tuned for CartPole, as rl-zoo3's are that SB3 learns with."""
NOT_REACHED = 3
"""Exit status of the command when a limit came before the goal."""


def config(work: Work) -> Any:
    """Return a PPO config whose networks, batch sizes and loss are those of ``work``."""
    from rl_core import PPOConfig

    return (
        PPOConfig()
        .environment(ENV)
        .env_runners(num_envs_per_env_runner=work.num_envs, gym_env_vectorize_mode=work.vector)
        .training(
            lr=work.lr,
            train_batch_size_per_learner=work.batch_size,
            minibatch_size=min(work.minibatch_size, work.batch_size),
            num_epochs=work.num_epochs,
        )
        .rl_module(model_config={"fcnet_hiddens": (64, 64), "fcnet_activation": "tanh", "vf_share_layers": False})
        .debugging(seed=work.seed)
    )


def loop(work: Work) -> Figures:
    """Measure `train`."""
    algorithm = config(work).build()
    returns = []

    def iterate() -> int:
        before = algorithm.env_steps
        returns.append(algorithm.train()["env_runners/episode_return_mean"])
        return int(algorithm.env_steps - before)

    figures = measure_rate(work, iterate)
    algorithm.stop()
    return {**figures, "episode_return_mean": float(returns[-1])}


def sampling(work: Work) -> Figures:
    """Measure the env runner's `sample`."""
    algorithm = config(work).build()
    figures = measure_rate(work, lambda: int(algorithm.env_runner.sample().env_steps))
    algorithm.stop()
    return figures


def startup(work: Work) -> Figures:
    """Measure the import and the first iteration."""

    def import_library() -> Any:
        import rl_core

        return rl_core.PPOConfig  # what a user's `from rl_core import PPOConfig` loads

    def first_iteration(_: Any) -> Any:
        algorithm = config(work).build()
        algorithm.train()
        return algorithm

    return measure_startup(import_library, first_iteration)


def learn(work: Work) -> Figures:
    """Measure the command ``rl train ppo CartPole-v1 --stop-reward 475`` from its start to its end."""
    settings = TUNED_SETTINGS if work.tuned_settings else ()
    command = [sys.executable, "-m", "rl_core.cli", "train", "ppo", ENV, "--json", "--seed", str(work.seed)]
    command += ["--stop-reward", str(work.stop_return), "--stop-timesteps", str(work.stop_env_steps)]
    command += [word for setting in settings for word in ("--set", setting)]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
        seconds = time.perf_counter() - started
    if done.returncode not in (0, NOT_REACHED):
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}")
    result = json.loads(done.stdout.splitlines()[-1])
    return {
        "seconds": seconds,
        "env_steps": result["env_steps"],
        "evaluation_return": result["return"],
        "reached": result["outcome"] == "reached",
    }
