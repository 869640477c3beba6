"""A2C on CartPole-v1, with its defaults.

Shows: many small updates, one per 5 steps of 8 env slots, each batch used once and thrown away. That takes several
times the env steps of PPO, but each is cheap. Learning is less steady too: returns fall back on the way.
Criterion: evaluation return of 450 (of 500) within 500,000 env steps.
Command: python examples/tuned/cartpole_a2c.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 500.0, 491.4, 457.1 after 100,000, 90,000, 80,000 steps (7 to 10 s, two at a time).
"""

from rl_core import A2CConfig
from rl_core.example import example_parser, run_example

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=450, stop_timesteps=500_000)

if __name__ == "__main__":
    args = parser.parse_args()
    run_example(A2CConfig().environment(args.env), args)
