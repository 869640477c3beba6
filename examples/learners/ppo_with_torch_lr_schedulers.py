"""PPO with learning rate schedulers of torch, chained, one step per optimiser step.

Shows: `lr_scheduler_fns`. Each function makes a scheduler of an optimiser; all of them step after every optimiser step,
and each multiplies what it finds. Here `ConstantLR` holds the rate at a tenth for the first 400 steps, while
`ExponentialLR` lets it decay all the time:
    lr[k] = 0.002 * (0.1 if k < 400 else 1) * 0.9999^k        k: optimiser steps before this one
Criterion: evaluation return of 450 on CartPole-v1 within 250,000 env steps; and with every evaluation, the first of
which falls into the 400 steps, the rate that the learner reports is that of the formula.
Command: python examples/learners/ppo_with_torch_lr_schedulers.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 500.0, 491.3, 500.0 after 15,360, 20,480, 20,480 steps (7 to 9 s).
"""

import math
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, ExponentialLR, LRScheduler

from rl_core import Algorithm, PPOConfig
from rl_core.example import example_parser, run_example

LR, FACTOR, CONSTANT_STEPS, DECAY = 0.002, 0.1, 400, 0.9999
BATCH, MINIBATCH, EPOCHS = 1024, 128, 10

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=450, stop_timesteps=250_000)


def hold(optimizer: Optimizer) -> LRScheduler:
    """Begin with a part of the learning rate."""
    return ConstantLR(optimizer, factor=FACTOR, total_iters=CONSTANT_STEPS)


def decay(optimizer: Optimizer) -> LRScheduler:
    """Let the learning rate decay."""
    return ExponentialLR(optimizer, gamma=DECAY)


def lr_is_scheduled(algorithm: Algorithm, result: Mapping[str, Any]) -> tuple[bool, str]:
    """Compare the learning rate of the last optimiser step with the formula."""
    last = algorithm.iteration * EPOCHS * BATCH // MINIBATCH - 1
    expected = LR * (FACTOR if last < CONSTANT_STEPS else 1.0) * DECAY**last
    lr = result["learner/default/lr"]
    as_expected = math.isclose(lr, expected, rel_tol=1e-6)
    return as_expected, f"learning rate {lr:.3g} at optimiser step {last}, expected {expected:.3g}"


if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=BATCH, minibatch_size=MINIBATCH, num_epochs=EPOCHS)
        .training(lr=LR, gamma=0.98, lambda_=0.9)
        .learners(lr_scheduler_fns=(hold, decay))
    )
    run_example(config, args, criterion=lr_is_scheduled)
