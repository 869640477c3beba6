import numpy as np
import pytest
import torch
from gymnasium import spaces
from naming_env import NamingEnv

from rl_core import PPOConfig
from rl_core.errors import ConfigError, UnsupportedSpaceError
from rl_core.testing import check_module
from rl_multiagent import IdentifiedAgents, MultiAgent, MultiAgentEnv
from rl_multiagent.module.agent_heads import AgentHeads
from rl_multiagent.testing import check_multi_agent_env

SPACE = spaces.Dict({"agent": spaces.Discrete(2), "observations": spaces.Box(0, 1, (2,))})


def identified(env_config):
    return IdentifiedAgents(NamingEnv(alike=True))


def contrary(env_config):
    return IdentifiedAgents(Contrary())


class Contrary(MultiAgentEnv):
    """One step; both see nothing, and each is paid for an action of its own."""

    possible_agents = ("a", "b")
    observation_spaces = dict.fromkeys(possible_agents, spaces.Box(0, 1, (1,)))
    action_spaces = dict.fromkeys(possible_agents, spaces.Discrete(2))

    def reset(self, *, seed=None, options=None):
        return {agent: np.zeros(1, np.float32) for agent in self.possible_agents}, {}

    def step(self, actions):
        rewards = {agent: float(action == place) for place, (agent, action) in enumerate(sorted(actions.items()))}
        return {}, rewards, {"__all__": True}, {}, {}


def test_the_module_conforms_to_what_is_asked_of_every_module():
    check_module(AgentHeads, SPACE, spaces.Discrete(3))


def test_a_head_is_moved_by_its_own_agent_alone_and_the_encoder_by_all():
    torch.manual_seed(0)
    module = AgentHeads(SPACE, spaces.Discrete(3))
    obs = {"agent": torch.tensor([0, 0]), "observations": torch.rand(2, 2)}
    module.forward_policy(obs, ())[0].square().sum().backward()
    grads = [sum(p.grad.abs().sum() for p in head.parameters() if p.grad is not None) for head in module.policies]
    assert grads[0] > 0
    assert grads[1] == 0
    assert all(parameter.grad is not None for parameter in module.encoder.parameters())


@pytest.mark.parametrize("module_class", [AgentHeads, None], ids=["heads", "default"])
def test_agents_that_know_who_they_are_do_different_things_with_one_policy(module_class):
    config = PPOConfig().environment(contrary).env_runners(num_envs_per_env_runner=4)
    config.training(train_batch_size_per_learner=64, minibatch_size=64, num_epochs=4, lr=0.02)
    config.rl_module(module_class=module_class, model_config={"fcnet_hiddens": (8,)})
    algorithm = config.use(MultiAgent()).build()
    for _ in range(30):
        algorithm.train()
    assert algorithm.evaluate(num_episodes=20, explore=False)["evaluation/episode_return_mean"] == 2


def test_what_agents_see_keeps_to_the_contract_and_its_mask():
    check_multi_agent_env(identified({}))
    env = NamingEnv(alike=True)
    mask = spaces.Dict({"action_mask": spaces.MultiBinary(2), "observations": spaces.Box(0, 1, (2,))})
    env.observation_spaces = dict.fromkeys(env.possible_agents, mask)
    env._obs, plain = lambda: _masked(plain()), env._obs
    told = IdentifiedAgents(env)
    obs, _ = told.reset(seed=0)
    assert set(obs["right"]) == {"action_mask", "observations"}
    assert obs["right"]["observations"]["agent"] == 1
    assert all(told.observation_spaces[agent].contains(value) for agent, value in obs.items())


def _masked(obs):
    return {agent: {"action_mask": np.ones(2, np.int8), "observations": value} for agent, value in obs.items()}


def test_what_cannot_be_handled_is_refused():
    with pytest.raises(UnsupportedSpaceError, match="Put IdentifiedAgents around the env"):
        AgentHeads(spaces.Box(0, 1, (2,)), spaces.Discrete(2))
    with pytest.raises(ConfigError, match="AgentHeads has no memory"):
        PPOConfig().environment(identified).rl_module(module_class=AgentHeads, model_config={"use_lstm": True}).use(
            MultiAgent()
        ).build()
