"""An env whose agents join, wait, leave and end at random, and a literal accountant of what happened in it."""

from __future__ import annotations

import dataclasses

import numpy as np
from gymnasium import spaces

from rl_core import PPOConfig
from rl_core.algorithm.callbacks import CallbackList
from rl_core.algorithm.components import Context
from rl_core.metrics import MetricsLogger
from rl_multiagent import MultiAgentEnv


@dataclasses.dataclass
class Transition:
    obs: float
    action: int
    reward: float
    terminated: bool
    truncated: bool
    next_obs: float


class Accountant:
    """Follows one env literally, agent by agent."""

    def __init__(self):
        self.done = {}  # agent -> transitions
        self.open = {}  # agent -> [obs, action, reward so far]
        self.obs = {}  # agent -> the observation it acts on next
        self.returns, self.open_returns = [], {}

    def reset(self, obs):
        self.open, self.obs, self.open_returns = {}, dict(obs), {}

    def step(self, actions, obs, rewards, terminateds, truncateds, present):
        for agent, action in actions.items():
            self.open[agent] = [self.obs.pop(agent), action, 0.0]
        for agent, reward in rewards.items():
            self.open_returns[agent] = self.open_returns.get(agent, 0.0) + reward
            if agent in self.open:
                self.open[agent][2] += reward
        over = terminateds.get("__all__", False) or truncateds.get("__all__", False)
        for agent in present:
            by_itself = terminateds.get(agent, False), truncateds.get(agent, False)
            ends = any(by_itself) or over
            terminated = by_itself[0] or (not any(by_itself) and terminateds.get("__all__", False))
            truncated = by_itself[1] or (not any(by_itself) and not terminateds.get("__all__", False) and over)
            if ends and agent in self.open:
                first, action, reward = self.open.pop(agent)
                self._add(agent, Transition(first, action, reward, terminated, truncated, obs.get(agent, first)))
            elif not ends and agent in obs:
                if agent in self.open:
                    first, action, reward = self.open.pop(agent)
                    self._add(agent, Transition(first, action, reward, False, False, obs[agent]))
                self.obs[agent] = obs[agent]
        if over or all(terminateds.get(agent) or truncateds.get(agent) for agent in present):
            self.returns.append(sum(self.open_returns.values()))

    def _add(self, agent, transition):
        self.done.setdefault(agent, []).append(transition)


class ScheduledEnv(MultiAgentEnv):
    """Observations and rewards are numbers that come once each, so that a mix-up shows."""

    def __init__(self, num_agents=4, seed=0, turn_based=False, accounts=True):
        self.possible_agents = tuple(f"a{place}" for place in range(num_agents))
        self.observation_spaces = {agent: spaces.Box(0, 1e9, (1,), np.float64) for agent in self.possible_agents}
        self.action_spaces = {agent: spaces.Discrete(3) for agent in self.possible_agents}
        self.rng = np.random.default_rng(seed)
        self.turn_based = turn_based
        self.count = 0
        self.accountant = Accountant() if accounts else None  # its objects cannot be saved with the env

    def reset(self, *, seed=None, options=None):
        self.time, self.left = 0, []  # lists: the order of a set of strings differs between processes
        chosen = self._some(self.possible_agents, at_least=1)
        obs = {agent: self._number() for agent in chosen[:1] if self.turn_based} or {a: self._number() for a in chosen}
        self.present = sorted(obs)
        if self.accountant:
            self.accountant.reset(obs)
        return {agent: np.array([value]) for agent, value in obs.items()}, {}

    def step(self, actions):
        self.time += 1
        terminateds, truncateds = {}, {}
        rest = [agent for agent in self.possible_agents if agent not in self.left]
        seen = self._some(rest, at_least=0)[: 1 if self.turn_based else None]
        obs = {agent: self._number() for agent in seen}
        present = {*self.present, *obs}
        for agent in sorted(present):
            if self.rng.random() < 0.1:
                (terminateds if self.rng.random() < 0.5 else truncateds)[agent] = True
        if self.rng.random() < 0.15:
            (terminateds if self.rng.random() < 0.5 else truncateds)["__all__"] = True
        rewards = {agent: float(self._number()) for agent in sorted(present) if self.rng.random() < 0.7}
        if self.accountant:
            self.accountant.step(actions, obs, rewards, terminateds, truncateds, sorted(present))
        ended = {agent for agent in present if terminateds.get(agent) or truncateds.get(agent)}
        self.left += sorted(ended)
        self.present = sorted(present - ended)
        return {agent: np.array([value]) for agent, value in obs.items()}, rewards, terminateds, truncateds, {}

    def _some(self, agents, *, at_least):
        agents = list(agents)
        size = int(self.rng.integers(min(at_least, len(agents)), len(agents) + 1))
        return [str(agent) for agent in self.rng.permutation(agents)[:size]]

    def _number(self):
        self.count += 1
        return float(self.count)


def make_runner(extension, *, num_steps, callbacks=None, connectors=(), **env_config):
    """Make a runner of three env slots with ScheduledEnv; what connectors refuse is dropped."""
    num_envs = 3
    config = (
        PPOConfig()
        .environment(ScheduledEnv, env_config=env_config, disable_env_checking=True)
        .env_runners(num_envs_per_env_runner=num_envs, env_to_module_connector=connectors)
        .env_runners(bad_observations="drop" if connectors else "raise")
        .training(train_batch_size_per_learner=num_steps * num_envs, minibatch_size=1)
        .rl_module(model_config={"fcnet_hiddens": (4,)})
        .use(extension)
    )
    return config.components().env_runner(config, "sampling", make_context(callbacks))


def make_context(callbacks=None):
    return Context(callbacks=CallbackList(callbacks), metrics=MetricsLogger())
