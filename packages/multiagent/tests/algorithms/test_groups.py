"""QMIX, VDN and COMA: algorithms for agents that act as one."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from naming_env import NamingEnv

from rl_core import Policy, PPOConfig
from rl_core.errors import ConfigError, UnsupportedSpaceError
from rl_core.testing import check_algorithm, check_module
from rl_multiagent import (
    COMAConfig,
    GroupedAgents,
    MultiAgent,
    MultiAgentEnv,
    QMIXConfig,
    VDNConfig,
    member_policy,
)
from rl_multiagent.module.members import MemberSettings
from rl_multiagent.module.team_actor_critic import TeamActorCritic
from rl_multiagent.module.team_q import MonotonicMixer, TeamQNetwork, TeamQSettings


def team(env_config):
    return GroupedAgents(NamingEnv(**env_config), {"team": ("left", "right")})


class Masked(MultiAgentEnv):
    """Two agents; only the action that the mask names is legal, and it pays."""

    possible_agents = ("a", "b")
    observation_spaces = dict.fromkeys(
        possible_agents, spaces.Dict({"action_mask": spaces.MultiBinary(3), "what": spaces.Box(0, 1, (2,))})
    )
    action_spaces = dict.fromkeys(possible_agents, spaces.Discrete(3))

    def reset(self, *, seed=None, options=None):
        self.rng = self.rng if seed is None else np.random.default_rng(seed)
        self.time = 0
        return self._look(), {}

    def step(self, actions):
        assert all(self.legal[agent] == action for agent, action in actions.items()), "an illegal action"
        self.time += 1
        return self._look(), dict.fromkeys(actions, 1.0), {"__all__": self.time == 5}, {}, {}

    def _look(self):
        self.legal = {agent: int(self.rng.integers(3)) for agent in self.possible_agents}
        return {
            agent: {"action_mask": np.eye(3, dtype=np.int8)[legal], "what": np.ones(2, np.float32)}
            for agent, legal in self.legal.items()
        }


def masked_team(env_config):
    return GroupedAgents(Masked(), {"team": ("a", "b")})


def config_of(kind, env=team, **env_config):
    config = {"qmix": QMIXConfig, "vdn": VDNConfig, "coma": COMAConfig}[kind]()
    config.environment(env, env_config=env_config).env_runners(num_envs_per_env_runner=4)
    if kind == "coma":
        config.training(train_batch_size_per_learner=100, minibatch_size=100, lr=0.01, gamma=0.5)
    else:
        config.training(num_steps_sampled_before_learning_starts=100, env_steps_per_gradient_step=2.0, lr=2e-3)
        config.training(epsilon=[[0, 1.0], [2000, 0.0]], target_network_update_freq=100, gamma=0.5)
    return config.rl_module(model_config={"fcnet_hiddens": (32,)}).use(MultiAgent())


@pytest.mark.parametrize(("kind", "alike"), [("qmix", False), ("vdn", True), ("coma", True)])
def test_runs_conform_to_what_is_asked_of_every_algorithm(kind, alike):
    config = config_of(kind, alike=alike).reporting(min_sample_timesteps_per_iteration=100)
    if kind != "coma":
        config.training(env_steps_per_gradient_step=10.0)
    check_algorithm(config)


@pytest.mark.parametrize("kind", ["qmix", "vdn", "coma"])
def test_members_learn_to_name_what_they_see(kind, tmp_path):
    algorithm = config_of(kind).build()
    while algorithm.env_steps < (10_000 if kind == "coma" else 4000):
        algorithm.train()
    assert algorithm.evaluate(num_episodes=20)["evaluation/episode_return_mean"] > 17  # of 20; 8.3 by chance
    policy = Policy.from_checkpoint(algorithm.save(tmp_path / "saved"))
    action, _ = policy.act((np.eye(2, dtype=np.float32)[1], np.eye(3, dtype=np.float32)[2]))
    assert action == (1, 2)
    for place, size in enumerate((2, 3)):
        member = member_policy(policy, place)
        assert [member.act(row)[0] for row in np.eye(size, dtype=np.float32)] == list(range(size))


@pytest.mark.parametrize("kind", ["qmix", "vdn", "coma"])
def test_an_illegal_action_is_never_chosen(kind):
    algorithm = config_of(kind, env=masked_team).reporting(min_sample_timesteps_per_iteration=100).build()
    for _ in range(3):
        algorithm.train()
    assert algorithm.evaluate(num_episodes=5)["evaluation/episode_return_mean"] == 10
    members = [member_policy(algorithm.policy, place) for place in range(2)]
    for legal in range(3):
        obs = {"action_mask": np.eye(3, dtype=np.int8)[legal], "what": np.ones(2, np.float32)}
        assert [member.act(obs)[0] for member in members] == [legal, legal]


SPACES = (
    spaces.Tuple([spaces.Box(-1, 1, (3,)), spaces.Discrete(4)]),
    spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)]),
)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    "settings", [TeamQSettings(), TeamQSettings(mixer="vdn"), MemberSettings()], ids=["qmix", "vdn", "coma"]
)
def test_modules_conform_to_what_is_asked_of_every_module(settings, shared):
    kind = TeamQNetwork if isinstance(settings, TeamQSettings) else TeamActorCritic
    equal = spaces.Tuple([spaces.Box(-1, 1, (3,))] * 2), spaces.Tuple([spaces.Discrete(2)] * 2)
    observation_space, action_space = equal if shared else SPACES
    module = kind(observation_space, action_space, settings)
    if kind is TeamActorCritic:
        module.q.requires_grad_(False)  # COMA alone asks for it
    check_module(module, observation_space, action_space)


def test_the_groups_value_rises_with_each_members():
    torch.manual_seed(0)
    mixer = MonotonicMixer(3, 5, 8)
    values, state = torch.randn(200, 3), torch.randn(200, 5)
    for member in range(3):
        higher = values.clone()
        higher[:, member] += 0.5
        assert (mixer(higher, state) >= mixer(values, state)).all()
    assert (mixer(values + 0.5, state) > mixer(values, state)).all()


def test_the_mixing_network_is_that_of_the_paper():
    torch.manual_seed(0)
    mixer = MonotonicMixer(2, 3, 4)
    values, state = torch.randn(2), torch.randn(3)
    weight = (mixer.weight.weight @ state + mixer.weight.bias).abs().reshape(2, 4)
    hidden = torch.nn.functional.elu(values @ weight + mixer.bias(state))
    expected = hidden @ (mixer.last_weight.weight @ state + mixer.last_weight.bias).abs() + mixer.last_bias(state)
    torch.testing.assert_close(mixer(values, state).unsqueeze(0), expected)


def test_the_counterfactual_does_not_see_the_members_own_action():
    torch.manual_seed(0)
    module = TeamActorCritic(*SPACES)
    obs = (torch.randn(6, 3), torch.randint(4, (6,)))
    first, second = torch.randint(2, (6,)), torch.randint(3, (6,))
    q = module.counterfactual(obs, (first, second))
    other = module.counterfactual(obs, (1 - first, second))
    torch.testing.assert_close(q[0], other[0])
    assert (q[1] != other[1]).all(), "the other member's critic sees it"


@pytest.mark.parametrize("kind", ["qmix", "coma"])
def test_agents_that_are_no_group_are_refused(kind):
    with pytest.raises(UnsupportedSpaceError, match=f"{kind.upper()}: got the action space Discrete"):
        config_of(kind, env=NamingEnv, alike=True).build()


def test_a_group_that_cannot_be_handled_is_refused():
    with pytest.raises(UnsupportedSpaceError, match="expected a Tuple of Discrete, the actions of a group"):
        TeamQNetwork(SPACES[0], spaces.Tuple([spaces.Box(-1, 1, (1,)), spaces.Discrete(2)]))
    with pytest.raises(UnsupportedSpaceError, match="expected a Tuple of 2, one for each member"):
        TeamQNetwork(spaces.Box(-1, 1, (7,)), SPACES[1])
    with pytest.raises(ConfigError, match="have no memory"):
        config_of("qmix").rl_module(model_config={"use_lstm": True}).build()


def test_a_member_of_what_is_no_group_is_refused():
    team = config_of("qmix").build().policy
    with pytest.raises(ConfigError, match="got place 2, expected 0 to 1"):
        member_policy(team, 2)
    with pytest.raises(ConfigError, match="expected one of QMIX, VDN or COMA"):
        member_policy(PPOConfig().environment("CartPole-v1").build().policy, 0)
