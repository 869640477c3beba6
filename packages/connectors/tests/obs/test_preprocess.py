from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from rl_connectors.obs.preprocess import BatchObsPreprocessor, ObsPreprocessor
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
