"""Running normalisation of observations that are far from zero.

Shows: `MeanStdFilter`, whose statistics grow while sampling, are saved with the policy and stay as they are in
evaluation. Each number of the pendulum lies in [-4000, -1456]; with `--disable-mean-std-filter` nothing is learned.
Criterion: evaluation return of -300 within 500,000 env steps; the control must miss it. With --num-agents 2
--stop-reward -600 the sum of two agents, each with a filter of its own.
Command: python examples/connectors/mean_std_filtering.py --as-test --seed 0
Reached: on seeds 0, 1, 2: -235.2, -212.7, -241.5 after 43,008, 36,864, 43,008 steps (5 to 15 s). Without the filter:
-1212.2, -1279.5, -1129.5 after 501,760 steps. Two agents: -527.5, -474.3, -569.3 after 36,864, 36,864, 55,296.
"""

from rl_connectors import MeanStdFilter
from rl_core import PPOConfig
from rl_core.example import example_parser, run_example
from rl_multiagent import independent_agents

parser = example_parser(
    __doc__,
    env="rl_envs:rl_envs/LopsidedPendulum-v0",
    stop_reward=-300,
    stop_timesteps=500_000,
    honours=["--num-agents"],
)
parser.add_argument("--disable-mean-std-filter", action="store_true", help="the control: take observations as they are")

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(args.env, normalize_actions=True)
        .env_runners(num_envs_per_env_runner=8)
        .env_runners(env_to_module_connector=() if args.disable_mean_std_filter else (MeanStdFilter(),))
        .training(train_batch_size_per_learner=2048, minibatch_size=64, num_epochs=10, lr=1e-3)
        .training(gamma=0.95, lambda_=0.95)
    )
    run_example(independent_agents(config, args.num_agents), args)
