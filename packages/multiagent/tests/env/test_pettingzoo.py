"""Envs of PettingZoo become MultiAgentEnvs and the other way round: turns, masks, who leaves."""

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pettingzoo.utils.conversions import parallel_to_aec
from pettingzoo.utils.env import AECEnv, ParallelEnv

from rl_core.errors import EnvError
from rl_multiagent import AsParallelEnv, MultiAgentEnv, ParallelPettingZooEnv, PettingZooEnv


class LateRewards(AECEnv):
    """Two agents take turns; every move pays the other one its number, and `late` leaves after two moves."""

    metadata = {"name": "late_rewards"}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.possible_agents = ["early", "late"]
        self.render_mode = None

    def observation_space(self, agent):
        return spaces.Box(0, 100, (1,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(2)

    def observe(self, agent):
        return np.array([self.count], np.float32)

    def reset(self, seed=None, options=None):
        self.agents, self.count = list(self.possible_agents), 0
        self.rewards, self._cumulative_rewards = ({agent: 0 for agent in self.agents} for _ in range(2))
        self.terminations, self.truncations = ({agent: False for agent in self.agents} for _ in range(2))
        self.infos = {agent: {} for agent in self.agents}
        self.agent_selection = "early"

    def step(self, action):
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        self.count += 1
        self._cumulative_rewards[agent] = 0
        self._clear_rewards()
        for other in self.agents:
            self.rewards[other] = self.count if other != agent else 0
        self._accumulate_rewards()
        if len(self.agents) == 2:
            self.agent_selection = "late" if agent == "early" else "early"
        self.terminations["late"] = self.count == 4
        self.truncations["early"] = self.count == 6
        self._deads_step_first()


def test_rewards_between_turns_come_once_and_the_dead_leave_alone():
    env = PettingZooEnv(LateRewards())
    obs, _ = env.reset()
    seen = []
    while obs:
        (agent,) = obs if len(obs) == 1 else ["early"]
        obs, rewards, terminateds, truncateds, _ = env.step({agent: 0})
        seen.append((rewards, {agent: value.tolist() for agent, value in obs.items()}, terminateds, truncateds))
        if terminateds.get("__all__") or truncateds.get("__all__"):
            break
    assert seen == [
        ({"late": 1}, {"late": [1]}, {}, {}),
        ({"early": 2}, {"early": [2]}, {}, {}),
        ({"late": 3}, {"late": [3]}, {}, {}),
        ({"late": 0, "early": 4}, {"late": [4], "early": [4]}, {"late": True}, {"late": False}),
        ({"early": 0}, {"early": [5]}, {}, {}),
        ({"early": 0}, {"early": [6]}, {"early": False}, {"early": True, "__all__": True}),
    ]


class ComeAndGo(ParallelEnv):
    """Agents begin together, with numbers for rewards that come once each, and leave at random."""

    metadata = {"name": "come_and_go"}  # noqa: RUF012
    render_mode = None

    def __init__(self, num_agents, seed):
        self.possible_agents = [f"agent_{place}" for place in range(num_agents)]
        self.rng = np.random.default_rng(seed)
        self.count = 0

    def observation_space(self, agent):
        return spaces.Box(0, 1e6, (1,), np.float64)

    def action_space(self, agent):
        return spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        return self.obs(), {agent: {} for agent in self.agents}

    def step(self, actions):
        assert set(actions) == set(self.agents)
        obs, present = self.obs(), self.agents
        rewards = {agent: self.number() for agent in present}
        terminateds, truncateds = ({agent: self.rng.random() < 0.1 for agent in present} for _ in range(2))
        self.agents = [agent for agent in present if not (terminateds[agent] or truncateds[agent])]
        return obs, rewards, terminateds, truncateds, {agent: {} for agent in present}

    def obs(self):
        return {agent: np.array([self.number()]) for agent in self.agents}

    def number(self):
        self.count += 1
        return float(self.count)


def story(env, num_episodes):
    """For each agent what it saw, what it earned in all and how its part ended, episode by episode."""
    told = []
    for _ in range(num_episodes):
        obs, _ = env.reset()
        parts = {agent: {"seen": [], "earned": 0.0, "end": None} for agent in env.possible_agents}
        over, gone = False, set()
        while True:
            for agent, value in obs.items():
                parts[agent]["seen"].append(float(value[0]))
            if over:
                break
            obs, rewards, terminateds, truncateds, _ = env.step({agent: 0 for agent in obs if agent not in gone})
            for agent, reward in rewards.items():
                parts[agent]["earned"] += reward
            for agent in env.possible_agents:
                if terminateds.get(agent) or truncateds.get(agent):
                    assert agent not in gone, "it leaves once"
                    parts[agent]["end"] = bool(terminateds.get(agent)), bool(truncateds.get(agent))
                    gone.add(agent)
            over = bool(terminateds.get("__all__") or truncateds.get("__all__"))
        told.append(parts)
    return told


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=40, phases=(Phase.explicit, Phase.generate))
@given(num_agents=st.integers(1, 5), seed=st.integers(0, 10_000))
def test_turn_by_turn_tells_the_story_of_the_parallel_form(num_agents, seed):
    together = ParallelPettingZooEnv(ComeAndGo(num_agents, seed))
    in_turns = PettingZooEnv(parallel_to_aec(ComeAndGo(num_agents, seed)))
    assert story(together, 3) == story(in_turns, 3)


class MaskInInfos(ParallelEnv):
    metadata = {"name": "mask_in_infos"}  # noqa: RUF012
    possible_agents = ("a", "b")

    def observation_space(self, agent):
        return spaces.Box(0, 1, (2,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(3) if agent == "a" else spaces.Box(-1, 1, (1,))

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        return self.said()

    def step(self, actions):
        self.agents = []
        obs, _ = self.said()
        return obs, {"a": 1.0}, {}, {}, {}

    def said(self):
        return {agent: np.zeros(2, np.float32) for agent in self.possible_agents}, {
            "a": {"action_mask": np.array([0, 1, 0], np.int8)},
            "b": {},
        }


def test_masks_in_infos_become_part_of_the_observation():
    env = ParallelPettingZooEnv(MaskInInfos())
    obs, _ = env.reset()
    assert obs["a"]["action_mask"].tolist() == [0, 1, 0]
    assert obs["a"]["observations"].shape == (2,)
    assert env.observation_spaces["a"].contains(obs["a"])
    assert env.observation_spaces["b"].contains(obs["b"]), "no mask without choices to number"
    obs, _, terminateds, _, _ = env.step({"a": 1, "b": np.zeros(1)})
    assert obs["a"]["action_mask"].tolist() == [1, 1, 1], "left out, it allows everything"
    assert terminateds == {"__all__": True}, "dropped without a word, they ended all the same"


def test_an_env_without_possible_agents_is_refused():
    env = MaskInInfos()
    env.possible_agents = None
    with pytest.raises(EnvError, match=r"no possible_agents, so nobody knows who may take part"):
        ParallelPettingZooEnv(env)


class Turns(MultiAgentEnv):
    """Agents act one after the other, each once; the last move ends."""

    possible_agents = ("x", "y")
    observation_spaces = dict.fromkeys(possible_agents, spaces.Discrete(9))
    action_spaces = dict.fromkeys(possible_agents, spaces.Discrete(2))

    def reset(self, *, seed=None, options=None):
        self.acted = []
        return {"x": 1}, {}

    def step(self, actions):
        self.acted.append(dict(actions))
        if "x" in actions:
            return {"y": 2}, {"x": 0.5}, {}, {}, {"y": {"note": 1}}
        return {}, {"x": 1.0, "y": -1.0}, {"__all__": True}, {}, {}


def test_as_parallel_env_repeats_observations_and_drops_actions_of_those_that_wait():
    env = AsParallelEnv(Turns())
    assert env.reset() == ({"x": 1}, {"x": {}})
    obs, rewards, _, _, infos = env.step({"x": 0})
    assert (obs, rewards, infos) == ({"x": 1, "y": 2}, {"x": 0.5, "y": 0.0}, {"x": {}, "y": {"note": 1}})
    assert env.agents == ["x", "y"]
    obs, rewards, terminateds, truncateds, _ = env.step({"x": 1, "y": 1})
    assert env.env.acted == [{"x": 0}, {"y": 1}]
    assert (obs, rewards) == ({"x": 1, "y": 2}, {"x": 1.0, "y": -1.0})
    assert (terminateds, truncateds) == ({"x": True, "y": True}, {"x": False, "y": False})
    assert env.agents == []
    with pytest.raises(EnvError, match=r"step was called, but the episode is over"):
        env.step({})
