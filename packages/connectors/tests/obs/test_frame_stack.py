import dataclasses

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import FrameStackObservation
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_connectors.obs.frame_stack import FrameStack
from rl_core import ConnectorState
from rl_core.connect.chain import ObsChain
from rl_core.connect.protocol import observations_only
from rl_core.env.gym_vector import GymVectorEnv
from rl_core.errors import ConfigError
from rl_core.testing import check_connector
from rl_core.testing.envs import ImageEnv, NestedEnv, ObservationIsTimeEnv
from rl_core.tree import tree_leaves, tree_map, tree_zip

VECTOR = spaces.Box(1, 2, (3,), np.float32)
NESTED = spaces.Dict(
    [
        ("z", spaces.Tuple([VECTOR, spaces.MultiDiscrete([2, 3], start=[1, 1])])),
        ("a", spaces.Discrete(4, start=2)),
        ("b", spaces.MultiBinary(2)),
    ]
)
PADDINGS = ["reset", "zero"]


def same(a, b):
    """Whether two trees are equal bit for bit, also in their types; gymnasium sorts keys."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    pairs = zip(tree_leaves(a), tree_leaves(b), strict=True)
    return all(np.array_equal(x, y) and np.asarray(x).dtype == np.asarray(y).dtype for x, y in pairs)


@pytest.mark.parametrize("space", [VECTOR, NESTED, spaces.Discrete(4, start=2)], ids=repr)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("num_frames", [1, 3])
def test_conforms(space, padding, num_frames):
    check_connector(FrameStack(num_frames, padding), space, spaces.Discrete(2))


ENVS = [ObservationIsTimeEnv, NestedEnv, ImageEnv]


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(ENVS),
    length=st.integers(1, 6),
    num_frames=st.integers(1, 6),
    padding=st.sampled_from(PADDINGS),
    mode=st.sampled_from([AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP]),
    num_slots=st.integers(1, 3),
    num_steps=st.integers(1, 20),
    seed=st.integers(0, 2**16),
)
def test_stacks_are_those_of_gymnasiums_wrapper(kind, length, num_frames, padding, mode, num_slots, num_steps, seed):
    """Bit for bit, across episodes that terminate and that are truncated."""

    def make():
        return kind(length)

    def wrapped():
        return FrameStackObservation(make(), num_frames, padding_type=padding)

    env, reference = (GymVectorEnv(SyncVectorEnv([fn] * num_slots, autoreset_mode=mode)) for fn in (make, wrapped))
    chain = ObsChain([FrameStack(num_frames, padding)], env.observation_space, env.action_space)
    assert chain.output_space == reference.observation_space
    actions = env.env.action_space
    actions.seed(seed)
    state = chain.initial_state(num_slots)
    raw, expected = env.reset(seed), reference.reset(seed)
    for _ in range(num_steps):
        before = state
        state, step = chain(state, raw)
        assert same(step.obs, tree_map(np.array, expected.obs))
        if len(raw.final_slots):
            looked_at = tree_map(np.array, raw.obs)
            for leaf, final in zip(tree_leaves(looked_at), tree_leaves(raw.final_obs), strict=True):
                leaf[raw.final_slots] = final
            nothing = np.zeros(num_slots, bool)
            _, look = chain(before, dataclasses.replace(raw, obs=looked_at, first=nothing))
            assert same(tree_map(lambda leaf, at=raw.final_slots: leaf[at], look.obs), expected.final_obs)
        action = actions.sample()
        raw, expected = env.step(action), reference.step(action)


def test_a_single_env_gives_the_wrappers_stacks_and_space():
    env = FrameStackObservation(ObservationIsTimeEnv(), 4)
    piece = FrameStack(4)
    chain = ObsChain([piece], env.env.observation_space, env.action_space)
    assert chain.output_space == env.observation_space
    state, first = chain.initial_state(1), np.ones(1, bool)
    expected, _ = env.reset(seed=3)
    plain = ObservationIsTimeEnv()
    obs, _ = plain.reset(seed=3)
    for _ in range(3):
        state, step = chain(state, observations_only(obs[np.newaxis], first))
        assert same(step.obs[0], expected)
        expected, obs, first = env.step(0)[0], plain.step(0)[0], np.zeros(1, bool)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.sampled_from(PADDINGS), st.floats(0, 1), st.booleans())
def test_rebuilt_stacks_are_those_of_stepping(seed, num_frames, padding, share, nested):
    random = np.random.default_rng(seed)
    rows = random.normal(size=(12, 3, 3)).astype(np.float32)
    rows = {"b": (rows, rows[..., 0]), "a": rows[..., :2]} if nested else rows
    vector = spaces.Box(0.5, 2, (3,))
    space = vector
    if nested:
        parts = [("b", spaces.Tuple([vector, spaces.Box(-1, 1, ())])), ("a", spaces.Box(-1, 1, (2,)))]
        space = spaces.Dict(parts)
    first = random.random((12, 3)) < share
    first[0] = True
    chain = ObsChain([FrameStack(num_frames, padding)], space, spaces.Discrete(2))
    state, results, states = chain.initial_state(3), [], []
    for time, begins in enumerate(first):
        state, step = chain(state, observations_only(tree_map(lambda leaf, t=time: leaf[t], rows), begins))
        results.append(step.obs)
        states.append(state)
    piece, start = chain.pieces[0], int(random.integers(0, 12))  # rollouts begin anywhere in an episode
    part = tree_map(lambda leaf: leaf[start:], rows)
    memory = ConnectorState(slots=states[start][0].slots)
    assert same(piece.rebuild(memory, part, first[start:]), tree_zip(np.stack, results[start:]))


def test_the_last_frame_of_an_episode_comes_behind_those_before():
    piece = FrameStack(3).bind(spaces.Box(-1, 9, ()), spaces.Discrete(2))
    final = piece.rebuild_final(ConnectorState(), np.array([[1, 2, 3], [4, 4, 5]]), np.array([7, 8]))
    assert final.tolist() == [[2, 3, 7], [4, 5, 8]]


def test_nothing_it_was_given_changes():
    chain = ObsChain([FrameStack(2)], VECTOR, spaces.Discrete(2))
    obs = np.ones((2, 3), np.float32)
    state, step = chain(chain.initial_state(2), observations_only(obs, np.ones(2, bool)))
    kept = step.obs.copy()
    obs[:] = 7  # the env's buffer
    chain(state, observations_only(obs, np.array([True, False])))
    assert np.array_equal(step.obs, kept)


@pytest.mark.parametrize("given_", [{"num_frames": 0}, {"num_frames": True}, {"num_frames": 2.0}, {"padding": "edge"}])
def test_other_settings_are_refused(given_):
    with pytest.raises(ConfigError, match=f"FrameStack: {next(iter(given_))} is .*, expected"):
        FrameStack(**given_)
