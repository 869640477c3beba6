"""PettingZoo's own tests pass on the adapters, and nothing that PettingZoo says is lost or counted twice."""

import warnings

import numpy as np
import pytest
from gymnasium import spaces
from mpe2 import simple_speaker_listener_v4, simple_spread_v3
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test
from pettingzoo.utils import parallel_to_aec

from rl_core.errors import EnvError
from rl_multiagent import AsParallelEnv, MultiAgentEnv, ParallelPettingZooEnv, PettingZooEnv
from rl_multiagent.env.make import make_multi_agent_env
from rl_multiagent.testing import check_multi_agent_env

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from pettingzoo.classic import connect_four_v3, rps_v2, tictactoe_v3

ENVS = {
    "spread": (simple_spread_v3.parallel_env, ParallelPettingZooEnv),
    "spread turns": (simple_spread_v3.env, PettingZooEnv),
    "speaker": (simple_speaker_listener_v4.parallel_env, ParallelPettingZooEnv),
    "speaker turns": (simple_speaker_listener_v4.env, PettingZooEnv),
    "tictactoe": (tictactoe_v3.env, PettingZooEnv),
    "rps": (rps_v2.env, PettingZooEnv),
    "connect_four": (connect_four_v3.env, PettingZooEnv),
}


@pytest.fixture(params=list(ENVS))
def make(request):
    make_env, kind = ENVS[request.param]

    def made():
        env = make_multi_agent_env(lambda config: make_env(**config))
        assert type(env) is kind
        return env

    return made


@pytest.mark.filterwarnings("ignore")
def test_pettingzoos_parallel_api_test_passes(make):
    parallel_api_test(AsParallelEnv(make()), num_cycles=60)


@pytest.mark.filterwarnings("ignore")
def test_pettingzoos_api_test_passes(make):
    api_test(parallel_to_aec(AsParallelEnv(make())), num_cycles=10)


@pytest.mark.filterwarnings("ignore")
def test_pettingzoos_seed_test_passes(make):
    parallel_seed_test(lambda: AsParallelEnv(make()), num_cycles=3)


def test_real_envs_keep_to_the_contract(make):
    assert check_multi_agent_env(make()) == []


def test_spaces_are_the_agents_own():
    env = make_multi_agent_env(lambda config: simple_speaker_listener_v4.parallel_env(**config), {"max_cycles": 3})
    assert env.possible_agents == ("speaker_0", "listener_0")
    assert env.observation_spaces["speaker_0"].shape == (3,)
    assert env.observation_spaces["listener_0"].shape == (11,)
    assert env.action_spaces["speaker_0"] == spaces.Discrete(3)


@pytest.mark.parametrize("name", ["spread", "spread turns", "speaker turns"])
def test_returns_are_those_of_pettingzoo(name):
    make_env, kind = ENVS[name]
    expected = returns_of_pettingzoo(simple_spread_v3 if "spread" in name else simple_speaker_listener_v4, 4)
    env = kind(make_env(max_cycles=4))
    obs, _ = env.reset(seed=3)
    got, rng, over = dict.fromkeys(env.possible_agents, 0.0), np.random.default_rng(0), False
    plans = {agent: rng.integers(3, size=10).tolist() for agent in env.possible_agents}
    left = set()
    while not over:
        obs, rewards, terminateds, truncateds, _ = env.step({agent: plans[agent].pop() for agent in obs})
        for agent, reward in rewards.items():
            got[agent] += reward
        over = terminateds.get("__all__", False) or truncateds.get("__all__", False)
        left |= {agent for agent in obs if truncateds.get(agent)}
    assert left == set(env.possible_agents), "who leaves gets a last observation"
    assert truncateds["__all__"], "a time limit cuts"
    assert got == pytest.approx(expected)


def returns_of_pettingzoo(module, max_cycles):
    """Sums of rewards with the same seed and actions, by PettingZoo's parallel form alone."""
    env = module.parallel_env(max_cycles=max_cycles)
    env.reset(seed=3)
    rng, returns = np.random.default_rng(0), dict.fromkeys(env.possible_agents, 0.0)
    plans = {agent: rng.integers(3, size=10).tolist() for agent in env.possible_agents}
    while env.agents:
        _, rewards, *_ = env.step({agent: plans[agent].pop() for agent in env.agents})
        for agent, reward in rewards.items():
            returns[agent] += reward
    return returns


def test_a_won_game_rewards_both_players_once():
    env = PettingZooEnv(tictactoe_v3.env())
    obs, _ = env.reset(seed=0)
    rewards = []
    for action in (0, 3, 1, 4, 2):
        (agent,) = obs
        assert obs[agent]["action_mask"][action] == 1
        obs, given, terminateds, truncateds, _ = env.step({agent: action})
        rewards.append(given)
    assert rewards == [
        {"player_2": 0},
        {"player_1": 0},
        {"player_2": 0},
        {"player_1": 0},
        {"player_1": 1, "player_2": -1},
    ]
    assert terminateds == {"player_1": True, "player_2": True, "__all__": True}
    assert not any(truncateds.values())
    assert obs["player_2"]["observations"][..., 1].sum() == 3, "the last observations show the last move"
    assert env.observation_spaces["player_1"].contains(obs["player_1"])


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
