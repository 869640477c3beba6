"""Each agent sees a number and is paid for naming it; the second agent has other spaces."""

import numpy as np
import torch
from gymnasium import spaces

from rl_core import PPOConfig
from rl_multiagent import MultiAgent, MultiAgentEnv

SIZES = {"left": 2, "right": 3}


class NamingEnv(MultiAgentEnv):
    """Both act at every step; episodes are cut after 10."""

    possible_agents = ("left", "right")

    def __init__(self, *, alike=False, rounds=10):
        self.sizes = dict.fromkeys(SIZES, 2) if alike else SIZES
        self.observation_spaces = {agent: spaces.Box(0, 1, (size,)) for agent, size in self.sizes.items()}
        self.action_spaces = {agent: spaces.Discrete(size) for agent, size in self.sizes.items()}
        self.rounds = rounds
        self.rng = np.random.default_rng(0)
        self.time, self.targets = 0, {}

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.time = 0
        return self._obs(), {}

    def step(self, actions):
        rewards = {agent: float(action == self.targets[agent]) for agent, action in actions.items()}
        self.time += 1
        return self._obs(), rewards, {}, {"__all__": self.time == self.rounds}, {}

    def _obs(self):
        self.targets = {agent: int(self.rng.integers(size)) for agent, size in self.sizes.items()}
        return {agent: np.eye(self.sizes[agent], dtype=np.float32)[target] for agent, target in self.targets.items()}


OWN = MultiAgent(policies=("left", "right"))


def make_config(extension=OWN, env=NamingEnv, algorithm=PPOConfig, **env_config):
    return (
        algorithm()
        .environment(env, env_config=env_config)
        .env_runners(num_envs_per_env_runner=4)
        .training(train_batch_size_per_learner=100, minibatch_size=25, num_epochs=3, lr=0.01)
        .rl_module(model_config={"fcnet_hiddens": (8,)})
        .use(extension)
    )


def parameters(policy):
    return torch.cat([parameter.flatten() for parameter in policy.module.parameters()]).clone()
