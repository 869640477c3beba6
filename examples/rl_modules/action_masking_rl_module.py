"""Forbidden actions are never taken: a module that reads from the observation which actions are allowed.

Shows: `MaskedActorCritic`. Observations are a Dict with `observations`, for the networks, and `action_mask`, which
gives forbidden actions a probability of exactly zero. ActionMaskEnv of rl_envs has 100 actions, allows about half of
them in each step, and raises an error for any other: training that goes on is training without a mistake. Afterwards
the policy is read from a checkpoint, exported to ONNX (pip install "rl-core[onnx]"), and plays on both ways.
Criterion: evaluation return of 85 within 300,000 env steps (99.2 is best; random allowed actions bring 66.5), and no
forbidden action: in training, by the policy of the checkpoint, drawn or greedy, and in ONNX.
Command: python examples/rl_modules/action_masking_rl_module.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 86.6, 86.3, 86.5 after 6,144 steps (1 s), no forbidden action.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium

from rl_core import Policy, PPOConfig
from rl_core.errors import RLError
from rl_core.example import example_parser, finish_example, train_example
from rl_core.module import MaskedActorCritic
from rl_core.onnx import OnnxPolicy, export_onnx

NUM_EPISODES = 5

parser = example_parser(__doc__, env="rl_envs:rl_envs/ActionMask-v0", stop_reward=85, stop_timesteps=300_000)


def play(env_id: str, act: Callable[[Any], int], name: str) -> tuple[bool, str]:
    """Play some episodes and count the forbidden actions."""
    env = gymnasium.make(env_id, forbidden_reward=0.0)
    num_steps = num_forbidden = 0
    for seed in range(NUM_EPISODES):
        obs, _ = env.reset(seed=seed)
        over = False
        while not over:
            action = act(obs)
            num_forbidden += not obs["action_mask"][action]
            num_steps += 1
            obs, _, terminated, truncated, _ = env.step(action)
            over = terminated or truncated
    env.close()
    return num_forbidden == 0, f"{name}: {num_forbidden} of {num_steps} actions forbidden"


if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(args.env, disable_env_checking=True)  # the check tries random actions
        .env_runners(num_envs_per_env_runner=16)
        .training(train_batch_size_per_learner=2048, minibatch_size=256, lr=1e-3, gamma=0.0)
        .rl_module(module_class=MaskedActorCritic)
    )
    outcome = train_example(config, args)
    with TemporaryDirectory() as folder:
        policy = Policy.from_checkpoint(outcome.algorithm.save(Path(folder) / "checkpoint"))
        checks = [
            play(args.env, lambda obs: policy.act(obs, explore=True)[0], "checkpoint, drawn"),
            play(args.env, lambda obs: policy.act(obs)[0], "greedy"),
        ]
        try:
            onnx = OnnxPolicy(export_onnx(policy, Path(folder) / "policy.onnx"))
            checks.append(play(args.env, lambda obs: onnx.act(obs)[0], "ONNX"))
        except RLError as error:  # the extra is missing
            checks.append((False, f"no ONNX: {error}"))
    finish_example(outcome, args, *checks)
