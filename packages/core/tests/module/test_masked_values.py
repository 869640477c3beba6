import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_core import DQNConfig, SACConfig
from rl_core.errors import ConfigError, UnsupportedSpaceError
from rl_core.module import MaskedActorQ, MaskedQNetwork, ModelSettings
from rl_core.module.actor_q import ActorQSettings
from rl_core.module.q_network import QNetworkSettings
from rl_core.testing import check_algorithm, check_module

NUM_ACTIONS = 4
VECTOR = spaces.Box(-1, 1, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (8, 8, 1), np.uint8)
ACTIONS = spaces.Discrete(NUM_ACTIONS)
SMALL = ModelSettings(fcnet_hiddens=(8,))


def space(observations=VECTOR, num_actions=NUM_ACTIONS):
    return spaces.Dict(observations=observations, action_mask=spaces.MultiBinary(num_actions))


class PickyEnv(gymnasium.Env):
    """Pays an action its number, and raises for those that the mask forbids; when all is over it forbids everything."""

    observation_space, action_space = space(), ACTIONS

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self._obs(), {}

    def step(self, action):
        assert self.mask[action], "forbidden"
        self.time += 1
        return self._obs(), float(action), self.time == 5, False, {}

    def _obs(self):
        self.mask = np.zeros(NUM_ACTIONS, np.int8)
        if self.time < 5:
            self.mask[self.np_random.choice(NUM_ACTIONS, 2, replace=False)] = 1
        return {"observations": np.zeros(3, np.float32), "action_mask": self.mask}


def make_config(base, module_class, **training):
    config = base.environment(PickyEnv, disable_env_checking=True)  # the check tries random actions
    config.training(num_steps_sampled_before_learning_starts=50, train_batch_size_per_learner=16, gamma=0.5, lr=0.01)
    config.training(env_steps_per_gradient_step=2.0, **training).reporting(min_sample_timesteps_per_iteration=200)
    return config.rl_module(module_class=module_class, model_config={"fcnet_hiddens": (8,)})


CONFIGS = {
    "dqn": lambda: make_config(DQNConfig(), MaskedQNetwork, epsilon=((0.0, 1.0), (500.0, 0.1))),
    "noisy dqn": lambda: make_config(DQNConfig(), MaskedQNetwork, epsilon=0.1, noisy=True, dueling=False),
    "sac": lambda: make_config(SACConfig(), MaskedActorQ, target_entropy=0.1),
}


@pytest.mark.parametrize(
    "observations", [VECTOR, IMAGE, spaces.Dict(a=IMAGE, b=VECTOR)], ids=["vector", "image", "all"]
)
def test_they_conform(observations):
    whole = space(observations)
    for noisy in (False, True):
        module = MaskedQNetwork(whole, ACTIONS, QNetworkSettings(model=SMALL, noisy=noisy))
        module.q.redraw(torch.Generator().manual_seed(0))
        check_module(module, whole, ACTIONS)
    module = MaskedActorQ(whole, ACTIONS, ActorQSettings(model=SMALL))
    module.log_alpha.requires_grad_(False)  # it enters losses only, neither policy nor value
    check_module(module, whole, ACTIONS)


def test_the_algorithm_makes_their_settings():
    config = DQNConfig().training(dueling=False).rl_module(model_config={"fcnet_hiddens": (5,)})
    spec = config.rl_module(module_class=MaskedQNetwork, model_config={"fcnet_activation": "tanh"}).module_spec()
    own = DQNConfig().training(dueling=False)
    own.rl_module(model_config={"fcnet_hiddens": (5,), "fcnet_activation": "tanh"})
    assert spec.model_config == own.module_spec().model_config


@pytest.mark.parametrize("name", CONFIGS)
def test_runs_conform_to_what_is_asked_of_every_algorithm(name):
    check_algorithm(CONFIGS[name]())


@pytest.mark.parametrize("name", CONFIGS)
def test_they_learn_the_best_of_what_is_allowed_and_never_take_what_is_not(name):
    algorithm = CONFIGS[name]().build()
    for _ in range(8):
        algorithm.train()
    policy, env = algorithm.env_runner.policy, PickyEnv()
    obs, _ = env.reset(seed=0)
    while env.time < 5:
        action, _ = policy.act(obs, explore=False)
        assert action == np.flatnonzero(obs["action_mask"]).max()
        obs, *_ = env.step(action)


def test_values_of_what_is_forbidden_are_left_out():
    obs = {"observations": torch.rand(2, 3), "action_mask": torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0]])}
    for module in (MaskedQNetwork(space(), ACTIONS), MaskedActorQ(space(), ACTIONS)):
        q = module.q if isinstance(module, MaskedQNetwork) else module.policy
        masked = q(obs)
        free = q({**obs, "action_mask": torch.ones(2, NUM_ACTIONS)})
        assert (masked[0, 1:3] < -1e30).all()
        torch.testing.assert_close(masked[0, [0, 3]], free[0, [0, 3]])
        torch.testing.assert_close(masked[1], free[1])  # an episode that is over: nothing is read, all is finite
        torch.testing.assert_close(module.forward_value(obs)[0], values(module, obs)[0, [0, 3]].amax())
        with pytest.raises(ValueError, match=r"1 of 2 rows forbid every action \(rows 1\)"):
            module.forward_policy(obs)


def values(module, obs):
    if isinstance(module, MaskedQNetwork):
        return module.q({**obs, "action_mask": torch.ones(2, NUM_ACTIONS)})
    return module.critic(obs).mean(0)


@pytest.mark.parametrize("module", [MaskedQNetwork, MaskedActorQ])
@pytest.mark.parametrize(
    ("observation", "action", "words"),
    [
        (VECTOR, ACTIONS, "'observations' and 'action_mask'"),
        (space(num_actions=3), ACTIONS, r"shape \(4,\)"),
        (space(), spaces.Box(-1, 1, (4,)), "expected Discrete"),
    ],
)
def test_other_spaces_are_refused(module, observation, action, words):
    with pytest.raises(UnsupportedSpaceError, match=words):
        module(observation, action)


@pytest.mark.parametrize("settings", [{"num_atoms": 7}, {"model": ModelSettings(use_lstm=True)}])
def test_a_memory_or_a_distribution_of_returns_is_refused(settings):
    with pytest.raises(ConfigError, match="num_atoms at 1"):
        MaskedQNetwork(space(), ACTIONS, QNetworkSettings(**settings))
