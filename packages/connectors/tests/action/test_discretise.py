import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from rl_connectors import DiscretizeAction, StickyAction
from rl_core.connect.chain import ActionChain
from rl_core.errors import ConfigError


def values(piece, space, action):
    chain = ActionChain([piece], space)
    return chain(chain.initial_state(len(action), seed=0), torch.tensor(action), np.zeros(len(action), bool))[1].numpy()


@given(
    st.integers(2, 30),
    st.lists(st.tuples(st.floats(-1e3, 1e3, width=32), st.floats(0.125, 1e3, width=32)), min_size=2, max_size=4),
    st.randoms(use_true_random=False),
)
def test_bins_are_evenly_spaced_from_bound_to_bound(num_bins, ranges, random):
    low = np.array([start for start, _ in ranges], np.float32)
    high = low + np.array([size for _, size in ranges], np.float32)
    chosen = [[0] * len(low), [num_bins - 1] * len(low), [random.randrange(num_bins) for _ in low]]
    result = values(DiscretizeAction(num_bins), spaces.Box(low, high), chosen)
    assert np.array_equal(result[0], low)
    assert np.array_equal(result[1], high)
    for column, bin_ in enumerate(chosen[2]):
        expected = low[column] + bin_ * (float(high[column]) - float(low[column])) / (num_bins - 1)
        assert result[2, column] == pytest.approx(expected, rel=1e-5, abs=1e-3)
    assert result.dtype == np.float32


@pytest.mark.parametrize("shape", [(), (1,)])
def test_one_number_is_a_plain_choice(shape):
    space = spaces.Box(-2, 2, shape)
    assert ActionChain([DiscretizeAction(5)], space).module_space == spaces.Discrete(5)
    result = values(DiscretizeAction(5), space, [0, 1, 4])
    assert result.shape == (3, *shape)
    assert result.ravel().tolist() == [-2, -1, 2]


def test_several_numbers_are_several_choices_and_pieces_before_get_them():
    chain = ActionChain([StickyAction(0.5), DiscretizeAction(3)], spaces.Dict(a=spaces.Box(-1, 1, (2,))))
    assert chain.module_space == spaces.Dict(a=spaces.MultiDiscrete([3, 3]))
    _, result = chain(chain.initial_state(1, seed=0), {"a": torch.tensor([[0, 2]])}, np.ones(1, bool))
    assert result["a"].tolist() == [[-1.0, 1.0]]


@pytest.mark.parametrize("num_bins", [1, 2.0, True, "5"])
def test_too_few_bins_are_refused(num_bins):
    with pytest.raises(ConfigError, match="num_bins=.*expected an int of at least 2"):
        DiscretizeAction(num_bins)


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        (spaces.Box(-1, 1, (2, 2)), r"takes Boxes of shape \[A\].*Flatten"),
        (spaces.Box(-np.inf, 1, (2,)), "needs finite bounds"),
        (spaces.MultiBinary(2), "changes Box leaves of floats, and MultiBinary"),
    ],
)
def test_other_spaces_are_refused(space, problem):
    with pytest.raises(ConfigError, match=problem):
        ActionChain([DiscretizeAction(3)], space)
