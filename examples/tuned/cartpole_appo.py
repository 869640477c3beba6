"""APPO on CartPole-v1: two processes sample while this one learns.

Shows: asynchronous sampling. Each runner works up to two rollouts ahead; the learner takes them as they come, corrects
for the age of the policy that acted (`learner/default/policy_age`), and learns from each twice.
Criterion: evaluation return of 475 (of 500) within 300,000 env steps.
Command: python examples/tuned/cartpole_appo.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 500.0 each after 71,680, 46,080, 112,640 steps; how old policies are, and so what is learned,
differs from run to run.
"""

from rl_core import APPOConfig
from rl_core.example import example_parser, run_example

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=475, stop_timesteps=300_000)
parser.set_defaults(num_env_runners=2)

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        APPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=256, minibatch_size=256, gamma=0.98, lambda_=0.95)
        .training(lr=[[0, 2e-3], [300_000, 1e-4]])
    )
    run_example(config, args)
