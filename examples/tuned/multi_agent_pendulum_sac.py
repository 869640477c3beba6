"""SAC for each of two agents on Pendulum.

Shows: critics and temperature of each policy's own. Settings are those of `pendulum_sac.py`.
Criterion: evaluation return of -400, the sum of two agents, within 500,000 env steps.
Command: python examples/tuned/multi_agent_pendulum_sac.py --as-test --seed 0
Reached: on seeds 0, 1, 2: -323.4, -343.1, -285.8 after 5,000 steps each (56 to 68 s on two busy cores).
"""

from rl_core import SACConfig
from rl_core.example import example_parser, run_example
from rl_multiagent import independent_agents

parser = example_parser(__doc__, env="Pendulum-v1", stop_reward=-400, stop_timesteps=500_000, honours=["--num-agents"])
parser.set_defaults(num_agents=2)

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        SACConfig()
        .environment(args.env)
        .training(train_batch_size_per_learner=128, lr=1e-3, num_steps_sampled_before_learning_starts=500)
        .rl_module(model_config={"fcnet_hiddens": [64, 64]})
        .evaluation(evaluation_interval=1)
    )
    run_example(independent_agents(config, args.num_agents), args)
