"""Every piece works where sampling, checkpoints, inference and exported policies use it, alone and twice in a chain."""

import dataclasses
import importlib.util
import json

import gymnasium
import msgspec
import numpy as np
import pytest
import torch
from gymnasium import spaces

import rl_connectors
from rl_connectors import (
    ActionNoise,
    CastObs,
    ChannelsFirst,
    ChannelsLast,
    ClipAction,
    ClipReward,
    DecodeBytes,
    DecodeMsgpack,
    DecodeProtobuf,
    DiscretizeAction,
    FlattenObs,
    FrameStack,
    GrayImage,
    MeanStdFilter,
    NormalizeReward,
    OneHotObs,
    PrevActionsPrevRewards,
    RenameKeys,
    RescaleAction,
    ResizeImage,
    ScaleImage,
    SelectActions,
    SelectKey,
    SelectKeys,
    ShapeReward,
    SignReward,
    StickyAction,
    TimeAwareness,
    pack_bytes,
)
from rl_core import ActionConnector, ObsConnector, Policy, PPOConfig
from rl_core.connect.chain import ActionChain, ObsChain, as_tensor
from rl_core.connect.protocol import observations_only
from rl_core.onnx import OnnxPolicy, export_onnx
from rl_core.policy import PolicyState
from rl_core.testing.envs import ImageEnv, NestedEnv, ObservationIsTimeEnv
from rl_core.tree import tree_leaves, tree_map

try:
    from google.protobuf import duration_pb2
except ImportError:  # without the extra
    duration_pb2 = None
HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))
HERE = __name__.partition(".")[0]


class PackedEnv(gymnasium.Env):
    """Counts up to 4 in messages that `pack` makes."""

    observation_space, action_space = spaces.Box(0, 255, (64,), np.uint8), spaces.Discrete(2)
    pack = staticmethod(msgspec.msgpack.encode)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.obs(), {}

    def step(self, action):
        self.time += 1
        return self.obs(), float(action), self.time == 4, False, {}

    def obs(self):
        return pack_bytes(self.pack({"seconds": self.time}), 64)


class JsonEnv(PackedEnv):
    @staticmethod
    def pack(message):
        return json.dumps(message).encode()


class ProtobufEnv(PackedEnv):
    @staticmethod
    def pack(message):
        return duration_pb2.Duration(**message).SerializeToString()


class Pendulum(gymnasium.Wrapper):
    """Short episodes."""

    def __init__(self):
        super().__init__(gymnasium.make("Pendulum-v1", max_episode_steps=7))


def from_json(message):
    return json.loads(message)


def first_number(obs):
    """A potential."""
    return obs[:, 0]


SECONDS = spaces.Dict(seconds=spaces.Discrete(5))
TIME = ObservationIsTimeEnv
CASES = [
    (NestedEnv, [FlattenObs()]),
    (NestedEnv, [FlattenObs(keys=("parts", "mode"))]),
    (NestedEnv, [OneHotObs()]),
    (NestedEnv, [CastObs("float64")]),
    (NestedEnv, [SelectKeys(("mode", "position"))]),
    (NestedEnv, [SelectKey("parts")]),
    (NestedEnv, [RenameKeys((("mode", "gear"),))]),
    (TIME, [FrameStack(3)]),
    (NestedEnv, [FrameStack(2, padding="zero")]),
    (TIME, [MeanStdFilter()]),
    (NestedEnv, [MeanStdFilter(keys=("position",))]),
    (TIME, [PrevActionsPrevRewards(2, 3)]),
    (NestedEnv, [PrevActionsPrevRewards()]),
    (Pendulum, [PrevActionsPrevRewards(3, 0)]),
    (TIME, [TimeAwareness(5)]),
    (ImageEnv, [GrayImage()]),
    (ImageEnv, [ResizeImage(6, 8)]),
    (ImageEnv, [ChannelsFirst()]),
    (ImageEnv, [ChannelsFirst(), ChannelsLast()]),
    (ImageEnv, [ScaleImage()]),
    (PackedEnv, [DecodeMsgpack(space=SECONDS)]),
    (JsonEnv, [DecodeBytes(from_json, space=SECONDS)]),
    *([(ProtobufEnv, [DecodeProtobuf(duration_pb2.Duration, space=SECONDS)])] if duration_pb2 else []),
    (TIME, [ClipReward()]),
    (TIME, [SignReward()]),
    (TIME, [NormalizeReward()]),
    (TIME, [ShapeReward(first_number, 0.9)]),
    (Pendulum, [ClipAction()]),
    (Pendulum, [RescaleAction()]),
    (Pendulum, [DiscretizeAction(3)]),
    (ImageEnv, [SelectActions((0, 2))]),
    (TIME, [StickyAction(0.5)]),
    (NestedEnv, [StickyAction(0.5)]),
    (Pendulum, [ActionNoise(0.3)]),
    (Pendulum, [ActionNoise(0.3, "ornstein_uhlenbeck")]),
    (Pendulum, [MeanStdFilter(), FrameStack(4), PrevActionsPrevRewards(), TimeAwareness(7), NormalizeReward()]),
]
IDS = [f"{make.__name__}-{'-'.join(type(piece).__name__ for piece in pieces)}" for make, pieces in CASES]
every_case = pytest.mark.parametrize(("make", "pieces"), CASES, ids=IDS)


def build(make, pieces, seed=0):
    config = PPOConfig().environment(make).debugging(seed=seed)
    config.env_runners(
        num_envs_per_env_runner=2,
        env_to_module_connector=tuple(piece for piece in pieces if isinstance(piece, ObsConnector)),
        module_to_env_connector=tuple(piece for piece in pieces if isinstance(piece, ActionConnector)),
    )
    config.training(train_batch_size_per_learner=32, minibatch_size=16, num_epochs=1)
    config.rl_module(model_config={"fcnet_hiddens": (4,)})
    return config.build()


def same(one, two):
    pairs = list(zip(tree_leaves(one), tree_leaves(two), strict=True))
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


def close(one, two):
    pairs = zip(tree_leaves(one), tree_leaves(two), strict=True)
    return all(np.allclose(np.asarray(a), np.asarray(b), atol=1e-5) for a, b in pairs)


def plain(obs):
    if isinstance(obs, dict):
        return {key: plain(value) for key, value in obs.items()}
    return tuple(map(plain, obs)) if isinstance(obs, tuple) else np.asarray(obs)


def one_step(obs, reward, action, first=None):
    """A step of all slots; an episode begins where there was no action."""
    num_slots = len(next(tree_leaves(obs)))
    step = observations_only(obs, np.full(num_slots, action is None) if first is None else first)
    return dataclasses.replace(step, reward=np.full(num_slots, reward, np.float32), action=action)


def slots(state):
    return tuple(part.slots for part in state.connectors)


def memory(runner):
    state = runner.get_state()
    return state["connectors"], state["action_memory"]


def test_no_piece_is_left_out():
    tried = {type(piece) for _, pieces in CASES for piece in pieces}
    public = [getattr(rl_connectors, name) for name in rl_connectors.__all__]
    bases = {rl_connectors.LeafwiseObs, rl_connectors.ObsPreprocessor, rl_connectors.BatchObsPreprocessor}
    kinds = {thing for thing in public if isinstance(thing, type) and issubclass(thing, ObsConnector | ActionConnector)}
    assert tried | {DecodeProtobuf} == kinds - bases


@every_case
def test_a_run_goes_on_from_a_checkpoint_bit_for_bit(make, pieces, tmp_path):
    algorithm, twin = build(make, pieces), build(make, pieces, seed=1)
    algorithm.train()
    path = algorithm.save(tmp_path / "checkpoint")
    twin.restore(path)
    assert same(memory(algorithm.env_runner), memory(twin.env_runner))
    for _ in range(2):
        one, two = algorithm.train(), twin.train()
        for key in ("learner/default/total_loss", "env_runners/episode_return_mean", "env_steps"):
            np.testing.assert_equal(one[key], two[key])
    assert same(memory(algorithm.env_runner), memory(twin.env_runner))


@every_case
def test_inference_is_what_evaluation_does_from_a_checkpoint_and_from_an_onnx_file(make, pieces, tmp_path):
    algorithm = build(make, pieces)
    for _ in range(2):
        algorithm.train()
    path = algorithm.save(tmp_path / "checkpoint")
    trained = algorithm.policy
    restored = Policy.from_checkpoint(path, allow=[HERE])
    assert same(restored.shared, trained.shared)
    policies = [trained, restored]
    if HAS_ONNX:
        policies.append(OnnxPolicy(export_onnx(trained, tmp_path / "policy.onnx"), allow=[HERE]))
    batched = trained.initial_state(2, seed=3)  # as in evaluation, with the same episode in both slots
    env, reward, taken, done = make(), 0.0, None, False
    states = [policy.initial_state(seed=3) for policy in policies]
    obs, _ = env.reset(seed=4)
    while not done:
        acted = [policy.act(obs, state, reward=reward) for policy, state in zip(policies, states, strict=True)]
        states = [state for _, state in acted]
        actions = [action for action, _ in acted]
        assert same(slots(states[0]), slots(states[1])), "bit for bit"
        assert same(actions[0], actions[1])
        assert close(slots(states[0]), slots(states[-1]))
        assert close(actions[0], actions[-1])

        step = one_step(tree_map(lambda leaf: np.stack([leaf, leaf]), plain(obs)), reward, taken)
        connectors, step = trained.obs_chain(batched.connectors, step)
        dist_inputs, module = trained.module.forward_policy(tree_map(as_tensor, step.obs), batched.module)
        mode = trained.module.distribution.mode(dist_inputs)
        kept, taken = trained.action_chain(batched.action_memory, mode, step.first)
        batched = PolicyState(module, connectors, kept)
        assert close(tree_map(lambda leaf: leaf[:1], slots(batched)), slots(states[0]))
        assert close(tree_map(lambda leaf: leaf[0], taken), actions[0])
        obs, reward, terminated, truncated, _ = env.step(actions[0])
        done = terminated or truncated


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (MeanStdFilter(), MeanStdFilter(clip=1.0)),
        (FrameStack(2), FrameStack(3, padding="zero")),
        (NormalizeReward(0.9), NormalizeReward(0.5)),
        (ShapeReward(first_number, 0.9), ShapeReward(first_number, 0.5)),
    ],
    ids=lambda piece: type(piece).__name__,
)
def test_two_of_one_class_do_what_they_do_one_after_the_other(first, second):
    space, action_space = spaces.Box(-9, 9, (2,), np.float32), spaces.Discrete(2)
    both = ObsChain([first, second], space, action_space)
    one = ObsChain([first], space, action_space)
    two = ObsChain([second], one.output_space, action_space)
    random = np.random.default_rng(0)
    states = [chain.initial_state(3) for chain in (both, one, two)]
    for time in range(12):
        begins = np.full(3, time == 0) | (random.random(3) < 0.2)
        given = one_step(random.normal(size=(3, 2)).astype(np.float32), 1.0, None, begins)
        states[0], result = both(states[0], given, observe=True)
        states[1], between = one(states[1], given, observe=True)
        states[2], expected = two(states[2], between, observe=True)
        assert same((result.obs, result.reward), (expected.obs, expected.reward))
        parts = [(part.shared, part.slots) for part in states[1] + states[2]]
        assert same(tuple((part.shared, part.slots) for part in states[0]), tuple(parts))


@pytest.mark.parametrize("piece", [StickyAction(0.5), ActionNoise(0.5)], ids=repr)
def test_two_of_one_action_piece_draw_numbers_of_their_own(piece):
    space = spaces.Box(-9, 9, (2,), np.float32)
    chain = ActionChain([piece, piece], space)
    state = chain.initial_state(3, seed=0)
    assert not (state[0]["key"] == state[1]["key"]).any()
    after, _ = chain(state, torch.ones(3, 2), np.zeros(3, bool))
    assert all((x["key"] != y["key"]).all() for x, y in zip(state, after, strict=True))
