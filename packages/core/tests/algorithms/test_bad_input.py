"""Envs and modules that an algorithm cannot handle are refused when it is built, and the message says what can."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rl_core import A2CConfig, DQNConfig, PPOConfig, RLModule, SACConfig, TD3Config, TQCConfig
from rl_core.errors import ConfigError, UnsupportedSpaceError
from rl_core.module import MaskedActorCritic


class AnyActionEnv(gymnasium.Env):
    """Takes actions of the space it is given and ends at once."""

    def __init__(self, action_space):
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), 0.0, True, False, {}


MULTI = spaces.MultiDiscrete([2, 3])
UNBOUNDED = spaces.Box(-np.inf, np.inf, (2,), np.float32)


def build(config, action_space):
    config().environment(AnyActionEnv, env_config={"action_space": action_space}).build()


@pytest.mark.parametrize(
    ("config", "env", "parts"),
    [
        (
            DQNConfig,
            "Pendulum-v1",
            ["DQN: got the action space Box", "expected Discrete", "a2c, appo, impala, ppo, sac, td3, tqc"],
        ),
        (
            TD3Config,
            "CartPole-v1",
            ["TD3: got the action space Discrete(2)", "expected Box", "a2c, appo, dqn, impala, ppo, sac"],
        ),
        (
            TQCConfig,
            "CartPole-v1",
            ["TQC: got the action space Discrete(2)", "expected Box", "a2c, appo, dqn, impala, ppo, sac"],
        ),
    ],
)
def test_an_env_of_the_wrong_kind_names_the_algorithms_that_can(config, env, parts):
    with pytest.raises(UnsupportedSpaceError) as error:
        config().environment(env).build()
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize("config", [DQNConfig, SACConfig, TD3Config, TQCConfig])
@pytest.mark.parametrize("space", [MULTI, spaces.MultiBinary(2), spaces.Tuple([MULTI, MULTI])], ids=str)
def test_composed_actions_are_for_policy_gradients(config, space):
    with pytest.raises(UnsupportedSpaceError, match=r"Algorithms that can: a2c, appo, impala, ppo\."):
        build(config, space)


@pytest.mark.parametrize("config", [SACConfig, TD3Config, TQCConfig])
def test_actions_without_bounds_are_refused(config):
    with pytest.raises(UnsupportedSpaceError, match="expected a Box of floats with finite bounds"):
        build(config, UNBOUNDED)


class NoCritics(RLModule):
    """A module as PPO takes it."""

    def forward_policy(self, obs, state=()):
        return obs, state

    def forward_value(self, obs, state=()):
        return obs.sum(-1)


@pytest.mark.parametrize(("config", "part"), [(DQNConfig, "'q'"), (SACConfig, "'critic'")])
def test_a_module_without_the_parts_that_are_trained_is_refused(config, part):
    config = config().environment("CartPole-v1").rl_module(module_class=NoCritics)
    with pytest.raises(ConfigError, match=f"NoCritics does not fit this algorithm, .* it has no {part}"):
        config.build()


class NothingAllowedEnv(gymnasium.Env):
    """Forbids every action from the fourth step on."""

    def __init__(self, config=None):
        vector, self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.Discrete(3)
        self.observation_space = spaces.Dict(observations=vector, action_mask=spaces.MultiBinary(3))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self._obs(), {}

    def step(self, action):
        self.time += 1
        return self._obs(), 1.0, False, self.time == 9, {}

    def _obs(self):
        return {"observations": np.zeros(2, np.float32), "action_mask": np.full(3, self.time < 4, np.int8)}


@pytest.mark.parametrize("config", [A2CConfig, PPOConfig])
def test_a_mask_that_forbids_every_action_stops_training(config):
    algorithm = config().environment(NothingAllowedEnv).rl_module(module_class=MaskedActorCritic).build()
    try:
        with pytest.raises(ValueError, match="action mask: .* rows forbid every action .* Let the env allow an action"):
            algorithm.train()
    finally:
        algorithm.stop()


@pytest.mark.parametrize("config", [A2CConfig, PPOConfig])
def test_segments_longer_than_a_rollout_are_warned_of(config):
    config = config().environment("CartPole-v1").env_runners(num_envs_per_env_runner=2)
    config.training(train_batch_size_per_learner=32, minibatch_size=32)
    config.rl_module(model_config={"use_gru": True, "lstm_cell_size": 4, "max_seq_len": 17})
    with pytest.warns(UserWarning, match="max_seq_len=17, but a rollout has 16 steps .* Set max_seq_len to 16 or less"):
        config.build().stop()
    config.rl_module(model_config={"use_gru": True, "lstm_cell_size": 4, "max_seq_len": 16})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config.build().stop()
