"""Ray RLlib, new API stack: PPO with the local env runner and the local learner, its fastest form on few cores."""

from __future__ import annotations

import logging
import os
from typing import Any

from benchmarks.work import ENV, Figures, Work, measure_rate, measure_recovery, measure_startup


def config(work: Work) -> Any:
    """Return a PPO config whose networks, batch sizes and loss are those of ``work``; starts Ray without extras."""
    import ray
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    if not ray.is_initialized():
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    return (
        PPOConfig()
        .environment(ENV)
        .env_runners(
            num_env_runners=work.num_runners,
            num_envs_per_env_runner=work.num_envs,
            rollout_fragment_length=work.num_steps,
            gym_env_vectorize_mode=work.vector,
        )
        .learners(num_learners=0)
        .training(
            lr=work.lr,
            train_batch_size_per_learner=work.batch_size * max(1, work.num_runners),
            minibatch_size=work.minibatch_size,
            num_epochs=work.num_epochs,
            use_kl_loss=False,
            clip_param=0.2,
            vf_clip_param=float("inf"),
            vf_loss_coeff=0.5,
            grad_clip=0.5,
            grad_clip_by="global_norm",
            lambda_=0.95,
        )
        .rl_module(
            model_config=DefaultModelConfig(fcnet_hiddens=[64, 64], fcnet_activation="tanh", vf_share_layers=False)
        )
        .debugging(seed=work.seed, log_level="ERROR")
    )


def loop(work: Work) -> Figures:
    """Measure `train`."""
    algorithm = config(work).build_algo()
    returns = []

    def iterate() -> int:
        result = algorithm.train()["env_runners"]
        returns.append(result["episode_return_mean"])
        return int(result["num_env_steps_sampled"])

    return {**measure_rate(work, iterate), "episode_return_mean": float(returns[-1])}


def multiagent(work: Work) -> Figures:
    """Measure `train` on RLlib's own MultiAgentCartPole with a policy for each agent."""
    from ray.rllib.examples.envs.classes.multi_agent import MultiAgentCartPole

    policies = {f"p{agent}" for agent in range(work.num_agents)}
    algorithm = (
        config(work)
        .environment(MultiAgentCartPole, env_config={"num_agents": work.num_agents})
        .env_runners(gym_env_vectorize_mode="sync")
        .multi_agent(policies=policies, policy_mapping_fn=lambda agent, *args, **kwargs: f"p{agent}")
        .build_algo()
    )
    returns = []

    def iterate() -> int:
        result = algorithm.train()["env_runners"]
        returns.append(result["episode_return_mean"])
        return int(result["num_env_steps_sampled"])

    return {**measure_rate(work, iterate), "episode_return_mean": float(returns[-1])}


def sampling(work: Work) -> Figures:
    """Measure `SingleAgentEnvRunner.sample`."""
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    runner = SingleAgentEnvRunner(config=config(work))
    return measure_rate(work, lambda: sum(map(len, runner.sample(num_timesteps=work.batch_size))))


def remote_loop(work: Work) -> Figures:
    """Measure `train` with remote env runners."""
    return loop(work)


def remote_sampling(work: Work) -> Figures:
    """Measure the sampling of all remote env runners of an algorithm, one rollout of each at a time."""
    from ray.rllib.execution.rollout_ops import synchronous_parallel_sample

    algorithm = config(work).build_algo()

    def iterate() -> int:
        episodes, _ = synchronous_parallel_sample(
            worker_set=algorithm.env_runner_group,
            max_env_steps=work.batch_size * work.num_runners,
            sample_timeout_s=60.0,
            _uses_new_env_runners=True,
            _return_metrics=True,
        )
        return sum(map(len, episodes))

    return measure_rate(work, iterate)


def recovery(work: Work) -> Figures:
    """Measure for how long a runner is missing that is killed while `train` goes on."""
    settings = {"restart_failed_env_runners": True, "ignore_env_runner_failures": False}
    algorithm = config(work).fault_tolerance(**settings).build_algo()
    group = algorithm.env_runner_group
    return measure_recovery(
        work,
        iterate=algorithm.train,
        processes=lambda: group.foreach_env_runner(lambda runner: os.getpid(), local_env_runner=False),
        num_ready=group.num_healthy_remote_workers,
    )


def startup(work: Work) -> Figures:
    """Measure the import and the first iteration, starting Ray included."""

    def import_library() -> Any:
        from ray.rllib.algorithms import ppo

        return ppo

    def first_iteration(_: Any) -> Any:
        algorithm = config(work).build_algo()
        algorithm.train()
        return algorithm

    return measure_startup(import_library, first_iteration)
