import dataclasses

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_connectors.obs.mean_std import MeanStdFilter
from rl_core.connect.chain import ObsChain
from rl_core.connect.protocol import observations_only
from rl_core.env.gym_vector import GymVectorEnv
from rl_core.errors import BadObservationError, ConfigError
from rl_core.testing import check_connector
from rl_core.testing.envs import ObservationIsTimeEnv
from rl_core.tree import tree_leaves

ACTION = spaces.Discrete(2)
VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float32)
NESTED = spaces.Dict(
    [
        ("z", spaces.Tuple([VECTOR, spaces.Discrete(3)])),
        ("a", spaces.Box(0, 255, (2, 2), np.uint8)),
        ("b", spaces.MultiBinary(2)),
    ]
)


def chain_of(*pieces, space=VECTOR):
    return ObsChain(pieces, space, ACTION)


def counted(chain, state, obs):
    """Pass observations through as sampling for training does."""
    num_slots = len(next(iter(tree_leaves(obs))))
    return chain(state, observations_only(obs, np.zeros(num_slots, bool)), observe=True)


@pytest.mark.parametrize(
    ("piece", "space"),
    [
        (MeanStdFilter(), VECTOR),
        (MeanStdFilter(clip=0.5, epsilon=1e-3), NESTED),
        (MeanStdFilter(keys=("z",)), NESTED),
        (MeanStdFilter(), spaces.Box(-3, 9, (), np.int64)),
        (MeanStdFilter(clip=0.1), spaces.Box(-1, 1, (2, 3), np.float64)),
    ],
    ids=repr,
)
def test_conforms(piece, space):
    check_connector(piece, space, ACTION)


def test_numbers_are_normalised_by_all_seen_so_far_and_clipped():
    space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    chain = chain_of(MeanStdFilter(clip=1.2), space=space)
    state, step = counted(chain, chain.initial_state(2), np.array([[0.0, 100.0, 5.0], [2.0, 300.0, 5.0]]))
    np.testing.assert_allclose(step.obs, [[-1, -1, 0], [1, 1, 0]], rtol=1e-6)
    assert step.obs.dtype == np.float32
    # Now 0, 2, 4 and 10: mean 4 and variance (16 + 4 + 0 + 36) / 4 = 14.
    state, step = counted(chain, state, np.array([[4.0, 200.0, 5.0], [10.0, 200.0, 6.0]]))
    np.testing.assert_allclose(step.obs[:, 0], [0, 1.2])
    shared = state[0].shared
    assert shared["count"] == 4
    assert shared["mean"].tolist() == [4.0, 200.0, 5.25]
    assert shared["m2"].tolist() == [56.0, 20000.0, 0.75]


def test_before_any_data_observations_are_only_clipped():
    chain = chain_of(MeanStdFilter(clip=3.0))
    obs = np.array([[0.1, -2.7, 5.0]], np.float32)
    _, step = chain(chain.initial_state(1), observations_only(obs, np.ones(1, bool)))
    assert step.obs.tolist() == [[obs[0, 0], obs[0, 1], 3.0]]


def test_one_observation_has_no_deviation_yet():
    chain = chain_of(MeanStdFilter())
    state, step = counted(chain, chain.initial_state(1), np.array([[1.0, 2.0, 3.0]], np.float32))
    assert not step.obs.any()
    _, step = chain(state, observations_only(np.array([[1.5, 2.0, 3.0]], np.float32), np.zeros(1, bool)))
    assert step.obs.tolist() == [[0.5, 0.0, 0.0]]


def test_evaluation_leaves_the_statistics_alone():
    chain = chain_of(MeanStdFilter())
    state, _ = counted(chain, chain.initial_state(2), np.arange(6, dtype=np.float32).reshape(2, 3))
    after, _ = chain(state, observations_only(np.full((2, 3), 99, np.float32), np.zeros(2, bool)))
    assert after[0].shared is state[0].shared


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_statistics_are_of_the_observations_decided_on_in_every_autoreset_mode(mode):
    env = GymVectorEnv(SyncVectorEnv([ObservationIsTimeEnv], autoreset_mode=mode))
    chain = ObsChain([MeanStdFilter()], env.observation_space, env.action_space)
    state, step = chain(chain.initial_state(1), env.reset(0), observe=True)
    single = ObservationIsTimeEnv()
    decided = [single.reset(seed=0)[0]]
    while len(decided) < 40:
        obs, _, terminated, truncated, _ = single.step(0)
        decided.append(single.reset()[0] if terminated or truncated else obs)
    while state[0].shared["count"] < 40:
        state, step = chain(state, env.step(np.zeros(1, np.int64)), observe=True)
    rows = np.array(decided, np.float64)
    np.testing.assert_allclose(state[0].shared["mean"], rows.mean(0))
    np.testing.assert_allclose(state[0].shared["m2"], ((rows - rows.mean(0)) ** 2).sum(0))
    assert step.obs.shape == (1, 2)


def test_a_step_that_only_ends_episodes_counts_nothing():
    chain = chain_of(MeanStdFilter())
    ended = dataclasses.replace(
        observations_only(np.ones((2, 3), np.float32), np.zeros(2, bool)), truncated=np.ones(2, bool)
    )
    state, _ = chain(chain.initial_state(2), ended, observe=True)
    assert state[0].shared["count"] == 0


# Merging --------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([(0.0, 1.0), (-3000.0, 5.0), (1e6, 0.01), (1e-6, 1e-9)]),
    st.booleans(),
)
def test_merged_statistics_are_those_of_one_pass_over_all_data(seed, num_runners, scale, drifts):
    random = np.random.default_rng(seed)
    centre, deviation = scale
    data = centre + deviation * random.normal(size=(4, num_runners, 10, 4, 3))  # [round, runner, step, slot, number]
    if drifts:
        data += deviation * np.arange(4).reshape(-1, 1, 1, 1, 1)
    chain = chain_of(MeanStdFilter(), space=spaces.Box(-np.inf, np.inf, (3,), np.float64))
    shared = chain.shared(chain.initial_state(4))
    for number, runners in enumerate(data):
        gathered = []
        for place, steps in enumerate(runners):
            state = chain.with_shared(chain.initial_state(4), shared)
            for obs in steps[: place * number + 1]:  # not all see as much
                state, _ = counted(chain, state, obs)
            gathered.append(chain.shared(state))
        shared = chain.merge(gathered, shared)
    seen = [
        data[number, place, : place * number + 1].reshape(-1, 3) for number in range(4) for place in range(num_runners)
    ]
    rows = np.concatenate(seen)
    assert shared[0]["count"] == len(rows)
    np.testing.assert_allclose(shared[0]["mean"], rows.mean(0), rtol=1e-9, atol=1e-6 * deviation)
    np.testing.assert_allclose(shared[0]["m2"] / len(rows), rows.var(0), rtol=1e-6)


def test_runners_that_saw_nothing_change_nothing():
    chain = chain_of(MeanStdFilter())
    fresh = chain.shared(chain.initial_state(2))
    assert chain.merge([fresh, fresh], fresh)[0]["count"] == 0
    state, _ = counted(chain, chain.initial_state(2), np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], np.float32))
    base = chain.shared(state)
    merged = chain.merge([base, base, base], base)[0]
    assert merged["count"] == 2
    np.testing.assert_allclose(merged["mean"], [2, 2, 2])
    np.testing.assert_allclose(merged["m2"], [2, 0, 2])


# Nested spaces, errors ------------------------------------------------------------------------------------------------


def nested_obs():
    return {
        "z": (np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], np.float32), np.array([1, 2])),
        "a": np.array([[[0, 0], [0, 0]], [[10, 0], [0, 0]]], np.uint8),
        "b": np.ones((2, 2), np.int8),
    }


def test_nested_boxes_are_normalised_and_other_leaves_passed_on():
    chain = chain_of(MeanStdFilter(), space=NESTED)
    obs = nested_obs()
    state, step = counted(chain, chain.initial_state(2), obs)
    assert list(step.obs) == list(chain.output_space) == list(NESTED)
    assert step.obs["z"][1] is obs["z"][1]
    assert step.obs["b"] is obs["b"]
    np.testing.assert_allclose(step.obs["z"][0], [[-1, 0, 1], [1, 0, -1]], rtol=1e-6)
    np.testing.assert_allclose(step.obs["a"][:, 0, 0], [-1, 1], rtol=1e-6)
    mean = state[0].shared["mean"]
    assert mean["z"][0].tolist() == [2, 2, 2]
    assert list(mean) == ["z", "a"]
    assert mean["z"][1] == ()


def test_keys_choose_what_is_normalised():
    chain = chain_of(MeanStdFilter(keys=("a",)), space=NESTED)
    obs = nested_obs()
    _, step = counted(chain, chain.initial_state(2), obs)
    assert step.obs["z"][0] is obs["z"][0]
    assert step.obs["a"].dtype == np.float32
    with pytest.raises(ConfigError, match=r"MeanStdFilter: no key 'c' among \['z', 'a', 'b'\]"):
        chain_of(MeanStdFilter(keys=("c",)), space=NESTED)
    with pytest.raises(ConfigError, match=r"normalises Box leaves of numbers, and .* has none under \['b'\]"):
        chain_of(MeanStdFilter(keys=("b",)), space=NESTED)


@pytest.mark.parametrize("observe", [True, False])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("error")
def test_numbers_that_are_not_finite_are_refused_with_their_slots(value, observe):
    obs = np.zeros((4, 3), np.float32)
    obs[2, 1] = obs[3, 0] = value
    chain = chain_of(MeanStdFilter())
    with pytest.raises(BadObservationError, match=f"Observation of slot 2: .*holds {value}, expected finite") as caught:
        chain(chain.initial_state(4), observations_only(obs, np.ones(4, bool)), observe=observe)
    assert caught.value.slots == (2, 3)


def test_a_bad_number_in_a_nested_leaf_is_named():
    chain = chain_of(MeanStdFilter(), space=NESTED)
    obs = nested_obs()
    obs["z"][0][1, 2] = np.nan
    with pytest.raises(BadObservationError, match=r"obs\['z'\]\[0\] holds nan") as caught:
        counted(chain, chain.initial_state(2), obs)
    assert caught.value.slots == (1,)


def test_a_bad_last_observation_is_refused_though_it_does_not_count():
    chain = chain_of(MeanStdFilter())
    obs = np.zeros((2, 3), np.float32)
    obs[1, 0] = np.nan
    ended = dataclasses.replace(observations_only(obs, np.zeros(2, bool)), terminated=np.array([False, True]))
    with pytest.raises(BadObservationError) as caught:
        chain(chain.initial_state(2), ended, observe=True)
    assert caught.value.slots == (1,)


@pytest.mark.filterwarnings("error")
def test_numbers_whose_squares_are_too_large_are_fine():
    chain = chain_of(MeanStdFilter(), space=spaces.Box(-np.inf, np.inf, (3,), np.float32))
    obs = np.array([[3e38, 0, 0], [-3e38, 0, 1]], np.float32)
    _, step = counted(chain, chain.initial_state(2), obs)
    np.testing.assert_allclose(step.obs, [[1, 0, -1], [-1, 0, 1]], rtol=1e-6)


def test_two_filters_keep_their_own_statistics():
    chain = chain_of(MeanStdFilter(), MeanStdFilter(clip=1.0))
    obs = np.array([[1.0, 2.0, 3.0], [5.0, 2.0, 0.0]], np.float32)
    state, _ = counted(chain, chain.initial_state(2), obs)
    assert state[0].shared["mean"].tolist() == [3.0, 2.0, 1.5]
    np.testing.assert_allclose(state[1].shared["mean"], [0, 0, 0], atol=1e-7)


@pytest.mark.parametrize("given_", [{"clip": 0.0}, {"clip": np.inf}, {"epsilon": -1.0}, {"keys": ()}, {"keys": "a"}])
def test_other_settings_are_refused(given_):
    with pytest.raises(ConfigError, match=f"MeanStdFilter: {next(iter(given_))} is .*, expected"):
        MeanStdFilter(**given_)


def test_discrete_observations_have_nothing_to_normalise():
    with pytest.raises(ConfigError, match="make discrete parts one-hot before"):
        chain_of(MeanStdFilter(), space=spaces.Discrete(3))
