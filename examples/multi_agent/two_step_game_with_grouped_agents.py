"""Agents put together in a group, which learns one value (QMIX, VDN) or acts as one (PPO): the two-step game.

Shows: `GroupedAgents` makes two agents one, whose observations and actions are tuples. In the game the first agent
chooses between a safe second step, which pays 7 whatever they do, and one that pays 8 if both then choose alike and
rightly, else 0 or 1. QMIX finds the 8: its mixing network can say that neither choice is worth anything alone. VDN,
whose group value is a sum, cannot, and stays at 7. The members of a group may also be trained by COMA.
Both learn from random actions and are evaluated without.
Criterion: evaluation return within 30,000 env steps of 8 for QMIX, of 7 for PPO and COMA (`--algo`). Control:
`--algo vdn` stays below 8.
Command: python examples/multi_agent/two_step_game_with_grouped_agents.py --as-test --seed 0
Reached: on seeds 0, 1, 2: QMIX 8.0 after 5,040 steps each (6 s), PPO 8.0 after 5,120 steps each (2 s), COMA 7.0 after
10,240, 15,360, 15,360 steps (2 s). VDN not in 30,000 steps (24 s): 7.0 each at all evaluations.
"""

from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Discrete

from rl_core import AlgorithmConfig, PPOConfig
from rl_core.example import example_parser, run_example
from rl_multiagent import COMAConfig, GroupedAgents, MultiAgent, MultiAgentEnv, QMIXConfig, VDNConfig


class TwoStepGame(MultiAgentEnv):
    """The cooperative game of Rashid et al. 2018, section 5. Both agents observe the state and get half the payoff."""

    possible_agents = ("first", "second")
    observation_spaces = dict.fromkeys(possible_agents, Discrete(3))
    action_spaces = dict.fromkeys(possible_agents, Discrete(2))
    payoffs: ClassVar = {1: np.full((2, 2), 7.0), 2: np.array([[0.0, 1.0], [1.0, 8.0]])}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        """Begin in state 0."""
        self.state = 0
        return dict.fromkeys(self.possible_agents, self.state), {}

    def step(self, actions: dict[str, int]) -> tuple[dict, dict, dict, dict, dict]:
        """Let the first agent choose the second state, then both the payoff."""
        if self.state == 0:
            self.state = 1 + int(actions["first"])
            return dict.fromkeys(self.possible_agents, self.state), {}, {}, {}, {}
        payoff = self.payoffs[self.state][actions["first"], actions["second"]]
        rewards = dict.fromkeys(self.possible_agents, payoff / 2)
        return {}, rewards, {"__all__": True}, {}, {}


def grouped_two_step_game(env_config: dict[str, Any]) -> GroupedAgents:
    """Make the env: both agents are one."""
    return GroupedAgents(TwoStepGame(), {"team": TwoStepGame.possible_agents})


def config_of(algo: str) -> AlgorithmConfig:
    """Make the algorithm's config, all but the env."""
    if algo in ("qmix", "vdn"):
        config = QMIXConfig() if algo == "qmix" else VDNConfig()
        config.env_runners(num_envs_per_env_runner=8).evaluation(explore=False)
        return config.training(epsilon=1.0, lr=1e-3, target_network_update_freq=200)
    if algo == "coma":
        return COMAConfig().training(lr=1e-3)
    return PPOConfig().training(train_batch_size_per_learner=256, minibatch_size=64, lr=1e-3, entropy_coeff=0.01)


parser = example_parser(__doc__, algorithms=("qmix", "vdn", "ppo", "coma"), stop_timesteps=30_000)

if __name__ == "__main__":
    args = parser.parse_args()
    if args.stop_reward is None:
        args.stop_reward = 8 if args.algo in ("qmix", "vdn") else 7
    config = config_of(args.algo).environment(grouped_two_step_game).use(MultiAgent())
    run_example(config, args)
