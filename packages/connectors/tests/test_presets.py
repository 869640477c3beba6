import numpy as np
import pytest
from gymnasium import spaces

from rl_connectors.edit import replace, without
from rl_connectors.presets import atari, mujoco
from rl_connectors.reward.clip import ClipReward
from rl_core import PPOConfig
from rl_core.connect.chain import ObsChain
from rl_core.connect.protocol import observations_only
from rl_core.errors import ConfigError
from rl_core.module.encoders import contains_image
from rl_core.testing.envs import ObservationIsTimeEnv

COLOUR = spaces.Box(0, 255, (210, 160, 3), np.uint8)
GRAY = spaces.Box(0, 255, (210, 160), np.uint8)
ACTION = spaces.Discrete(6)


@pytest.mark.parametrize(("space", "gray"), [(COLOUR, True), (GRAY, False)])
def test_atari_images_become_small_gray_stacks_and_rewards_signs(space, gray):
    chain = ObsChain(atari(gray=gray), space, ACTION)
    assert chain.output_space == spaces.Box(0, 255, (4, 84, 84), np.uint8)
    images = np.random.default_rng(0).integers(0, 256, (2, *space.shape), np.uint8)
    step = observations_only(images, np.ones(2, bool))
    step.reward[:] = [-7, 400]
    _, result = chain(chain.initial_state(2), step)
    assert result.obs.shape == (2, 4, 84, 84)
    assert result.obs.dtype == np.uint8
    assert (result.obs == result.obs[:, :1]).all(), "an episode begins with its first image"
    assert result.reward.tolist() == [-1, 1]
    assert chain.rebuilt_from(always=False) == len(chain.pieces) - 2, "rollouts carry single small images"


def test_atari_in_colours_gets_convolutions():
    chain = ObsChain(atari(gray=False), COLOUR, ACTION)
    assert chain.output_space == spaces.Box(0, 255, (4, 84, 84, 3), np.uint8)
    assert contains_image(chain.output_space)


def test_atari_settings():
    chain = ObsChain(atari(3, 42, clip_rewards=False), COLOUR, ACTION)
    assert chain.output_space.shape == (3, 42, 42)
    assert len(chain.pieces) == 3
    assert atari(gray=False) == without(atari(), "GrayImage")
    assert replace(atari(), "SignReward", ClipReward(-5, 5))[-1] == ClipReward(-5, 5)
    with pytest.raises(ConfigError, match="GrayImage"):
        ObsChain(atari(), GRAY, ACTION)


def test_mujoco_normalises_observations_and_rewards_and_trains():
    filter_, rewards = mujoco(gamma=0.9)
    assert (filter_.clip, rewards.clip, rewards.gamma) == (10.0, 10.0, 0.9)
    algorithm = (
        PPOConfig()
        .environment(ObservationIsTimeEnv)
        .env_runners(num_envs_per_env_runner=2, env_to_module_connector=mujoco(0.9))
        .training(train_batch_size_per_learner=64, minibatch_size=32, num_epochs=1)
        .build()
    )
    try:
        for _ in range(2):
            result = algorithm.train()
        assert result["env_runners/episode_return_mean"] > 5, "returns are told as the env gave them"
        assert np.isfinite(result["learner/default/total_loss"])
    finally:
        algorithm.stop()
