"""PettingZoo's own tests pass on the adapters of its real envs, and nothing that these say is lost or counted twice."""

import warnings

import numpy as np
import pytest
from gymnasium import spaces

from rl_core import PPOConfig
from rl_core.module import MaskedActorCritic
from rl_core.tree import tree_leaves
from rl_multiagent import AsParallelEnv, MultiAgent, ParallelPettingZooEnv, PettingZooEnv
from rl_multiagent.env.make import make_multi_agent_env
from rl_multiagent.env.vector import SyncAgentsEnv
from rl_multiagent.testing import check_multi_agent_env

pytest.importorskip("mpe2")

from mpe2 import simple_speaker_listener_v4, simple_spread_v3  # after importorskip
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test
from pettingzoo.utils import parallel_to_aec

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


def test_a_restored_env_goes_on_exactly(make):
    first, second = (SyncAgentsEnv(make, 1, name="env") for _ in range(2))
    step, rng = first.reset(0), np.random.default_rng(0)
    for _ in range(29):
        step = first.step(legal(first, step, rng))
    state = first.get_state()
    second.reset(5)
    second.set_state(state)
    for _ in range(40):
        actions = legal(first, step, rng)
        step, other = first.step(actions), second.step(actions)
        for name in ("acts", "reward", "terminated", "truncated", "first"):
            np.testing.assert_array_equal(getattr(step, name), getattr(other, name))
        for kind, *parts in zip(first.layout.kinds, step.obs, other.obs, strict=True):
            acts = step.acts[:, kind.start : kind.stop]
            for one, two in zip(*map(tree_leaves, parts), strict=True):
                np.testing.assert_array_equal(one[acts], two[acts])


def legal(env, step, rng):
    """Draw actions that the masks allow."""
    actions = env.layout.empty_actions(1)
    for kind, chosen, obs in zip(env.layout.kinds, actions, step.obs, strict=True):
        for place in np.flatnonzero(step.acts[0, kind.start : kind.stop]):
            mask = obs["action_mask"][0, place] if isinstance(obs, dict) else np.ones(kind.action_space.n)
            chosen[0, place] = rng.choice(np.flatnonzero(mask))
    return actions


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


def make_board(config):
    return tictactoe_v3.env()


def test_a_board_of_3_x_3_is_no_image_for_the_default_network():
    config = (
        PPOConfig()
        .environment(make_board)
        .training(train_batch_size_per_learner=64, minibatch_size=32)
        .rl_module(module_class=MaskedActorCritic)
        .use(MultiAgent())
    )
    algorithm = config.build()
    assert np.isfinite(algorithm.train()["learner/default/policy_loss"])
    algorithm.stop()
