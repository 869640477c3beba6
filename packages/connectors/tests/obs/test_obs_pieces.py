import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import FrameStackObservation
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_connectors import (
    CastObs,
    ChannelsFirst,
    FrameStack,
    GrayImage,
    MeanStdFilter,
    OneHotObs,
    PrevActionsPrevRewards,
    RenameKeys,
    ResizeImage,
    ScaleImage,
    SelectKey,
    SelectKeys,
    TimeAwareness,
)
from rl_core import ConnectorState
from rl_core.connect.chain import ObsChain
from rl_core.connect.protocol import observations_only
from rl_core.env.gym_vector import GymVectorEnv
from rl_core.errors import BadObservationError, ConfigError
from rl_core.testing import check_connector
from rl_core.testing.envs import ImageEnv, NestedEnv, ObservationIsTimeEnv

VECTOR = spaces.Box(-1, 1, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (10, 8, 3), np.uint8)
DISCRETE = spaces.Discrete(4, start=2)
NESTED = spaces.Dict(
    camera=IMAGE,
    numbers=spaces.Tuple([VECTOR, spaces.MultiDiscrete([2, 3])]),
    gear=DISCRETE,
    keys=spaces.MultiBinary(2),
)
ACTIONS = [
    spaces.Discrete(3, start=-1),
    spaces.MultiDiscrete([2, 3]),
    spaces.Box(-2, 2, (2,), np.float32),
    spaces.MultiBinary(3),
    spaces.Dict(a=spaces.Discrete(2), b=spaces.Tuple([spaces.Box(-1, 1, (1,))])),
]


@pytest.mark.parametrize(
    ("piece", "space"),
    [
        (OneHotObs(), DISCRETE),
        (OneHotObs(), NESTED),
        (CastObs("float64"), NESTED),
        (CastObs("uint8"), VECTOR),
        (FrameStack(3), VECTOR),
        (FrameStack(2, padding="zero"), NESTED),
        (FrameStack(4), DISCRETE),
        (MeanStdFilter(), VECTOR),
        (MeanStdFilter(clip=1.0), NESTED),
        (MeanStdFilter(keys=("numbers",)), NESTED),
        (TimeAwareness(3), VECTOR),
        (TimeAwareness(3), NESTED),
        (GrayImage(), NESTED),
        (ResizeImage(4, 5), NESTED),
        (ResizeImage(20, 3), spaces.Box(0.0, 1.0, (6, 7), np.float32)),
        (ChannelsFirst(), NESTED),
        (ScaleImage(), NESTED),
        (SelectKeys(("gear", "camera")), NESTED),
        (SelectKey("numbers"), NESTED),
        (RenameKeys((("gear", "speed"),)), NESTED),
        *((PrevActionsPrevRewards(2, 1), space) for space in (VECTOR, NESTED)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("action_space", ACTIONS[:2])
def test_every_piece_conforms(piece, space, action_space):
    check_connector(piece, space, action_space)


@pytest.mark.parametrize("action_space", ACTIONS, ids=repr)
def test_previous_actions_of_every_space_conform(action_space):
    check_connector(PrevActionsPrevRewards(3, 0), VECTOR, action_space)


def outputs(piece, space, rows, first, action_space=ACTIONS[0]):
    chain = ObsChain([piece], space, action_space)
    state, results = chain.initial_state(first.shape[1]), []
    for obs, begins in zip(rows, first, strict=True):
        state, step = chain(state, observations_only(obs, begins), observe=True)
        results.append(step.obs)
    return state, results


# Frame stack ----------------------------------------------------------------------------------------------------------


def single_env(make, k, padding, seed, num_steps):
    """Stacks of gymnasium's wrapper: (stack, next_stack, begins) for each step of one env that is reset at its ends."""
    env = FrameStackObservation(make(), k, padding_type=padding)
    stack, _ = env.reset(seed=seed)
    rows = [(np.array(stack), True)]
    finals = []
    for time in range(num_steps):
        stack, _, terminated, truncated, _ = env.step(0)
        if terminated or truncated:
            finals.append((time, np.array(stack)))
            stack, _ = env.reset()
        rows.append((np.array(stack), bool(terminated or truncated)))
    return rows, finals, env.observation_space


@pytest.mark.parametrize("padding", ["reset", "zero"])
@pytest.mark.parametrize("make", [ObservationIsTimeEnv, ImageEnv])
def test_frame_stacking_is_gymnasiums_bit_for_bit(make, padding):
    k, num_steps = 3, 25
    env = GymVectorEnv(SyncVectorEnv([make] * 2, autoreset_mode=AutoresetMode.SAME_STEP))
    piece = FrameStack(k, padding=padding)
    chain = ObsChain([piece], env.observation_space, env.action_space)
    state = chain.initial_state(2)
    expected = [single_env(make, k, padding, 5 + slot, num_steps) for slot in range(2)]
    assert chain.output_space == expected[0][2]
    raw = env.reset(5)
    finals = [[], []]
    for time in range(num_steps + 1):
        before = state
        state, step = chain(state, raw)
        for slot in range(2):
            stack, begins = expected[slot][0][time]
            assert step.obs.dtype == stack.dtype
            assert np.array_equal(step.obs[slot], stack)
            assert step.first[slot] == begins
        if raw.final_obs is not None:
            for place, slot in enumerate(raw.final_slots):
                last = piece.rebuild_final(None, before[0].slots[[slot]], raw.final_obs[[place]])
                finals[slot].append((time - 1, last[0]))
        raw = env.step(np.zeros(2, np.int64))
    for slot in range(2):
        assert len(finals[slot]) == len(expected[slot][1]) > 0 or make is ImageEnv
        for (time, stack), (when, reference) in zip(finals[slot], expected[slot][1], strict=True):
            assert time == when
            assert np.array_equal(stack, reference)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.sampled_from(["reset", "zero"]))
def test_rebuilt_stacks_are_those_of_stepping(seed, k, padding):
    random = np.random.default_rng(seed)
    rows = random.normal(size=(12, 3, 3)).astype(np.float32)
    first = random.random((12, 3)) < 0.3
    first[0] = True
    piece = FrameStack(k, padding=padding).bind(VECTOR, ACTIONS[0])
    _, results = outputs(piece, VECTOR, rows, first)
    start = int(random.integers(0, 11))
    assert np.array_equal(
        piece.rebuild(ConnectorState(slots=results[start]), rows[start:], first[start:]), np.stack(results[start:])
    )


@pytest.mark.parametrize("settings_", [{"num_frames": 0}, {"num_frames": True}, {"padding": "edge"}])
def test_frame_stack_refuses_other_settings(settings_):
    with pytest.raises(ConfigError, match=f"FrameStack: {next(iter(settings_))} is"):
        FrameStack(**settings_)


# Mean and standard deviation ------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 4]), st.sampled_from([(0.0, 1.0), (-3000.0, 5.0), (1e4, 0.1)]))
def test_merged_statistics_are_those_of_one_pass(seed, num_runners, scale):
    random = np.random.default_rng(seed)
    data = (scale[0] + scale[1] * random.normal(size=(3, num_runners, 10, 4, 3))).astype(np.float32)
    piece = MeanStdFilter()
    chain = ObsChain([piece], spaces.Box(-np.inf, np.inf, (3,)), ACTIONS[0])
    first = np.zeros(4, bool)
    shared = chain.shared(chain.initial_state(4))
    for round_ in data:
        gathered = []
        for runner in round_:
            state = chain.with_shared(chain.initial_state(4), shared)
            for obs in runner:
                state, _ = chain(state, observations_only(obs, first), observe=True)
            gathered.append(chain.shared(state))
        shared = chain.merge(gathered, shared)
    rows = data.reshape(-1, 3).astype(np.float64)
    leaf = shared[0]
    assert shared[0]["count"] == len(rows)
    np.testing.assert_allclose(leaf["mean"], rows.mean(0), rtol=1e-6, atol=1e-6 * scale[1])
    np.testing.assert_allclose(np.sqrt(leaf["m2"] / len(rows)), rows.std(0), rtol=1e-6)


def test_observations_are_normalised_and_clipped():
    rows = np.array([[[0.0, 100.0, 5.0], [2.0, 300.0, 5.0]]])
    first = np.ones((1, 2), bool)
    state, results = outputs(MeanStdFilter(clip=0.5), spaces.Box(-np.inf, np.inf, (3,), np.float64), rows, first)
    np.testing.assert_allclose(results[0], [[-0.5, -0.5, 0.0], [0.5, 0.5, 0.0]])
    assert results[0].dtype == np.float32
    assert state[0].shared["mean"].tolist() == [1.0, 200.0, 5.0]


def test_an_observation_that_only_ends_an_episode_does_not_count():
    env = {mode: GymVectorEnv(SyncVectorEnv([ObservationIsTimeEnv] * 2, autoreset_mode=mode)) for mode in AutoresetMode}
    means = []
    for one in env.values():
        chain = ObsChain([MeanStdFilter()], one.observation_space, one.action_space)
        state, step = chain(chain.initial_state(2), one.reset(5), observe=True)
        decided = 2
        while decided < 40:
            raw = one.step(np.zeros(2, np.int64))
            state, step = chain(state, raw, observe=True)
            decided = int(state[0].shared["count"])
        means.append((decided, step.obs.shape))
    assert {count for count, _ in means} <= {40, 41}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused_with_their_slots(value):
    rows = np.zeros((1, 4, 3), np.float32)
    rows[0, 2, 1] = value
    with pytest.raises(BadObservationError, match="slot 2: MeanStdFilter: obs holds (nan|inf), expected finite"):
        outputs(MeanStdFilter(), spaces.Box(-np.inf, np.inf, (3,)), rows, np.ones((1, 4), bool))
    chain = ObsChain([MeanStdFilter()], spaces.Box(-np.inf, np.inf, (3,)), ACTIONS[0])
    with pytest.raises(BadObservationError) as caught:
        chain(chain.initial_state(4), observations_only(rows[0], np.ones(4, bool)))
    assert caught.value.slots == (2,)


def test_keys_choose_what_is_normalised():
    space = spaces.Dict(a=VECTOR, b=VECTOR)
    rows = [{"a": np.ones((2, 3), np.float32), "b": np.ones((2, 3), np.float32)}]
    _, (result,) = outputs(MeanStdFilter(keys=("b",)), space, rows, np.ones((1, 2), bool))
    assert (result["a"] == 1).all()
    assert (result["b"] == 0).all()
    with pytest.raises(ConfigError, match="'c'"):
        ObsChain([MeanStdFilter(keys=("c",))], space, ACTIONS[0])


def test_two_filters_keep_apart():
    chain = ObsChain([MeanStdFilter(), MeanStdFilter(clip=1.0)], VECTOR, ACTIONS[0])
    obs = np.array([[1.0, 2.0, 3.0], [5.0, 2.0, 0.0]], np.float32)
    state, _ = chain(chain.initial_state(2), observations_only(obs, np.ones(2, bool)), observe=True)
    means = [part.shared["mean"].tolist() for part in state]
    assert means[0] == [3.0, 2.0, 1.5]
    assert means[1] == pytest.approx([0.0, 0.0, 0.0])


# The others -----------------------------------------------------------------------------------------------------------


def test_previous_actions_and_rewards_are_those_of_the_episode():
    env = GymVectorEnv(SyncVectorEnv([ObservationIsTimeEnv], autoreset_mode=AutoresetMode.SAME_STEP))
    chain = ObsChain([PrevActionsPrevRewards(2, 2)], env.observation_space, env.action_space)
    state, step = chain(chain.initial_state(1), env.reset(1))
    seen = [step.obs]
    for action in (1, 0, 1, 1):
        state, step = chain(state, env.step(np.array([action])))
        seen.append(step.obs)
    assert [row["prev_rewards"][0].tolist() for row in seen] == [[0, 0], [0, 1], [1, 2], [2, 3], [0, 0]]
    assert [row["prev_actions"][0].tolist() for row in seen[:4]] == [
        [0, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 1, 1, 0],
        [1, 0, 0, 1],
    ]
    assert not seen[4]["prev_actions"].any(), "a new episode"


def test_time_is_the_share_that_has_passed():
    first = np.array([[True], [False], [False], [True], [False]])
    _, results = outputs(TimeAwareness(4), VECTOR, np.zeros((5, 1, 3), np.float32), first)
    assert [result["time"].item() for result in results] == [0, 0.25, 0.5, 0, 0.25]


def slow_area(image, height, width):
    """The mean of each area, pixel by pixel."""
    result = np.zeros((height, width))
    rows, columns = image.shape
    for i in range(height):
        for j in range(width):
            total = weight = 0.0
            for y in range(rows):
                for x in range(columns):
                    tall = min((i + 1) * rows / height, y + 1) - max(i * rows / height, y)
                    wide = min((j + 1) * columns / width, x + 1) - max(j * columns / width, x)
                    if tall > 0 and wide > 0:
                        total += tall * wide * image[y, x]
                        weight += tall * wide
            result[i, j] = total / weight
    return result


@pytest.mark.parametrize("size", [(3, 2), (5, 4), (4, 7)])
def test_resizing_averages_areas(size):
    image = np.random.default_rng(0).random((1, 10, 8)).astype(np.float32)
    space = spaces.Box(0.0, 1.0, (10, 8), np.float32)
    _, (result,) = outputs(ResizeImage(*size), space, [image], np.ones((1, 1), bool))
    np.testing.assert_allclose(result[0], slow_area(image[0], *size), rtol=1e-5)


def test_gray_is_the_weighted_sum_rounded():
    image = np.array([[[[10, 20, 30]]]], np.uint8)
    space = spaces.Box(0, 255, (1, 1, 3), np.uint8)
    _, (result,) = outputs(GrayImage(), space, [image], np.ones((1, 1), bool))
    assert result.item() == round(0.299 * 10 + 0.587 * 20 + 0.114 * 30)


def test_an_unknown_key_is_told_with_the_nearest():
    with pytest.raises(ConfigError, match=r"no key 'camra' among \[.*Did you mean 'camera'\?"):
        ObsChain([SelectKeys(("camra",))], NESTED, ACTIONS[0])


def test_a_key_that_is_taken_is_refused():
    with pytest.raises(ConfigError, match=r"TimeAwareness adds 'time', but .* has 'time' already.*RenameKeys"):
        ObsChain([TimeAwareness(3)], spaces.Dict(time=VECTOR), ACTIONS[0])


@pytest.mark.parametrize("piece", [GrayImage(), OneHotObs(), ResizeImage(), ChannelsFirst(), ScaleImage()], ids=repr)
def test_a_piece_with_nothing_to_do_is_refused(piece):
    with pytest.raises(ConfigError, match=rf"{type(piece).__name__} got observations of Box.*expected .* in them"):
        ObsChain([piece], VECTOR, ACTIONS[0])


def test_nested_envs_run_through_several_pieces():
    env = GymVectorEnv(SyncVectorEnv([NestedEnv] * 2))
    pieces = [OneHotObs(), MeanStdFilter(), FrameStack(2)]
    chain = ObsChain(pieces, env.observation_space, env.action_space)
    _, step = chain(chain.initial_state(2), env.reset(0), observe=True)
    one = {key: part[0] if not isinstance(part, dict | tuple) else None for key, part in step.obs.items()}
    assert set(one) == set(env.observation_space.spaces)
    assert isinstance(gymnasium.spaces.utils.flatdim(chain.output_space), int)
    assert len(str(chain).splitlines()) >= 5
