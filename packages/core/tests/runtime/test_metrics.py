"""What remote env runners log stands in the result as if it had been logged beside the learner."""

from dataclasses import dataclass

import numpy as np
import pytest

from rl_core import Callbacks, IMPALAConfig, ObsConnector, PPOConfig, log_value
from rl_core.testing.envs import CountdownEnv

pytestmark = pytest.mark.usefixtures("cluster")


@dataclass(frozen=True)
class LogRows(ObsConnector):
    def output_space(self, observation_space, action_space):
        return observation_space

    def __call__(self, state, step):
        log_value("custom/rows", len(step.first), reduce="sum")
        return state, step


class LogEpisodes(Callbacks):
    def on_episode_end(self, *, episode, metrics):
        metrics.log_value("custom/episodes", 1, reduce="lifetime_sum")
        metrics.log_value("custom/len", len(episode.reward), reduce="percentiles", percentiles=(0, 100))
        metrics.log_value("custom/lengths", len(episode.reward), reduce="series")
        metrics.log_image("custom/map", np.eye(3))


@pytest.mark.parametrize("kind", [PPOConfig, pytest.param(IMPALAConfig, marks=pytest.mark.learning)])
def test_connectors_and_callbacks_of_two_runners_log_into_the_result(kind):
    config = kind().environment(CountdownEnv).rl_module(model_config={"fcnet_hiddens": (4,)})
    config.env_runners(num_env_runners=2, num_envs_per_env_runner=2, env_to_module_connector=(LogRows(),))
    config.training(train_batch_size_per_learner=80, minibatch_size=40).callbacks(callbacks_class=LogEpisodes)
    algorithm = config.build()
    try:
        episodes = 0
        for _ in range(3):
            result = algorithm.train()
            episodes += result["env_runners/num_episodes"]
            assert result["custom/episodes"] == episodes > 0
            assert (result["custom/len_p0"], result["custom/len_p100"]) == (5.0, 5.0)
            assert algorithm.metrics.media["custom/lengths"].values == [5.0] * result["env_runners/num_episodes"]
            assert algorithm.metrics.media["custom/map"].pixels.shape == (3, 3, 1)
            assert result["custom/rows"] >= 80
        algorithm.evaluate(num_episodes=4)
        assert algorithm.metrics.take() == {}
    finally:
        algorithm.stop()
