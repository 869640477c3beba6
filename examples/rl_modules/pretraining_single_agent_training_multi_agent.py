"""A policy trained alone, put in the place of one of several agents.

Shows: `load_policy` takes a checkpoint of a run with one agent as well; its policy is called "default". A policy learns
CartPole alone. Then it plays agent 0 of a run with several agents and learns on beside the others, which begin anew; a
run in which all begin anew is the yardstick. The episode is over as soon as one pole falls. (With `clone_agents` the
others go on, and who fell waits: a partner that never falls leaves a beginner little to learn from. With seed 0 that
took 51,200 steps instead of 20,480.)
Criterion: evaluation return of 450 alone, then of 900, the sum of two agents, within 200,000 env steps each; with the
pretrained policy after fewer env steps than without.
Command: python examples/rl_modules/pretraining_single_agent_training_multi_agent.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 973.5, 999.3, 997.1 after 10,240, 14,336, 10,240 steps; with all anew 902.8, 999.3, 951.1
after 16,384, 20,480, 18,432 (7 to 15 s); alone 500.0, 500.0, 492.8.
"""

import tempfile
from pathlib import Path
from typing import Any

import gymnasium

from rl_core import PPOConfig
from rl_core.example import example_parser, finish_example, one_run, train_example
from rl_core.rng import stream_seed
from rl_multiagent import MultiAgent, MultiAgentEnv, load_policy

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=900, stop_timesteps=200_000, honours=["--num-agents"])
parser.set_defaults(num_agents=2)
parser.add_argument("--stop-reward-pretraining", type=float, default=450.0, metavar="R", help="default: 450")


class AllOrNone(MultiAgentEnv):
    """Each agent has a copy of an env; the episode is over for all when one copy's is."""

    def __init__(self, env: str, num_agents: int) -> None:
        self.envs = {str(agent): gymnasium.make(env) for agent in range(num_agents)}
        self.possible_agents = tuple(self.envs)
        self.observation_spaces = {agent: copy.observation_space for agent, copy in self.envs.items()}
        self.action_spaces = {agent: copy.action_space for agent, copy in self.envs.items()}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode in every copy, each with a seed of its own."""
        seeds = {agent: None if seed is None else stream_seed(seed, agent) for agent in self.envs}
        return {agent: copy.reset(seed=seeds[agent])[0] for agent, copy in self.envs.items()}, {}

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Step all copies; for agents whose own did not end the episode is cut."""
        outcomes = {agent: self.envs[agent].step(action) for agent, action in actions.items()}
        obs, rewards, terminateds, truncateds, _ = (
            {agent: outcome[place] for agent, outcome in outcomes.items()} for place in range(5)
        )
        over = any(terminateds.values()) or any(truncateds.values())
        return obs, rewards, terminateds, {**truncateds, "__all__": over}, {}

    def close(self) -> None:
        """Close all copies."""
        for copy in self.envs.values():
            copy.close()


if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=1024, minibatch_size=128, gamma=0.98, lambda_=0.9, lr=1e-3)
    )
    alone = train_example(config, one_run(args, "alone", stop_reward=args.stop_reward_pretraining))
    config.environment(AllOrNone, env_config={"env": args.env, "num_agents": args.num_agents})
    config.use(MultiAgent(policies=tuple(map(str, range(args.num_agents)))))
    fresh = train_example(config, one_run(args, "fresh"), evaluate_every=2_000)
    with tempfile.TemporaryDirectory() as folder:
        path = alone.algorithm.save(Path(folder) / "checkpoint")
        for outcome in (alone, fresh):
            outcome.algorithm.stop()
        pretrained = train_example(
            config,
            one_run(args, "pretrained"),
            evaluate_every=2_000,
            prepare=lambda algorithm: load_policy(algorithm, "0", path, "default"),
        )
    finish_example(
        pretrained,
        args,
        (alone.reached, f"alone: {alone.figure}"),
        (
            fresh.reached and pretrained.env_steps < fresh.env_steps,
            f"all anew: {fresh.figure} after {fresh.env_steps:,} env steps",
        ),
    )
