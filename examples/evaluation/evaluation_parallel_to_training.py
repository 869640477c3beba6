"""Evaluation beside training, in a process of its own, with the weights from before the iteration.

Shows: `evaluation_parallel_to_training`. `--evaluation-duration auto`, the default here, plays as many whole episodes
as fit beside the iteration; a number of episodes, or of steps with `--evaluation-duration-unit timesteps`, is exact.
Criterion: evaluation return of 450 (of 500) for one agent, or 900 of two with `--num-agents 2`, within 500,000
env steps; and with a number, every evaluation had exactly so many episodes or env steps.
Command: python examples/evaluation/evaluation_parallel_to_training.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 495.5, 476.6, 466.6 after 13,312, 9,216, 15,360 steps; 963.4 with two agents on seed 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rl_core import Algorithm, PPOConfig
from rl_core.example import Verdict, example_parser, run_example
from rl_multiagent import MultiAgent, clone_agents

PER_AGENT = 450.0

parser = example_parser(__doc__, env="CartPole-v1", stop_timesteps=500_000, honours=["--num-agents"])
parser.set_defaults(
    evaluation_num_env_runners=1,
    evaluation_parallel_to_training=True,
    evaluation_duration="auto",
    evaluation_interval=1,
)

if __name__ == "__main__":
    args = parser.parse_args()
    goal = PER_AGENT * max(1, args.num_agents)
    unit = "num_episodes" if args.evaluation_duration_unit == "episodes" else "num_env_steps"
    durations: set[int] = set()

    def criterion(algorithm: Algorithm, result: Mapping[str, Any]) -> Verdict:
        """The return, and the durations of all evaluations so far."""
        durations.add(int(result[f"evaluation/{unit}"]))
        exact = args.evaluation_duration == "auto" or durations == {args.evaluation_duration}
        mean = result["evaluation/episode_return_mean"]  # NaN where no episode ended within the steps
        figures = f"return {mean:.1f}, goal {goal:g}; {unit} of evaluations {min(durations)} to {max(durations)}"
        return mean >= goal and exact, figures

    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=1024, minibatch_size=128, lr=1e-3, gamma=0.98, lambda_=0.9)
        .evaluation(evaluation_num_envs=2 if unit == "num_env_steps" else "auto")  # 505 steps in each: whole episodes
    )
    if args.num_agents:
        policies = [f"p{agent}" for agent in range(args.num_agents)]
        mapping = {str(agent): policy for agent, policy in enumerate(policies)}
        config.environment(clone_agents(args.env, args.num_agents))
        config.use(MultiAgent(policies=tuple(policies), policy_mapping_fn=mapping))
    run_example(config, args, criterion=criterion)
