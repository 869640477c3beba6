"""This library with env runners in other processes."""

from __future__ import annotations

import os
import statistics
import time
from typing import Any

from benchmarks.ours import config, rate_of
from benchmarks.work import ENV, Figures, Work, measure_rate, measure_recovery


def remote_sampling(work: Work) -> Figures:
    """Measure `sample` with remote runners, which all sample `num_steps` steps."""
    config_ = config(work).training(train_batch_size_per_learner=work.batch_size * work.num_runners)
    algorithm = config_.env_runners(num_env_runners=work.num_runners).build()
    figures = measure_rate(work, lambda: int(algorithm.env_runner.sample().env_steps))
    algorithm.stop()
    return figures


def remote_loop(work: Work) -> Figures:
    """Measure `train` with remote runners: PPO as in `loop`, IMPALA and APPO with their own number of passes."""
    from rl_core import APPOConfig, IMPALAConfig

    batch_size = work.batch_size * work.num_runners
    if work.algorithm == "ppo":
        config_ = config(work).training(train_batch_size_per_learner=batch_size)
    else:
        kind = {"impala": IMPALAConfig, "appo": APPOConfig}[work.algorithm]
        config_ = (
            kind()
            .environment(ENV)
            .env_runners(num_envs_per_env_runner=work.num_envs, gym_env_vectorize_mode=work.vector)
            .training(train_batch_size_per_learner=work.batch_size, minibatch_size=work.batch_size, lr=work.lr)
            .rl_module(model_config={"fcnet_hiddens": (64, 64), "fcnet_activation": "tanh", "vf_share_layers": False})
        )
    return rate_of(config_.env_runners(num_env_runners=work.num_runners), work)


def slow_env(work: Work) -> Figures:
    """Measure sampling of an env that takes 1 ms of processor time per step."""
    from benchmarks.slow_env import SlowEnv

    config_ = config(work).environment(SlowEnv, disable_env_checking=True)
    config_.training(train_batch_size_per_learner=work.batch_size * work.num_runners)
    algorithm = config_.env_runners(num_env_runners=work.num_runners).build()
    figures = measure_rate(work, lambda: int(algorithm.env_runner.sample().env_steps))
    algorithm.stop()
    return figures


def crossing(work: Work) -> Figures:
    """Measure what it takes beyond sampling to have a rollout sampled elsewhere: from the request until it is here.

    The process that asks samples in between, as a learner would work, so that neither finds its caches as it left them.
    """
    here = config(work).build().env_runner
    remote = config(work).env_runners(num_env_runners=1).build()
    remote.foreach_env_runner(_time_samples)
    took = []
    started = time.perf_counter()
    while time.perf_counter() - started < work.seconds or len(took) < 50:
        here.sample()
        begun = time.perf_counter()
        remote.env_runner.sample()
        took.append(time.perf_counter() - begun)
    (own,) = remote.foreach_env_runner(_sample_times)
    remote.stop()
    here.close()
    beyond = [1e3 * (whole - part) for whole, part in zip(took, own, strict=True)]
    return {"ms": statistics.median(beyond), "sample_ms": 1e3 * statistics.median(own)}


def _time_samples(runner: Any) -> None:
    """Let a runner note how long each of its rollouts takes."""
    sample, runner.sample_times = runner.sample, []

    def timed() -> Any:
        begun = time.perf_counter()
        rollout = sample()
        runner.sample_times.append(time.perf_counter() - begun)
        return rollout

    runner.sample = timed


def _sample_times(runner: Any) -> list[float]:
    """Return what a runner noted."""
    times: list[float] = runner.sample_times
    return times


def recovery(work: Work) -> Figures:
    """Measure for how long a runner is missing that is killed while all sample."""
    algorithm = config(work).env_runners(num_env_runners=work.num_runners).build()
    figures = measure_recovery(
        work,
        iterate=algorithm.env_runner.sample,
        processes=lambda: algorithm.foreach_env_runner(_process),
        num_ready=lambda: algorithm.env_runner.num_healthy,
    )
    algorithm.stop()
    return figures


def _process(runner: Any) -> int:
    return os.getpid()


def beside(work: Work) -> Figures:
    """Measure what evaluation by a remote runner costs the training beside it, in turns with training alone.

    Iterations take about a second, which 20 episodes are over before; with `auto` training waits for the last ones.
    """
    base = config(work).reporting(min_sample_timesteps_per_iteration=20_000)
    settings = {"evaluation_interval": 1, "evaluation_num_env_runners": 1, "evaluation_parallel_to_training": True}
    runs = [base.copy().build()]
    runs += [base.copy().evaluation(**settings, evaluation_duration=duration).build() for duration in (20, "auto")]
    for algorithm in runs:
        algorithm.train()
    took: list[list[float]] = []
    started = time.perf_counter()
    while time.perf_counter() - started < work.seconds or len(took) < 5:
        seconds = []
        for algorithm in runs:
            begun = time.perf_counter()
            algorithm.train()
            seconds.append(time.perf_counter() - begun)
        took.append(seconds)
    for algorithm in runs:
        algorithm.stop()
    exact, auto = (statistics.median(row[place] / row[0] - 1.0 for row in took) for place in (1, 2))
    return {"share": exact, "auto_share": auto, "iteration_s": statistics.median(row[0] for row in took)}
