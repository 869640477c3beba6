"""Nested observations as one vector, discrete parts one-hot.

Shows: an observation of dicts, tuples, boxes and a discrete part, and the connector that flattens it. The default
module would ask for the same piece by itself.
Criterion: evaluation return of 450 (of 500) within 200,000 env steps; with --num-agents 2 --stop-reward 800 the sum of
two agents. With --algo impala --stop-reward 400 --stop-timesteps 2000000 that of IMPALA, with two agents again 800.
Command: python examples/connectors/flatten_observations_dict_space.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 481.0, 473.4, 495.8 after 10,240, 15,360, 15,360 steps (2 to 6 s).
Two agents: 966.4, 817.8, 822.0 after 15,360, 15,360, 10,240.
IMPALA: 405.2, 440.8, 451.9 after 61,440, 40,960, 40,960; two agents: 806.8, 837.5, 822.1 after 61,440, 35,840, 30,720.
"""

from rl_connectors import FlattenObs
from rl_core import IMPALAConfig, PPOConfig
from rl_core.example import example_parser, run_example
from rl_multiagent import independent_agents

parser = example_parser(
    __doc__,
    env="rl_envs:rl_envs/DictCartPole-v0",
    algorithms=("ppo", "impala"),
    stop_reward=450,
    stop_timesteps=200_000,
    honours=["--num-agents"],
)


def ppo() -> PPOConfig:
    """Settings of PPO."""
    return PPOConfig().training(
        train_batch_size_per_learner=1024, minibatch_size=128, num_epochs=10, lr=1e-3, gamma=0.98, lambda_=0.9
    )


def impala() -> IMPALAConfig:
    """Settings of IMPALA, those of `cartpole_impala.py`."""
    return IMPALAConfig().training(
        train_batch_size_per_learner=256, minibatch_size=256, lr=1e-3, gamma=0.98, lambda_=0.95
    )


if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        (ppo() if args.algo == "ppo" else impala())
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=8, env_to_module_connector=(FlattenObs(),))
    )
    run_example(independent_agents(config, args.num_agents), args)
