"""Observations that cannot be used: the message says which, and the run stops or goes on as the setting says."""

from dataclasses import dataclass

import gymnasium
import msgspec
import numpy as np
import pytest
from gymnasium import spaces

from rl_connectors import (
    BatchObsPreprocessor,
    DecodeMsgpack,
    FrameStack,
    MeanStdFilter,
    PrevActionsPrevRewards,
    RescaleAction,
    ScaleImage,
    pack_bytes,
)
from rl_core import PPOConfig
from rl_core.connect.chain import ObsChain
from rl_core.connect.protocol import observations_only
from rl_core.errors import BadObservationError, CheckpointError, ConfigError, EnvError

SIZE = 32


class Sensor(gymnasium.Env):
    """Two numbers in unbounded space; those after step 3 of each sixth episode are what `spoil` makes of them."""

    observation_space, action_space = spaces.Box(-np.inf, np.inf, (2,), np.float32), spaces.Discrete(2)
    episode = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.episode = 0, self.episode + 1
        return self.obs(), {}

    def step(self, action):
        self.time += 1
        return self.obs(), 1.0, self.time == 6, False, {}

    def obs(self):
        obs = self.good()
        return self.spoil(obs) if self.time == 3 and self.episode % 6 == 0 else obs

    def good(self):
        return np.array([self.time, 1e30], np.float32)

    def spoil(self, obs):
        return np.full(2, np.nan, np.float32)


class InfiniteSensor(Sensor):
    def spoil(self, obs):
        return np.array([1, -np.inf], np.float32)


class Radio(Sensor):
    observation_space = spaces.Box(0, 255, (SIZE,), np.uint8)

    def good(self):
        return pack_bytes(msgspec.msgpack.encode([self.time / 6, 0.5]), SIZE)

    def spoil(self, obs):
        return np.full(SIZE, 9, np.uint8)


class Garbled(Radio):
    def spoil(self, obs):
        return pack_bytes(b"\xc1", SIZE)


DECODE = DecodeMsgpack(space=spaces.Box(0, 1, (2,)))
CASES = [
    (Sensor, MeanStdFilter(), "MeanStdFilter: obs holds nan, expected finite numbers.*bad_observations='drop'"),
    (InfiniteSensor, MeanStdFilter(), "MeanStdFilter: obs holds -inf, expected finite numbers"),
    (Radio, DECODE, "DecodeMsgpack: its message claims to have .* bytes, and 32 have room for 28"),
    (Garbled, DECODE, "DecodeMsgpack: its message of 1 bytes cannot be decoded"),
]


def config(make, *pieces, **settings):
    result = PPOConfig().environment(make)
    result.env_runners(num_envs_per_env_runner=2, env_to_module_connector=pieces, **settings)
    return result.training(train_batch_size_per_learner=160, minibatch_size=80, num_epochs=1)


@pytest.mark.parametrize(("make", "piece", "message"), CASES)
def test_a_bad_observation_stops_the_run_with_its_slot_and_cause(make, piece, message):
    algorithm = config(make, piece, FrameStack(2)).build()
    with pytest.raises(BadObservationError, match=f"Observation of slot [01]: {message}"):
        algorithm.train()


@pytest.mark.parametrize(("make", "piece", "message"), CASES)
def test_or_ends_the_segment_is_counted_and_the_run_goes_on(make, piece, message):
    algorithm = config(make, piece, FrameStack(2), bad_observations="drop").build()
    rollout = algorithm.env_runner.sample()
    assert algorithm.env_runner.num_bad_observations > 0
    invalid = ~rollout.valid
    assert invalid.any()
    before = invalid[1:] & ~invalid[:-1]
    assert (rollout.truncated | rollout.terminated)[:-1][before].all(), "the segment ends before"
    result = algorithm.train()
    assert result["env_runners/num_bad_observations"] == algorithm.env_runner.num_bad_observations
    assert np.isfinite(result["learner/default/total_loss"])
    assert np.isfinite(algorithm.evaluate(num_episodes=4)["evaluation/episode_return_mean"])


def test_unbounded_numbers_are_normalised_or_refused_where_bounds_are_needed():
    algorithm = config(Sensor, MeanStdFilter(), bad_observations="drop").build()
    obs = algorithm.env_runner.sample().obs
    assert np.isfinite(obs.numpy()).all()
    assert abs(obs).max() <= 10
    with pytest.raises(ConfigError, match=r"ScaleImage\) cannot take .*expected uint8 boxes.*Leave it out"):
        config(Sensor, ScaleImage()).build()
    unbounded = config(Unbounded).env_runners(module_to_env_connector=(RescaleAction(),))
    with pytest.raises(ConfigError, match=r"RescaleAction\) cannot feed .*needs finite bounds.*or leave the piece out"):
        unbounded.build()


class Unbounded(Sensor):
    action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)


class Growing(gymnasium.vector.VectorEnv):
    """Its observations get a third number in step 5."""

    def __init__(self, num_envs):
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = Sensor.observation_space, Sensor.action_space
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)
        self.metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}
        self.time = 0

    def reset(self, *, seed=None, options=None):
        return np.zeros((self.num_envs, 2), np.float32), {}

    def step(self, actions):
        self.time += 1
        never = np.zeros(self.num_envs, bool)
        return np.zeros((self.num_envs, 2 + (self.time > 4)), np.float32), np.zeros(self.num_envs), never, never, {}


@pytest.mark.parametrize("piece", [MeanStdFilter(), FrameStack(2)])
def test_observations_that_change_their_shape_are_refused(piece):
    from rl_core import ModelSettings, Policy
    from rl_core.connect.required import ActionToEnv, FlattenObs
    from rl_core.env.gym_vector import GymVectorEnv
    from rl_core.module.spec import ModuleSpec
    from rl_core.sampling.env_runner import EnvRunner

    env = GymVectorEnv(Growing(2))
    policy = Policy(
        ModuleSpec(model_config=ModelSettings(fcnet_hiddens=(4,))),
        env.observation_space,
        env.action_space,
        obs_connectors=[piece, FlattenObs()],
        action_connectors=[ActionToEnv()],
    )
    with pytest.raises(
        EnvError, match=r"returned the observation as a float32 array of shape \(2, 3\), expected .*shape \(2, 2\)"
    ):
        EnvRunner(env, policy, num_steps=8, seed=0).sample()


@dataclass(frozen=True)
class Lies(BatchObsPreprocessor):
    """Gives half of what it declares."""

    def output_space(self, observation_space, action_space):
        return observation_space

    def preprocess(self, obs):
        return obs[:, :1]


def test_the_next_piece_says_what_it_got_from_one_that_leaves_its_space():
    chain = ObsChain([Lies(), MeanStdFilter()], Sensor.observation_space, Sensor.action_space)
    step = observations_only(np.zeros((3, 2), np.float32), np.ones(3, bool))
    culprit = (
        r"Observation connector 0 \(Lies\) returned the observation as a float32 array of shape \(3, 1\), expected"
    )
    message = rf"connector 1 \(MeanStdFilter\) failed .*{culprit} a float32 array of shape \(3, 2\).*output_space"
    with pytest.raises(EnvError, match=message):
        chain(chain.initial_state(3), step)


def test_the_state_of_another_chain_is_refused_with_the_piece_that_differs(tmp_path):
    pieces = (MeanStdFilter(), FrameStack(2), PrevActionsPrevRewards())
    algorithm = config(Clean, *pieces).build()
    path = algorithm.save(tmp_path / "checkpoint")
    for others, message in (
        ((FrameStack(2), MeanStdFilter()), "Observation connector 0 of the checkpoint is MeanStdFilter, .* FrameStack"),
        (pieces[:2], "Observation connector 2 of the checkpoint is PrevActionsPrevRewards, of this run FlattenObs"),
        (
            (pieces[0], FrameStack(3), pieces[2]),
            "connector 1 of the checkpoint is FrameStack with {'num_frames': 2.* of this run FrameStack.num_frames=3",
        ),
    ):
        with pytest.raises(CheckpointError, match=message):
            config(Clean, *others).build().restore(path)


def test_statistics_of_other_keys_are_refused(tmp_path):
    path = config(TwoParts, MeanStdFilter(keys=("a",))).build().save(tmp_path / "checkpoint")
    with pytest.raises(CheckpointError, match=r"statistics of observation connector 0 \(MeanStdFilter\)"):
        config(TwoParts, MeanStdFilter(keys=("b",))).build().restore(path)


class Clean(Sensor):
    def spoil(self, obs):
        return obs


class TwoParts(Clean):
    observation_space = spaces.Dict(a=Sensor.observation_space, b=Sensor.observation_space)

    def good(self):
        return {"a": super().good(), "b": super().good()}
