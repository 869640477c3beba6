"""PPO on CartPole-v1 cut off after 50 steps, judged on episodes of up to 500.

Shows: an evaluation in an env with other settings than training's, and bootstrapping at a truncation. No training
episode lasts longer than 50 steps, but the cut is not taken for an end: the value of the last observation stands for
what would follow, and the policy balances for longer than it has ever been allowed to.
Criterion: evaluation return of 80 under the limit of 500 steps, within 500,000 env steps.
Command: python examples/tuned/cartpole_truncated_ppo.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 175.2, 140.3, 172.7 after 5,120 steps (0.4 s).
"""

from rl_core import PPOConfig
from rl_core.example import example_parser, run_example

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=80, stop_timesteps=500_000)
parser.add_argument("--max-steps", type=int, default=50, help="limit of a training episode; default: 50")
parser.add_argument("--evaluation-max-steps", type=int, default=500, help="that of an evaluation; default: 500")

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(args.env, env_config={"max_episode_steps": args.max_steps})
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=1024, minibatch_size=128, lr=1e-3, gamma=0.98, lambda_=0.9)
        .evaluation(evaluation_env_config={"max_episode_steps": args.evaluation_max_steps})
    )
    run_example(config, args)
