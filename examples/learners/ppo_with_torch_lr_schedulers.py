"""PPO with learning rate schedulers of torch, chained, one step per optimiser step.

Shows: `lr_scheduler_fns`. Each function makes a scheduler of an optimiser; all of them step after every optimiser step
and multiply what they find. Here `ConstantLR` holds the rate at a tenth for the first 32 steps, while `ExponentialLR`
lets it decay all the time:
    lr[k] = lr * (0.1 if k < 32 else 1) * 0.9998^k        k: optimiser steps before this one
Criterion: evaluation return of 450 on CartPole-v1 within 250,000 env steps, and after every iteration the rate that
torch reports is the one of the formula.
Command: python examples/learners/ppo_with_torch_lr_schedulers.py --as-test --seed 0
Reached: ...
"""

from rl_core.example import example_parser

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=450, stop_timesteps=250_000)
parser.add_argument("--lr", type=float, default=2e-3, help="default: 0.002")
parser.add_argument("--lr-const-factor", type=float, default=0.1, metavar="F", help="default: 0.1")
parser.add_argument("--lr-const-iters", type=int, default=32, metavar="K", help="optimiser steps; default: 32")
parser.add_argument("--lr-exp-decay", type=float, default=0.9998, metavar="G", help="per step; default: 0.9998")
