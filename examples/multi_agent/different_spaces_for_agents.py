"""Agents whose observations and actions differ, in one env.

Shows: an env of your own derived from `MultiAgentEnv`, with spaces for each agent; policies get the spaces of the
agents they play.
Criterion: within 100,000 env steps both agents' evaluation returns are at least 18 of 20 in whole episodes of 20 steps.
Command: python examples/multi_agent/different_spaces_for_agents.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 19.8 and 18.6, 19.6 and 18.7, 19.3 and 18.0 after 5,120 steps (4 s).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from rl_core import Algorithm, PPOConfig
from rl_core.example import Verdict, example_parser, run_example
from rl_multiagent import MultiAgent, MultiAgentEnv

NUM_FEATURES = {"small": 10, "large": 20}
NUM_CHOICES = {"small": 2, "large": 3}
NUM_STEPS = 20


class WhichIsLargest(MultiAgentEnv):
    """Each agent sees numbers and is paid 1 for saying which of the first few is the largest."""

    possible_agents = ("small", "large")

    def __init__(self) -> None:
        self.observation_spaces = {agent: Box(-1, 1, (size,), np.float32) for agent, size in NUM_FEATURES.items()}
        self.action_spaces = {agent: Discrete(number) for agent, number in NUM_CHOICES.items()}
        self.rng = np.random.default_rng()
        self.time, self.obs = 0, {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode."""
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.time, self.obs = 0, self._draw()
        return self.obs, {}

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Pay for right answers; the episode is over after 20 steps."""
        rewards = {
            agent: float(action == self.obs[agent][: NUM_CHOICES[agent]].argmax()) for agent, action in actions.items()
        }
        self.time, self.obs = self.time + 1, self._draw()
        return self.obs, rewards, {}, {"__all__": self.time == NUM_STEPS}, {}

    def _draw(self) -> dict[str, np.ndarray]:
        """New numbers for everyone."""
        return {agent: self.rng.uniform(-1, 1, size).astype(np.float32) for agent, size in NUM_FEATURES.items()}


parser = example_parser(__doc__, stop_timesteps=100_000)

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(WhichIsLargest)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=1024, minibatch_size=128, lr=2e-3, gamma=0.5)
        .use(MultiAgent(policies=WhichIsLargest.possible_agents))
    )

    def both_learned(_: Algorithm, result: Mapping[str, Any]) -> Verdict:
        """Judge both agents, and that episodes ended."""
        returns = [result[f"evaluation/agent_episode_return_mean/{agent}"] for agent in WhichIsLargest.possible_agents]
        whole = result["evaluation/episode_len_mean"] == NUM_STEPS
        return whole and min(returns) >= 18, f"small {returns[0]:.1f}, large {returns[1]:.1f} of {NUM_STEPS}"

    run_example(config, args, criterion=both_learned)
