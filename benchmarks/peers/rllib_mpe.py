"""Measure what RLlib's PPO reaches on an MPE env, for the examples that must do at least as well.

With ray[rllib] 2.60.0 and mpe2 in an environment of their own:

    python benchmarks/peers/rllib_mpe.py simple_speaker_listener_v4 --policies own --settings example
    python benchmarks/peers/rllib_mpe.py simple_spread_v3 --policies shared --settings tuned

It prints the mean return (sum over agents) of 200 evaluation episodes with actions drawn from the policies, and its
standard error.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
from typing import Any

import numpy as np

MAX_CYCLES, NUM_EPISODES = 25, 200


def make_config(args: argparse.Namespace) -> Any:
    """Return the config: RLlib's defaults as its PettingZoo examples take them, or those of our examples."""
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv
    from ray.tune.registry import register_env

    module = importlib.import_module(f"mpe2.{args.env}")
    register_env("mpe", lambda _: ParallelPettingZooEnv(module.parallel_env(max_cycles=MAX_CYCLES)))
    agents = module.parallel_env().possible_agents if args.policies == "own" else ["shared"]
    config = (
        PPOConfig()
        .environment("mpe")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8, gym_env_vectorize_mode="sync")
        .learners(num_learners=0)
        .multi_agent(
            policies=set(agents),
            policy_mapping_fn=lambda agent, *_, **__: agent if args.policies == "own" else "shared",
        )
        .debugging(seed=args.seed, log_level="ERROR")
    )
    if args.settings == "example":
        return config.training(vf_loss_coeff=0.005)
    return config.training(
        lr=1e-3,
        gamma=0.95,
        lambda_=0.95,
        train_batch_size_per_learner=2000,
        minibatch_size=250,
        num_epochs=10,
        entropy_coeff=0.01,
        use_kl_loss=False,
        clip_param=0.2,
        vf_clip_param=float("inf"),
        vf_loss_coeff=0.5,
        grad_clip=0.5,
    ).rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[64, 64], fcnet_activation="tanh", vf_share_layers=False))


def evaluate(algorithm: Any) -> np.ndarray:
    """Play whole episodes with actions drawn from the policies; return their returns, summed over agents."""
    runner, episodes = algorithm.env_runner, []
    while len(episodes) < NUM_EPISODES:
        episodes += runner.sample(num_episodes=NUM_EPISODES - len(episodes), explore=True, force_reset=True)
    return np.array([episode.get_return() for episode in episodes[:NUM_EPISODES]])


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("env", help="module of mpe2")
    parser.add_argument("--policies", choices=["own", "shared"], default="own")
    parser.add_argument("--settings", choices=["example", "tuned"], default="tuned")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    import ray

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    algorithm = make_config(args).build_algo()
    steps = 0
    while steps < args.steps:
        steps = int(algorithm.train()["env_runners"]["num_env_steps_sampled_lifetime"])
    returns = evaluate(algorithm)
    error = returns.std() / len(returns) ** 0.5
    print(f"{args.env} {args.settings} seed {args.seed}: {returns.mean():.2f} +- {error:.2f} after {steps:,} env steps")
    algorithm.stop()


if __name__ == "__main__":
    main()
