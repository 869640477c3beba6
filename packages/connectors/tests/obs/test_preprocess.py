from dataclasses import dataclass

import numpy as np
import pytest
from gymnasium import spaces

from rl_connectors.obs.preprocess import BatchObsPreprocessor, ObsPreprocessor
from rl_core import PPOConfig
from rl_core.errors import EnvError
from rl_core.testing import check_connector

SPACE = spaces.Dict(row=spaces.Discrete(3), speed=spaces.Box(-1, 1, (2,), np.float32))


@dataclass(frozen=True)
class TwoParts(ObsPreprocessor):
    size: int = 3

    def output_space(self, observation_space, action_space):
        return spaces.Tuple([spaces.Box(0, 1, (self.size,)), spaces.Box(0, 2, (), np.float32)])

    def preprocess(self, obs):
        vector = np.zeros(self.size, np.float32)
        vector[obs["row"]] = 1
        return vector, np.abs(obs["speed"]).sum()


@dataclass(frozen=True)
class Doubled(BatchObsPreprocessor):
    def output_space(self, observation_space, action_space):
        return spaces.Box(-2, 2, (2,))

    def preprocess(self, obs):
        return 2 * obs["speed"]


def test_conform():
    check_connector(TwoParts(), SPACE, spaces.Discrete(2))
    check_connector(Doubled(), SPACE, spaces.Discrete(2))


def test_one_observation_after_the_other(apply):
    obs = {"row": np.array([2, 0]), "speed": np.array([[0.5, -0.5], [0, 1]], np.float32)}
    (vector, total), _ = apply(TwoParts(), SPACE, obs)
    assert vector.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert total.tolist() == [1, 1]


def test_all_observations_at_once(apply):
    obs = {"row": np.array([2, 0]), "speed": np.array([[0.5, -0.5], [0, 1]], np.float32)}
    result, _ = apply(Doubled(), SPACE, obs)
    assert result.tolist() == [[1, -1], [0, 2]]


@dataclass(frozen=True)
class Undeclared(BatchObsPreprocessor):
    """Gives CartPole's observations in another form than it declares."""

    gives: str

    def output_space(self, observation_space, action_space):
        box = spaces.Box(-np.inf, np.inf, (4,))
        return spaces.Dict(part=box) if self.gives == "no dict" else box

    def preprocess(self, obs):
        forms = {"too many": np.repeat(obs, 2, axis=1), "whole numbers": obs.astype(np.int64), "one row": obs[0]}
        return forms.get(self.gives, obs)


@pytest.mark.parametrize(
    ("gives", "match"),
    [
        ("too many", r"returned the observation as a float32 array of shape \(2, 8\), expected a float32 array of"),
        ("whole numbers", r"as a int64 array of shape \(2, 4\), expected a float32 array"),
        ("one row", r"as a float32 array of shape \(4,\), expected a float32 array of shape \(2, 4\): 2 slots of Box"),
        ("no dict", "observation with type ndarray, expected a dict of"),
    ],
)
def test_observations_that_are_not_as_declared_are_refused(gives, match):
    config = PPOConfig().environment("CartPole-v1")
    config.env_runners(num_envs_per_env_runner=2, env_to_module_connector=[Undeclared(gives)])
    with pytest.raises(EnvError, match=r"Observation connector 0 \(Undeclared\) .*" + match):
        config.build().train()
