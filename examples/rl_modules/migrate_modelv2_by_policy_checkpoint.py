"""A policy that RLlib trained becomes a module of this library, and learns on.

Shows: `read_rllib_policy`, which reads a checkpoint of RLlib's old API stack without RLlib, and without running any of
the code that a pickle can hold; and training that starts from a module instead of a class. The checkpoint, of a policy
that was stopped halfway through learning CartPole-v1, lies in data/; the README there says how it was made.
Criterion: the logits and values are those that RLlib computes; an evaluation before training returns at least 100, and
within 50 iterations 450.
Command: python examples/rl_modules/migrate_modelv2_by_policy_checkpoint.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 482.6, 497.1, 497.3 after 40, 30, 40 iterations (2 to 3 s), from 176.3, 179.2, 215.7 before
training; no difference from RLlib's logits and values.
"""

from pathlib import Path

import numpy as np
import torch

from rl_core import PPOConfig, RLModule
from rl_core.example import example_parser, finish_example, train_example
from rl_core.migrate import read_rllib_policy

CHECKPOINT = Path(__file__).parent / "data" / "rllib_cartpole_policy"
LEAST_RETURN = 100
TOLERANCE = 1e-5

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=450, stop_iters=50)


def compare_outputs(module: RLModule) -> tuple[bool, str]:
    """Compare logits and values with RLlib's on the same observations."""
    expected = np.load(CHECKPOINT / "expected.npz")
    with torch.inference_mode():
        logits, value = module.forward_train(torch.from_numpy(expected["obs"]))
    pairs = ((logits, expected["logits"]), (value, expected["value"]))
    difference = max(float(np.abs(ours.numpy() - theirs).max()) for ours, theirs in pairs)
    assert difference < TOLERANCE, f"logits or values differ from RLlib's by {difference}"
    return True, f"largest difference from RLlib's logits and values {difference:.1g}"


if __name__ == "__main__":
    args = parser.parse_args()
    module = read_rllib_policy(CHECKPOINT)
    same = compare_outputs(module)
    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=1024, minibatch_size=128, lr=3e-4, gamma=0.98, lambda_=0.9)
        .rl_module(module_class=module)
        .debugging(seed=args.seed or 0)
    )
    untrained = config.build()
    start = untrained.evaluate()["evaluation/episode_return_mean"]
    untrained.stop()
    outcome = train_example(config, args)
    finish_example(outcome, args, same, (start >= LEAST_RETURN, f"return {start:.1f} before training"))
