import json
from collections import OrderedDict

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_core.env.spaces import (
    batch_flattener,
    describe,
    flat_dim,
    flatten_batch,
    leaf_spaces,
    same_space,
    space_from_json,
    space_to_json,
)
from rl_core.errors import UnsupportedSpaceError

FLOATS = st.floats(-100, 100, width=32)
SHAPES = st.lists(st.integers(1, 3), max_size=3).map(tuple)


@st.composite
def boxes(draw):
    shape = draw(SHAPES)
    if draw(st.booleans()):
        dtype = draw(st.sampled_from([np.uint8, np.int32, np.int64]))
        low, high = sorted([draw(st.integers(0, 200)), draw(st.integers(0, 200))])
        return spaces.Box(low, high, shape, dtype)
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    if draw(st.booleans()):
        return spaces.Box(-np.inf, draw(FLOATS), shape, dtype)
    size = int(np.prod(shape))
    low = np.array(draw(st.lists(FLOATS | st.just(-np.inf), min_size=size, max_size=size)), dtype).reshape(shape)
    return spaces.Box(low, low.clip(-100) + dtype(draw(st.floats(0, 5, width=32))), shape, dtype)


@st.composite
def multi_discretes(draw):
    shape = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2).map(tuple))
    size = int(np.prod(shape))
    nvec = np.array(draw(st.lists(st.integers(1, 5), min_size=size, max_size=size))).reshape(shape)
    start = np.array(draw(st.lists(st.integers(-3, 3), min_size=size, max_size=size))).reshape(shape)
    return spaces.MultiDiscrete(nvec, start=start)


LEAVES = (
    boxes()
    | st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 6), st.integers(-3, 3))
    | multi_discretes()
    | st.builds(spaces.MultiBinary, st.integers(1, 4) | st.lists(st.integers(1, 3), min_size=1, max_size=2))
)
SPACES = st.recursive(
    LEAVES,
    lambda children: (
        st.lists(children, min_size=1, max_size=3).map(spaces.Tuple)
        | st.dictionaries(st.text("zyxab", min_size=1, max_size=2), children, min_size=1, max_size=3).map(
            lambda parts: spaces.Dict(OrderedDict(parts))
        )
    ),
    max_leaves=6,
)


@given(SPACES)
@settings(max_examples=150, deadline=None)
def test_json_round_trip_is_exact(space):
    text = json.dumps(space_to_json(space), allow_nan=False, sort_keys=True)
    again = space_from_json(json.loads(text))
    assert again == space
    assert same_space(space, again) is None
    for (_, a), (_, b) in zip(leaf_spaces(space), leaf_spaces(again), strict=True):
        assert a.dtype == b.dtype
        if isinstance(a, spaces.Box):
            np.testing.assert_array_equal(a.bounded_below, b.bounded_below)
            np.testing.assert_array_equal(a.bounded_above, b.bounded_above)


def stack(space, samples):
    if isinstance(space, spaces.Dict):
        return {key: stack(child, [sample[key] for sample in samples]) for key, child in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(stack(child, [sample[i] for sample in samples]) for i, child in enumerate(space.spaces))
    return np.array(samples)


@given(SPACES, st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_flatten_agrees_with_gymnasium_for_all_leading_axes(space, seed):
    space.seed(seed)
    samples = [space.sample() for _ in range(6)]
    expected = np.stack([spaces.flatten(space, sample).astype(np.float32) for sample in samples])
    flat = flatten_batch(space, stack(space, samples), 1)
    assert flat.dtype == np.float32
    assert flat.shape == (6, flat_dim(space)) == (6, spaces.flatdim(space))
    np.testing.assert_array_equal(flat, expected)
    timed = _reshape(stack(space, samples))
    np.testing.assert_array_equal(flatten_batch(space, timed, 2), expected.reshape(3, 2, -1))
    bound = batch_flattener(space)(stack(space, samples))
    assert bound.dtype == np.float32
    np.testing.assert_array_equal(bound, flat)


def _reshape(tree):
    if isinstance(tree, dict):
        return {key: _reshape(part) for key, part in tree.items()}
    if isinstance(tree, tuple):
        return tuple(_reshape(part) for part in tree)
    return tree.reshape(3, 2, *tree.shape[1:])


def test_constant_bounds_take_one_number_and_infinity_a_word():
    data = space_to_json(spaces.Box(-np.inf, 3.0, (2, 2), np.float32))
    assert data == {"type": "Box", "dtype": "float32", "shape": [2, 2], "low": "-inf", "high": 3.0}
    assert space_to_json(spaces.Discrete(3)) == {"type": "Discrete", "n": 3, "start": 0}
    mixed = space_to_json(spaces.Box(np.array([0.0, -np.inf], np.float32), np.array([1.0, np.inf], np.float32)))
    assert (mixed["low"], mixed["high"]) == ([0.0, "-inf"], [1.0, "inf"])


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint64, np.bool_])
def test_integer_bounds_at_the_ends_of_their_type_survive(dtype):
    if dtype is np.bool_:
        space = spaces.Box(0, 1, (3,), np.uint8)
    else:
        info = np.iinfo(dtype)
        space = spaces.Box(np.full(2, info.min, dtype), np.full(2, info.max, dtype), dtype=dtype)
    again = space_from_json(json.loads(json.dumps(space_to_json(space))))
    np.testing.assert_array_equal(again.low, space.low)
    np.testing.assert_array_equal(again.high, space.high)


def test_unbounded_integers_stay_unbounded():
    space = spaces.Box(-np.inf, np.inf, (2,), np.int32)
    again = space_from_json(space_to_json(space))
    assert not again.bounded_below.any()
    assert not again.bounded_above.any()
    assert again == space


def test_key_order_is_kept_and_counts():
    space = spaces.Dict([("b", spaces.Discrete(2)), ("a", spaces.Discrete(3))])
    assert list(space_from_json(space_to_json(space)).spaces) == ["b", "a"]
    flat = flatten_batch(space, {"a": np.array([0]), "b": np.array([1])}, 1)
    assert flat.tolist() == [[0, 1, 1, 0, 0]]
    assert "in this order" in same_space(space, spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Discrete(2)}))


MALFORMED = [
    ([], "space is \\[\\]"),
    ({"type": "Boxx"}, "space.type is 'Boxx'"),
    ({"type": []}, "space.type"),
    ({"type": "Discrete"}, "lacks the key 'n'"),
    ({"type": "Discrete", "n": 0}, "space.n holds 0"),
    ({"type": "Discrete", "n": True}, "space.n holds True"),
    ({"type": "Discrete", "n": 2, "start": "1"}, "space.start"),
    ({"type": "Discrete", "n": 2, "dtype": "object"}, "space.dtype"),
    ({"type": "MultiDiscrete", "nvec": [2, 0]}, "space.nvec"),
    ({"type": "MultiDiscrete", "nvec": [[2], [3, 4]]}, "space.nvec"),
    ({"type": "MultiDiscrete", "nvec": [2, 3], "start": [1, 2, 3]}, "space.start"),
    ({"type": "MultiBinary", "n": []}, "space.n"),
    ({"type": "MultiBinary", "n": [1 << 40]}, "space.n"),
    ({"type": "MultiBinary", "n": 1 << 40}, "space.n"),
    ({"type": "Box", "dtype": "float32", "shape": [2], "low": 0, "high": [1]}, "space.high has 1 numbers"),
    ({"type": "Box", "dtype": "float32", "shape": [2], "low": 2, "high": 1}, "space.low exceeds"),
    ({"type": "Box", "dtype": "float32", "shape": [-1], "low": 0, "high": 1}, "space.shape"),
    ({"type": "Box", "dtype": "float32", "shape": [1 << 40], "low": 0, "high": 1}, "space.shape"),
    ({"type": "Box", "dtype": "float32", "shape": 3, "low": 0, "high": 1}, "space.shape"),
    ({"type": "Box", "dtype": "object", "shape": [2], "low": 0, "high": 1}, "space.dtype"),
    ({"type": "Box", "dtype": "float32", "shape": [2], "low": None, "high": 1}, "space.low"),
    ({"type": "Box", "dtype": "float32", "shape": [2], "low": float("nan"), "high": 1}, "space.low"),
    ({"type": "Box", "dtype": "uint8", "shape": [2], "low": 0, "high": 256}, "space.high"),
    ({"type": "Box", "dtype": "uint8", "shape": [2], "low": 0, "high": 1.5}, "space.high"),
    ({"type": "Box", "dtype": "int8", "shape": [], "low": 0, "high": 1, "unbounded_below": [4]}, "unbounded_below"),
    ({"type": "Tuple", "spaces": [{"type": "Discrete", "n": 1}, 3]}, r"space\[1\] is 3"),
    ({"type": "Tuple"}, "lacks the key 'spaces'"),
    ({"type": "Dict", "spaces": {"a": 1}}, "space.spaces"),
    ({"type": "Dict", "spaces": [["a"]]}, r"space.spaces\[0\]"),
    ({"type": "Dict", "spaces": [["a", {"type": "Dict", "spaces": [["b", {}]]}]]}, r"space\['a'\]\['b'\].type"),
    ({"type": "Dict", "spaces": [["a", {"type": "Discrete", "n": 1}]] * 2}, "repeats the key 'a'"),
]


@pytest.mark.parametrize(("data", "message"), MALFORMED)
def test_malformed_json_names_the_place(data, message):
    with pytest.raises(ValueError, match=message):
        space_from_json(data)


def test_unsupported_spaces_are_named_with_their_place():
    space = spaces.Dict({"image": spaces.Box(0, 1), "mission": spaces.Text(8)})
    for function in (space_to_json, flat_dim):
        with pytest.raises(UnsupportedSpaceError, match=r"The space\['mission'\] is a Text space; supported are Box"):
            function(space)


def test_describe_is_short():
    space = spaces.Dict(
        [
            ("image", spaces.Box(0, 255, (12, 12, 3), np.uint8)),
            ("rest", spaces.Tuple([spaces.Discrete(5), spaces.Discrete(2, start=1), spaces.MultiBinary(3)])),
            ("many", spaces.MultiDiscrete([3] * 20)),
        ]
    )
    assert describe(space) == (
        "Dict(image: Box(12, 12, 3) uint8 in [0, 255], rest: Tuple(Discrete(5), Discrete(2, start=1), MultiBinary(3)), "
        "many: MultiDiscrete(20 parts of 3 to 3))"
    )


@pytest.mark.parametrize(
    ("a", "b", "text"),
    [
        (spaces.Discrete(2), spaces.Discrete(3), "expected Discrete(2), got Discrete(3)"),
        (spaces.Discrete(2), spaces.MultiBinary(3), "expected Discrete(2), got MultiBinary(3)"),
        (spaces.Box(0, 1, (2,)), spaces.Box(0, 1, (3,)), "Box(2) float32 in [0, 1]"),
        (spaces.Box(0, 1, (2,)), spaces.Box(0, 1, (2,), np.float64), "float64"),
        (
            spaces.Box(0, 1, (2,)),
            spaces.Box(0, np.array([1, 2], np.float32)),
            "high bound differs at (1,): expected 1.0",
        ),
        (spaces.Dict({"a": spaces.Discrete(2)}), spaces.Dict({"b": spaces.Discrete(2)}), "expected the keys ['a']"),
        (spaces.Tuple([spaces.Discrete(2)] * 2), spaces.Tuple([spaces.Discrete(2)]), "expected 2 parts, got 1"),
        (
            spaces.Dict({"a": spaces.Tuple([spaces.Discrete(2)])}),
            spaces.Dict({"a": spaces.Tuple([spaces.Discrete(4)])}),
            "at ['a'][0]: ",
        ),
    ],
)
def test_same_space_tells_the_first_difference(a, b, text):
    assert same_space(a, a) is None
    assert text in same_space(a, b)


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "Blackjack-v1"])
def test_spaces_of_gymnasium_envs_survive(name):
    env = gymnasium.make(name)
    for space in (env.observation_space, env.action_space):
        assert space_from_json(json.loads(json.dumps(space_to_json(space), allow_nan=False))) == space
