"""Envs for many agents that do what a script says."""

import numpy as np
from gymnasium import spaces

from rl_multiagent import MultiAgentEnv


class ScriptedEnv(MultiAgentEnv):
    """Says what `script` holds: a list of `(obs, rewards, terminateds, truncateds)`, the reset's first.

    Where only numbers are given as observations they become arrays. A function in the script's place is called.
    """

    def __init__(self, script=(), agents=("a", "b"), obs_space=None, action_space=None, episodes=None):
        self.possible_agents = tuple(agents)
        self.observation_spaces = dict.fromkeys(agents, obs_space or spaces.Box(-100, 100, (1,), np.float64))
        self.action_spaces = dict.fromkeys(agents, action_space or spaces.Discrete(3))
        self.script = list(script)
        self.got = []
        self.closed = False

    def reset(self, *, seed=None, options=None):
        self.time, self.seed = 0, seed
        return self._look(self.script[0]), {}

    def step(self, actions):
        self.got.append(dict(actions))
        self.time += 1
        said = self.script[self.time]
        if callable(said):
            return said()
        obs, rewards, terminateds, truncateds = said
        return self._look(obs), rewards, terminateds, truncateds, {}

    def close(self):
        self.closed = True

    @staticmethod
    def _look(obs):
        return {agent: np.array([float(v)]) if isinstance(v, int | float) else v for agent, v in obs.items()}


class CountEnv(MultiAgentEnv):
    """Everyone acts until each has left after its own number of steps; what is seen depends on seed and actions."""

    def __init__(self, lengths=(2, 4), fail_at=None, how="raise"):
        self.possible_agents = tuple(f"agent_{place}" for place in range(len(lengths)))
        self.observation_spaces = dict.fromkeys(self.possible_agents, spaces.Box(0, 1e6, (2,), np.float32))
        self.action_spaces = {
            agent: spaces.Discrete(3) if place % 2 else spaces.Box(-1, 1, (2,))
            for place, agent in enumerate(self.possible_agents)
        }
        self.lengths = dict(zip(self.possible_agents, lengths, strict=True))
        self.fail_at, self.how = fail_at, how
        self.rng = np.random.default_rng(0)
        self.time = self.total = 0

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.time = 0
        return {agent: self._obs(0.0) for agent in self.possible_agents}, {}

    def step(self, actions):
        self.time += 1
        self.total += 1
        if self.total == self.fail_at:
            fail(self.how)
        obs = {agent: self._obs(float(np.sum(np.abs(action)))) for agent, action in actions.items()}
        rewards = {agent: float(np.sum(action)) for agent, action in actions.items()}
        ends = {agent: self.time == self.lengths[agent] for agent in actions}
        return obs, rewards, {}, ends, {}

    def _obs(self, number):
        return np.array([self.rng.integers(1000), number], np.float32)


def fail(how):
    if how == "die":
        import os

        os._exit(7)
    if how == "hang":
        import time

        time.sleep(60)
    raise RuntimeError("the engine stalled")
